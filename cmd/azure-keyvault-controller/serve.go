// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/akv2k8s/akv2k8s/internal/azure"
	"github.com/akv2k8s/akv2k8s/internal/cluster"
	"github.com/akv2k8s/akv2k8s/internal/config"
	"github.com/akv2k8s/akv2k8s/internal/controller"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/reader"
	"github.com/akv2k8s/akv2k8s/internal/sweep"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// garbagePercent trades time, of which hardly any is spent once everything is in order,
// for memory, which is then all that a Controller costs.
const garbagePercent = 50

// serve builds the parts, hands them to each other and runs them until ctx ends.
func serve(ctx context.Context, cfg config.Controller, getenv func(string) string, stderr io.Writer) error {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	log := telemetry.NewLogger(stderr, cfg.Log.Level, cfg.Log.Format)
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	counts := telemetry.NewVaultMetrics(metrics.Registry)
	source, cred, err := signIn(cfg.Azure, getenv, counts, log)
	if err != nil {
		return fmt.Errorf("signing in to Azure: %w", err)
	}
	vaults := reader.New(source, reader.Options{
		ShareWindow: cfg.Reading.ShareWindow, Rate: float64(cfg.Reading.Rate), Burst: cfg.Reading.Burst, Metrics: counts,
	})
	api, err := cluster.Config(cfg.Kubeconfig, cfg.Master)
	if err != nil {
		return err
	}
	mgr, err := cluster.NewManager(api, cluster.Options{
		Namespace: cfg.Namespace, AllNamespaces: cfg.AllNamespaces, Selector: cfg.ObjectLabels,
		Elect: cfg.Elect, ElectionID: cfg.ElectionID, Log: log,
	})
	if err != nil {
		return err
	}
	waker := &controller.Waker{}
	sweeper := newSweeper(vaults, waker, cfg, counts)
	if err := mgr.Add(manager.RunnableFunc(sweeper.Run)); err != nil {
		return fmt.Errorf("adding the sweeper: %w", err)
	}
	if cfg.EventQueue != "" {
		queue, err := azure.NewQueue(cred, cfg.EventQueue, azure.QueueOptions{Log: log})
		if err != nil {
			return fmt.Errorf("--event-queue: %w", err)
		}
		listener := &controller.Listener{
			Queue: queue, Suffix: source.VaultSuffix(), Poll: cfg.EventPoll, Looks: sweeper,
			Metrics: controller.NewEventMetrics(metrics.Registry), Log: log,
		}
		if err := mgr.Add(manager.RunnableFunc(listener.Run)); err != nil {
			return fmt.Errorf("adding the listener: %w", err)
		}
	}
	caches, err := controller.Setup(ctx, mgr, vaults, cluster.NewOutputs(mgr.GetAPIReader(), mgr.GetClient()), controller.Options{
		Watch: sweeper, Waker: waker,
		Settings:    plan.Settings{Interval: cfg.Interval(), Floor: cfg.MinRefresh, Warning: cfg.ExpiryWarning},
		Concurrency: cfg.Concurrency, StatusRate: cfg.StatusRate, Registry: metrics.Registry,
	})
	if err != nil {
		return err
	}
	// Ready means: the sign-in is built (or we would not be here) and the caches are
	// filled. Who waits for the Lease is ready too, to take over.
	handler := telemetry.Handler(metrics.Registry, map[string]telemetry.Check{"caches": caches})
	if cfg.Profiling {
		handler = telemetry.WithProfiles(handler)
	}
	err = mgr.Add(&manager.Server{Name: "health and metrics", Server: telemetry.NewServer(":"+strconv.Itoa(cfg.Port), handler)})
	if err != nil {
		return fmt.Errorf("adding the server: %w", err)
	}
	log.Info("starting", telemetry.KeyVersion, version)
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	return nil
}

func signIn(cfg config.Azure, getenv func(string) string, counts *telemetry.VaultMetrics, log *slog.Logger) (*azure.Reader, *azure.Credential, error) {
	client, err := azure.NewHTTPClient(azure.HTTPOptions{CABundle: cfg.CABundle})
	if err != nil {
		return nil, nil, err
	}
	cred, err := azure.NewCredential(azure.SignIn{
		Method: azure.Method(cfg.AuthType), CloudConfig: cfg.CloudConfig, HTTP: client, Log: log, Metrics: counts,
		Getenv: func(name string) string {
			if name == "AZURE_ENVIRONMENT" {
				return cfg.Environment // a flag may have said it
			}
			return getenv(name)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	source, err := azure.NewReader(cred, azure.Options{VaultSuffix: cfg.VaultSuffix, Log: log})
	return source, cred, err
}

func newSweeper(vaults *reader.Reader, waker *controller.Waker, cfg config.Controller, counts *telemetry.VaultMetrics) *sweep.Sweeper {
	var watched *telemetry.WatchMetrics
	sweeper := sweep.New(vaults, sweep.Options{
		Wake: waker.Wake, StaleAfter: cfg.StaleAfter, StaleRate: cfg.StatusRate,
		Swept: func(of vault.Collection, took time.Duration) { watched.Swept(string(of.Kind), took) },
	})
	watched = telemetry.NewWatchMetrics(metrics.Registry, counts, func() []telemetry.Watched {
		var out []telemetry.Watched
		for _, c := range sweeper.Census() {
			out = append(out, telemetry.Watched{Vault: c.Vault, Kind: string(c.Kind), Objects: c.Objects, Unconfirmed: c.Unconfirmed})
		}
		return out
	})
	return sweeper
}
