// SPDX-License-Identifier: Apache-2.0

package reader

import (
	"container/list"
	"sync"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// maxCachedBytes bounds what is kept for an outage: 2,500 secrets of the largest
// size that Key Vault takes, and many times more of the usual ones.
const maxCachedBytes = 64 << 20

// cache holds the last good answer to each read, for when the vault gives none.
type cache struct {
	maxAge time.Duration

	mu    sync.Mutex
	kept  map[vault.Reference]*list.Element // of kept
	order *list.List                        // the oldest first
	bytes int
	asked map[vault.Reference]*asked // while a read is under way
}

type kept struct {
	ref    vault.Reference
	object vault.Object
	at     time.Time   // when it was asked for
	end    *time.Timer // lets go of a value that is too old to be given
}

// asked are the reads of one object that are under way: a late answer must not take
// the place of a newer one, least of all of a refusal.
type asked struct {
	reads    int
	answered time.Time // when the newest was asked for that has an answer
}

func newCache(maxAge time.Duration) *cache {
	return &cache{
		maxAge: maxAge, kept: map[vault.Reference]*list.Element{}, order: list.New(), asked: map[vault.Reference]*asked{},
	}
}

// ask announces a read, which learn ends.
func (c *cache) ask(ref vault.Reference) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked[ref] == nil {
		c.asked[ref] = &asked{}
	}
	c.asked[ref].reads++
}

// learn enters what a read gave that was asked for at a time.
//
//	an answer                                    is kept
//	no answer, 5xx, 429                          changes nothing
//	401, 403, 404, disabled, and other verdicts  what was kept is forgotten
func (c *cache) learn(ref vault.Reference, at time.Time, obj vault.Object, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.asked[ref]
	if a.reads--; a.reads == 0 {
		delete(c.asked, ref)
	}
	if vault.IsOutage(err) || at.Before(a.answered) {
		return
	}
	a.answered = at
	c.drop(ref)
	if left := c.maxAge - time.Since(at); err == nil && left > 0 {
		c.keep(kept{ref, obj, at, time.AfterFunc(left, func() { c.forget(ref, at) })})
	}
}

// keep is called with the lock held.
func (c *cache) keep(k kept) {
	c.kept[k.ref] = c.order.PushBack(k)
	c.bytes += size(k.object)
	for c.bytes > maxCachedBytes {
		c.drop(c.order.Front().Value.(kept).ref)
	}
}

// get is what was kept, unless that is too old or was asked for before since.
func (c *cache) get(ref vault.Reference, since time.Time) (vault.Object, time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.kept[ref]
	if !ok {
		return vault.Object{}, 0, false
	}
	k := element.Value.(kept)
	age := time.Since(k.at)
	if age > c.maxAge || k.at.Before(since) {
		return vault.Object{}, 0, false
	}
	return k.object, age, true
}

// forget lets go of what was asked for at a time.
func (c *cache) forget(ref vault.Reference, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.kept[ref]; ok && element.Value.(kept).at.Equal(at) {
		c.drop(ref)
	}
}

// drop is called with the lock held.
func (c *cache) drop(ref vault.Reference) {
	if element, ok := c.kept[ref]; ok {
		k := c.order.Remove(element).(kept)
		k.end.Stop()
		c.bytes -= size(k.object)
		delete(c.kept, ref)
	}
}

// size is roughly what an object takes, its administration included.
func size(obj vault.Object) int {
	const administration = 512
	return administration + obj.Value.Len() + len(obj.Certificate)
}
