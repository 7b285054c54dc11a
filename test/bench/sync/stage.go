// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/test/bench"
)

// A performance is a series of scenarios on one stage.
type performance struct {
	name      string
	size      size
	scenarios []scenario
}

// size is how much there is and how long to look at it.
type size struct {
	objects  int
	interval time.Duration // of the sweep
	limit    time.Duration // for the first sync

	sweeps      int           // to look at at rest
	changes     int           // of values
	changesOver time.Duration // during which they happen
	throttled   time.Duration
	foreign     int // Secrets
}

// scenario measures some figures.
type scenario struct {
	figures []string
	play    func(context.Context, *stage) error
}

// performances are everything at the size that is asked for.
func performances(s settings) []performance {
	small := size{
		objects: 1000, interval: 30 * time.Second, limit: 3 * time.Minute,
		sweeps: 4, changes: 100, changesOver: 90 * time.Second, throttled: time.Minute, foreign: 5000,
	}
	large := size{objects: 10_000, interval: time.Minute, limit: 6 * time.Minute, sweeps: 3}
	if s.Short {
		small = size{
			objects: 100, interval: 5 * time.Second, limit: time.Minute,
			sweeps: 2, changes: 20, changesOver: 5 * time.Second, throttled: 10 * time.Second, foreign: 500,
		}
		large = size{objects: 500, interval: 5 * time.Second, limit: time.Minute, sweeps: 2}
	}
	if s.n > 0 {
		small.objects, large.objects = s.n, s.n
	}
	return []performance{{"1k", small, smallScenarios}, {"10k", large, largeScenarios}}
}

func (p performance) figures() []string {
	var out []string
	for _, each := range p.scenarios {
		out = append(out, each.figures...)
	}
	return out
}

// play sets the stage and plays the scenarios that are asked for. A scenario that
// fails is reported, and the next is tried; an error is of the harness itself.
func (p performance) play(ctx context.Context, report *bench.Report, root, dir string, built programs, s settings) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	st := &stage{
		size: p.size, report: report, dir: dir, programs: built,
		extra: strings.Fields(s.extra), profiles: s.profile, name: p.name, outputs: newOutputs(p.size.objects),
	}
	if st.profiles != "" {
		if err := os.MkdirAll(st.profiles, 0o700); err != nil {
			return err
		}
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	err := st.set(watching, root)
	for _, each := range p.scenarios {
		if err != nil || ctx.Err() != nil {
			break
		}
		if report.Wants(each.figures...) {
			report.Note("%s: %s", p.name, each.figures[0])
			st.play(ctx, each)
		}
	}
	cancel() // the watch, before the API server goes
	return errors.Join(err, ctx.Err(), st.clear())
}

// A stage is an API server with AzureKeyVaultSecrets, a vault with their objects, and
// the Controller between them.
type stage struct {
	size

	name, dir, profiles string
	report              *bench.Report
	programs            programs
	extra               []string // flags of the Controller

	api        *kubernetesAPI
	vault      *keyVault
	outputs    *outputs
	controller *controller // nil while none runs
	starts     int
	values     map[int]int // which value an object has; the first is 0
}

// set prepares all but the Controller.
func (s *stage) set(ctx context.Context, root string) error {
	s.values = map[int]int{}
	var err error
	if s.vault, err = startVault(ctx, s.programs.emulator, s.dir, s.objects); err != nil {
		return err
	}
	if s.api, err = startAPI(ctx, root, s.dir); err != nil {
		return err
	}
	began := time.Now()
	if err := s.api.createResources(ctx, s.objects); err != nil {
		return fmt.Errorf("creating AzureKeyVaultSecrets: %w", err)
	}
	s.report.Note("%s: %d AzureKeyVaultSecrets created in %s", s.name, s.objects, time.Since(began).Round(time.Second))
	return s.outputs.watch(ctx, s.api.clients)
}

