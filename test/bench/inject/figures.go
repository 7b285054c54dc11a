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
)

// figures are all there is to measure: what an admission costs the API server and the
// node, and by how much later an application starts for being injected.
var figures = []bench.Figure{
	{Name: "admission_plain_p50_ms", Unit: milliseconds, Most: 1},
	{Name: "admission_plain_p99_ms", Unit: milliseconds, Most: 5},
	{Name: "admission_inject_p50_ms", Unit: milliseconds, Most: 2},
	{Name: "admission_inject_p99_ms", Unit: milliseconds, Most: 10},
	{Name: "admission_inject_reviews_per_second", Unit: perSecond, Least: 1500},
	{Name: "admission_cpu_ms_per_review", Unit: perReview, Most: 1},
	{Name: "webhook_rss_mib", Unit: mib, Most: 60},

	{Name: "podstart_overhead_seconds", Unit: seconds, Most: 0.4},
	{Name: "podstart_overhead_p90_seconds", Unit: seconds, Most: bench.NoGoal},
	{Name: "podstart_overhead_imagevolume_seconds", Unit: seconds, Most: 0.15},
	{Name: "podstart_overhead_imagevolume_p90_seconds", Unit: seconds, Most: bench.NoGoal},
}
