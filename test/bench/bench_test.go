// SPDX-License-Identifier: Apache-2.0

package bench_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/test/bench"
)

func TestReport(t *testing.T) {
	t.Parallel()
	figures := []bench.Figure{
		{Name: "a_most", Unit: "s", Most: 2},
		{Name: "a_below", Unit: "s", Most: 2, Below: true},
		{Name: "a_free", Unit: "s", Most: bench.NoGoal},
		{Name: "a_broken", Unit: "s", Most: 1},
		{Name: "a_many", Unit: "/s", Least: 5},
		{Name: "a_few", Unit: "/s", Least: 5},
		{Name: "b", Unit: "s", Most: 1},
	}
	var out, notes strings.Builder
	r := bench.NewReport(&out, &notes, figures, "a")
	if !r.Wants("a_m") || r.Wants("b") {
		t.Error("it wants what was not asked for, or not what was")
	}
	r.Tell("a_most", 2)
	r.Tell("a_below", 2)
	r.Tell("a_free", 1234.56789)
	r.Tell("a_many", 5)
	r.Tell("a_few", 4)
	r.Tell("b", 5)
	r.Fail(errors.New("broken"), "a_most", "a_broken", "b")
	if r.Conclude() {
		t.Error("it reaches every goal")
	}
	if d := cmp.Diff("BENCH a_most 2 s\nBENCH a_below 2 s\nBENCH a_free 1234.568 s\nBENCH a_many 5 /s\nBENCH a_few 4 /s\n", out.String()); d != "" {
		t.Errorf("figures, -want +got:\n%s", d)
	}
	if d := cmp.Diff(said, notes.String()); d != "" {
		t.Errorf("notes, -want +got:\n%s", d)
	}
}

// said is what TestReport finds beside the figures.
const said = `# BENCH a_broken failed: broken
# a_most    2         s   at most 2    
# a_below   2         s   less than 2  missed
# a_free    1234.568  s                
# a_broken  -         s   at most 1    failed
# a_many    5         /s  at least 5   
# a_few     4         /s  at least 5   missed
# 3 figures miss their goal:
#   a_below is 2 s, want less than 2
#   a_few is 4 /s, want at least 5
#   a_broken could not be measured: broken
`

func TestReachesAllGoals(t *testing.T) {
	t.Parallel()
	var out, notes strings.Builder
	r := bench.NewReport(&out, &notes, []bench.Figure{{Name: "a", Unit: "s", Most: 1}}, "")
	r.Tell("a", 1)
	if !r.Conclude() {
		t.Errorf("it misses a goal: %s", notes.String())
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	for name, tc := range map[string]struct {
		values []float64
		p      float64
		want   float64
	}{
		"Median":      {hundred, 50, 50},
		"AlmostWorst": {hundred, 99, 99},
		"Worst":       {hundred, 100, 100},
		"One":         {[]float64{7}, 99, 7},
		"Few":         {[]float64{3, 1, 2}, 50, 2},
	} {
		if got := bench.Percentile(tc.values, tc.p); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestOverdrawn(t *testing.T) {
	t.Parallel()
	read := func(at, count int) bench.Reading {
		moment := time.Unix(int64(at), 0)
		return bench.Reading{Before: moment, After: moment.Add(time.Second / 2), Count: count}
	}
	for name, tc := range map[string]struct {
		readings []bench.Reading
		want     float64
	}{
		"Never":  {[]bench.Reading{read(0, 0), read(1, 65), read(2, 75)}, 0}, // 50, and 10 a second of 1.5 s
		"Burst":  {[]bench.Reading{read(0, 0), read(1, 66)}, 1},
		"Late":   {[]bench.Reading{read(0, 0), read(10, 0), read(11, 75)}, 10}, // a rest before allows no more
		"Longer": {[]bench.Reading{read(0, 0), read(1, 60), read(2, 80)}, 5},
		"None":   {nil, 0},
	} {
		if got := bench.Overdrawn(tc.readings, 50, 10); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "stat"), "7 (a name) with) S 1 7 7 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 9 0 1 2 3")
	write(t, filepath.Join(dir, "status"), "Name:\tx\nVmHWM:\t    4096 kB\nVmRSS:\t    1536 kB\n")
	p := bench.Process(dir)
	if cpu, err := p.CPU(); err != nil || cpu != 2810*time.Millisecond {
		t.Errorf("processor time %v, %v", cpu, err)
	}
	if mib, err := p.Memory("VmRSS"); err != nil || mib != 1.5 {
		t.Errorf("memory %v, %v", mib, err)
	}
	if _, err := p.Memory("VmSwap"); err == nil {
		t.Error("it knows what it does not")
	}
	if _, err := bench.ProcessOf(os.Getpid()).CPU(); err != nil {
		t.Error(err)
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	before, err := bench.Busy()
	if err != nil || before <= 0 {
		t.Fatalf("busy for %v, %v", before, err)
	}
	mine, err := bench.ProcessOf(os.Getpid()).CPU()
	if err != nil || mine > before {
		t.Errorf("this process alone was busy for %v of %v, %v", mine, before, err)
	}
}

func TestParseMetrics(t *testing.T) {
	t.Parallel()
	got, err := bench.ParseMetrics(strings.NewReader("# HELP a b\na 1.5\nb{c=\"d e\"} 2e+06\n\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(bench.Metrics{"a": 1.5, `b{c="d e"}`: 2e6}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if _, err := bench.ParseMetrics(strings.NewReader("<html>\n")); err == nil {
		t.Error("a page is taken for metrics")
	}
}

// The log is read piece by piece, while it is written.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "log")
	l := bench.AuditLog{File: file, Home: "system"}
	text := `{"verb":"get","objectRef":{"resource":"secrets","namespace":"a"}}
{"verb":"update","objectRef":{"resource":"leases","namespace":"system"}}
{"verb":"create","objectRef":{"resource":"events","namespace":"system"}}
{"verb":"create","objectRef":{"resource":"events","namespace":"a"}}
{"verb":"watch","objectRef":{"resource":"secrets"}}
{"verb":"get"}
{"verb":"patch","objectRef":{"resource":"azurekeyvaultsecrets","subresource":"status"}}`
	write(t, file, text) // the last line is not whole: no end of line
	got, err := l.Next()
	if err != nil {
		t.Fatal(err)
	}
	if got.Reads() != 2 || got.Writes() != 1 {
		t.Errorf("reads %d, writes %d: %s", got.Reads(), got.Writes(), got)
	}
	write(t, file, text+"\n")
	more, err := l.Next()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff("1 patch azurekeyvaultsecrets/status", more.String()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	got.Add(more)
	if got.Writes() != 2 {
		t.Errorf("writes %d: %s", got.Writes(), got)
	}
	if none, err := l.Next(); err != nil || none.String() != "none" {
		t.Errorf("%v, %v", none, err)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
