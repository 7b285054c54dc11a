// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	"github.com/akv2k8s/akv2k8s/test/bench"
)

// The scenarios, in an order in which each finds what the ones before left: a
// Controller that runs, if they did not fail.
var (
	smallScenarios = []scenario{
		{[]string{"sync_initial_seconds", "sync_initial_vault_requests", "sync_initial_connections"}, measureInitial},
		{[]string{
			"sync_idle_vault_requests_per_sweep", "sync_idle_apiserver_writes_per_minute",
			"sync_idle_apiserver_reads_per_minute", "sync_idle_cpu_seconds_per_minute",
		}, measureIdle},
		{[]string{"sync_change_p50_seconds", "sync_change_p99_seconds"}, measureChange},
		{[]string{"sync_change_event_p50_seconds", "sync_change_event_p99_seconds"}, measureChangeWithEvents},
		{[]string{"sync_throttled_recovery_seconds", "sync_throttled_vault_requests"}, measureThrottled},
		{[]string{"sync_restart_vault_requests", "sync_restart_apiserver_writes"}, measureRestart},
		{[]string{"sync_foreign_secrets_heap_mib"}, measureForeign},
	}
	largeScenarios = []scenario{
		{[]string{"sync_10k_initial_seconds"}, measureLargeInitial},
		{[]string{"sync_10k_idle_vault_requests_per_sweep", "sync_10k_idle_cpu_seconds_per_minute", "sync_10k_rss_mib"}, measureLargeIdle},
	}
)

// measureInitial starts the Controller where no output exists yet.
//
//   - seconds: from the start of the process until the watch of Secrets has seen the
//     last output become right
//   - requests: all that the vault answered until then
//   - connections: all that the emulator's TLS listener accepted until then. It stands
//     for the sign-in hosts too, so their one or two are counted as well
func measureInitial(ctx context.Context, s *stage) error {
	took, err := s.first(ctx)
	if err != nil {
		return err
	}
	counters, err := s.vault.Counters(ctx)
	if err != nil {
		return err
	}
	s.report.Tell("sync_initial_seconds", took.Seconds())
	s.report.Tell("sync_initial_vault_requests", float64(bench.RequestsOf(counters)))
	s.report.Tell("sync_initial_connections", float64(counters.Connections["https"]))
	s.report.Note("vault: %v; sign-in: %v; connections: %v", counters.Requests, counters.SignIns, counters.Connections)
	return s.noteRequests("to the API server")
}

func measureLargeInitial(ctx context.Context, s *stage) error {
	took, err := s.first(ctx)
	if err != nil {
		return err
	}
	s.report.Tell("sync_10k_initial_seconds", took.Seconds())
	return s.noteRequests("to the API server")
}

// first is the first sync, and how long it took.
func (s *stage) first(ctx context.Context) (time.Duration, error) {
	if err := s.start(ctx, controllerOptions{}); err != nil {
		return 0, err
	}
	if s.profiles != "" {
		if err := s.controller.listening(ctx); err != nil {
			return 0, err
		}
		s.profile(ctx, "initial-cpu", "profile?seconds=10")
	}
	last, err := s.outputs.await(ctx, s.limit, s.controller.alive)
	return last.Sub(s.controller.began), err
}

// noteRequests says what the Controller asked of the API server since this was last
// looked at.
func (s *stage) noteRequests(what string) error {
	made, err := s.api.audit.Next()
	if err == nil {
		s.report.Note("%s: %s", what, made)
	}
	return err
}

// idle is what was seen of a Controller at rest.
type idle struct {
	sweeps   float64 // how many fit in
	time     time.Duration
	vault    int // requests
	api      bench.Requests
	cpu      time.Duration
	rss, hwm float64 // MiB, at the end
}

func measureIdle(ctx context.Context, s *stage) error {
	seen, err := s.lookAtRest(ctx)
	if err != nil {
		return err
	}
	s.report.Tell("sync_idle_vault_requests_per_sweep", float64(seen.vault)/seen.sweeps)
	s.report.Tell("sync_idle_apiserver_writes_per_minute", bench.PerMinute(float64(seen.api.Writes()), seen.time))
	s.report.Tell("sync_idle_apiserver_reads_per_minute", bench.PerMinute(float64(seen.api.Reads()), seen.time))
	s.report.Tell("sync_idle_cpu_seconds_per_minute", bench.PerMinute(seen.cpu.Seconds(), seen.time))
	return nil
}

