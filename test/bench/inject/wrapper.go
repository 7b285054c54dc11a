// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/akv2k8s/akv2k8s/test/bench"
	"github.com/akv2k8s/akv2k8s/test/bench/launch"
)

// starters is how many pods start the wrapper in turn: one pod may ask a broker 200
// times at once and 20 times a second.
const starters = 20

// wrapperResult has an element of each list for each start.
type wrapperResult struct {
	Bytes         int
	Took, CPU     []float64 // ms
	RSS           []float64 // MiB
	NothingTook   float64   // ms, of a start without the wrapper
	NothingRSS    float64   // MiB
	VaultRequests int       // during the starts
	Spent         spent
}

// spent is processor time in seconds: of the processes that were started, of the
// machine, and how much there was to have.
type spent struct{ Started, Busy, Cores float64 }

func (s spent) String() string {
	return fmt.Sprintf("those that were started %.2f s, everybody else %.2f s, of %.2f s", s.Started, s.Busy-s.Started, s.Cores)
}

func (s *spent) add(other spent) {
	s.Started, s.Busy, s.Cores = s.Started+other.Started, s.Busy+other.Busy, s.Cores+other.Cores
}

// startWrappers measures one start after the other, in rounds that end before the
// broker reads again what it read at their beginning; each round is about other
// secrets, which nobody has read before.
func startWrappers(ctx context.Context, api kubernetes.Interface, o order) (wrapperResult, error) {
	var r wrapperResult
	c, err := gather(ctx, api, o, o.Size.Rounds*starters, starters)
	if err != nil {
		return r, err
	}
	r.Bytes = c.bytes
	if err := r.startNothing(ctx, o, c.starts[:starters]); err != nil {
		return r, err
	}
	for starts := range slices.Chunk(c.starts, starters) {
		if err := r.round(ctx, o, starts); err != nil {
			return r, err
		}
	}
	if least := slices.Min(r.RSS); least <= r.NothingRSS {
		return r, fmt.Errorf("the starter itself has %.1f MiB resident, so that %.1f MiB say nothing of the wrapper", r.NothingRSS, least)
	}
	return r, disperse(ctx, api)
}

// startNothing finds what a start costs without the wrapper.
func (r *wrapperResult) startNothing(ctx context.Context, o order, starts []launch.Start) error {
	var all []launch.Start
	for _, start := range starts {
		all = append(all, nothing(start))
	}
	seen, _, err := carryOut(ctx, o, launch.Order{Starts: all})
	if err != nil {
		return err
	}
	var took []float64
	for _, end := range seen.Ends {
		took = append(took, milli(end.Took))
		r.NothingRSS = max(r.NothingRSS, end.RSS)
	}
	r.NothingTook = bench.Percentile(took, 50)
	return nil
}

// round has every broker read the values, and the application check them, before it
// counts.
func (r *wrapperResult) round(ctx context.Context, o order, starts []launch.Start) error {
	var all []launch.Start
	for _, start := range starts {
		all = append(all, checking(start))
	}
	if _, _, err := carryOut(ctx, o, launch.Order{Starts: all, AtOnce: true}); err != nil {
		return err
	}
	before, err := emulator.Requests(ctx)
	if err != nil {
		return err
	}
	seen, spent, err := carryOut(ctx, o, launch.Order{Starts: starts, Times: o.Size.Starts})
	if err != nil {
		return err
	}
	after, err := emulator.Requests(ctx)
	r.VaultRequests += after - before
	r.Spent.add(spent)
	for _, end := range seen.Ends {
		r.Took, r.CPU, r.RSS = append(r.Took, milli(end.Took)), append(r.CPU, milli(end.CPU)), append(r.RSS, end.RSS)
	}
	return err
}

func milli(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// carryOut has the starter carry out an order, which fails when a process does.
func carryOut(ctx context.Context, o order, what launch.Order) (launch.Result, spent, error) {
	var seen launch.Result
	text, err := json.Marshal(what)
	if err != nil {
		return seen, spent{}, err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(o.Dir, starterFile))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), &out, os.Stderr
	before, err := bench.Busy()
	if err != nil {
		return seen, spent{}, err
	}
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return seen, spent{}, err
	}
	took := time.Since(began)
	after, err := bench.Busy()
	if err != nil {
		return seen, spent{}, err
	}
	if err := json.Unmarshal(out.Bytes(), &seen); err != nil {
		return seen, spent{}, err
	}
	s := spent{Busy: (after - before).Seconds(), Cores: float64(runtime.NumCPU()) * took.Seconds()}
	failed := 0
	for _, end := range seen.Ends {
		s.Started += end.CPU.Seconds()
		if end.Exit != 0 {
			failed++
		}
	}
	if failed > 0 {
		return seen, s, fmt.Errorf("%d of %d containers did not start; the last word of one is %s", failed, len(seen.Ends), seen.Word)
	}
	return seen, s, nil
}