// clear ends every process of the stage.
func (s *stage) clear() error {
	if s.controller != nil {
		s.controller.kill()
	}
	var err error
	if s.api != nil {
		err = s.api.stop()
	}
	if s.vault != nil {
		s.vault.stop()
	}
	return err
}

// play plays a scenario. One that fails leaves no Controller behind, so that the next
// begins with a fresh one.
func (s *stage) play(ctx context.Context, each scenario) {
	err := each.play(ctx, s)
	if err == nil {
		return
	}
	s.report.Fail(err, each.figures...)
	if s.controller != nil {
		s.controller.kill()
		s.controller = nil
	}
}

// start starts the Controller with all counters at zero.
func (s *stage) start(ctx context.Context, o controllerOptions) error {
	if err := s.vault.Reset(ctx); err != nil {
		return err
	}
	var err error
	s.controller, err = startController(ctx, s, o)
	return err
}

// restart ends the Controller in order and starts another.
func (s *stage) restart(ctx context.Context, o controllerOptions) error {
	if s.controller != nil {
		err := s.controller.stop()
		s.controller = nil
		if err != nil {
			return err
		}
	}
	return s.start(ctx, o)
}

// running sees to it that a Controller runs and every output is right, as most
// scenarios want it to begin with.
func (s *stage) running(ctx context.Context) error {
	if s.controller == nil {
		if err := s.start(ctx, controllerOptions{}); err != nil {
			return err
		}
		if err := s.working(ctx); err != nil {
			return err
		}
	}
	return s.rest(ctx)
}

// working waits for the first sign that a Controller which was just started works:
// that it asks the vault for anything. It may have to wait for the Lease first.
func (s *stage) working(ctx context.Context) error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		n, err := s.vault.Requests(ctx)
		if err != nil || n > 0 {
			return err
		}
		if err := errors.Join(s.controller.alive(), bench.Sleep(ctx, 100*time.Millisecond)); err != nil {
			return err
		}
	}
	return errors.New("a minute after its start the Controller has asked the vault nothing")
}

// settle waits until the Controller works and then asks neither the vault nor the API
// server for anything for a while; it counts what it asks of the API server.
func (s *stage) settle(ctx context.Context, asked bench.Requests) error {
	if err := s.working(ctx); err != nil {
		return err
	}
	quiet, err := untilQuiet(ctx, s.quiet(), s.limit, func(ctx context.Context) (int, error) {
		made, err := s.api.audit.Next()
		if err != nil {
			return 0, err
		}
		asked.Add(made)
		n, err := s.vault.Requests(ctx)
		return n + asked.Writes() + asked.Reads(), err
	})
	if err == nil && !quiet {
		err = fmt.Errorf("the Controller does not come to rest within %s", s.limit)
	}
	return errors.Join(err, s.controller.alive())
}

// quiet is for how long nothing must happen for something to count as over. It is much
// less than there is between two sweeps.
func (s *stage) quiet() time.Duration { return min(5*time.Second, s.interval/5) }

// rest waits until every output is right and nothing is left to say to the API
// server: statuses and events come after outputs.
func (s *stage) rest(ctx context.Context) error {
	if _, err := s.outputs.await(ctx, s.limit, s.controller.alive); err != nil {
		return err
	}
	writes := 0
	quiet, err := untilQuiet(ctx, s.quiet(), s.limit, func(context.Context) (int, error) {
		made, err := s.api.audit.Next()
		writes += made.Writes()
		return writes, err
	})
	if err == nil && !quiet {
		s.report.Note("%s: the Controller does not stop writing to the API server", s.name)
	}
	return errors.Join(err, s.controller.alive())
}

// profile saves a profile of the Controller, if it is asked for and there is one.
func (s *stage) profile(ctx context.Context, what, path string) {
	if s.profiles == "" {
		return
	}
	file := filepath.Join(s.profiles, s.name+"-"+what+".pprof")
	if err := s.controller.profile(ctx, path, file); err != nil {
		s.report.Note("no profile %s: %v", file, err)
		return
	}
	s.report.Note("profile %s", file)
}
