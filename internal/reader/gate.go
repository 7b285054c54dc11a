// SPDX-License-Identifier: Apache-2.0

package reader

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

const (
	// atOnce is how many requests one vault has at a time, and so how many connections
	// where it speaks HTTP/1.1.
	atOnce = 10

	// everyNth request is the oldest one's whatever its priority, so that a stream of
	// pod starts starves nobody.
	everyNth = 4

	// tolerated is how many requests in a row may end without an answer before the
	// vault is left alone.
	tolerated = 5
)

// rests are how long a vault is left alone, time after time: what Key Vault's own
// guidance says of throttling.
var rests = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}

// afterRest is how many requests may go at once when a vault answers again: the
// budget that gathered meanwhile would throttle it anew.
const afterRest = 50

// A ticket is a request that wants to go.
type ticket struct {
	priority vault.Priority
	ready    chan error // told once, nil to go
	began    time.Time
	waiting  bool
}

// A gate lets requests to one vault pass.
//
//	open       as the budget allows, the urgent first
//	resting    nobody passes and nobody waits
//	proving    after a rest: one at a time, until one is answered; only pod starts wait
type gate struct {
	name    string
	metrics Metrics

	mu     sync.Mutex
	budget *rate.Limiter
	queue  []*ticket
	passed uint64
	flying int
	timer  *time.Timer // set while the budget holds the queue back
	users  int         // who may come or is here; guarded by the Reader

	until     time.Time // the end of the rest
	throttled bool      // the vault asked for it
	proving   bool      // it has not answered since
	probe     *ticket   // that finds out whether it does
	strikes   int       // rests in a row
	silent    int       // requests in a row without an answer
	rested    time.Time // the beginning of the last rest
}

func newGate(name string, o Options) *gate {
	limit := rate.Inf
	if o.Rate > 0 {
		limit = rate.Limit(o.Rate)
	}
	return &gate{name: name, metrics: o.Metrics, budget: rate.NewLimiter(limit, max(o.Burst, 1))}
}

// enter waits for its turn, or fails at once while the vault is left alone.
func (g *gate) enter(ctx context.Context, t *ticket) error {
	if ctx.Err() != nil {
		return left(ctx)
	}
	if err := g.line(t); err != nil {
		g.metrics.Held(g.name)
		return err
	}
	select {
	case err := <-t.ready:
		if err != nil {
			g.metrics.Held(g.name)
		}
		return err
	case <-ctx.Done():
		return g.quit(ctx, t)
	}
}

func (g *gate) line(t *ticket) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	switch {
	case now.Before(g.until):
		return g.rest(now)
	case g.proving && g.probe != nil && t.priority < vault.PodStart:
		// It may take long to find out, and whoever waits here does nothing else.
		return vault.Resting{RetryAfter: rests[0]}
	}
	t.ready, t.waiting = make(chan error, 1), true
	g.queue = append(g.queue, t)
	g.dispatch(now)
	return nil
}

// rest is what is said to those who come meanwhile.
func (g *gate) rest(now time.Time) error {
	if g.throttled {
		return vault.Throttled{RetryAfter: g.until.Sub(now)}
	}
	return vault.Resting{RetryAfter: g.until.Sub(now)}
}

// quit leaves the line. One that was called just then gives its turn back.
func (g *gate) quit(ctx context.Context, t *ticket) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.waiting {
		t.waiting = false
		g.queue = slices.DeleteFunc(g.queue, func(other *ticket) bool { return other == t })
		g.dispatch(time.Now())
		return left(ctx)
	}
	if err := <-t.ready; err == nil {
		g.back(t)
		g.dispatch(time.Now())
	}
	return left(ctx)
}

// back makes room for the next one.
func (g *gate) back(t *ticket) {
	g.flying--
	if g.probe == t {
		g.probe = nil
	}
}

// promote lets somebody more urgent who joined a request have it go earlier.
func (g *gate) promote(t *ticket, p vault.Priority) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t.priority = max(t.priority, p)
}

