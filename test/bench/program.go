// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options are what every program that measures has on its command line.
type Options struct {
	Only         string
	Short, Check bool
}

// Flags puts them there. Short is what -short does, in the program's own words.
func (o *Options) Flags(short string) {
	flag.StringVar(&o.Only, "only", "", "measure only figures whose names start so")
	flag.BoolVar(&o.Short, "short", false, short+", to see that it works; goals are then not compared")
	flag.BoolVar(&o.Check, "check", false, "exit with 1 when a figure misses its goal")
}

// Main parses the command line and runs the program until it is interrupted. Run says
// whether a goal was missed.
func Main(name string, o *Options, run func(context.Context) (bool, error)) {
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "%q is not a flag; see -h\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	missed, err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
	if missed && o.Check {
		os.Exit(1)
	}
}

// Open is the report of a program, which prints figures on standard output and
// everything else on standard error.
func (o *Options) Open(figures []Figure) *Report {
	r := NewReport(os.Stdout, os.Stderr, figures, o.Only)
	r.Note("%s", Machine())
	return r
}

// Close says how long it took and, for figures of the full size, which of them miss
// their goal. It returns whether any does.
func (r *Report) Close(full bool) bool {
	r.Note("took %s; %s", time.Since(r.began).Round(time.Second), Machine())
	if !full {
		r.Note("goals are for the full size and were not compared")
		return false
	}
	return !r.Conclude()
}

// creators is how many things are made at once, as many as the API server of a small
// machine has use for.
const creators = 16

// Each does something for 0 to n-1, many at once.
func Each(ctx context.Context, n int, do func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(creators)
	for i := range n {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}

// Sleep fails when ctx ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
