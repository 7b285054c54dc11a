// SPDX-License-Identifier: Apache-2.0

// Command azure-keyvault-broker answers starting containers with the values that
// stand behind the placeholders of their environment. It parses its options,
// builds its parts, hands them to each other and runs them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/akv2k8s/akv2k8s/internal/azure"
	"github.com/akv2k8s/akv2k8s/internal/broker"
	"github.com/akv2k8s/akv2k8s/internal/broker/kube"
	"github.com/akv2k8s/akv2k8s/internal/cluster"
	"github.com/akv2k8s/akv2k8s/internal/config"
	"github.com/akv2k8s/akv2k8s/internal/reader"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
)

var version = "dev" // set when a release is built

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run returns 0 after a stop that was asked for, 2 for options that cannot be,
// and 1 for everything else.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	cfg, err := config.ParseBroker(args, getenv, stderr)
	switch {
	case errors.Is(err, config.ErrHelp):
		return 0
	case err != nil:
		_, _ = fmt.Fprintln(stderr, err)
		return 2
	case cfg.Version:
		_, _ = fmt.Fprintln(stdout, version)
		return 0
	}
	log := telemetry.NewLogger(stderr, cfg.Log.Level, cfg.Log.Format)
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	klog.SetSlogLogger(log)
	if err := serve(ctx, cfg, getenv, log); err != nil {
		log.Error("the broker ends", telemetry.KeyError, err)
		return 1
	}
	return 0
}

// garbagePercent trades time for memory. A container's start makes a quarter of a MiB
// of garbage: 400 of them, with 1,000 secrets, are collected 54 times instead of 16,
// which costs a millisecond per start at most, and leave 48 MiB resident instead of 75.
const garbagePercent = 30

// serve builds the parts and runs them until ctx ends or one of them fails.
func serve(ctx context.Context, cfg config.Broker, getenv func(string) string, log *slog.Logger) error {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	own := prometheus.NewRegistry()
	values, err := vaults(cfg, getenv, telemetry.NewVaultMetrics(own), log)
	if err != nil {
		return err
	}
	rest, err := cluster.Config(cfg.Kubeconfig, cfg.Master)
	if err != nil {
		return err
	}
	source, err := kube.New(ctx, rest)
	if err != nil {
		return err
	}
	watcher, err := certwatcher.New(filepath.Join(cfg.CertDir, "tls.crt"), filepath.Join(cfg.CertDir, "tls.key"))
	if err != nil {
		return fmt.Errorf("reading the serving certificate: %w", err)
	}
	counts, err := broker.NewMetrics(own)
	if err != nil {
		return err
	}
	certificate := broker.Certificate(watcher.GetCertificate)
	handler := broker.New(source, values, counts, log, options(cfg, source)...).Handler()
	health := telemetry.Handler(prometheus.Gatherers{metrics.Registry, own}, map[string]telemetry.Check{
		"certificate":          certificate.Ready,
		"azurekeyvaultsecrets": source.Ready,
	})
	log.Info("starting", telemetry.KeyVersion, version)
	return together(ctx, source.Run, watcher.Start,
		server(broker.NewServer(port(cfg.TLSPort), handler, certificate, log)),
		server(telemetry.NewServer(port(cfg.HTTPPort), health)),
	)
}

// options of a broker: without a start budget nobody asks for namespaces, for which
// there may be no right.
func options(cfg config.Broker, source *kube.Source) []broker.Option {
	if cfg.ExecGuardBudget == 0 {
		return nil
	}
	return []broker.Option{broker.WithGuard(broker.Guard{StartBudget: cfg.ExecGuardBudget, Guarded: source.Guarded})}
}

func vaults(cfg config.Broker, getenv func(string) string, counts *telemetry.VaultMetrics, log *slog.Logger) (*reader.Reader, error) {
	client, err := azure.NewHTTPClient(azure.HTTPOptions{CABundle: cfg.Azure.CABundle})
	if err != nil {
		return nil, err
	}
	credential, err := azure.NewCredential(azure.SignIn{
		Method:      azure.Method(cfg.Azure.AuthType),
		CloudConfig: cfg.Azure.CloudConfig,
		Getenv:      environment(cfg, getenv),
		HTTP:        client,
		Log:         log,
		Metrics:     counts,
	})
	if err != nil {
		return nil, fmt.Errorf("signing in to Azure: %w", err)
	}
	source, err := azure.NewReader(credential, azure.Options{VaultSuffix: cfg.Azure.VaultSuffix, Log: log})
	if err != nil {
		return nil, err
	}
	options := reader.Options{
		ShareWindow: cfg.Reading.ShareWindow, Rate: float64(cfg.Reading.Rate), Burst: cfg.Reading.Burst, Metrics: counts,
	}
	if cfg.OnVaultUnavailable == config.UnavailableUseCached {
		options.CachedMaxAge = cfg.CachedMaxAge
	}
	return reader.New(source, options), nil
}

// environment lets the flag for the cloud outrank its variable.
func environment(cfg config.Broker, getenv func(string) string) func(string) string {
	return func(name string) string {
		if name == "AZURE_ENVIRONMENT" && cfg.Azure.Environment != "" {
			return cfg.Azure.Environment
		}
		return getenv(name)
	}
}

func port(number int) string { return net.JoinHostPort("", strconv.Itoa(number)) }

func server(s *http.Server) func(context.Context) error {
	return func(ctx context.Context) error { return telemetry.Serve(ctx, s) }
}

// together runs parts until the first ends, stops the others and waits for all.
func together(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(parts))
	for _, part := range parts {
		go func() { ended <- part(ctx) }()
	}
	var errs []error
	for range parts {
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
		cancel()
	}
	return errors.Join(errs...)
}
