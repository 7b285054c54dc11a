// SPDX-License-Identifier: Apache-2.0

// Command show prints what it was given: who it is, and its environment.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	err := os.WriteFile("/written", nil, 0o600)
	fmt.Printf("user %d\nwrites %t\n%s\n", os.Getuid(), err == nil, strings.Join(os.Environ(), "\n"))
}
