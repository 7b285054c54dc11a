// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/seed"
	"github.com/akv2k8s/akv2k8s/test/bench"
)

// measureChange changes values at random moments, so that they meet every phase of a
// sweep, and takes the time from just before the vault has a value until the watch of
// Secrets sees it.
func measureChange(ctx context.Context, s *stage) error {
	if err := s.running(ctx); err != nil {
		return err
	}
	return s.timeChanges(ctx, "sync_change_p50_seconds", "sync_change_p99_seconds")
}

// measureChangeWithEvents does the same while the vault's events go into a queue that
// the Controller listens to, and while it looks by itself so rarely that it finds no
// change that way.
func measureChangeWithEvents(ctx context.Context, s *stage) error {
	q, err := startEventQueue(ctx, s)
	if err != nil {
		return err
	}
	defer q.stop()
	if err := s.restart(ctx, q.controller); err != nil {
		return err
	}
	// The next scenario is about a Controller without a queue.
	defer func() { s.controller.kill(); s.controller = nil }()
	if err := s.settle(ctx, bench.Requests{}); err != nil {
		return err
	}
	return s.timeChanges(ctx, "sync_change_event_p50_seconds", "sync_change_event_p99_seconds")
}

func (s *stage) timeChanges(ctx context.Context, p50, p99 string) error {
	objects, err := s.change(ctx, s.changes, s.changesOver)
	if err != nil {
		return err
	}
	if _, err := s.outputs.await(ctx, 4*s.interval, s.controller.alive); err != nil {
		return err
	}
	var took []float64
	for _, object := range objects {
		took = append(took, s.outputs.took(object).Seconds())
	}
	s.report.Tell(p50, bench.Percentile(took, 50))
	s.report.Tell(p99, bench.Percentile(took, 99))
	s.report.Note("%d changes: fastest %.3f s, slowest %.3f s", len(took), slices.Min(took), slices.Max(took))
	return nil
}

// change gives n different objects another value at random moments of a time, and
// returns which when the time is over.
func (s *stage) change(ctx context.Context, n int, over time.Duration) ([]int, error) {
	objects := rand.Perm(s.objects)[:min(n, s.objects)]
	var moments []time.Duration
	for range objects {
		moments = append(moments, rand.N(over))
	}
	slices.Sort(moments)
	began := time.Now()
	for i, object := range objects {
		if err := bench.Sleep(ctx, time.Until(began.Add(moments[i]))); err != nil {
			return nil, err
		}
		if err := s.changeOne(ctx, object); err != nil {
			return nil, err
		}
	}
	return objects, bench.Sleep(ctx, time.Until(began.Add(over)))
}

func (s *stage) changeOne(ctx context.Context, object int) error {
	s.values[object]++
	s.outputs.expect(object, s.values[object])
	return s.vault.set(ctx, object, s.values[object])
}

// measureThrottled has the vault answer 429 to everything, without saying for how
// long, while objects change. Counted are the requests that it gets during that time,
// and the time from its end until every output is right.
func measureThrottled(ctx context.Context, s *stage) error {
	if err := s.running(ctx); err != nil {
		return err
	}
	if err := s.vault.misbehave(ctx, seed.Fault{Kind: seed.FaultThrottle}); err != nil {
		return err
	}
	if err := s.vault.Reset(ctx); err != nil {
		return err
	}
	_, err := s.change(ctx, s.changes/2, s.throttled)
	if err != nil {
		return err
	}
	during, err := s.vault.Counters(ctx)
	if err != nil {
		return err
	}
	end := time.Now()
	if err := s.vault.misbehave(ctx); err != nil {
		return err
	}
	s.report.Tell("sync_throttled_vault_requests", float64(bench.RequestsOf(during)))
	s.report.Note("throttled for %s: vault: %v", s.throttled, during.Requests)
	last, err := s.outputs.await(ctx, afterThrottling, s.controller.alive)
	if err != nil {
		return err
	}
	s.report.Tell("sync_throttled_recovery_seconds", last.Sub(end).Seconds())
	return nil
}

// afterThrottling is how long to wait for outputs to be right again.
const afterThrottling = 6 * time.Minute
