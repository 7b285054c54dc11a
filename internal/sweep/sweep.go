// SPDX-License-Identifier: Apache-2.0

// Package sweep finds out which objects of vaults have changed, for next to nothing:
// one page of a list tells of 25 objects whether they are as they were. What is not
// listed, or may not be, is read singly, spread over the interval.
//
// It remembers no value, only what tells an object from its successor. Start at New
// and Run; what a list says about an object is decided in ledger.go, one look at a
// collection is in look.go.
package sweep

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Options of a Sweeper.
type Options struct {
	// Wake is called with whoever should look at what it follows, often and from
	// several goroutines. It must not wait.
	Wake func(follower string)
	// StaleAfter is how many intervals an object may go unconfirmed before its
	// followers are told.
	StaleAfter int
	// StaleRate bounds how many followers per second are told of that, and of its end.
	StaleRate int
	// Swept hears how long a look at a collection by listing it took; nil is nobody.
	Swept func(vault.Collection, time.Duration)
}

// Sweeper watches objects. It is safe for concurrent use.
type Sweeper struct {
	source  vault.Source
	options Options

	mu          sync.Mutex
	collections map[vault.Collection]*collection
	watches     map[string][]vault.Watch // by follower, each object once
	launch      func(*collection)        // nil until Run
	untold      map[string]bool          // followers who are to hear that something has become stale, or is not any more
}

// A collection is the objects that one list tells of. The Sweeper's lock guards it.
type collection struct {
	of      vault.Collection
	entries map[vault.Reference]*entry
	kick    chan struct{} // tells of an earlier next
	stop    func()        // called when nobody follows anything here
	next    time.Time     // when something is due; zero is never

	pages     int       // how many the last list had, or more; zero is unknown
	sized     time.Time // when that was
	denied    time.Time // until when it is not listed, because that is forbidden
	spread    bool      // it was, and since then its objects have been read singly
	permitted time.Time // when somebody said that permissions have changed
}

// New watches nothing yet.
func New(source vault.Source, o Options) *Sweeper {
	return &Sweeper{
		source: source, options: o,
		collections: map[vault.Collection]*collection{}, watches: map[string][]vault.Watch{}, untold: map[string]bool{},
	}
}

// Run looks for changes until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	var all sync.WaitGroup
	s.mu.Lock()
	s.launch = func(c *collection) {
		ctx, cancel := context.WithCancel(ctx)
		c.stop = cancel
		all.Go(func() {
			defer cancel()
			s.attend(ctx, c)
		})
	}
	for _, c := range s.collections {
		s.launch(c)
	}
	s.mu.Unlock()
	s.mind(ctx)
	s.mu.Lock()
	s.launch = nil
	s.mu.Unlock()
	all.Wait()
	return nil
}

// Follow says what a follower watches from now on, in place of what it did before. Of
// an object of which it watches the latest version for the first time it has seen
// nothing yet: it must read it.
func (s *Sweeper) Follow(who string, list []vault.Watch) {
	now, wanted := time.Now(), distinct(list)
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.watches[who]
	if len(wanted) > 0 {
		s.watches[who] = wanted
	} else {
		delete(s.watches, who)
		delete(s.untold, who)
	}
	// The new ones first: what is known of a collection must outlast a change from one
	// of its objects to another.
	for _, w := range wanted {
		if !slices.Contains(before, w) {
			s.follow(who, w.Reference, w.Every, now)
		}
	}
	for _, w := range before {
		if !watches(wanted, w.Reference) {
			s.unfollow(who, w.Reference)
		}
	}
}

// distinct names each object once, with the shortest interval. Few are ever watched by
// one follower.
func distinct(list []vault.Watch) []vault.Watch {
	out := make([]vault.Watch, 0, len(list))
	for _, w := range list {
		w.Reference = w.Canonical()
		i := slices.IndexFunc(out, func(other vault.Watch) bool { return other.Reference == w.Reference })
		switch {
		case i < 0:
			out = append(out, w)
		case out[i].Every == 0 || w.Every > 0 && w.Every < out[i].Every:
			out[i].Every = w.Every
		}
	}
	return out
}

func watches(list []vault.Watch, ref vault.Reference) bool {
	return slices.ContainsFunc(list, func(w vault.Watch) bool { return w.Reference == ref })
}

func (s *Sweeper) follow(who string, ref vault.Reference, every time.Duration, now time.Time) {
	c := s.collection(ref.Collection())
	e, ok := c.entries[ref]
	if !ok {
		e = &entry{ref: ref, followers: map[string]*follower{}, followed: now}
		c.entries[ref] = e
	}
	unclocked := e.every == 0
	e.follow(who, every)
	if e.every == 0 {
		return
	}
	first := e.every
	if e.pinned() || c.spread {
		first = scattered(first) // of many that come together, a few at a time
	}
	if due := now.Add(first); unclocked || due.Before(e.due) {
		e.due = due
		c.sooner(due)
	}
}

func (s *Sweeper) unfollow(who string, ref vault.Reference) {
	c := s.collections[ref.Collection()]
	e := c.entries[ref]
	e.unfollow(who)
	if len(e.followers) > 0 {
		return
	}
	delete(c.entries, ref)
	if len(c.entries) == 0 {
		delete(s.collections, c.of)
		c.stop()
	}
}

