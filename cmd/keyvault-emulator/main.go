// SPDX-License-Identifier: Apache-2.0

// Command keyvault-emulator plays Azure Key Vault, the sign-in hosts of Entra ID and the instance metadata service on
// the loopback address, or for a whole cluster with --listen. See docs/emulator.md.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "keyvault-emulator:", err)
		os.Exit(1) //nolint:gocritic // stop only restores the default signal handling
	}
}
