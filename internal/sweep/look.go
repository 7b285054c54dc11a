// SPDX-License-Identifier: Apache-2.0

package sweep

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

const (
	// breath is the shortest time between two looks at a collection.
	breath = time.Second

	// denial is how long a vault that may not be listed is read singly before it is
	// tried again. An attempt is one request.
	denial = 5 * time.Minute

	// outgrown is how long the size of a vault is believed that costs more to list
	// than to read.
	outgrown = time.Hour

	// readsAtOnce is how many single reads of one collection are under way.
	readsAtOnce = 4

	// attempts is how often a page is asked for that does not come.
	attempts = 5
)

// attend looks at a collection whenever something of it is due.
func (s *Sweeper) attend(ctx context.Context, c *collection) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if wait := s.untilNext(c); wait > 0 {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-c.kick:
				continue
			case <-timer.C:
			}
		}
		s.look(ctx, c)
		if !pause(ctx, breath) {
			return
		}
	}
}

// untilNext is long when nothing is ever due: whoever changes that kicks.
func (s *Sweeper) untilNext(c *collection) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.next.IsZero() {
		return 24 * time.Hour
	}
	return time.Until(c.next)
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// look looks once for what is due: by a list where that is allowed and costs less,
// by a read of each else.
func (s *Sweeper) look(ctx context.Context, c *collection) {
	began := time.Now()
	listed, single := s.due(c, began)
	var rest, share time.Duration
	if len(listed) > 0 { // what a list casts doubt on goes first
		doubtful := s.list(ctx, c, listed, began)
		share = s.share(c)
		rest = s.readAll(ctx, c, doubtful, share)
	}
	if rest == 0 {
		rest = s.readAll(ctx, c, single, share)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.plan(time.Now().Add(max(rest, breath)))
}

// share is the part of an interval for which single reads may hold up the next list.
func (s *Sweeper) share(c *collection) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.shortest() / 4
}

// plan finds out when something is due next, but not before a time.
func (c *collection) plan(earliest time.Time) {
	c.next = time.Time{}
	for _, e := range c.entries {
		if e.every > 0 && (c.next.IsZero() || e.due.Before(c.next)) {
			c.next = e.due
		}
	}
	if !c.next.IsZero() && c.next.Before(earliest) {
		c.next = earliest
	}
}

// due are the entries that a list is to tell of, and those that must be read. A list
// takes along what is looked for most often, and what else is not due yet by less than
// half of its interval: so what was first seen at different times comes to be looked
// for together.
func (s *Sweeper) due(c *collection, now time.Time) ([]*entry, []*entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var strict, listed, single []*entry
	shortest := c.shortest()
	for _, e := range c.entries {
		isDue := e.every > 0 && !e.due.After(now)
		if isDue && e.pinned() {
			single = append(single, e)
		}
		if e.every == 0 || e.pinned() {
			continue
		}
		if isDue {
			strict = append(strict, e)
		}
		if e.every == shortest || !e.due.After(now.Add(e.every/2)) {
			listed = append(listed, e)
		}
	}
	slices.SortFunc(single, longerDue)
	if len(strict) == 0 {
		return nil, single
	}
	if c.lists(len(listed), now) {
		return listed, single
	}
	return nil, append(single, strict...)
}

// shortest is the interval of what is looked for most often.
func (c *collection) shortest() time.Duration {
	var out time.Duration
	for _, e := range c.entries {
		if e.every > 0 && !e.pinned() && (out == 0 || e.every < out) {
			out = e.every
		}
	}
	return out
}

func longerDue(a, b *entry) int { return a.due.Compare(b.due) }

// lists says whether to list: it is not forbidden, and costs no more than reading so
// many objects.
func (c *collection) lists(objects int, now time.Time) bool {
	return !now.Before(c.denied) && (c.pages <= objects || now.Sub(c.sized) >= outgrown)
}

// list compares entries with a list, and returns those that must be read after all.
func (s *Sweeper) list(ctx context.Context, c *collection, entries []*entry, began time.Time) []*entry {
	found := make(map[string]*vault.Properties, len(entries))
	whole, err := s.pages(ctx, c, len(entries), found)
	if err == nil && s.options.Swept != nil {
		s.options.Swept(c.of, time.Since(began))
	}
	v := s.conclude(c, entries, listing{found, whole, err}, began)
	s.wake(v.followers)
	return v.read
}

// A listing is what came of a list: what was found, whether that is all, and what
// kept it from being all.
type listing struct {
	found map[string]*vault.Properties
	whole bool
	err   error
}

// pages fetches a list, but not more pages than there are objects to find: then
// reading the rest costs less, and the list is taken to be longer from now on.
func (s *Sweeper) pages(ctx context.Context, c *collection, limit int, found map[string]*vault.Properties) (bool, error) {
	next := ""
	for n := 1; ; n++ {
		page, err := s.page(ctx, c.of, next)
		if err != nil {
			return false, err
		}
		for i := range page.Items {
			found[strings.ToLower(page.Items[i].Name)] = &page.Items[i]
		}
		if page.Next == "" {
			s.sized(c, n)
			return true, nil
		}
		if n >= limit {
			s.sized(c, max(n+1, s.size(c)))
			return false, nil
		}
		next = page.Next
	}
}

func (s *Sweeper) size(c *collection) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.pages
}

func (s *Sweeper) sized(c *collection, pages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.pages, c.sized, c.spread = pages, time.Now(), false
}

