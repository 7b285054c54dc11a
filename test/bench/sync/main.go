// SPDX-License-Identifier: Apache-2.0

// Command sync is `make bench-sync`. It measures the Controller as a real process:
// against a real API server, which says in its audit log what the Controller asks of
// it, and against the emulator, which counts what the Controller asks of the vault and
// answers as late as a vault does.
//
// It prints one line for each figure,
//
//	BENCH <name> <number> <unit>
//
// on standard output, and on standard error what else there is to know: the machine,
// what the numbers are made of, and in the end which of them miss their goal.
// figures.go lists the figures and their goals; scenarios.go says how each is measured.
//
// It needs KUBEBUILDER_ASSETS, the directory that `make cluster-envtest` prints.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/akv2k8s/akv2k8s/test/bench"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

// settings are the command line.
type settings struct {
	bench.Options

	profile, extra string
	n              int
}

func main() {
	var s settings
	s.Flags("few objects, short intervals")
	flag.IntVar(&s.n, "n", 0, "objects, instead of 1,000 and of 10,000 where the name says 10k; goals are then not compared")
	flag.StringVar(&s.profile, "profile", "", "directory for profiles of the Controller, if it serves any; taking them spoils the figures")
	flag.StringVar(&s.extra, "args", "", "more flags for the Controller, separated by spaces")
	bench.Main("bench-sync", &s.Options, func(ctx context.Context) (bool, error) { return run(ctx, s) })
}

// run measures everything that is asked for, and says whether a goal was missed.
func run(ctx context.Context, s settings) (bool, error) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return false, errors.New("no API server: set KUBEBUILDER_ASSETS to what `make cluster-envtest` prints, or run `make bench-sync`")
	}
	ctrl.SetLogger(logr.Discard())
	report := s.Open(figures)
	root, err := harness.Root()
	if err != nil {
		return false, err
	}
	scratch, err := os.MkdirTemp("", "akv2k8s-bench-")
	if err != nil {
		return false, err
	}
	built, err := build(ctx, root, scratch)
	if err != nil {
		return false, err
	}
	for _, p := range performances(s) {
		if !report.Wants(p.figures()...) {
			continue
		}
		if err := p.play(ctx, report, root, filepath.Join(scratch, p.name), built, s); err != nil {
			return false, fmt.Errorf("%s: %w; logs are in %s", p.name, err, scratch)
		}
	}
	if report.Close(!s.Short && s.n == 0) { // only then the logs are kept
		report.Note("logs are in %s", scratch)
		return true, nil
	}
	return false, os.RemoveAll(scratch)
}

// programs are the binaries under test and beside it.
type programs struct{ controller, emulator string }

// build compiles them as the images' Dockerfile does.
func build(ctx context.Context, root, dir string) (programs, error) {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/",
		"./cmd/azure-keyvault-controller", "./cmd/keyvault-emulator")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return programs{}, fmt.Errorf("building the programs: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	return programs{filepath.Join(dir, "azure-keyvault-controller"), filepath.Join(dir, "keyvault-emulator")}, nil
}
