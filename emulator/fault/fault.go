// SPDX-License-Identifier: Apache-2.0

// Package fault makes requests misbehave as a seed or the admin endpoint wants it: it decides which faults a request
// meets, makes it wait, and cuts or slows down what is sent. What an answer says in place of the right one is the
// business of who is asked.
//
// Start at Set. A Set without faults costs one atomic read.
package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// Set is the faults in force at one place. The zero value has none. It is safe for concurrent use.
type Set struct {
	now     atomic.Pointer[round]
	hanging gauge
}

// round is the faults from one Replace to the next.
type round struct {
	mu   sync.Mutex
	list []armed
	// over is closed when other faults, or none, take the place of these: whoever waits is let go.
	over chan struct{}
}

type armed struct {
	seed.Fault

	left int // requests it still meets; below 0 is no end
}

// Replace puts faults in the place of those in force and lets go the requests that wait.
func (s *Set) Replace(list []seed.Fault) {
	var next *round
	if len(list) > 0 {
		next = &round{over: make(chan struct{})}
		for _, each := range list {
			left := each.Count
			if left == 0 {
				left = -1
			}
			next.list = append(next.list, armed{each, left})
		}
	}
	if before := s.now.Swap(next); before != nil {
		close(before.over)
	}
}

// Armed reports whether there are faults at all.
func (s *Set) Armed() bool { return s.now.Load() != nil }

// List returns the faults that are not used up.
func (s *Set) List() []seed.Fault {
	out := []seed.Fault{}
	r := s.now.Load()
	if r == nil {
		return out
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, each := range r.list {
		if each.left != 0 {
			out = append(out, each.Fault)
		}
	}
	return out
}

// Hanging is how many requests hang now.
func (s *Set) Hanging() int { return s.hanging.read() }

// Await returns once at least n requests hang, or with the error of ctx.
func (s *Set) Await(ctx context.Context, n int) error {
	if err := s.hanging.await(ctx, n); err != nil {
		return fmt.Errorf("waiting for %d requests that hang, there are %d: %w", n, s.Hanging(), err)
	}
	return nil
}

// Request is what faults are compared with.
type Request struct {
	// Operation is its name in the counters, Object what it concerns, as "secrets/name"; "" is nothing in particular.
	Operation, Object string
	// Revoked says that a revoke fault concerns the token it came with.
	Revoked bool
}

func (a *armed) concerns(r Request) bool {
	switch {
	case a.left == 0 || a.Kind == seed.FaultDNS:
		return false
	case a.Kind == seed.FaultRevoke && !r.Revoked:
		return false
	case len(a.Operations) > 0 && !slices.Contains(a.Operations, r.Operation):
		return false
	}
	return len(a.Objects) == 0 || slices.ContainsFunc(a.Objects, func(object string) bool {
		return strings.EqualFold(object, r.Object)
	})
}

// strike decides by chance, and counts.
func (a *armed) strike() bool {
	if a.Probability > 0 && rand.Float64() >= a.Probability {
		return false
	}
	if a.left > 0 {
		a.left--
	}
	return true
}

func (r *round) take(i int, request Request) (seed.Fault, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &r.list[i]
	return a.Fault, a.concerns(request) && a.strike()
}

// Outcome is what becomes of a request.
type Outcome struct {
	// Answer is the fault that answers in the place of who was asked; nil is none.
	Answer *seed.Fault
	// Left says that the client went away while it waited.
	Left bool

	truncate bool
	slow     time.Duration
	over     <-chan struct{}
}

// NoAnswer says that the request gets none: the client is gone, or its connection has to be reset.
func (o Outcome) NoAnswer() bool {
	return o.Left || o.Answer != nil && o.Answer.Kind == seed.FaultReset
}

// ShapesBody says that Send does something to the body.
func (o Outcome) ShapesBody() bool { return o.truncate || o.slow > 0 }

// Meet takes a request through the faults in their order, until one answers; it returns when the request has waited
// for as long as they want. Faults behind the one that answers are neither met nor used up.
func (s *Set) Meet(ctx context.Context, request Request) Outcome {
	r := s.now.Load()
	if r == nil {
		return Outcome{}
	}
	out := Outcome{over: r.over}
	for i := range r.list {
		f, met := r.take(i, request)
		if !met {
			continue
		}
		switch f.Kind {
		case seed.FaultLatency:
			pause(ctx, time.Duration(f.Latency), r.over)
		case seed.FaultHang:
			s.hang(ctx, r.over)
		case seed.FaultTruncate:
			out.truncate = true
		case seed.FaultSlow:
			out.slow += time.Duration(f.Latency)
		default:
			out.Answer = &f
			return out
		}
		switch {
		case ctx.Err() != nil:
			return Outcome{Left: true}
		case isClosed(r.over): // these faults are no longer in force
			return Outcome{}
		}
	}
	return out
}

func (s *Set) hang(ctx context.Context, over <-chan struct{}) {
	s.hanging.add(1)
	defer s.hanging.add(-1)
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// Resolves reports whether the name of this place is found in DNS, for one lookup.
func (s *Set) Resolves() bool {
	r := s.now.Load()
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.list {
		if a := &r.list[i]; a.Kind == seed.FaultDNS && a.left != 0 && a.strike() {
			return false
		}
	}
	return true
}

// pause ends early when the client goes away or the faults are over.
func pause(ctx context.Context, d time.Duration, over <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-over:
	case <-ctx.Done():
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
