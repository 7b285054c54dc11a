// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/test/bench/launch"
)

// The tests do not run at once: each waits for all processes that there are.

func shell(script string) launch.Start {
	return launch.Start{Args: []string{"/bin/sh", "-c", script}, Env: []string{"STATUS=3", "PATH=" + os.Getenv("PATH")}}
}

func TestRun(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	waits := shell("mkfifo " + fifo + "; read x <" + fifo + "; exit 5")
	tells := shell("until [ -p " + fifo + " ]; do :; done; echo >" + fifo + "; exit 6")
	for name, tc := range map[string]struct {
		order launch.Order
		want  []int
		word  string
	}{
		"Each":   {launch.Order{Starts: []launch.Start{shell("exit $STATUS"), shell("exit 4")}}, []int{3, 4}, ""},
		"InTurn": {launch.Order{Starts: []launch.Start{shell("exit 1"), shell("exit 2")}, Times: 3}, []int{1, 2, 1}, ""},
		"Killed": {launch.Order{Starts: []launch.Start{shell("kill -9 $$")}}, []int{-1}, ""},
		"Speaks": {launch.Order{Starts: []launch.Start{shell("echo a >&2; echo b c >&2"), shell(":")}}, []int{0, 0}, "b c"},
		"Silent": {launch.Order{Starts: []launch.Start{shell("cat; echo a")}}, []int{0}, ""},
		"AtOnce": {launch.Order{Starts: []launch.Start{waits, tells}, AtOnce: true}, []int{5, 6}, ""},
		"None":   {launch.Order{}, []int{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := launch.Run(tc.order)
			if err != nil {
				t.Fatal(err)
			}
			if r.Word != tc.word {
				t.Errorf("the last word is %q, want %q", r.Word, tc.word)
			}
			got := []int{}
			for _, end := range r.Ends {
				got = append(got, end.Exit)
				if end.Took <= 0 || end.Took > r.Took {
					t.Errorf("%+v of %+v", end, r)
				}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
	if _, err := launch.Run(launch.Order{Starts: []launch.Start{{Args: []string{"/no/such"}}}}); err == nil {
		t.Error("a program that does not exist starts")
	}
}

// Nothing costs less than a shell that computes.
func TestCost(t *testing.T) {
	program, err := launch.Nothing(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nothing")
	if err := os.WriteFile(file, program, 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := launch.Run(launch.Order{Starts: []launch.Start{
		{Args: []string{file}}, shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	nothing, computes := r.Ends[0], r.Ends[1]
	if nothing.Exit != 0 || nothing.CPU >= computes.CPU || nothing.RSS <= 0 || nothing.RSS > computes.RSS {
		t.Errorf("nothing: %+v; a shell: %+v", nothing, computes)
	}
	if _, err := launch.Nothing("pdp11"); err == nil {
		t.Error("there is a program for every machine")
	}
}
