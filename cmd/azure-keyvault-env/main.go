// SPDX-License-Identifier: Apache-2.0

// Command azure-keyvault-env fills the placeholders of its environment and
// becomes the program given as arguments. Package envexec says how it is
// configured and what its exit statuses mean.
package main

import (
	"os"

	"github.com/akv2k8s/akv2k8s/internal/envexec"
)

func main() { os.Exit(envexec.Run(envexec.System())) }
