// SPDX-License-Identifier: Apache-2.0

// Command app is the application whose start is measured: `app N` says when it ran its
// first statement, as its termination message, if it finds N variables filled.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	began := time.Now()
	word, code := strconv.FormatInt(began.UnixNano(), 10), 0
	if err := check(os.Args[1:]); err != nil {
		word, code = err.Error(), 1
	}
	if err := os.WriteFile("/dev/termination-log", []byte(word), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func check(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%d arguments, want 1", len(args))
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for i := range n {
		if got, want := os.Getenv(fmt.Sprintf("VALUE_%d", i)), fmt.Sprintf("value %d", i); got != want {
			return fmt.Errorf("variable %d is not what it must be", i)
		}
	}
	return nil
}
