// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// ticks is USER_HZ, in which /proc counts processor time; it is 100 on every
// architecture that Go runs Linux on.
const ticks = 100

// A Process is a directory of /proc.
type Process string

// ProcessOf is the process with this id.
func ProcessOf(pid int) Process { return Process(filepath.Join("/proc", strconv.Itoa(pid))) }

// CPU is the processor time, of user and system, that the process has had.
func (p Process) CPU() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(string(p), "stat"))
	if err != nil {
		return 0, fmt.Errorf("reading processor time: %w", err)
	}
	// The name, in parentheses, may hold anything; utime and stime are fields 14 and
	// 15 of the line, and the first after the name is field 3.
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s/stat has an unknown form", p)
	}
	total := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("%s/stat has an unknown form: %w", p, err)
		}
		total += n
	}
	return time.Duration(total) * time.Second / ticks, nil
}

// Memory reads a line such as VmRSS or VmHWM of the process's status, in MiB.
func (p Process) Memory(line string) (float64, error) {
	file, err := os.Open(filepath.Join(string(p), "status"))
	if err != nil {
		return 0, fmt.Errorf("reading memory: %w", err)
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		rest, found := strings.CutPrefix(lines.Text(), line+":")
		if !found {
			continue
		}
		kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
		if err != nil {
			return 0, fmt.Errorf("%s/status has an unknown form: %w", p, err)
		}
		return kib / 1024, nil
	}
	return 0, fmt.Errorf("%s/status has no %s", p, line)
}

// stat is where the kernel counts the machine's processor time.
const stat = "/proc/stat"

// Busy is the processor time that all cores together have spent on anything.
func Busy() (time.Duration, error) {
	text, err := os.ReadFile(stat)
	if err != nil {
		return 0, fmt.Errorf("reading processor time: %w", err)
	}
	return busy(string(text))
}

// busy reads the first line: cpu user nice system idle iowait irq softirq steal guest
// guest_nice. Those of guests are in user and nice already.
func busy(text string) (time.Duration, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("%s has an unknown form", stat)
	}
	total := 0
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return 0, fmt.Errorf("%s has an unknown form: %w", stat, err)
		}
		total += n
	}
	return time.Duration(total) * time.Second / ticks, nil
}

// Machine says what a figure was measured on, and what else was going on there.
func Machine() string {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		load = []byte("unknown")
	}
	return fmt.Sprintf("load %s; %d cores; %s %s/%s", strings.TrimSpace(string(load)), runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