// dispatch lets go who may. It is called with the lock held, whenever that may have
// changed.
func (g *gate) dispatch(now time.Time) {
	for len(g.queue) > 0 && g.free() {
		turn := g.budget.ReserveN(now, 1)
		if wait := turn.DelayFrom(now); wait > 0 {
			turn.CancelAt(now)
			g.wake(wait)
			return
		}
		t := g.next()
		t.began, t.waiting = now, false
		g.flying++
		if g.proving {
			g.probe = t
		}
		t.ready <- nil
	}
}

// free says whether one more may be under way. What was sent before a rest may take
// long to fail, and must not hold up who finds out whether it is over.
func (g *gate) free() bool { return g.flying < atOnce && (!g.proving || g.probe == nil) }

// next takes the first of the most urgent, and now and then the first of all.
func (g *gate) next() *ticket {
	g.passed++
	best := 0
	if g.passed%everyNth != 0 {
		for i, t := range g.queue {
			if t.priority > g.queue[best].priority {
				best = i
			}
		}
	}
	t := g.queue[best]
	g.queue = slices.Delete(g.queue, best, best+1)
	return t
}

func (g *gate) wake(after time.Duration) {
	if g.timer != nil {
		return
	}
	g.timer = time.AfterFunc(after, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.timer = nil
		g.dispatch(time.Now())
	})
}

// leave learns from what became of a request. The first that applies:
//
//	we left ourselves                  nothing
//	it asked for a pause of some time  rest for that long
//	it was sent before the last rest   nothing: ten that were under way together are
//	                                   told the same once, and know nothing of its end
//	it asked us to slow down           rest ever longer
//	an answer, be it a refusal         the vault is well
//	no answer, several times in a row  rest ever longer
func (g *gate) leave(t *ticket, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	probed := g.probe == t
	g.back(t)
	slow, throttled := errors.AsType[vault.Throttled](err)
	switch {
	case errors.Is(err, context.Canceled):
	case slow.RetryAfter > 0:
		g.begin(now, slow.RetryAfter, true)
	case !t.began.After(g.rested):
	case throttled:
		g.begin(now, 0, true)
	case !vault.IsOutage(err):
		g.recover(now)
	default:
		if g.silent++; probed || g.silent >= tolerated {
			g.begin(now, 0, false)
		}
	}
	g.dispatch(now)
}

// recover opens the gate, but not for all that the budget gathered during the rest.
func (g *gate) recover(now time.Time) {
	if g.proving && g.budget.Limit() != rate.Inf {
		g.budget.AllowN(now, max(0, int(g.budget.TokensAt(now))-afterRest))
	}
	g.proving, g.probe, g.strikes, g.silent = false, nil, 0, 0
}

// begin sends those away who wait. An explicit wait is kept to the second; our own
// is shortened at random.
func (g *gate) begin(now time.Time, asked time.Duration, throttled bool) {
	d := asked
	if d <= 0 {
		d = shortened(rests[min(g.strikes, len(rests)-1)])
		g.strikes++
	}
	if end := now.Add(d); end.After(g.until) {
		g.metrics.Resting(g.name, end.Sub(later(g.until, now)), throttled)
		g.until = end
	}
	g.throttled, g.proving, g.probe, g.silent, g.rested = throttled, true, nil, 0, now
	for _, t := range g.queue {
		t.waiting = false
		t.ready <- g.rest(now)
	}
	g.queue = nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// forgettable is how long after a rest the gate remembers that there was one.
const forgettable = time.Minute

// idle says whether nothing would be lost with the gate: neither a rest nor what the
// vault was asked just now.
func (g *gate) idle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	spent := g.budget.Limit() != rate.Inf && g.budget.TokensAt(now) < float64(g.budget.Burst())
	return g.users == 0 && !spent && now.Sub(g.until) > forgettable
}
