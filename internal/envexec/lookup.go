// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// defaultPath is what container runtimes set where the image sets nothing.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

var errNoProgram = errors.New("there is no program to start: the container's command is empty")

// startError says why a program did not start; its exit status follows a
// shell's.
type startError struct {
	program string
	err     error
}

func (e *startError) Error() string {
	return fmt.Sprintf("cannot start %q: %s", e.program, startReason(e.err))
}

func (e *startError) Unwrap() error { return e.err }

func startReason(err error) string {
	if size, known := errors.AsType[*sizeError](err); known {
		return size.text
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "no such program in the container (or the interpreter that it names is missing)"
	case errors.Is(err, syscall.E2BIG):
		return "its arguments and environment are larger than the kernel allows: " +
			"128 KiB for one variable, a quarter of the stack limit (usually 2 MiB) for all; " + cureSize
	case errors.Is(err, syscall.ENOEXEC):
		return "it is not a program for this machine, or a script without a #! line"
	case errors.Is(err, os.ErrPermission):
		return "the container's user may not execute it"
	case errors.Is(err, syscall.EISDIR):
		return "it is a directory"
	default:
		return "the kernel refused it"
	}
}

// lookup finds the program as the container runtime would have: a name with a
// slash is a path from the working directory, any other is searched for along
// PATH, where an empty or relative entry counts from the working directory too.
func lookup(program, path string) (string, error) {
	if strings.Contains(program, "/") {
		return program, wrapStart(program, executable(program))
	}
	if program == "" || program == "." || program == ".." { // joined, these would name the directory itself
		return "", wrapStart(program, syscall.ENOENT)
	}
	if path == "" {
		path = defaultPath
	}
	found := error(syscall.ENOENT)
	for _, dir := range filepath.SplitList(path) {
		candidate := filepath.Join(dir, program)
		if dir == "" || dir == "." {
			candidate = "./" + program
		}
		err := executable(candidate)
		if err == nil {
			return candidate, nil
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.EISDIR) && err != nil {
			found = err // keep looking, as execvp does; say this one if nothing better comes
		}
	}
	return "", wrapStart(program, found)
}

func wrapStart(program string, err error) error {
	if err == nil {
		return nil
	}
	return &startError{program: program, err: err}
}

// executable is nil for a file that this process may execute.
func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, syscall.ENOTDIR) { // a file where a directory should be
			return syscall.ENOENT
		}
		return err
	}
	if info.IsDir() {
		return syscall.EISDIR
	}
	const xOK = 1
	return syscall.Access(path, xOK)
}
