// SPDX-License-Identifier: Apache-2.0

// Package reader makes requests to vaults frugal and polite, over any source of
// them: identical reads are one, an answer may be given again for a moment, each
// vault has a budget of requests of which the urgent ones get the first, and a vault
// that asks for a pause or does not answer is left alone by everybody.
//
// Who may read what is decided before: nobody is asked for permission here. Start at
// Read; the gate before each vault is in gate.go, what outlasts an outage in
// cache.go.
package reader

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Options of a Reader. The zero value shares only reads under way and limits
// nothing but how many requests a vault gets at once.
type Options struct {
	// ShareWindow is how long an answer may be given again to whoever does not demand
	// a newer one: the longest time that a withdrawn permission goes unnoticed.
	ShareWindow time.Duration
	// Rate is how many requests a second one vault gets in the long run, and Burst how
	// many at once after a quiet time. A zero Rate is no limit.
	Rate  float64
	Burst int
	// CachedMaxAge is how old an answer may be that is given in place of a vault that
	// does not answer. Zero gives none, and keeps none.
	CachedMaxAge time.Duration
	Metrics      Metrics // nil is nobody
}

// Metrics hears of what happens. Its methods are called often and must not wait.
type Metrics interface {
	// Shared counts a read that the answer to another one served.
	Shared()
	// Held counts a request that was not sent, because the vault is left alone.
	Held(vault string)
	// Resting tells of a time for which a vault is left alone, and whether it asked
	// for that.
	Resting(vault string, d time.Duration, asked bool)
}

// CacheMetrics hears of answers from memory, too.
type CacheMetrics interface {
	// Cached counts a read that was served from memory during an outage.
	Cached(age time.Duration)
}

// Reader implements vault.Reader and vault.Lister. It is safe for concurrent use.
type Reader struct {
	source  vault.Source
	options Options
	cache   *cache // nil without CachedMaxAge

	mu      sync.Mutex
	gates   map[string]*gate
	tidied  time.Time
	flights map[vault.Reference]*flight
}

var _ vault.Source = (*Reader)(nil)

// New reads from the source.
func New(source vault.Source, o Options) *Reader {
	if o.Metrics == nil {
		o.Metrics = nobody{}
	}
	r := &Reader{source: source, options: o, gates: map[string]*gate{}, flights: map[vault.Reference]*flight{}}
	if o.CachedMaxAge > 0 {
		r.cache = newCache(o.CachedMaxAge)
	}
	return r
}

// Read reads one object, or shares the answer to an identical read that is as young
// as the context demands.
func (r *Reader) Read(ctx context.Context, ref vault.Reference) (vault.Object, error) {
	if ctx.Err() != nil {
		return vault.Object{}, left(ctx)
	}
	ref = ref.Canonical()
	if r.cache == nil {
		return r.shared(ctx, ref, nil)
	}
	return r.remembered(ctx, ref)
}

// patience is how long a vault may take before the last good answer is given in its
// place: a container waits for it.
const patience = 5 * time.Second

// remembered gives the last good answer in the place of none.
func (r *Reader) remembered(ctx context.Context, ref vault.Reference) (vault.Object, error) {
	since := vault.DemandOf(ctx).Since
	var enough <-chan time.Time
	if _, _, ok := r.cache.get(ref, since); ok {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		enough = timer.C
	}
	obj, err := r.shared(ctx, ref, enough)
	if !vault.IsOutage(err) || errors.Is(err, context.Canceled) {
		return obj, err
	}
	last, age, ok := r.cache.get(ref, since)
	if !ok {
		return obj, err
	}
	if m, hears := r.options.Metrics.(CacheMetrics); hears {
		m.Cached(age)
	}
	return last, nil
}

// List lists one page. Nothing of it is shared: there is one who sweeps.
func (r *Reader) List(ctx context.Context, of vault.Collection, next string) (vault.Page, error) {
	g := r.gate(of.Vault)
	defer r.done(g)
	return through(ctx, g, &ticket{priority: vault.DemandOf(ctx).Priority}, func() (vault.Page, error) {
		return r.source.List(ctx, of, next)
	})
}

// A flight is a read under way, or one that was answered just now.
type flight struct {
	ref    vault.Reference
	began  time.Time
	gate   *gate
	ticket *ticket
	cancel context.CancelFunc
	done   chan struct{} // closed when object and err are there

	object vault.Object
	err    error

	// The Reader guards these.
	waiting int // who would miss the answer
	landed  bool
}

