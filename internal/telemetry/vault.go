// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxVaults is how many vaults have series of their own: their names are a tenant's
// text. The others share otherVaults.
const (
	maxVaults   = 100
	otherVaults = "other"
)

// outcomeOK is the outcome of a request that gave what was asked for.
const outcomeOK = "ok"

// dollarsPerRequest is the list price of an operation on a secret, a certificate's
// public part or a software key: 0.03 US dollars for 10,000. Renewals of
// certificates and keys in an HSM cost more, and are not what we do.
const dollarsPerRequest = 0.03 / 10_000

// VaultMetrics count what a process asks of vaults. docs/metrics.md lists them.
type VaultMetrics struct {
	requests *prometheus.CounterVec
	dollars  prometheus.Counter
	answers  *prometheus.GaugeVec // without labels; a vector, so that nothing is told before the first answer
	tokens   *prometheus.CounterVec
	rests    *prometheus.CounterVec
	held     *prometheus.CounterVec
	shared   prometheus.Counter
	cached   *prometheus.HistogramVec // without labels; a vector, so that only who caches tells of it

	mu    sync.Mutex
	names map[string]bool // of the vaults with series of their own
}

// NewVaultMetrics registers them.
func NewVaultMetrics(r prometheus.Registerer) *VaultMetrics {
	m := &VaultMetrics{
		names: map[string]bool{},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akv2k8s_vault_requests_total", Help: "HTTP requests to vaults.",
		}, []string{"vault", "operation", "outcome"}),
		dollars: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "akv2k8s_vault_estimated_cost_dollars_total", Help: "What the requests to vaults cost at list price, in US dollars.",
		}),
		answers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "akv2k8s_vault_last_success_timestamp_seconds", Help: "When a vault last gave an object or a list, as Unix time.",
		}, nil),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akv2k8s_tokens_total", Help: "Tokens fetched to sign in to Azure.",
		}, []string{"outcome"}),
		rests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akv2k8s_vault_rest_seconds_total", Help: "Time for which a vault is left alone.",
		}, []string{"vault", "cause"}),
		held: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akv2k8s_vault_requests_held_total", Help: "Requests that were not sent because their vault was left alone.",
		}, []string{"vault"}),
		shared: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "akv2k8s_vault_reads_shared_total", Help: "Reads that the answer to another one served.",
		}),
		cached: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "akv2k8s_vault_cached_answer_age_seconds", Help: "Age of values given from memory during an outage.",
			Buckets: []float64{10, 60, 300, 900, 3600, 4 * 3600, 24 * 3600},
		}, nil),
	}
	r.MustRegister(m.requests, m.dollars, m.answers, m.tokens, m.rests, m.held, m.shared, m.cached)
	return m
}

// vault is the label of a vault.
func (m *VaultMetrics) vault(name string) string {
	name = strings.ToLower(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.names[name] {
		if len(m.names) >= maxVaults {
			return otherVaults
		}
		m.names[name] = true
	}
	return name
}

// Request counts one HTTP request to a vault.
func (m *VaultMetrics) Request(vault, operation, outcome string) {
	m.requests.WithLabelValues(m.vault(vault), operation, outcome).Inc()
	m.dollars.Add(dollarsPerRequest)
	if outcome == outcomeOK {
		m.answers.WithLabelValues().SetToCurrentTime()
	}
}

// Token counts a token that was fetched, or was not.
func (m *VaultMetrics) Token(outcome string) { m.tokens.WithLabelValues(outcome).Inc() }

// Shared counts a read that the answer to another one served.
func (m *VaultMetrics) Shared() { m.shared.Inc() }

// Held counts a request that was not sent, because the vault is left alone.
func (m *VaultMetrics) Held(vault string) { m.held.WithLabelValues(m.vault(vault)).Inc() }

// Resting tells of a time for which a vault is left alone, and whether it asked for
// that.
func (m *VaultMetrics) Resting(vault string, d time.Duration, asked bool) {
	cause := "unavailable"
	if asked {
		cause = "throttled"
	}
	m.rests.WithLabelValues(m.vault(vault), cause).Add(d.Seconds())
}

// Cached counts a read that was served from memory during an outage.
func (m *VaultMetrics) Cached(age time.Duration) { m.cached.WithLabelValues().Observe(age.Seconds()) }

// A Watched is what is watched of one kind in one vault.
type Watched struct {
	Vault       string
	Kind        string
	Objects     int
	Unconfirmed time.Duration // the longest time without a confirmation
}

// WatchMetrics count what the Controller watches in vaults.
type WatchMetrics struct {
	vaults *VaultMetrics
	census func() []Watched

	sweeps  *prometheus.HistogramVec
	objects *prometheus.Desc
	age     *prometheus.Desc
}

// NewWatchMetrics registers them; census is called whenever somebody asks.
func NewWatchMetrics(r prometheus.Registerer, v *VaultMetrics, census func() []Watched) *WatchMetrics {
	m := &WatchMetrics{
		vaults: v, census: census,
		sweeps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "akv2k8s_sweep_duration_seconds", Help: "How long listing a kind of objects in a vault took.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}, []string{"kind"}),
		objects: prometheus.NewDesc("akv2k8s_vault_objects", "Objects of vaults that are watched.", []string{"vault", "kind"}, nil),
		age: prometheus.NewDesc("akv2k8s_vault_unconfirmed_seconds",
			"The longest time for which a vault has not confirmed one of its watched objects.", []string{"vault"}, nil),
	}
	r.MustRegister(m.sweeps, m)
	return m
}

// Swept tells how long listing a collection took.
func (m *WatchMetrics) Swept(kind string, took time.Duration) {
	m.sweeps.WithLabelValues(kind).Observe(took.Seconds())
}

// Describe implements prometheus.Collector.
func (m *WatchMetrics) Describe(out chan<- *prometheus.Desc) { out <- m.objects; out <- m.age }

// Collect implements prometheus.Collector.
func (m *WatchMetrics) Collect(out chan<- prometheus.Metric) {
	objects, ages := map[[2]string]int{}, map[string]time.Duration{}
	for _, w := range m.census() {
		vault := m.vaults.vault(w.Vault)
		objects[[2]string{vault, w.Kind}] += w.Objects
		ages[vault] = max(ages[vault], w.Unconfirmed)
	}
	for labels, n := range objects {
		out <- prometheus.MustNewConstMetric(m.objects, prometheus.GaugeValue, float64(n), labels[:]...)
	}
	for vault, age := range ages {
		out <- prometheus.MustNewConstMetric(m.age, prometheus.GaugeValue, age.Seconds(), vault)
	}
}
