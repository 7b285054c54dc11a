// SPDX-License-Identifier: Apache-2.0

package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/sweep"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/internal/vault/vaulttest"
)

const interval = 30 * time.Second

// world is a Sweeper over a fake vault, and followers that look when they are woken and
// at no other time.
type world struct {
	*sweep.Sweeper

	t    *testing.T
	fake *vaulttest.Reader
	read vault.Reader // what followers read from

	mu      sync.Mutex
	watched map[string][]vault.Reference
	seen    map[string]map[vault.Reference]string // by follower: what it read last
	turns   map[string]chan struct{}              // one look of a follower at a time
	woken   []string
	looks   int // of followers, that cost a read
	hidden  map[string]bool
	sweeps  int
	requests
}

// requests are those that reached the vault.
type requests struct {
	takes  time.Duration
	fail   func(vault.Reference) error
	reads  []request // by the Sweeper
	lists  []request
	flying int
	most   int
}

type request struct {
	ref vault.Reference
	at  time.Time
}

func newWorld(t *testing.T, o sweep.Options, through func(vault.Source) vault.Source) *world {
	t.Helper()
	w := &world{
		t: t, fake: vaulttest.NewReader("kv"), watched: map[string][]vault.Reference{},
		seen: map[string]map[vault.Reference]string{}, turns: map[string]chan struct{}{}, hidden: map[string]bool{},
	}
	w.fake.Before(w.meet)
	source := vault.Source(w)
	if through != nil {
		source = through(w)
	}
	w.read = source
	o.Wake = w.wake
	o.Swept = func(vault.Collection, time.Duration) { w.set(func(w *world) { w.sweeps++ }) }
	if o.StaleAfter == 0 {
		o.StaleAfter, o.StaleRate = 3, 1000
	}
	w.Sweeper = sweep.New(source, o)
	return w
}

// story runs a test in virtual time, with the Sweeper running.
func story(t *testing.T, tell func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sweep.Options{}, nil)
		w.run(t)
		tell(w)
	})
}

// run runs the Sweeper until the test ends.
func (w *world) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// Read and List are what the vault is reached through.
func (w *world) Read(ctx context.Context, ref vault.Reference) (vault.Object, error) {
	return w.fake.Read(ctx, ref)
}

func (w *world) List(ctx context.Context, of vault.Collection, next string) (vault.Page, error) {
	page, err := w.fake.List(ctx, of, next)
	w.mu.Lock()
	defer w.mu.Unlock()
	page.Items = slices.DeleteFunc(page.Items, func(p vault.Properties) bool { return w.hidden[p.Name] })
	return page, err
}

func (w *world) meet(ctx context.Context, ref vault.Reference) error {
	w.mu.Lock()
	defer func() { w.set(func(w *world) { w.flying-- }) }()
	switch {
	case ref.Name == "":
		w.lists = append(w.lists, request{ref, time.Now()})
	case vault.DemandOf(ctx).Priority == vault.Sweep:
		w.reads = append(w.reads, request{ref, time.Now()})
	default:
		w.looks++
	}
	w.flying++
	w.most = max(w.most, w.flying)
	takes, fail := w.takes, w.fail
	w.mu.Unlock()
	if takes > 0 {
		select {
		case <-ctx.Done():
			return errors.Join(vault.ErrUnavailable, ctx.Err())
		case <-time.After(takes):
		}
	}
	if fail != nil {
		return fail(ref)
	}
	return nil
}

func (w *world) set(change func(*world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

// failing has all requests fail, or with lists alone those.
func (w *world) failing(err error, listsAlone bool) {
	w.set(func(w *world) {
		w.fail = func(ref vault.Reference) error {
			if listsAlone && ref.Name != "" {
				return nil
			}
			return err
		}
	})
}

// counts are the requests so far: lists, reads by the Sweeper and by followers.
func (w *world) counts() (int, int, int) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.lists), len(w.reads), w.looks
}

// made are the reads by the Sweeper so far.
func (w *world) made() []request {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.reads)
}

func (w *world) swept() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sweeps
}

func (w *world) reset() {
	synctest.Wait()
	w.set(func(w *world) { w.lists, w.reads, w.looks, w.woken, w.sweeps = nil, nil, 0, nil, 0 })
}

// heard is how often each follower was woken.
func (w *world) heard() map[string]int {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]int{}
	for _, who := range w.woken {
		out[who]++
	}
	return out
}

func (w *world) sees(who string, ref vault.Reference) string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[who][ref]
}

// follow has somebody watch references, and look at them at once.
func (w *world) follow(who string, every time.Duration, refs ...vault.Reference) {
	watches := make([]vault.Watch, 0, len(refs))
	for _, ref := range refs {
		watches = append(watches, vault.Watch{Reference: ref, Every: every})
	}
	w.set(func(w *world) {
		w.watched[who] = refs
		if w.turns[who] == nil {
			w.turns[who], w.seen[who] = make(chan struct{}, 1), map[vault.Reference]string{}
		}
	})
	w.Follow(who, watches)
	w.look(who)
}

func (w *world) wake(who string) {
	w.set(func(w *world) { w.woken = append(w.woken, who) })
	go w.look(who)
}

// look reads what somebody watches, where what it has read before will not do. It tries
// once.
func (w *world) look(who string) {
	w.mu.Lock()
	turn, refs := w.turns[who], w.watched[who]
	w.mu.Unlock()
	if turn == nil {
		return // it follows nothing yet
	}
	turn <- struct{}{}
	defer func() { <-turn }()
	for _, ref := range refs {
		known := w.Known(who, ref)
		w.mu.Lock()
		had := w.seen[who][ref]
		w.mu.Unlock()
		if had != "" && known.Since.IsZero() {
			continue
		}
		asked := time.Now()
		if !known.Since.IsZero() {
			asked = known.Since // the answer may be shared
		}
		obj, err := w.read.Read(vault.WithDemand(w.t.Context(), vault.Demand{Priority: vault.Change, Since: known.Since}), ref)
		if !vault.IsOutage(err) {
			w.set(func(w *world) { w.seen[who][ref] = seen(obj, err) })
		}
		w.Saw(who, ref, asked, obj, err)
	}
}

func seen(obj vault.Object, err error) string {
	if err != nil {
		return err.Error()
	}
	return obj.Version + " of " + obj.Updated.Format(time.TimeOnly)
}

// truth is what the vault has now.
func (w *world) truth(ref vault.Reference) string {
	w.fake.Before(nil)
	defer w.fake.Before(w.meet)
	return seen(w.fake.Read(w.t.Context(), ref))
}

func object(name string) vault.Reference {
	return vault.Reference{Vault: "kv", Kind: vault.KindSecret, Name: name}
}

// fill puts secrets x-0000 and so on into the vault, long ago.
func (w *world) fill(n int) []vault.Reference {
	refs := make([]vault.Reference, n)
	for i := range refs {
		refs[i] = object(fmt.Sprintf("x-%04d", i))
		w.put(refs[i], time.Now().Add(-time.Hour))
	}
	return refs
}

var versions struct {
	sync.Mutex
	last int
}

func (w *world) put(ref vault.Reference, at time.Time) {
	versions.Lock()
	defer versions.Unlock()
	versions.last++
	w.fake.Put(ref, vault.Object{
		Version: fmt.Sprintf("%032x", versions.last), Value: secret.New([]byte(strings.Repeat("v", versions.last%7))), Updated: at.Truncate(time.Second),
	})
}

func (w *world) change(ref vault.Reference) { w.put(ref, time.Now()) }
