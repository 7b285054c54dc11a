// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/akv2k8s/akv2k8s/internal/azure"
	"github.com/akv2k8s/akv2k8s/internal/cluster"
	"github.com/akv2k8s/akv2k8s/internal/config"
	"github.com/akv2k8s/akv2k8s/internal/image"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/servingcert"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
	"github.com/akv2k8s/akv2k8s/internal/webhook"
	"github.com/akv2k8s/akv2k8s/internal/webhook/kube"
)

// serve builds the parts and runs them until ctx ends or one of them fails.
func serve(ctx context.Context, cfg config.Webhook, log *slog.Logger) error {
	api, err := cluster.Config(cfg.Kubeconfig, cfg.Master)
	if err != nil {
		return err
	}
	if !cfg.AuthService {
		cfg.BrokerService, cfg.BrokerSecret = "", ""
	}
	source, err := kube.New(ctx, api, client.ObjectKey{Namespace: cfg.Namespace, Name: cfg.BrokerService})
	if err != nil {
		return err
	}
	certificates := newKeeper(cfg, source, log)
	counts, err := webhook.NewMetrics(metrics.Registry, certificates.Ends)
	if err != nil {
		return err
	}
	handler, err := newHandler(cfg, source, certificates, counts, log)
	if err != nil {
		return err
	}
	checks := map[string]telemetry.Check{
		"caches":       source.Ready,
		"certificates": func(*http.Request) error { return certificates.Ready() },
	}
	if cfg.AuthService {
		checks["broker"] = source.BrokerReady
	}
	health := telemetry.Handler(metrics.Registry, checks)
	log.Info("starting", telemetry.KeyVersion, version)
	return together(ctx, cfg.DrainTime, source.Run, certificates.Run,
		server(handler.NewServer(ctx, port(cfg.TLSPort), certificates.GetCertificate)),
		server(telemetry.NewServer(port(cfg.HTTPPort), health)),
	)
}

func newKeeper(cfg config.Webhook, source *kube.Source, log *slog.Logger) *servingcert.Keeper {
	return servingcert.NewKeeper(source.Client(), servingcert.Options{
		Namespace: cfg.Namespace, AuthorityName: cfg.AuthoritySecret, BrokerSecret: cfg.BrokerSecret,
		Registration: cfg.Registration, Advice: cfg.Advice, Service: cfg.Service, BrokerService: cfg.BrokerService,
		AuthorityLife: servingcert.AuthorityLife, LeafLife: cfg.LeafLife,
		Now: time.Now, Log: log,
	})
}

func newHandler(cfg config.Webhook, source *kube.Source, certificates *servingcert.Keeper, counts *webhook.Metrics, log *slog.Logger) (*webhook.Handler, error) {
	resources, err := cfg.Installer.Requirements()
	if err != nil {
		return nil, err
	}
	images, err := newResolver(cfg, counts, log)
	if err != nil {
		return nil, err
	}
	options := webhook.Options{
		Settings: inject.Settings{
			Image: cfg.EnvImage, PullPolicy: corev1.PullPolicy(cfg.PullPolicy), Delivery: inject.Delivery(cfg.Delivery), Resources: resources,
			ServerName: certificates.ServerName(),
		},
		CABundle: certificates.Bundle,
		Excluded: []string{cfg.Namespace, "kube-system"},
		Command: func(ctx context.Context, l webhook.Lookup) (inject.Command, error) {
			return images.Command(ctx, image.Request(l))
		},
		Source:  readable(cfg, source),
		Account: source.Account, Secret: source.SecretNow,
		Guard:   webhook.Guard{Groups: cfg.BreakGlassGroups, Pod: source.Pod},
		Cluster: source, Metrics: counts, Log: log,
	}
	if options.Direct, err = direct(cfg, options.Settings); err != nil {
		return nil, err
	}
	if cfg.Registries.PullSecrets {
		options.PullSecrets = func(ctx context.Context, namespace, account string, names []string) []inject.PullSecret {
			if !cfg.Registries.ReadsPullSecrets(namespace) { // whatever other rights there are
				return []inject.PullSecret{inject.NoPullSecrets()}
			}
			return source.PullSecrets(ctx, namespace, account, names)
		}
	}
	return webhook.NewHandler(options), nil
}

