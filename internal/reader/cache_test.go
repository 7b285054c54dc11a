// SPDX-License-Identifier: Apache-2.0

package reader_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/reader"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

func withTimeout(ctx context.Context, d time.Duration) (context.Context, func()) {
	return context.WithTimeout(ctx, d)
}

// TestCachedWhen: only a vault that does not answer is stood in for. A verdict stands,
// and what was kept is forgotten.
func TestCachedWhen(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		cached bool
	}{
		"Unavailable": {vault.ErrUnavailable, true},
		"Throttled":   {vault.Throttled{RetryAfter: time.Second}, true},
		"Timeout":     {fmt.Errorf("%w: %w", vault.ErrUnavailable, context.DeadlineExceeded), true},
		"Odd":         {errors.New("odd"), true},
		"Forbidden":   {vault.ErrForbidden, false},
		"Firewall":    {vault.ErrFirewall, false},
		"SignIn":      {vault.ErrSignIn, false},
		"NotFound":    {vault.ErrNotFound, false},
		"NoVault":     {vault.ErrNoVault, false},
		"Disabled":    {vault.ErrDisabled, false},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, reader.Options{CachedMaxAge: time.Hour}, func(w *world) {
				t := w.t
				w.value(t, t.Context(), object("a"))
				time.Sleep(time.Minute)
				w.failing(tc.err)
				obj, err := w.Read(t.Context(), object("a"))
				if got := err == nil && string(obj.Value.Reveal()) == "1"; got != tc.cached {
					t.Errorf("got %v", err)
				}
				if !tc.cached && !errors.Is(err, tc.err) {
					t.Errorf("got %v, want %v", err, tc.err)
				}
				if tc.cached && (len(w.cached) != 1 || w.cached[0] != time.Minute) {
					t.Errorf("heard of %v", w.cached)
				}
				time.Sleep(time.Minute)
				w.failing(vault.ErrUnavailable)
				if _, err := w.Read(t.Context(), object("a")); (err == nil) != tc.cached {
					t.Errorf("then got %v: a verdict must end what is kept", err)
				}
			})
		})
	}
}

// TestCachedWhenTheVaultHangs: a container waits five seconds and no more, and the gate
// hears of a vault that does not answer all the same.
func TestCachedWhenTheVaultHangs(t *testing.T) {
	story(t, reader.Options{CachedMaxAge: time.Hour}, func(w *world) {
		t := w.t
		w.value(t, t.Context(), object("a"))
		w.set(func(w *world) { w.takes = 20 * time.Second })
		w.failing(vault.ErrUnavailable)
		began := time.Now()
		if got := w.value(t, t.Context(), object("a")); got != "1" || time.Since(began) != 5*time.Second {
			t.Errorf("got %q after %s", got, time.Since(began))
		}
		for range 4 {
			time.Sleep(20 * time.Second) // each is a read of its own
			w.value(t, t.Context(), object("a"))
		}
		time.Sleep(20 * time.Second)
		if got := w.rests(); len(got) == 0 {
			t.Error("the vault was never left alone")
		}
		w.set(func(w *world) { w.takes = 0 })
		w.failing(vault.ErrForbidden)
		time.Sleep(20 * time.Second)
		if _, err := w.Read(t.Context(), object("a")); !errors.Is(err, vault.ErrForbidden) {
			t.Errorf("got %v: what it refuses is refused", err)
		}
	})
}

func TestCachedWhileResting(t *testing.T) {
	story(t, reader.Options{CachedMaxAge: time.Hour}, func(w *world) {
		t := w.t
		w.value(t, t.Context(), object("a"))
		w.failing(vault.Throttled{RetryAfter: time.Minute})
		for range 3 {
			if got := w.value(t, t.Context(), object("A")); got != "1" {
				t.Errorf("got %q", got)
			}
		}
		if w.count() != 2 {
			t.Errorf("%d requests, want 2", w.count())
		}
	})
}

// TestCachedNotFor whoever has left, demands a newer answer, or comes too late.
func TestCachedNotFor(t *testing.T) {
	story(t, reader.Options{CachedMaxAge: time.Hour}, func(w *world) {
		t := w.t
		w.value(t, t.Context(), object("a"))
		time.Sleep(time.Minute)
		w.failing(vault.ErrUnavailable)
		newer := vault.WithDemand(t.Context(), vault.Demand{Since: time.Now()})
		if _, err := w.Read(newer, object("a")); !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("who demands a newer one got %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		release := w.holding()
		leaving := w.ask(ctx, object("a"))
		synctest.Wait()
		cancel()
		<-leaving.done
		release()
		if !errors.Is(leaving.err, context.Canceled) {
			t.Errorf("who left got %v", leaving.err)
		}
		time.Sleep(time.Hour)
		if _, err := w.Read(t.Context(), object("a")); err == nil {
			t.Error("too old a value was given")
		}
	})
}

// TestNothingOutlivesAVerdict: neither an answer that was asked for before it and came
// later, nor one that is shared.
func TestNothingOutlivesAVerdict(t *testing.T) {
	story(t, reader.Options{CachedMaxAge: time.Hour, ShareWindow: time.Minute}, func(w *world) {
		t := w.t
		release := w.holding()
		late := w.ask(t.Context(), object("a"))
		synctest.Wait()
		w.set(func(w *world) { w.hold = nil })
		time.Sleep(time.Second)
		w.failing(vault.ErrForbidden)
		newer := vault.WithDemand(t.Context(), vault.Demand{Since: time.Now()})
		if _, err := w.Read(newer, object("a")); !errors.Is(err, vault.ErrForbidden) {
			t.Errorf("the newer got %v", err)
		}
		w.failing(nil)
		release()
		late.value(t)
		w.failing(vault.ErrUnavailable)
		if _, err := w.Read(t.Context(), object("a")); err == nil {
			t.Error("an answer from before the verdict was kept")
		}
	})
}

// TestCacheIsBounded in bytes and in time.
func TestCacheIsBounded(t *testing.T) {
	story(t, reader.Options{CachedMaxAge: time.Hour}, func(w *world) {
		t := w.t
		large := bytes.Repeat([]byte("x"), 1<<20)
		for i := range 100 {
			name := fmt.Sprint("x", i)
			w.fake.Put(object(name), vault.Object{Value: secret.New(large)})
			_, _ = w.Read(t.Context(), object(name))
			_, _ = w.Read(t.Context(), object(name))
		}
		answers, size, reads := w.Kept()
		if size > reader.MaxCachedBytes || size < reader.MaxCachedBytes/2 || answers > 64 || reads != 0 {
			t.Errorf("%d answers of %d bytes, %d reads", answers, size, reads)
		}
		w.failing(vault.ErrUnavailable)
		if _, err := w.Read(t.Context(), object("x99")); err != nil {
			t.Error("the newest was not kept")
		}
		if _, err := w.Read(t.Context(), object("x0")); err == nil {
			t.Error("the oldest was kept")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if answers, size, _ := w.Kept(); answers != 0 || size != 0 {
			t.Errorf("after the longest age %d answers of %d bytes are kept", answers, size)
		}
	})
}
