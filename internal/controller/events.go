// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/akv2k8s/akv2k8s/internal/eventgrid"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Looks has objects looked at again.
type Looks interface {
	Look(vault string, kind vault.Kind, name string)
	LookAtPermissions(vault string)
}

// Listener hears of changes from a queue. What it hears is a hint: it has an object
// looked at, and the vault says how that is.
type Listener struct {
	Queue   eventgrid.Queue
	Suffix  string        // DNS suffix of the vaults
	Poll    time.Duration // between two looks at an empty queue
	Looks   Looks
	Metrics *EventMetrics
	Log     *slog.Logger
}

// maxQuiet is how long a queue that does not answer is left alone at most.
const maxQuiet = time.Minute

// Run listens until ctx ends. Without the queue everything works as it does without
// events, later.
func (l *Listener) Run(ctx context.Context) error {
	var o outage
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(l.turn(ctx, &o)):
		}
	}
	return nil
}

// An outage is what has gone wrong with the queue since it last worked.
type outage struct {
	failures int
	said     string
}

// turn looks once and says how long to wait before the next time.
func (l *Listener) turn(ctx context.Context, o *outage) time.Duration {
	err := l.drain(ctx)
	switch {
	case ctx.Err() != nil:
		return 0 // it failed because of that, if it did
	case err == nil:
		if o.failures > 0 {
			l.Log.Info("the queue of events answers again")
		}
		*o = outage{}
		return l.Poll
	}
	l.Metrics.failures.Inc()
	if why := err.Error(); why != o.said { // once, not once a minute for days
		l.Log.Warn("cannot listen to the queue of events", telemetry.KeyReason, why)
		o.said = why
	}
	o.failures++
	return max(vault.RetryAfter(err), l.quiet(o.failures-1))
}

// quiet is how long to leave a queue alone that has failed before so often in a row.
func (l *Listener) quiet(failures int) time.Duration {
	return max(l.Poll, min(l.Poll<<min(failures, 10), maxQuiet))
}

// drain takes messages until there are none. All that came at once is heard before
// any of it is deleted: a delete is a request, and one that fails must not hold up
// the others' news. What is deleted has been acted upon as far as need be: whoever
// starts anew looks at everything anyway.
func (l *Listener) drain(ctx context.Context) error {
	for {
		messages, err := l.Queue.Receive(ctx)
		if err != nil || len(messages) == 0 {
			return err
		}
		for _, m := range messages {
			l.hear(m)
		}
		for _, m := range messages {
			if err := l.Queue.Delete(ctx, m); err != nil {
				return err
			}
		}
	}
}

// hear drops what cannot be understood: it would come again for ever.
func (l *Listener) hear(m eventgrid.Message) {
	notices, err := eventgrid.Parse(m.Body, l.Suffix)
	if errors.Is(err, eventgrid.ErrPoison) {
		l.Metrics.dropped.Inc()
		l.Log.Warn("dropped a message that is no event of a vault", telemetry.KeyReason, err)
	}
	for _, n := range notices {
		l.Metrics.heard(n, time.Now())
		l.look(n)
	}
}

func (l *Listener) look(n eventgrid.Notice) {
	if n.Event == eventgrid.PolicyChanged {
		l.Looks.LookAtPermissions(n.Vault)
		return
	}
	l.Looks.Look(n.Vault, n.Kind, n.Name)
	if n.Kind == vault.KindCertificate { // its secret and key may get no events of their own
		l.Looks.Look(n.Vault, vault.KindSecret, n.Name)
		l.Looks.Look(n.Vault, vault.KindKey, n.Name)
	}
}

// EventMetrics count events.
type EventMetrics struct {
	events   *prometheus.CounterVec
	lag      prometheus.Histogram
	dropped  prometheus.Counter
	failures prometheus.Counter
}

// NewEventMetrics registers them.
func NewEventMetrics(r prometheus.Registerer) *EventMetrics {
	m := &EventMetrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akv2k8s_events_total", Help: "Events of vaults that were heard.",
		}, []string{"event"}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "akv2k8s_event_lag_seconds", Help: "Time from an event, by Azure's clock, until it was heard.",
			Buckets: []float64{.25, .5, 1, 2, 5, 15, 60, 300, 3600},
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "akv2k8s_events_dropped_total", Help: "Messages that were dropped because they are no events of a vault.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "akv2k8s_event_queue_failures_total", Help: "Looks at the queue of events that failed.",
		}),
	}
	for _, event := range []eventgrid.Event{eventgrid.NewVersion, eventgrid.NearExpiry, eventgrid.Expired, eventgrid.PolicyChanged} {
		m.events.WithLabelValues(string(event))
	}
	r.MustRegister(m.events, m.lag, m.dropped, m.failures)
	return m
}

func (m *EventMetrics) heard(n eventgrid.Notice, now time.Time) {
	m.events.WithLabelValues(string(n.Event)).Inc()
	if !n.Time.IsZero() {
		m.lag.Observe(max(now.Sub(n.Time), 0).Seconds())
	}
}
