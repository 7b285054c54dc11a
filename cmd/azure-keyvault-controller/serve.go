// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/akv2k8s/akv2k8s/internal/azure"
	"github.com/akv2k8s/akv2k8s/internal/cluster"
	"github.com/akv2k8s/akv2k8s/internal/config"
	"github.com/akv2k8s/akv2k8s/internal/controller"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
)

// serve builds the parts, hands them to each other and runs them until ctx ends.
func serve(ctx context.Context, cfg config.Controller, getenv func(string) string, stderr io.Writer) error {
	log := telemetry.NewLogger(stderr, cfg.Log.Level, cfg.Log.Format)
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	reader, err := newReader(cfg.Azure, getenv, log)
	if err != nil {
		return fmt.Errorf("signing in to Azure: %w", err)
	}
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
	caches, err := controller.Setup(ctx, mgr, reader, cluster.NewOutputs(mgr.GetAPIReader(), mgr.GetClient()), controller.Options{
		Settings:    plan.Settings{Interval: cfg.Resync, Floor: cfg.MinRefresh, Warning: cfg.ExpiryWarning},
		Concurrency: cfg.Concurrency, StatusRate: cfg.StatusRate, Registry: metrics.Registry,
	})
	if err != nil {
		return err
	}
	// Ready means: the sign-in is built (or we would not be here) and the caches are
	// filled. Who waits for the Lease is ready too, to take over.
	handler := telemetry.Handler(metrics.Registry, map[string]telemetry.Check{"caches": caches})
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

func newReader(cfg config.Azure, getenv func(string) string, log *slog.Logger) (*azure.Reader, error) {
	client, err := azure.NewHTTPClient(azure.HTTPOptions{CABundle: cfg.CABundle})
	if err != nil {
		return nil, err
	}
	cred, err := azure.NewCredential(azure.SignIn{
		Method: azure.Method(cfg.AuthType), CloudConfig: cfg.CloudConfig, HTTP: client, Log: log,
		Getenv: func(name string) string {
			if name == "AZURE_ENVIRONMENT" {
				return cfg.Environment // a flag may have said it
			}
			return getenv(name)
		},
	})
	if err != nil {
		return nil, err
	}
	return azure.NewReader(cred, azure.Options{VaultSuffix: cfg.VaultSuffix, Log: log})
}