// page asks again for one that does not come: a list of hundreds must not fail for
// one of them.
func (s *Sweeper) page(ctx context.Context, of vault.Collection, next string) (vault.Page, error) {
	for n := 1; ; n++ {
		page, err := s.source.List(vault.WithDemand(ctx, vault.Demand{Priority: vault.Sweep}), of, next)
		if err == nil || n == attempts || !vault.IsOutage(err) || !pause(ctx, max(vault.RetryAfter(err), breath)) {
			return page, err
		}
	}
}

// conclusion is who must look, and what must be read to know more.
type conclusion struct {
	followers []string
	read      []*entry
}

// conclude draws the conclusions from a listing.
//
//	the listing           an entry that
//	is whole              is listed or not       is compared
//	is not                is listed              is compared
//	was given up for its  is not                 is read
//	length
//	had no answer         is not                 waits for the next look
//	is forbidden          –                      is read, and all are spread out the
//	                                             first time
//	was refused for a     was refused like that  is confirmed
//	reason of the vault   was not                must be looked at
func (s *Sweeper) conclude(c *collection, entries []*entry, l listing, began time.Time) conclusion {
	now := time.Now() // what is asked for from now on knows what the list knows
	s.mu.Lock()
	defer s.mu.Unlock()
	var out conclusion
	switch {
	case errors.Is(l.err, vault.ErrForbidden):
		c.deny(&out, entries, began)
		return out
	case l.err != nil && !vault.IsOutage(l.err):
		for _, e := range entries {
			f := changed
			if e.answered && !e.silent && errors.Is(e.refusal, vault.Verdict(l.err)) {
				f = same
			}
			out.enter(e, f, began, now)
		}
		return out
	}
	for _, e := range entries {
		item, listed := l.found[e.ref.Name]
		switch {
		case listed || l.whole:
			e.enabled(!listed || item.Enabled, now)
			out.enter(e, e.compare(item, now), began, now)
		case l.err == nil:
			out.enter(e, doubtful, began, now)
		}
	}
	slices.SortFunc(out.read, longerDue)
	return out
}

// deny has entries read singly for a while. Whoever changed the permissions meanwhile
// has them tried again at once.
func (c *collection) deny(out *conclusion, entries []*entry, began time.Time) {
	if began.Before(c.permitted) {
		return
	}
	c.denied = began.Add(denial)
	for _, e := range entries {
		switch {
		case !c.spread:
			e.due = began.Add(scattered(e.every))
		case !e.due.After(began):
			out.read = append(out.read, e)
		}
	}
	c.spread = true
}

// enter enters a finding. What is to be read stays due until it was.
func (o *conclusion) enter(e *entry, f finding, began, now time.Time) {
	switch f {
	case same:
		e.due = began.Add(e.every)
		e.confirm(began)
	case changed:
		e.due = began.Add(e.every)
		e.suspect(now)
		o.followers = e.all(o.followers)
	case doubtful:
		if e.due.After(began) {
			e.due = began
		}
		o.read = append(o.read, e)
	}
}

// readAll reads entries, a few at a time, and has those looked at that are not what
// they were. It stops after a while, of which zero is never, leaving the rest due; and
// when the vault is not to be asked, and returns for how long.
func (s *Sweeper) readAll(ctx context.Context, c *collection, entries []*entry, while time.Duration) time.Duration {
	var (
		began = time.Now()
		all   sync.WaitGroup
		slots = make(chan struct{}, readsAtOnce)
		mu    sync.Mutex
		rest  time.Duration
	)
	for _, e := range entries {
		slots <- struct{}{}
		mu.Lock()
		stop := rest > 0 || ctx.Err() != nil || while > 0 && time.Since(began) > while
		mu.Unlock()
		if stop {
			break
		}
		all.Go(func() {
			defer func() { <-slots }()
			wait := s.read(ctx, c, e)
			mu.Lock()
			defer mu.Unlock()
			rest = max(rest, wait)
		})
	}
	all.Wait()
	return rest
}

// read returns for how long the vault is not to be asked, as far as it says.
func (s *Sweeper) read(ctx context.Context, c *collection, e *entry) time.Duration {
	if !s.followed(e) {
		return 0
	}
	asked := time.Now()
	obj, err := s.source.Read(vault.WithDemand(ctx, vault.Demand{Priority: vault.Sweep, Since: asked}), e.ref)
	if wait := vault.RetryAfter(err); wait > 0 || ctx.Err() != nil {
		return wait
	}
	s.wake(s.entered(c, e, asked, obj, err))
	return 0
}

// followed says whether anybody still wants to know: of thousands it may take long
// until one's turn comes.
func (s *Sweeper) followed(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(e.followers) > 0
}

// entered enters what a single read gave, and returns who must know. The reader
// still has the answer when they ask for it.
func (s *Sweeper) entered(c *collection, e *entry, asked time.Time, obj vault.Object, err error) []string {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if vault.IsOutage(err) {
		e.missed("")
		e.due = now.Add(min(e.every, silence))
		return nil
	}
	e.due = now.Add(e.every - scattered(e.every/10))
	if vault.Verdict(err) != nil && asked.Before(c.permitted) {
		e.due = now
	}
	// A follower's newer answer stands: who has not had it was woken for it.
	if e.answered && asked.Before(e.asked) || !e.note(asked, answerOf(obj, err), now) {
		return nil
	}
	e.suspect(asked) // the answer just had will do
	return e.all(nil)
}
