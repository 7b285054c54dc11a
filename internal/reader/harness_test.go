// SPDX-License-Identifier: Apache-2.0

package reader_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/reader"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/internal/vault/vaulttest"
)

// world is a Reader over a fake vault that takes its time, and what came of it.
type world struct {
	*reader.Reader

	t    *testing.T
	fake *vaulttest.Reader

	mu      sync.Mutex
	takes   time.Duration // how long a request takes
	hold    chan struct{} // what each request waits for; nil is nothing
	fail    func() error  // what each request fails with; nil is nothing
	sent    []sent
	flying  int
	most    int // the most at once
	shared  int
	held    int
	cached  []time.Duration
	restful []rest
}

// sent is a request that reached the vault.
type sent struct {
	ref      vault.Reference
	at       time.Time
	priority vault.Priority
}

type rest struct {
	d     time.Duration
	asked bool
}

func newWorld(t *testing.T, o reader.Options) *world {
	t.Helper()
	w := &world{t: t, fake: vaulttest.NewReader("kv")}
	w.fake.Put(object("a"), vault.Object{Value: secret.New([]byte("1"))})
	w.fake.Before(w.meet)
	o.Metrics = w
	w.Reader = reader.New(w.fake, o)
	return w
}

// meet is at the beginning of every request.
func (w *world) meet(ctx context.Context, ref vault.Reference) error {
	w.mu.Lock()
	w.sent = append(w.sent, sent{ref, time.Now(), vault.DemandOf(ctx).Priority})
	w.flying++
	w.most = max(w.most, w.flying)
	takes, hold, fail := w.takes, w.hold, w.fail
	w.mu.Unlock()
	defer w.set(func(w *world) { w.flying-- })
	if takes > 0 {
		select {
		case <-ctx.Done():
			return errors.Join(vault.ErrUnavailable, ctx.Err())
		case <-time.After(takes):
		}
	}
	if hold != nil {
		select {
		case <-ctx.Done():
			return errors.Join(vault.ErrUnavailable, ctx.Err())
		case <-hold:
		}
	}
	if fail != nil {
		return fail()
	}
	return nil
}

func (w *world) set(change func(*world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

// failing has requests fail from now on; nil ends it.
func (w *world) failing(err error) {
	w.set(func(w *world) {
		w.fail = func() error { return err }
		if err == nil {
			w.fail = nil
		}
	})
}

// holding has requests wait until release is called.
func (w *world) holding() func() {
	hold := make(chan struct{})
	w.set(func(w *world) { w.hold = hold })
	return func() {
		w.set(func(w *world) { w.hold = nil })
		close(hold)
	}
}

func (w *world) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.sent)
}

func (w *world) busy() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flying
}

func (w *world) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, s := range w.sent {
		out = append(out, s.ref.Name)
	}
	return out
}

func (w *world) rests() []rest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.restful)
}

func (w *world) Shared()     { w.set(func(w *world) { w.shared++ }) }
func (w *world) Held(string) { w.set(func(w *world) { w.held++ }) }

func (w *world) Resting(_ string, d time.Duration, asked bool) {
	w.set(func(w *world) { w.restful = append(w.restful, rest{d, asked}) })
}

func (w *world) Cached(age time.Duration) {
	w.set(func(w *world) { w.cached = append(w.cached, age) })
}

func object(name string) vault.Reference {
	return vault.Reference{Vault: "kv", Kind: vault.KindSecret, Name: name}
}

func demanding(ctx context.Context, p vault.Priority) context.Context {
	return vault.WithDemand(ctx, vault.Demand{Priority: p})
}

// asked is a read in the background.
type asked struct {
	done chan struct{}
	obj  vault.Object
	err  error
}

func (w *world) ask(ctx context.Context, ref vault.Reference) *asked {
	a := &asked{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.obj, a.err = w.Read(ctx, ref)
	}()
	return a
}

func (a *asked) value(t *testing.T) string {
	t.Helper()
	<-a.done
	if a.err != nil {
		t.Errorf("a read failed: %v", a.err)
	}
	return string(a.obj.Value.Reveal())
}

func (w *world) value(t *testing.T, ctx context.Context, ref vault.Reference) string { //nolint:revive // as testing.T's own helpers have it
	t.Helper()
	return w.ask(ctx, ref).value(t)
}

// refused reads what must fail at once, and returns how.
func (w *world) refused(t *testing.T, ctx context.Context) error { //nolint:revive // as above
	t.Helper()
	began, before := time.Now(), w.count()
	_, err := w.Read(ctx, object("a"))
	if err == nil || time.Since(began) != 0 || w.count() != before {
		t.Errorf("got %v after %v and %d requests, want a failure at once", err, time.Since(began), w.count()-before)
	}
	return err
}

// near says whether a wait is one that was shortened by up to a fifth.
func near(got, want time.Duration) bool { return got <= want && got >= want*8/10 }

// story runs a test in virtual time.
func story(t *testing.T, o reader.Options, tell func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { tell(newWorld(t, o)) })
}
