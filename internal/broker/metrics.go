// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts requests.
//
//	akv2k8s_broker_requests_total{result}              how requests ended
//	akv2k8s_broker_request_duration_seconds{result}    how long that took
//
// result is answered, bad_request, unauthenticated, denied, refused, limited, failed
// or unavailable.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewMetrics registers the metrics, each result at zero.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akv2k8s_broker_requests_total",
			Help: "Requests of starting containers for their values, by how they ended.",
		}, []string{"result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "akv2k8s_broker_request_duration_seconds",
			Help: "How long answering a starting container took, by how it ended.",
			// From an answer without a vault to the longest that one may take.
			Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25},
		}, []string{"result"}),
	}
	for _, each := range []result{
		resultAnswered, resultBadRequest, resultUnauthenticated, resultDenied, resultRefused, resultLimited, resultFailed, resultUnavailable,
	} {
		m.requests.WithLabelValues(string(each))
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) answered(how result, elapsed time.Duration) {
	m.requests.WithLabelValues(string(how)).Inc()
	m.duration.WithLabelValues(string(how)).Observe(elapsed.Seconds())
}
