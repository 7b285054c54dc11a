// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
)

// counter remembers how often in a row something happened to a resource. It
// forgets with the process, which costs one more event at worst.
type counter struct {
	mu sync.Mutex
	n  map[types.UID]int
}

func (c *counter) of(uid types.UID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[uid]
}

func (c *counter) set(uid types.UID, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[types.UID]int{}
	}
	if n == 0 {
		delete(c.n, uid)
		return
	}
	c.n[uid] = n
}

// damper slows down a fight over an output. A change by hand is repaired at once;
// whoever undoes every repair is answered ever more slowly.
type damper struct {
	mu      sync.Mutex
	repairs map[types.UID]repairs
}

type repairs struct {
	n    int // in a row, each soon after the one before
	last time.Time
}

const (
	freeRepairs = 5                // that are done at once
	calm        = 10 * time.Second // without a repair ends a fight that is not yet slowed down
	maxDamping  = time.Minute
)

// wait is how long to leave the resource alone. A changed spec is never made to
// wait.
func (d *damper) wait(akvs *v2beta1.AzureKeyVaultSecret, now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.repairs[akvs.UID]
	if akvs.Status.ObservedGeneration != akvs.Generation {
		return 0
	}
	return max(r.last.Add(r.delay()).Sub(now), 0)
}

// delay doubles with every repair beyond the free ones.
func (r repairs) delay() time.Duration {
	if r.n < freeRepairs {
		return 0
	}
	return min(time.Second<<min(r.n-freeRepairs, 10), maxDamping)
}

// note takes a decision's writes for repairs if they bring no other version and no
// other spec.
func (d *damper) note(akvs *v2beta1.AzureKeyVaultSecret, in plan.Intent, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.repairs[akvs.UID]
	repaired := len(in.Writes) > 0 && akvs.Status.ObjectVersion == in.Status.ObjectVersion && akvs.Status.ObservedGeneration == akvs.Generation
	switch {
	case repaired && now.Sub(r.last) < calm+2*r.delay():
		r = repairs{r.n + 1, now}
	case repaired:
		r = repairs{1, now}
	case now.Sub(r.last) >= calm+2*r.delay():
		delete(d.repairs, akvs.UID)
		return
	}
	if d.repairs == nil {
		d.repairs = map[types.UID]repairs{}
	}
	d.repairs[akvs.UID] = r
}

func (d *damper) forget(uid types.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.repairs, uid)
}

// pacer bounds how fast resources are said to be worse than they were, lest an outage or
// a permission withdrawn from ten thousand of them is a storm for the API server. Each
// that has to wait is told for how long, and then has its turn.
type pacer struct {
	limit *rate.Limiter

	mu    sync.Mutex
	turns map[types.UID]time.Time
}

func newPacer(perSecond int) *pacer {
	return &pacer{limit: rate.NewLimiter(rate.Limit(perSecond), perSecond), turns: map[types.UID]time.Time{}}
}

// wait is zero for one whose turn it is.
func (p *pacer) wait(uid types.UID, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	turn, waits := p.turns[uid]
	if !waits {
		turn = now.Add(p.limit.ReserveN(now, 1).DelayFrom(now))
	}
	if wait := turn.Sub(now); wait > 0 {
		p.turns[uid] = turn
		return wait
	}
	delete(p.turns, uid)
	return 0
}

func (p *pacer) forget(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.turns, uid)
}
