// SPDX-License-Identifier: Apache-2.0

// Command inject is `make bench-inject`. It measures the Env Injector as users have it:
// the chart on the real node, and the emulator, which answers as late as a vault does.
//
// It prints one line for each figure,
//
//	BENCH <name> <number> <unit>
//
// on standard output, and on standard error what else there is to know: the machine,
// what the numbers are made of, and in the end a table of figures and goals.
// figures.go lists the figures and their goals; scenarios.go says how each is measured.
//
// The program has two halves. This one prepares the cluster from outside. What is
// measured is measured in the cluster's network, by the same program started there
// (inside.go), so that nothing but the product is between the two clocks.
//
// A cluster that was up before stays up; KEEP=1 leaves it up in any case.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/akv2k8s/akv2k8s/test/bench"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

// settings are the command line.
type settings struct {
	only         string
	size         size
	short, check bool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == insideFlag {
		os.Exit(inside(os.Args[2:]))
	}
	s := settings{size: full}
	flag.StringVar(&s.only, "only", "", "measure only figures whose names start so")
	flag.IntVar(&s.size.Pairs, "pairs", s.size.Pairs, "pods to start of each kind")
	flag.BoolVar(&s.short, "short", false, "few reviews and pods, to see that it works; goals are then not compared")
	flag.BoolVar(&s.check, "check", false, "exit with 1 when a figure misses its goal")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "%q is not a flag; see -h\n", flag.Arg(0))
		os.Exit(2)
	}
	if s.short {
		s.size = short
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	missed, err := run(ctx, s)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-inject:", err)
		os.Exit(1)
	}
	if missed && s.check {
		os.Exit(1)
	}
}

// run measures everything that is asked for, and says whether a goal was missed.
func run(ctx context.Context, s settings) (bool, error) {
	report := bench.NewReport(os.Stdout, os.Stderr, figures, s.only)
	report.Note("%s", bench.Machine())
	began := time.Now()
	root, err := harness.Root()
	if err != nil {
		return false, err
	}
	c := harness.NewCluster(root, false, os.Stderr)
	keep := os.Getenv("KEEP") != "" || c.Running(ctx)
	if err := c.Up(ctx); err != nil {
		return false, err
	}
	if !keep {
		defer down(ctx, c)
	}
	st := &stage{Cluster: c, size: s.size, report: report}
	if err := st.set(ctx); err != nil {
		return false, err
	}
	for _, each := range scenarios {
		if report.Wants(each.figures...) {
			st.play(ctx, each)
		}
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	report.Note("took %s; %s", time.Since(began).Round(time.Second), bench.Machine())
	if s.short {
		report.Note("goals are for the full size and were not compared")
		return false, nil
	}
	return !report.Conclude(), nil
}

func down(ctx context.Context, c *harness.Cluster) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	if err := c.Down(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
