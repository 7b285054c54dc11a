// SPDX-License-Identifier: Apache-2.0

// Package launch starts processes and tells what the kernel says of them. It is for a
// program of its own, which must be small: the kernel counts the memory of who starts
// a process towards the peak of that process (exec_mmap in fs/exec.c), so that nothing
// smaller than the program can be measured. A start of Nothing shows how much that is.
package launch

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

// A Start is a process to start.
type Start struct {
	Root string   // what it sees as /; empty is what everybody sees
	Args []string // path of the program first
	Env  []string
}

// An Order is what to start.
type Order struct {
	Starts []Start
	// Times is how many processes there are, the starts in turn; 0 is each start once.
	Times int
	// AtOnce starts each without waiting for the one before.
	AtOnce bool
}

// An End is how a process ended.
type End struct {
	Exit int           // -1 for a signal
	Took time.Duration // from before the fork until it was seen to have ended
	CPU  time.Duration // of user and system
	RSS  float64       // MiB, the most that was resident, before its execves too
}

// Result is what became of an order.
type Result struct {
	Ends []End
	Took time.Duration // from before the first fork until the last has ended
	Word string        // the last line that any of them wrote to standard error
}

// Run starts what is ordered. Standard input and output of each process are /dev/null.
func Run(o Order) (Result, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = null.Close() }()
	words, err := os.CreateTemp("", "launch-")
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = words.Close() }()
	if err := os.Remove(words.Name()); err != nil { // it lives as long as it is open
		return Result{}, err
	}
	n := o.Times
	if n == 0 {
		n = len(o.Starts)
	}
	l := launcher{null: null.Fd(), words: words.Fd(), running: map[int]running{}, ends: make([]End, n)}
	began := time.Now()
	for i := range n {
		if err := l.start(i, o.Starts[i%len(o.Starts)]); err != nil {
			return Result{}, err
		}
		if !o.AtOnce {
			if err := l.wait(); err != nil {
				return Result{}, err
			}
		}
	}
	for len(l.running) > 0 {
		if err := l.wait(); err != nil {
			return Result{}, err
		}
	}
	r := Result{Ends: l.ends, Took: time.Since(began)}
	r.Word, err = lastLine(words)
	return r, err
}

type launcher struct {
	null    uintptr
	words   uintptr
	running map[int]running // by process id
	ends    []End
}

type running struct {
	index int
	began time.Time
}

func (l *launcher) start(i int, s Start) error {
	began := time.Now()
	pid, err := syscall.ForkExec(s.Args[0], s.Args, &syscall.ProcAttr{
		Env: s.Env, Files: []uintptr{l.null, l.null, l.words}, Sys: &syscall.SysProcAttr{Chroot: s.Root},
	})
	if err != nil {
		return fmt.Errorf("starting %s: %w", s.Args[0], err)
	}
	l.running[pid] = running{i, began}
	return nil
}

// wait waits for whichever process ends next.
func (l *launcher) wait() error {
	var status syscall.WaitStatus
	var used syscall.Rusage
	pid, err := syscall.Wait4(-1, &status, 0, &used)
	for err == syscall.EINTR {
		pid, err = syscall.Wait4(-1, &status, 0, &used)
	}
	if err != nil {
		return fmt.Errorf("waiting for a process: %w", err)
	}
	it := l.running[pid]
	delete(l.running, pid)
	l.ends[it.index] = End{
		Exit: status.ExitStatus(), Took: time.Since(it.began),
		CPU: time.Duration(used.Utime.Nano() + used.Stime.Nano()),
		RSS: float64(used.Maxrss) / 1024, // the kernel counts KiB
	}
	return nil
}

// lastLine is not the whole of a line that is very long.
func lastLine(file *os.File) (string, error) {
	const most = 4 << 10
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	text := make([]byte, min(size, most))
	if _, err := file.ReadAt(text, size-int64(len(text))); err != nil {
		return "", err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1], nil
}
