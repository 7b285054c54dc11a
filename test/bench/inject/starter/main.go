// SPDX-License-Identifier: Apache-2.0

// Command starter starts what standard input orders, and says on standard output what
// became of it; both are JSON of package launch.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/akv2k8s/akv2k8s/test/bench/launch"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "starter:", err)
		os.Exit(1)
	}
}

func run() error {
	var o launch.Order
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return err
	}
	result, err := launch.Run(o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}
