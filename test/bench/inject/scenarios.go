// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/akv2k8s/akv2k8s/test/bench"
)

// scenario measures some figures.
type scenario struct {
	figures []string
	play    func(context.Context, *stage) error
}

// scenarios are played in this order.
var scenarios = []scenario{
	{[]string{
		"admission_plain_p50_ms", "admission_plain_p99_ms", "admission_inject_p50_ms", "admission_inject_p99_ms",
		"admission_inject_reviews_per_second", "admission_cpu_ms_per_review", "webhook_rss_mib",
	}, measureAdmission},
	{[]string{"podstart_overhead_seconds", "podstart_overhead_p90_seconds"}, measurePodStart},
	{[]string{"podstart_overhead_imagevolume_seconds", "podstart_overhead_imagevolume_p90_seconds"}, measurePodStartByImageVolume},
}

// errNotYet is a scenario that the chart cannot be asked for.
var errNotYet = errors.New("the chart has no value env_injector.delivery")

// measureAdmission sends reviews to the one webhook as an API server does: over
// HTTP/1.1, TLS and kept connections, each about the whole pod. Pods without a
// placeholder are sent too, which an API server keeps to itself (matchConditions).
//
//   - p50, p99: from the first byte written to the last byte read, one review at a
//     time, the two kinds in turn. Medians of the rounds' percentiles
//   - reviews per second: 16 at once. Median of the rounds
//   - processor time: of the webhook's process, by its own metric, during those rounds
//   - resident memory: of the process, after all of it
//
// What else the machine did during those rounds is told too: with two cores, a
// compiler beside it halves the rate.
func measureAdmission(ctx context.Context, s *stage) error {
	if err := s.restartWebhook(ctx); err != nil {
		return err
	}
	var seen admissionResult
	if err := s.inside(ctx, "admission", &seen); err != nil {
		return err
	}
	s.report.Tell("admission_plain_p50_ms", median(seen.Plain, func(l latency) float64 { return l.P50 }))
	s.report.Tell("admission_plain_p99_ms", median(seen.Plain, func(l latency) float64 { return l.P99 }))
	s.report.Tell("admission_inject_p50_ms", median(seen.Inject, func(l latency) float64 { return l.P50 }))
	s.report.Tell("admission_inject_p99_ms", median(seen.Inject, func(l latency) float64 { return l.P99 }))
	s.report.Tell("admission_inject_reviews_per_second", bench.Percentile(seen.PerSecond, 50))
	s.report.Tell("admission_cpu_ms_per_review", seen.CPU*1000/float64(seen.AtOnce))
	s.report.Tell("webhook_rss_mib", seen.RSS)
	s.report.Note("%d reviews, of %d bytes (plain) and %d bytes (inject); answers of %d and %d bytes", seen.All, seen.Bytes[0], seen.Bytes[1], seen.Answers[0], seen.Answers[1])
	s.report.Note("processor time of the rounds: webhook %.1f s, who asks %.1f s, everybody else %.1f s, of %.1f s", seen.CPU, seen.Asker, seen.Busy-seen.CPU-seen.Asker, seen.Cores)
	s.report.Note("rounds, plain: %s; inject: %s; per second: %.0f", seen.Plain, seen.Inject, seen.PerSecond)
	return nil
}

func median(rounds []latency, of func(latency) float64) float64 {
	var values []float64
	for _, each := range rounds {
		values = append(values, of(each))
	}
	return bench.Percentile(values, 50)
}

// measurePodStart starts the same application with three placeholders and with three
// values, in turn, and compares when it runs its own first statement.
//
// The clock starts before the request that creates the pod is sent. It ends with what
// the application reads from the machine's clock as the first thing it does, and hands
// over as its termination message: a container's startedAt knows whole seconds only,
// and is that of the wrapper. The overhead is the difference between the two pods of a
// pair; half of the pairs start with the one, half with the other.
func measurePodStart(ctx context.Context, s *stage) error {
	return s.podStart(ctx, deliveryInitContainer, "podstart_overhead_seconds", "podstart_overhead_p90_seconds")
}

func measurePodStartByImageVolume(ctx context.Context, s *stage) error {
	return s.podStart(ctx, deliveryImageVolume, "podstart_overhead_imagevolume_seconds", "podstart_overhead_imagevolume_p90_seconds")
}

func (s *stage) podStart(ctx context.Context, d delivery, p50, p90 string) error {
	if err := s.deliver(ctx, d); err != nil {
		return err
	}
	var seen podStartResult
	if err := s.inside(ctx, "podstart", &seen); err != nil {
		return err
	}
	if seen.Delivery != d {
		return fmt.Errorf("the wrapper was delivered by %s, not by %s", seen.Delivery, d)
	}
	overhead := make([]float64, len(seen.Injected))
	for i := range overhead {
		overhead[i] = seen.Injected[i] - seen.Plain[i]
	}
	s.report.Tell(p50, bench.Percentile(overhead, 50))
	s.report.Tell(p90, bench.Percentile(overhead, 90))
	s.report.Note("start of a plain pod: %.3f s; of an injected one: %.3f s (medians)", bench.Percentile(seen.Plain, 50), bench.Percentile(seen.Injected, 50))
	s.report.Note("differences: %.3f", slices.Sorted(slices.Values(overhead)))
	return nil
}
