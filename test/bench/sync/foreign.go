// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/akv2k8s/akv2k8s/test/bench"
)

const (
	foreignNamespace = "foreign"
	foreignSize      = 4 << 10 // bytes of each foreign Secret
)

// measureForeign compares the heap of a Controller in a cluster with many Secrets
// that are none of its business to that of one without. Both are fresh processes that
// have settled, so that neither has a past that the other has not.
func measureForeign(ctx context.Context, s *stage) error {
	if err := s.running(ctx); err != nil {
		return err
	}
	without, err := s.freshHeap(ctx)
	if err != nil {
		return err
	}
	if err := s.api.createForeign(ctx, s.foreign, foreignSize); err != nil {
		return err
	}
	with, err := s.freshHeap(ctx)
	if err != nil {
		return err
	}
	s.report.Tell("sync_foreign_secrets_heap_mib", with-without)
	s.report.Note("live heap: %.2f MiB without, %.2f MiB with %d foreign Secrets of %d bytes", without, with, s.foreign, foreignSize)
	return nil
}

func (s *stage) freshHeap(ctx context.Context) (float64, error) {
	// Little garbage makes a collection, so that there are many to choose from.
	if err := s.restart(ctx, controllerOptions{env: []string{"GOGC=10"}}); err != nil {
		return 0, err
	}
	if err := s.settle(ctx, bench.Requests{}); err != nil {
		return 0, err
	}
	return s.liveHeap(ctx)
}

// Metrics of Go's own collector.
const (
	metricLive        = "go_gc_heap_live_bytes"
	metricAllocated   = "go_memstats_heap_alloc_bytes"
	metricCollections = "go_gc_cycles_total_gc_cycles_total"
)

// collections is how many garbage collections to look at, at least.
const collections = 10

// liveHeap is what of the heap is in use, in MiB: the least over two sweeps of what a
// collection of garbage left alive. A single look would say how much garbage there
// is; go_memstats_heap_inuse_bytes counts half-empty pages as well, which differ from
// process to process by more than what is measured here. Each look at the metrics
// makes garbage itself, so that collections are not long in coming.
func (s *stage) liveHeap(ctx context.Context) (float64, error) {
	least, first, last := math.MaxFloat64, -1.0, 0.0
	for end := time.Now().Add(2 * s.interval); time.Now().Before(end) || last-first < collections; {
		m, err := s.controller.metrics(ctx)
		if err != nil {
			return 0, errors.Join(err, s.controller.alive())
		}
		name := metricLive
		if _, told := m[name]; !told {
			name = metricAllocated // right after a collection this is little more
		}
		value, told := m[name]
		if !told {
			return 0, errors.New("the Controller tells nothing of its heap")
		}
		if first < 0 {
			first = m[metricCollections]
		}
		last = m[metricCollections]
		least = min(least, value)
		if err := bench.Sleep(ctx, 200*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return least / (1 << 20), nil
}
