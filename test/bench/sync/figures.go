// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/akv2k8s/akv2k8s/test/bench"

// The units.
const (
	seconds          = "seconds"
	requests         = "requests"
	connections      = "connections"
	requestsPerSweep = "requests/sweep"
	perMinute        = "requests/minute"
	cpuPerMinute     = "seconds/minute"
	mib              = "MiB"
)

// figures are all there is to measure. They are about 1,000 secrets of one vault and
// a sweep every 30 s; those with 10k in their name about 10,000 and a sweep every 60 s.
//
// A vault lists 25 secrets on a page: 40 pages are 1,000 secrets, 400 are 10,000.
// The goals leave a little room for challenges and for what changes meanwhile.
var figures = []bench.Figure{
	{Name: "sync_initial_seconds", Unit: seconds, Most: 15},
	{Name: "sync_initial_vault_requests", Unit: requests, Most: 1060},
	{Name: "sync_initial_connections", Unit: connections, Most: 10},

	{Name: "sync_idle_vault_requests_per_sweep", Unit: requestsPerSweep, Most: 45},
	{Name: "sync_idle_apiserver_writes_per_minute", Unit: perMinute, Most: 0},
	{Name: "sync_idle_apiserver_reads_per_minute", Unit: perMinute, Most: 0},
	{Name: "sync_idle_cpu_seconds_per_minute", Unit: cpuPerMinute, Most: 0.3},

	{Name: "sync_change_p50_seconds", Unit: seconds, Most: bench.NoGoal},
	{Name: "sync_change_p99_seconds", Unit: seconds, Most: 32},

	{Name: "sync_change_event_p50_seconds", Unit: seconds, Most: bench.NoGoal},
	{Name: "sync_change_event_p99_seconds", Unit: seconds, Most: 2},

	{Name: "sync_throttled_recovery_seconds", Unit: seconds, Most: 20},
	{Name: "sync_throttled_vault_requests", Unit: requests, Most: 100, Below: true},

	{Name: "sync_restart_vault_requests", Unit: requests, Most: 1060},
	{Name: "sync_restart_apiserver_writes", Unit: requests, Most: 0},

	{Name: "sync_foreign_secrets_heap_mib", Unit: mib, Most: 2},

	{Name: "sync_10k_initial_seconds", Unit: seconds, Most: 150},
	{Name: "sync_10k_idle_vault_requests_per_sweep", Unit: requestsPerSweep, Most: 420},
	{Name: "sync_10k_idle_cpu_seconds_per_minute", Unit: cpuPerMinute, Most: 2},
	{Name: "sync_10k_rss_mib", Unit: mib, Most: 200},
}
