// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

// cureSize is what to do about a value that no environment can hold.
const cureSize = "have large values delivered as files, NAME@azurekeyvault?QUERY;file"

// limits is how much the kernel passes to a program; see execve(2).
type limits struct {
	entry int // bytes of one variable or argument, its zero byte included
	all   int // of them all, with a pointer each, and the path of the program
}

// kernelLimits are those of this process: 32 pages for one, and for all a quarter
// of the stack's limit, which counts as 24 MiB at most and 512 KiB at least.
func kernelLimits() limits {
	const most, least = 6 << 20, 128 << 10
	l := limits{entry: 32 * os.Getpagesize(), all: most}
	var stack syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_STACK, &stack) == nil && stack.Cur/4 < most {
		l.all = max(int(stack.Cur/4), least) //nolint:gosec // it is below 6 MiB
	}
	return l
}

// sizeError says which variables the kernel would not take, before it is asked.
type sizeError struct{ text string }

func (e *sizeError) Error() string { return e.text }
func (e *sizeError) Unwrap() error { return syscall.E2BIG }

// fits tells what execve's E2BIG does not: the variable. What it lets through may
// still be too much, by the few bytes that a script's interpreter adds.
func (l limits) fits(path string, argv, environ []string) error {
	var large []string
	total := len(path) + 1
	for _, text := range argv {
		total += taken(text)
	}
	for _, entry := range environ {
		total += taken(entry)
		if len(entry)+1 > l.entry {
			large = append(large, described(entry))
		}
	}
	switch {
	case len(large) > 0:
		return &sizeError{fmt.Sprintf("%s with name and value, and the kernel takes %d bytes for one variable: %s",
			strings.Join(large, ", "), l.entry-1, cureSize)}
	case total > l.all:
		return &sizeError{fmt.Sprintf("arguments and environment have %d bytes together, and the kernel takes %d (a quarter of the stack limit); the largest of the environment: %s: %s",
			total, l.all, strings.Join(largest(environ), ", "), cureSize)}
	default:
		return nil
	}
}

// taken is what a text costs: itself, a zero byte and a pointer.
func taken(text string) int {
	const pointer = 4 << (^uintptr(0) >> 63) // bytes
	return len(text) + 1 + pointer
}

func described(entry string) string {
	name, _, named := strings.Cut(entry, "=")
	if !named {
		name = "a text without a name"
	}
	return fmt.Sprintf("%s has %d bytes", name, len(entry))
}

// largest describes up to three.
func largest(environ []string) []string {
	order := slices.SortedStableFunc(slices.Values(environ), func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	var out []string
	for _, entry := range order[:min(len(order), 3)] {
		out = append(out, described(entry))
	}
	return out
}