// direct are the settings for pods that read their vaults themselves, or nil.
func direct(cfg config.Webhook, s inject.Settings) (*inject.Settings, error) {
	if cfg.Direct.Image == "" {
		return nil, nil
	}
	var trusted []byte
	if cfg.CABundle != "" {
		var err error
		if trusted, err = os.ReadFile(cfg.CABundle); err != nil {
			return nil, fmt.Errorf("reading the CA bundle: %w", err)
		}
	}
	s.Image, s.PullPolicy = cfg.Direct.Image, corev1.PullPolicy(cfg.Direct.PullPolicy)
	s.Direct = &inject.Direct{
		TenantID: cfg.Direct.TenantID, Cloud: cfg.Direct.Environment, VaultSuffix: cfg.Direct.VaultSuffix, CABundle: string(trusted),
	}
	return &s, nil
}

func newResolver(cfg config.Webhook, counts *webhook.Metrics, log *slog.Logger) (*image.Resolver, error) {
	roots, err := image.Roots(cfg.CABundle)
	if err != nil {
		return nil, fmt.Errorf("trusting registries: %w", err)
	}
	mirrors, err := config.ParseMirrors(cfg.Registries.Mirrors)
	if err != nil {
		return nil, err
	}
	registries := image.Registries{Mirrors: mirrors, Insecure: cfg.Registries.InsecureHosts()}
	options := image.Options{
		Timeout: cfg.Registries.Timeout,
		TagTTL:  cfg.Registries.TagTTL,
		Transport: image.NewTransport(image.Dial{
			Proxy: http.ProxyFromEnvironment, Roots: roots, Plain: registries.Plain(),
			Budget: image.Budget{Rate: cfg.Registries.Rate, Concurrent: cfg.Registries.Concurrency},
		}),
		Registries: registries,
		Observe:    func(o image.Outcome) { counts.Looked(string(o)) },
	}
	if cfg.Registries.AuthType == "" {
		return image.NewResolver(options), nil
	}
	if options.Identity, err = newIdentity(cfg, log); err != nil {
		return nil, fmt.Errorf("signing in to Azure's registries: %w", err)
	}
	return image.NewResolver(options), nil
}

// newIdentity signs in to registries, and to nothing else.
func newIdentity(cfg config.Webhook, log *slog.Logger) (*azure.RegistryIdentity, error) {
	client, err := azure.NewHTTPClient(azure.HTTPOptions{CABundle: cfg.CABundle})
	if err != nil {
		return nil, err
	}
	credential, err := azure.NewCredential(azure.SignIn{
		Method: azure.Method(cfg.Registries.AuthType), CloudConfig: cfg.Registries.CloudConfig, Cloud: cfg.Registries.Environment,
		HTTP: client, Log: log,
	})
	if err != nil {
		return nil, err
	}
	return azure.NewRegistryIdentity(credential), nil
}

// readable are the kinds that the operator lets admission read.
func readable(cfg config.Webhook, source *kube.Source) map[inject.SourceKind]webhook.SourceFunc {
	kinds := map[inject.SourceKind]webhook.SourceFunc{}
	if cfg.ReadConfigMaps {
		kinds[inject.ConfigMap] = func(ctx context.Context, namespace string, s inject.Source) (map[string]string, error) {
			return source.ConfigMap(ctx, namespace, s.Name)
		}
	}
	if cfg.ReadSecrets {
		kinds[inject.Secret] = func(ctx context.Context, namespace string, s inject.Source) (map[string]string, error) {
			return source.SecretTexts(ctx, namespace, s.Name)
		}
	}
	return kinds
}

func port(number int) string { return net.JoinHostPort("", strconv.Itoa(number)) }

func server(s *http.Server) func(context.Context) error {
	return func(ctx context.Context) error { return telemetry.Serve(ctx, s) }
}

// together runs parts until ctx ends or the first of them does, stops the others
// and waits for all. When ctx ends they go on for a while: the API server learns
// only then that this pod is going, and a call to a closed port refuses a pod.
func together(ctx context.Context, drain time.Duration, parts ...func(context.Context) error) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		select {
		case <-running.Done():
		case <-ctx.Done():
			time.AfterFunc(drain, stop)
		}
	}()
	ended := make(chan error, len(parts))
	for _, part := range parts {
		go func() { ended <- part(running) }()
	}
	var errs []error
	for range parts {
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
		stop()
	}
	return errors.Join(errs...)
}
