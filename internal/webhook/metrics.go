// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is how a request ended; the table is at Handle.
type outcome string

const (
	outcomeSkipped    outcome = "skipped"
	outcomeInjected   outcome = "injected"
	outcomeRefused    outcome = "refused"
	outcomeNotReady   outcome = "notReady"
	outcomeUnreadable outcome = "unreadable"
)

// Metrics count what the webhook does. Labels never hold a name.
//
//	akv2k8s_pod_inspections_total                   pods looked at
//	akv2k8s_pod_mutations_total                     pods injected
//	akv2k8s_pod_mutations_failed_total{outcome}     refused | notReady | unreadable
//	akv2k8s_container_inspections_total             containers looked at
//	akv2k8s_container_inspections_failed_total      images whose command was not learned
//	akv2k8s_image_lookups_total{outcome}            cached | read | failed
//	akv2k8s_admission_duration_seconds{outcome}     skipped | injected | refused | notReady | unreadable
//	akv2k8s_certificate_end_seconds{certificate}    authority | serving; Unix time, 0 while there is none
type Metrics struct {
	pods, injected, containers, containersFailed prometheus.Counter
	failed, lookups                              *prometheus.CounterVec
	duration                                     *prometheus.HistogramVec
}

// NewMetrics registers the metrics. ends returns when the authority and the
// serving certificate end.
func NewMetrics(r prometheus.Registerer, ends func() (time.Time, time.Time)) (*Metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vector := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"outcome"})
	}
	m := &Metrics{
		pods:             counter("akv2k8s_pod_inspections_total", "Pods that were looked at."),
		injected:         counter("akv2k8s_pod_mutations_total", "Pods that were injected."),
		failed:           vector("akv2k8s_pod_mutations_failed_total", "Pods that were not accepted."),
		containers:       counter("akv2k8s_container_inspections_total", "Containers that were looked at."),
		containersFailed: counter("akv2k8s_container_inspections_failed_total", "Images whose command could not be learned."),
		lookups:          vector("akv2k8s_image_lookups_total", "Images whose command was asked for."),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "akv2k8s_admission_duration_seconds", Help: "How long an answer took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"outcome"}),
	}
	return m, errors.Join(
		r.Register(m.pods), r.Register(m.injected), r.Register(m.failed), r.Register(m.containers),
		r.Register(m.containersFailed), r.Register(m.lookups), r.Register(m.duration),
		r.Register(end("authority", func() time.Time { authority, _ := ends(); return authority })),
		r.Register(end("serving", func() time.Time { _, serving := ends(); return serving })),
	)
}

func end(certificate string, at func() time.Time) prometheus.Collector { //nolint:ireturn // the library's own type is an interface
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "akv2k8s_certificate_end_seconds", Help: "When a certificate ends, as Unix time.",
		ConstLabels: prometheus.Labels{"certificate": certificate},
	}, func() float64 {
		if at().IsZero() {
			return 0
		}
		return float64(at().Unix())
	})
}

func (m *Metrics) inspected(containers int) {
	m.pods.Inc()
	m.containers.Add(float64(containers))
}

func (m *Metrics) admitted(o outcome, took time.Duration) {
	m.duration.WithLabelValues(string(o)).Observe(took.Seconds())
	switch o {
	case outcomeSkipped:
	case outcomeInjected:
		m.injected.Inc()
	case outcomeRefused, outcomeNotReady, outcomeUnreadable:
		m.failed.WithLabelValues(string(o)).Inc()
	}
}

// Looked counts one lookup of an image's command.
func (m *Metrics) Looked(outcome string) { m.lookups.WithLabelValues(outcome).Inc() }