// measureLargeIdle tells the resident memory after the sweeps, not at its highest.
func measureLargeIdle(ctx context.Context, s *stage) error {
	seen, err := s.lookAtRest(ctx)
	if err != nil {
		return err
	}
	s.report.Tell("sync_10k_idle_vault_requests_per_sweep", float64(seen.vault)/seen.sweeps)
	s.report.Tell("sync_10k_idle_cpu_seconds_per_minute", bench.PerMinute(seen.cpu.Seconds(), seen.time))
	s.report.Tell("sync_10k_rss_mib", seen.rss)
	return nil
}

// lookAtRest leaves the Controller alone for several sweeps and looks what it does.
// It looks from the end of one sweep to the end of another, so that no sweep is
// counted in part. How many sweeps that is follows from the time, for a Controller
// that does not sweep but asks all the time.
func (s *stage) lookAtRest(ctx context.Context) (idle, error) {
	if err := s.running(ctx); err != nil {
		return idle{}, err
	}
	if err := s.betweenSweeps(ctx); err != nil {
		return idle{}, err
	}
	before, err := s.reading(ctx)
	if err != nil {
		return idle{}, err
	}
	// The last sweep comes half an interval after this, give or take a little.
	if err := bench.Sleep(ctx, time.Duration(s.sweeps)*s.interval-s.interval/2); err != nil {
		return idle{}, err
	}
	if err := s.betweenSweeps(ctx); err != nil {
		return idle{}, err
	}
	after, err := s.reading(ctx)
	if err != nil {
		return idle{}, err
	}
	seen := after.since(before, s.interval)
	s.report.Note("%s at rest: %.1f sweeps in %s; %d vault requests; %s to the API server; VmRSS %.1f MiB, VmHWM %.1f MiB",
		s.name, seen.sweeps, seen.time.Round(time.Second), seen.vault, seen.api, seen.rss, seen.hwm)
	s.profile(ctx, "idle-heap", "heap")
	s.profile(ctx, "idle-cpu", "profile?seconds=30")
	return seen, s.controller.alive()
}

// betweenSweeps waits for the end of a sweep: requests to the vault, and then none
// for a while. Where that does not come, any moment is as good as another.
func (s *stage) betweenSweeps(ctx context.Context) error {
	limit := s.interval + s.interval/4
	start, err := s.vault.Requests(ctx)
	if err != nil {
		return err
	}
	for end := time.Now().Add(limit); time.Now().Before(end); {
		n, err := s.vault.Requests(ctx)
		if err != nil {
			return err
		}
		if n != start {
			break
		}
		if err := bench.Sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	quiet, err := untilQuiet(ctx, s.quiet()/2, limit, s.vault.Requests)
	if err == nil && !quiet {
		s.report.Note("%s: the Controller asks the vault all the time", s.name)
	}
	return err
}

// reading is what all meters show at one moment.
type reading struct {
	at       time.Time
	vault    int
	api      bench.Requests // since the last reading
	cpu      time.Duration
	rss, hwm float64
}

func (s *stage) reading(ctx context.Context) (reading, error) {
	var errs [5]error
	r := reading{at: time.Now()}
	r.vault, errs[0] = s.vault.Requests(ctx)
	r.api, errs[1] = s.api.audit.Next()
	r.cpu, errs[2] = s.controller.proc().CPU()
	r.rss, errs[3] = s.controller.proc().Memory("VmRSS")
	r.hwm, errs[4] = s.controller.proc().Memory("VmHWM")
	return r, errors.Join(errs[:]...)
}

func (r reading) since(before reading, interval time.Duration) idle {
	took := r.at.Sub(before.at)
	return idle{
		sweeps: float64(took) / float64(interval), time: took, vault: r.vault - before.vault,
		api: r.api, cpu: r.cpu - before.cpu, rss: r.rss, hwm: r.hwm,
	}
}

// measureRestart kills the Controller while all is well and starts another, which
// must first wait for the Lease to run out. What that one asks for until it has
// settled is counted: until neither the vault nor the API server has been asked for
// anything for a while, which is well before its second sweep.
func measureRestart(ctx context.Context, s *stage) error {
	if err := s.running(ctx); err != nil {
		return err
	}
	s.controller.kill()
	s.controller = nil
	if _, err := s.api.audit.Next(); err != nil { // what the dead one had asked for
		return err
	}
	if err := s.start(ctx, controllerOptions{}); err != nil {
		return err
	}
	asked := bench.Requests{}
	if err := s.settle(ctx, asked); err != nil {
		return err
	}
	counters, err := s.vault.Counters(ctx)
	if err != nil {
		return err
	}
	s.report.Tell("sync_restart_vault_requests", float64(bench.RequestsOf(counters)))
	s.report.Tell("sync_restart_apiserver_writes", float64(asked.Writes()))
	s.report.Note("restart: vault: %v; to the API server: %s", counters.Requests, asked)
	return nil
}
