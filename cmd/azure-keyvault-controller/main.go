// SPDX-License-Identifier: Apache-2.0

// Command azure-keyvault-controller keeps the output of each AzureKeyVaultSecret
// equal to its object in Azure Key Vault. `azure-keyvault-controller -h` lists its
// flags and variables.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/akv2k8s/akv2k8s/internal/config"
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
	cfg, err := config.ParseController(args, getenv, stderr)
	switch {
	case errors.Is(err, config.ErrHelp):
		return exitOK
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "azure-keyvault-controller: %v\n", err)
		return exitUsage
	case cfg.Version:
		_, _ = fmt.Fprintln(stdout, version)
		return exitOK
	}
	if err := serve(ctx, cfg, getenv, stderr); err != nil {
		_, _ = fmt.Fprintf(stderr, "azure-keyvault-controller: %v\n", err)
		return exitFailed
	}
	return exitOK
}
