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
// (inside.go), so that nothing but the product is between the two clocks. Wrappers are
// started by a third (starter), which is small because its memory counts as theirs.
//
// A cluster that was up before stays up; KEEP=1 leaves it up in any case.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/akv2k8s/akv2k8s/test/bench"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

// settings are the command line.
type settings struct {
	bench.Options

	size size
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == insideFlag {
		os.Exit(inside(os.Args[2:]))
	}
	s := settings{size: full}
	s.Flags("few reviews, starts and pods")
	flag.IntVar(&s.size.Pairs, "pairs", s.size.Pairs, "pods to start of each kind")
	bench.Main("bench-inject", &s.Options, func(ctx context.Context) (bool, error) { return run(ctx, s) })
}

// run measures everything that is asked for, and says whether a goal was missed.
func run(ctx context.Context, s settings) (bool, error) {
	if s.Short {
		s.size = short
	}
	report := s.Open(figures)
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
	dir, err := os.MkdirTemp("", "akv2k8s-bench-")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	st := &stage{Cluster: c, size: s.size, report: report, dir: dir}
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
	return report.Close(!s.Short), nil
}

func down(ctx context.Context, c *harness.Cluster) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	if err := c.Down(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
