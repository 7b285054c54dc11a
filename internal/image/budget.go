// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/util/cache"
)

// Budget is what this process allows itself of one registry.
type Budget struct {
	Rate       int // requests per second in the long run; twice as many at once after a quiet time
	Concurrent int // requests under way
}

var (
	errBudget  = errors.New("the requests to this registry are used up")
	errResting = errors.New("this registry has asked to be left alone")
)

const (
	// maxGates bounds the memory: whoever creates pods may name any host.
	maxGates = 1024
	gateLife = time.Hour
	// A registry that says nothing of how long it rests gets restDefault; one that
	// says too much would keep everybody's pods out, so restMost.
	restDefault = 10 * time.Second
	restMost    = time.Minute
)

// budget keeps requests to each host within bounds, and from a host that has
// asked for rest.
type budget struct {
	next   http.RoundTripper
	bounds Budget
	now    func() time.Time

	mu    sync.Mutex
	gates *cache.LRUExpireCache // host → *gate
}

type gate struct {
	limiter *rate.Limiter
	slots   chan struct{}

	mu    sync.Mutex
	until time.Time // the end of its rest
}

func newBudget(next http.RoundTripper, bounds Budget, now func() time.Time) *budget {
	return &budget{next: next, bounds: bounds, now: now, gates: cache.NewLRUExpireCacheWithClock(maxGates, clock(now))}
}

func (b *budget) gate(host string) *gate {
	b.mu.Lock()
	defer b.mu.Unlock()
	g, ok := b.gates.Get(host)
	if !ok {
		g = &gate{limiter: rate.NewLimiter(rate.Limit(b.bounds.Rate), 2*b.bounds.Rate), slots: make(chan struct{}, b.bounds.Concurrent)}
	}
	b.gates.Add(host, g, gateLife) // so that one in use stays
	return g.(*gate)               //nolint:forcetypeassert // only gates are put in
}

// RoundTrip implements http.RoundTripper. A request that would have to wait longer
// than its context lasts ends at once.
func (b *budget) RoundTrip(r *http.Request) (*http.Response, error) {
	g := b.gate(r.URL.Host)
	if g.resting(b.now()) {
		return nil, errResting
	}
	if err := g.enter(r.Context()); err != nil {
		return nil, err
	}
	defer func() { <-g.slots }()
	response, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if d := restOf(response, b.now()); d > 0 {
		g.rest(b.now().Add(d))
	}
	return response, nil
}

func (g *gate) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err // which is not for want of budget
	}
	if err := g.limiter.Wait(ctx); err != nil {
		return errors.Join(errBudget, ctx.Err())
	}
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errors.Join(errBudget, ctx.Err())
	}
}

func (g *gate) resting(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return now.Before(g.until)
}

func (g *gate) rest(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.until) {
		g.until = until
	}
}

// restOf is how long an answer asks to be left alone: 429 always does, 503 if it
// says so.
func restOf(r *http.Response, now time.Time) time.Duration {
	after := r.Header.Get("Retry-After")
	if r.StatusCode != http.StatusTooManyRequests && (r.StatusCode != http.StatusServiceUnavailable || after == "") {
		return 0
	}
	d := restDefault
	if seconds, err := strconv.ParseUint(after, 10, 31); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if date, err := http.ParseTime(after); err == nil {
		d = date.Sub(now)
	}
	return max(time.Second, min(d, restMost))
}