// shared waits for an answer until it has waited enough.
func (r *Reader) shared(ctx context.Context, ref vault.Reference, enough <-chan time.Time) (vault.Object, error) {
	demand := vault.DemandOf(ctx)
	f, mine := r.join(ctx, ref, demand)
	if !mine {
		r.options.Metrics.Shared()
		f.gate.promote(f.ticket, demand.Priority)
	}
	select {
	case <-f.done:
		r.leave(f)
		return f.object, f.err
	case <-ctx.Done():
		r.leave(f)
		return vault.Object{}, left(ctx)
	case <-enough:
		go func() { <-f.done; r.leave(f) }() // the gate must hear how it ends
		return vault.Object{}, vault.ErrUnavailable
	}
}

func left(ctx context.Context) error { return errors.Join(vault.ErrUnavailable, ctx.Err()) }

// join finds a flight that is young enough, or starts one.
func (r *Reader) join(ctx context.Context, ref vault.Reference, d vault.Demand) (*flight, bool) {
	now := time.Now()
	oldest := now.Add(-r.options.ShareWindow)
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, ok := r.flights[ref]; ok && !f.began.Before(d.Since) && (!f.landed || !f.began.Before(oldest)) {
		f.waiting++
		return f, false
	}
	// Whoever starts it may leave before the others do.
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{
		ref: ref, began: now, gate: r.gateLocked(ref.Vault), ticket: &ticket{priority: d.Priority},
		cancel: cancel, done: make(chan struct{}), waiting: 1,
	}
	r.flights[ref] = f
	if r.cache != nil {
		r.cache.ask(ref)
	}
	go r.fly(background, f)
	return f, true
}

// leave gives a flight up that nobody waits for any more.
func (r *Reader) leave(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.waiting--
	if f.waiting == 0 && !f.landed {
		r.forget(f)
		f.cancel()
	}
}

func (r *Reader) fly(ctx context.Context, f *flight) {
	defer f.cancel()
	f.object, f.err = through(ctx, f.gate, f.ticket, func() (vault.Object, error) {
		return r.source.Read(ctx, f.ref)
	})
	if r.cache != nil {
		r.cache.learn(f.ref, f.began, f.object, f.err)
	}
	r.land(f)
	r.done(f.gate)
	close(f.done)
}

// land lets go of the answer when the window closes. A failure is shared with those
// who wait for it and with nobody else.
func (r *Reader) land(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.landed = true
	keep := r.options.ShareWindow - time.Since(f.began)
	if f.err != nil || keep <= 0 {
		r.forget(f)
		return
	}
	time.AfterFunc(keep, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.forget(f)
	})
}

// forget is called with the lock held. A younger flight may have taken the place.
func (r *Reader) forget(f *flight) {
	if r.flights[f.ref] == f {
		delete(r.flights, f.ref)
	}
}

// through passes the gate, sends the request and tells the gate what came of it. A
// panic in an adapter is a failure of that one request.
func through[T any](ctx context.Context, g *gate, t *ticket, request func() (T, error)) (out T, err error) { //nolint:ireturn,nonamedreturns // T is an object or a page; recover can speak through a named result only
	if err := g.enter(ctx, t); err != nil {
		return *new(T), err
	}
	defer func() {
		if p := recover(); p != nil {
			// What panicked may hold a value; its type tells enough.
			out, err = *new(T), fmt.Errorf("%w: a panic of type %T", vault.ErrUnavailable, p)
		}
		g.leave(t, err)
	}()
	return request()
}

// gate is the one before a vault. It stays until whoever got it is done with it.
func (r *Reader) gate(name string) *gate {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gateLocked(strings.ToLower(name))
}

func (r *Reader) gateLocked(name string) *gate {
	g, ok := r.gates[name]
	if !ok {
		r.tidy()
		g = newGate(name, r.options)
		r.gates[name] = g
	}
	g.users++
	return g
}

func (r *Reader) done(g *gate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g.users--
}

// maxGates bounds the memory that names of vaults take, which are a tenant's text.
const maxGates = 1000

// tidy makes room by dropping gates that hold nothing: now and then, because it looks at
// all of them.
func (r *Reader) tidy() {
	if len(r.gates) < maxGates || time.Since(r.tidied) < time.Second {
		return
	}
	r.tidied = time.Now()
	for name, g := range r.gates {
		if g.idle() {
			delete(r.gates, name)
		}
	}
}

// shortened spreads processes out that were told the same; it never makes a wait
// longer.
func shortened(d time.Duration) time.Duration {
	return d - time.Duration(rand.Float64()*0.2*float64(d)) //nolint:gosec // nobody gains by guessing when
}

type nobody struct{}

func (nobody) Shared()                             {}
func (nobody) Held(string)                         {}
func (nobody) Resting(string, time.Duration, bool) {}
