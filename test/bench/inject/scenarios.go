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
	{[]string{"wrapper_bytes", "wrapper_rss_mib", "wrapper_cpu_ms", "wrapper_p50_ms", "wrapper_p99_ms"}, measureWrapper},
	{[]string{
		"storm_200_seconds", "storm_200_vault_requests", "storm_200x5_vault_requests", "storm_200x5_seconds", "broker_rss_mib",
	}, measureStorms},
	{[]string{"podstart_overhead_seconds", "podstart_overhead_p90_seconds"}, measurePodStart},
	{[]string{"podstart_overhead_imagevolume_seconds", "podstart_overhead_imagevolume_p90_seconds"}, measurePodStartByImageVolume},
}

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
	if err := s.restart(ctx, component); err != nil {
		return err
	}
	var seen admissionResult
	if err := s.inside(ctx, "admission", order{}, &seen); err != nil {
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

// measureWrapper starts the wrapper of the chart's own image, as a process that sees a
// root of its own with what a container would see there: the wrapper, a pod's token,
// /proc. The pods are real ones, admitted like any other, and so are their tokens; but
// they are held back by a scheduling gate, so that no kubelet starts them too. To the
// broker a pod that waits to be scheduled is as good as one that starts. The broker is
// reached as from a node, through its Service.
//
//   - each container has five placeholders, whose values every broker has read a moment ago
//   - time: from before the fork until a program is seen to have ended that does nothing,
//     which the wrapper becomes. 400 starts, one after the other
//   - processor time, resident memory: what the kernel tells a parent. Medians
//
// No container runtime takes part. What one adds is in the figures of pod starts.
func measureWrapper(ctx context.Context, s *stage) error {
	var seen wrapperResult
	if err := s.inside(ctx, "wrapper", order{}, &seen); err != nil {
		return err
	}
	s.report.Tell("wrapper_bytes", float64(seen.Bytes))
	s.report.Tell("wrapper_rss_mib", bench.Percentile(seen.RSS, 50))
	s.report.Tell("wrapper_cpu_ms", bench.Percentile(seen.CPU, 50))
	s.report.Tell("wrapper_p50_ms", bench.Percentile(seen.Took, 50))
	s.report.Tell("wrapper_p99_ms", bench.Percentile(seen.Took, 99))
	s.report.Note("%d starts: fastest %.2f ms, slowest %.2f ms; processor %.2f to %.2f ms, memory up to %.2f MiB; a program that does nothing: %.2f ms, %.2f MiB",
		len(seen.Took), slices.Min(seen.Took), slices.Max(seen.Took), slices.Min(seen.CPU), slices.Max(seen.CPU), slices.Max(seen.RSS), seen.NothingTook, seen.NothingRSS)
	s.report.Note("%d requests to the vault meanwhile; processor time: %s", seen.VaultRequests, seen.Spent)
	return nil
}

// measureStorms starts as many wrappers as a node has pods without waiting for any, each
// for a pod of its own: two brokers that have done nothing yet are asked by pods with
// the same five secrets, then one of the two by pods with five secrets each that nobody
// else has.
//
//   - seconds: from before the first fork until the last wrapper has become its program
//   - requests to the vault: all that it answers, challenges too; of two brokers those
//     of the one that asks more, by its own metric. What brokers and vault count must
//     agree, and at no time may it be more than the brokers' buckets let through
//   - resident memory: of a broker after its last storm, the most
func measureStorms(ctx context.Context, s *stage) error {
	if err := s.restart(ctx, broker); err != nil {
		return err
	}
	same, err := s.storm(ctx, false)
	if err != nil {
		return err
	}
	s.report.Tell("storm_200_seconds", same.Seconds)
	s.report.Tell("storm_200_vault_requests", float64(same.most(func(b brokerResult) float64 { return float64(b.VaultRequests) })))
	if err := errors.Join(s.scale(ctx, 1), s.settled(ctx, broker)); err != nil {
		return err
	}
	distinct, err := s.storm(ctx, true)
	if err := errors.Join(err, s.scale(ctx, 2)); err != nil {
		return err
	}
	s.report.Tell("storm_200x5_vault_requests", float64(distinct.VaultRequests))
	s.report.Tell("storm_200x5_seconds", distinct.Seconds)
	rss := func(b brokerResult) float64 { return b.RSS }
	s.report.Tell("broker_rss_mib", max(same.most(rss), distinct.most(rss)))
	return nil
}

func (s *stage) storm(ctx context.Context, distinct bool) (stormResult, error) {
	var seen stormResult
	if err := s.inside(ctx, "storm", order{Distinct: distinct}, &seen); err != nil {
		return seen, err
	}
	s.report.Note("storm of %d: %.3f s; vault: %d requests, by the broker's count %v; processor time: %s",
		s.size.Storm, seen.Seconds, seen.VaultRequests, seen.Brokers, seen.Spent)
	if seen.Word != "" {
		s.report.Note("the last word of a wrapper that started: %s", seen.Word)
	}
	if seen.Overdrawn > 0 {
		return seen, fmt.Errorf("the vault was asked %.0f times more than the bucket lets through", seen.Overdrawn)
	}
	return seen, nil
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
	if err := s.inside(ctx, "podstart", order{}, &seen); err != nil {
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
