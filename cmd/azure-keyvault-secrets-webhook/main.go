// SPDX-License-Identifier: Apache-2.0

// Command azure-keyvault-secrets-webhook changes pods with placeholders so that
// their containers start with the values. `azure-keyvault-secrets-webhook -h`
// lists its flags and variables.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/akv2k8s/akv2k8s/internal/config"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
)

var version = "dev" // the build sets it

// The exit codes: 2 is for what another command line would mend.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() { <-ctx.Done(); stop() }() // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	cfg, err := config.ParseWebhook(args, getenv, stderr)
	switch {
	case errors.Is(err, config.ErrHelp):
		return exitOK
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "azure-keyvault-secrets-webhook: %v\n", err)
		return exitUsage
	case cfg.Version:
		_, _ = fmt.Fprintln(stdout, version)
		return exitOK
	}
	log := telemetry.NewLogger(stderr, cfg.Log.Level, cfg.Log.Format)
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	klog.SetSlogLogger(log)
	if err := serve(ctx, cfg, log); err != nil {
		log.Error("the webhook ends", telemetry.KeyError, err)
		return exitFailed
	}
	return exitOK
}
