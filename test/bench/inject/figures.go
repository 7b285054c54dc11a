// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/akv2k8s/akv2k8s/test/bench"

// The units.
const (
	milliseconds = "ms"
	perReview    = "ms/review"
	perSecond    = "reviews/second"
	seconds      = "seconds"
	mib          = "MiB"
	octets       = "bytes"
	requests     = "requests"
)

// figures are all there is to measure: what an admission costs the API server and the
// node, what the wrapper costs a container, what many starts at once cost the vault, and
// by how much later an application starts for being injected.
//
// Five secrets are five requests to the vault; 1,000 are as many, at least 5 s long by
// the bucket's 500 at once and 100 a second. The goals leave room for challenges.
var figures = []bench.Figure{
	{Name: "admission_plain_p50_ms", Unit: milliseconds, Most: 1},
	{Name: "admission_plain_p99_ms", Unit: milliseconds, Most: 5},
	{Name: "admission_inject_p50_ms", Unit: milliseconds, Most: 2},
	{Name: "admission_inject_p99_ms", Unit: milliseconds, Most: 10},
	{Name: "admission_inject_reviews_per_second", Unit: perSecond, Least: 1500},
	{Name: "admission_cpu_ms_per_review", Unit: perReview, Most: 1},
	{Name: "webhook_rss_mib", Unit: mib, Most: 60},

	{Name: "wrapper_bytes", Unit: octets, Most: 6.2e6},
	{Name: "wrapper_rss_mib", Unit: mib, Most: 10},
	{Name: "wrapper_cpu_ms", Unit: milliseconds, Most: 7},
	{Name: "wrapper_p50_ms", Unit: milliseconds, Most: 15},
	{Name: "wrapper_p99_ms", Unit: milliseconds, Most: 40},

	{Name: "storm_200_seconds", Unit: seconds, Most: 3},
	{Name: "storm_200_vault_requests", Unit: requests, Most: 7},
	{Name: "storm_200x5_vault_requests", Unit: requests, Most: 1010},
	{Name: "storm_200x5_seconds", Unit: seconds, Most: 10},
	{Name: "broker_rss_mib", Unit: mib, Most: 60},

	{Name: "podstart_overhead_seconds", Unit: seconds, Most: 0.4},
	{Name: "podstart_overhead_p90_seconds", Unit: seconds, Most: bench.NoGoal},
	{Name: "podstart_overhead_imagevolume_seconds", Unit: seconds, Most: 0.15},
	{Name: "podstart_overhead_imagevolume_p90_seconds", Unit: seconds, Most: bench.NoGoal},
}
