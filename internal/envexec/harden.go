// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"log/slog"
	"os"
	"syscall"
)

// harden keeps the values out of core dumps, the wrapper's and the program's, and
// the wrapper's memory from neighbours of the same user in a shared process
// namespace. Limit and filter survive execve: the limit covers dumps to files; a
// dump to a program, as core_pattern may ask for, ignores it, and is emptied by a
// filter that leaves every kind of mapping out. That the process is not dumpable
// ends with execve. None is worth refusing to start for: a kernel without them
// makes no dumps that they would cover.
//
// Where the program may dump its memory, the returned function gives it back its
// limit and filter. The wrapper itself stays without dumps, even if execve fails.
func harden(programMayDump bool, log *slog.Logger) func() {
	limit := limitCore(programMayDump, log)
	filter := emptyFilter(programMayDump, log) // before /proc/self is root's
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); errno != 0 {
		log.Debug("the wrapper stays dumpable", "error", errno)
	}
	return func() { filter(); limit() }
}

// limitCore sets the limit to zero. A soft limit can be raised again.
func limitCore(restore bool, log *slog.Logger) func() {
	var before, none syscall.Rlimit
	if restore && syscall.Getrlimit(syscall.RLIMIT_CORE, &before) == nil {
		none.Max = before.Max
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &none); err != nil {
		log.Debug("the limit for core dumps stays as it is", "error", err)
		return func() {}
	}
	return func() {
		if restore {
			_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &before) // a limit that it may have, as it just had it
		}
	}
}

// emptyFilter leaves everything out. It keeps the file open if it must write there
// again: a process that is not dumpable cannot open it unless it is root.
func emptyFilter(restore bool, log *slog.Logger) func() {
	file, err := os.OpenFile("/proc/self/coredump_filter", os.O_RDWR, 0)
	if err != nil {
		log.Debug("the filter for core dumps stays as it is", "error", err)
		return func() {}
	}
	before := make([]byte, len("0000007f\n"))
	n, _ := file.ReadAt(before, 0)
	if _, err := file.WriteAt([]byte("0"), 0); err != nil {
		log.Debug("the filter for core dumps stays as it is", "error", err)
	}
	if !restore || n == 0 {
		_ = file.Close()
		return func() {}
	}
	return func() { _, _ = file.WriteAt([]byte("0x"+string(before[:n])), 0) }
}