func (s *Sweeper) collection(of vault.Collection) *collection {
	c, ok := s.collections[of]
	if !ok {
		c = &collection{of: of, entries: map[vault.Reference]*entry{}, kick: make(chan struct{}, 1), stop: func() {}}
		s.collections[of] = c
		if s.launch != nil {
			s.launch(c)
		}
	}
	return c
}

func (s *Sweeper) entry(ref vault.Reference) (*collection, *entry) {
	ref = ref.Canonical()
	c := s.collections[ref.Collection()]
	if c == nil {
		return nil, nil
	}
	return c, c.entries[ref]
}

// sooner makes sure that a look is taken by then.
func (c *collection) sooner(t time.Time) {
	if !c.next.IsZero() && !t.Before(c.next) {
		return
	}
	c.next = t
	select {
	case c.kick <- struct{}{}:
	default: // it has been told
	}
}

// Known says what is known of an object that a follower watches. What it does not
// watch is not known.
func (s *Sweeper) Known(who string, ref vault.Reference) vault.Known {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, e := s.entry(ref)
	if e == nil || e.followers[who] == nil {
		return vault.Known{}
	}
	return vault.Known{Since: e.followers[who].since, Confirmed: e.confirmed, Stale: e.stale}
}

// silence is how soon a read that had no answer is tried again by us, too.
const silence = 15 * time.Second

// Saw enters what a read gave that was asked for at a time, or later, and that a
// follower has acted upon. If it is news, the other followers are woken.
func (s *Sweeper) Saw(who string, ref vault.Reference, asked time.Time, obj vault.Object, err error) {
	s.wake(s.saw(who, ref, asked, obj, err))
}

func (s *Sweeper) saw(who string, ref vault.Reference, asked time.Time, obj vault.Object, err error) []string {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	c, e := s.entry(ref)
	if e == nil {
		return nil
	}
	if vault.IsOutage(err) {
		e.missed(who)
		if due := now.Add(min(e.every, silence)); e.every > 0 && due.Before(e.due) {
			e.due = due
			c.sooner(due)
		}
		return nil
	}
	return e.saw(who, asked, answerOf(obj, err), now)
}

// Look has those who follow an object look at it again, because somebody says that
// there is a new version.
func (s *Sweeper) Look(vaultName string, kind vault.Kind, name string) {
	refs := []vault.Reference{{Vault: vaultName, Kind: kind, Name: name}}
	if kind != vault.KindKey { // the secret behind a certificate is a secret as well
		refs = append(refs, vault.Reference{Vault: vaultName, Kind: vault.KindCertificate, Name: name, PrivateKey: true})
	}
	now := time.Now()
	var followers []string
	s.mu.Lock()
	for _, ref := range refs {
		if _, e := s.entry(ref); e != nil {
			e.suspect(now)
			followers = e.all(followers)
		}
	}
	s.mu.Unlock()
	s.wake(followers)
}

// LookAtPermissions has what is forbidden in a vault tried again.
func (s *Sweeper) LookAtPermissions(vaultName string) {
	s.wake(s.permitted(strings.ToLower(vaultName)))
}

// permitted returns who must try themselves, because nothing is due for them by the
// clock.
func (s *Sweeper) permitted(vaultName string) []string {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var followers []string
	for of, c := range s.collections {
		if of.Vault != vaultName {
			continue
		}
		c.denied, c.permitted = time.Time{}, now
		for _, e := range c.entries {
			switch {
			case e.refusal == nil:
			case e.every > 0:
				e.due = now
			default:
				e.suspect(now)
				followers = e.all(followers)
			}
		}
		c.sooner(now)
	}
	return followers
}

func (e *entry) all(followers []string) []string {
	for who := range e.followers {
		followers = append(followers, who)
	}
	return followers
}

func (s *Sweeper) wake(followers []string) {
	for _, who := range followers {
		s.options.Wake(who)
	}
}

// mind tells followers, a few each second, that what they follow has become stale,
// or is not any more.
func (s *Sweeper) mind(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.wake(s.turned(now))
		}
	}
}

// turned are some of the followers of entries whose staleness has changed.
func (s *Sweeper) turned(now time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.collections {
		for _, e := range c.entries {
			if stale := e.overdue(now, s.options.StaleAfter); stale != e.stale {
				e.stale = stale
				for who := range e.followers {
					s.untold[who] = true
				}
			}
		}
	}
	var some []string
	for who := range s.untold {
		if len(some) >= s.options.StaleRate {
			break
		}
		delete(s.untold, who)
		some = append(some, who)
	}
	return some
}

// A Census is what is watched by the clock in one collection.
type Census struct {
	vault.Collection

	Objects     int
	Unconfirmed time.Duration // the longest time that one of them has not been confirmed, pinned ones apart
}

// Census counts what is watched by the clock.
func (s *Sweeper) Census() []Census {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Census, 0, len(s.collections))
	for of, c := range s.collections {
		one := Census{Collection: of}
		for _, e := range c.entries {
			if e.every == 0 {
				continue
			}
			one.Objects++
			if !e.pinned() {
				one.Unconfirmed = max(one.Unconfirmed, e.unconfirmed(now))
			}
		}
		out = append(out, one)
	}
	return out
}

// scattered is a time within d, at random.
func scattered(d time.Duration) time.Duration {
	return time.Duration(rand.Float64() * float64(d)) //nolint:gosec // nobody gains by guessing when
}
