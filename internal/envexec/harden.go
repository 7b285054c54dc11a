// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"log/slog"
	"os"
	"syscall"
)

// harden keeps the values out of core dumps, the wrapper's and the program's:
// both settings survive execve. The limit covers dumps to files. A dump to a
// program, as core_pattern may ask for, ignores the limit, and is emptied by a
// filter that leaves every kind of mapping out. Neither is worth refusing to
// start for: a kernel without them makes no dumps that they would cover.
func harden(log *slog.Logger) {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		log.Debug("the limit for core dumps stays as it is", "error", err)
	}
	if err := os.WriteFile("/proc/self/coredump_filter", []byte("0"), 0); err != nil {
		log.Debug("the filter for core dumps stays as it is", "error", err)
	}
}
