// SPDX-License-Identifier: Apache-2.0

package reader_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/reader"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/internal/vault/vaulttest"
)

// TestReaderKeepsTheContract with a new Reader after each fault: the old one would
// leave the vault alone for a while.
func TestReaderKeepsTheContract(t *testing.T) {
	vaulttest.RunContract(t, func(t *testing.T) vaulttest.Stage {
		t.Helper()
		stage := vaulttest.NewStage(t)
		source, breakSource := stage.Reader, stage.Break
		renewed := &renewable{Source: reader.New(source, reader.Options{})}
		stage.Reader = renewed
		stage.Break = func(fault vaulttest.Fault, retryAfter time.Duration) {
			breakSource(fault, retryAfter)
			renewed.Source = reader.New(source, reader.Options{})
		}
		return stage
	})
}

type renewable struct{ vault.Source }

func TestIdenticalReadsAreOne(t *testing.T) {
	story(t, reader.Options{}, func(w *world) {
		t := w.t
		release := w.holding()
		upper := object("A")
		upper.Vault = "KV"
		reads := []*asked{w.ask(t.Context(), object("a")), w.ask(t.Context(), object("a")), w.ask(t.Context(), upper)}
		synctest.Wait()
		release()
		for _, read := range reads {
			if got := read.value(t); got != "1" {
				t.Errorf("got %q, want 1", got)
			}
		}
		if w.count() != 1 || w.shared != 2 {
			t.Errorf("%d requests and %d shared, want 1 and 2", w.count(), w.shared)
		}
		w.value(t, t.Context(), object("a"))
		if w.count() != 2 {
			t.Error("without a window an answer was given again")
		}
	})
}

// TestAnswersAreSharedForAMoment, counted from when they were asked for: so long may a
// withdrawn permission go unnoticed.
func TestAnswersAreSharedForAMoment(t *testing.T) {
	for name, tc := range map[string]struct {
		after time.Duration // from when the first was asked for
		since time.Duration // the same; below zero is not demanded
		want  string
	}{
		"Young":           {after: 9 * time.Second, since: -1, want: "1"},
		"Old":             {after: 11 * time.Second, since: -1, want: "2"},
		"YoungEnough":     {after: 9 * time.Second, since: 0, want: "1"},
		"AskedBefore":     {after: 9 * time.Second, since: time.Second, want: "2"},
		"StillUnderWay":   {after: time.Second, since: -1, want: "1"},
		"NotThisUnderWay": {after: time.Second, since: time.Second, want: "2"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, reader.Options{ShareWindow: 10 * time.Second}, func(w *world) {
				t := w.t
				w.takes = 2 * time.Second
				began := time.Now()
				first := w.ask(t.Context(), object("a"))
				time.Sleep(tc.after)
				if tc.after > w.takes {
					first.value(t)
					w.fake.Put(object("a"), vault.Object{Value: secret.New([]byte("2"))})
				}
				ctx := t.Context()
				if tc.since >= 0 {
					ctx = vault.WithDemand(ctx, vault.Demand{Since: began.Add(tc.since)})
				}
				got := w.value(t, ctx, object("a"))
				if tc.after > w.takes && got != tc.want {
					t.Errorf("got %q, want %q", got, tc.want)
				}
				first.value(t)
				if got := fmt.Sprint(w.count()); got != tc.want {
					t.Errorf("%s requests, want %s", got, tc.want)
				}
			})
		})
	}
}

func TestFailuresAreNotSharedAfterwards(t *testing.T) {
	story(t, reader.Options{ShareWindow: time.Minute}, func(w *world) {
		t := w.t
		w.failing(vault.ErrForbidden)
		if _, err := w.Read(t.Context(), object("a")); !errors.Is(err, vault.ErrForbidden) {
			t.Errorf("got %v", err)
		}
		w.failing(nil)
		if got := w.value(t, t.Context(), object("a")); got != "1" {
			t.Errorf("got %q", got)
		}
	})
}

// TestLeaving: who leaves takes the answer from nobody; when all have left the request
// is ended, and whoever comes then gets one of its own.
func TestLeaving(t *testing.T) {
	story(t, reader.Options{ShareWindow: time.Minute}, func(w *world) {
		t := w.t
		release := w.holding()
		ctx, cancel := context.WithCancel(t.Context())
		first, second := w.ask(ctx, object("a")), w.ask(t.Context(), object("a"))
		synctest.Wait()
		cancel()
		<-first.done
		if !errors.Is(first.err, context.Canceled) || !errors.Is(first.err, vault.ErrUnavailable) {
			t.Errorf("who left got %v", first.err)
		}
		release()
		second.value(t)
		if w.count() != 1 {
			t.Errorf("%d requests, want 1", w.count())
		}
	})
	story(t, reader.Options{ShareWindow: time.Minute}, func(w *world) {
		t := w.t
		release := w.holding()
		ctx, cancel := context.WithCancel(t.Context())
		first := w.ask(ctx, object("a"))
		synctest.Wait()
		cancel()
		<-first.done
		third := w.ask(t.Context(), object("a")) // while the first is being cancelled
		synctest.Wait()
		if n := w.busy(); n != 1 {
			t.Errorf("%d requests under way, want the new one alone", n)
		}
		release()
		third.value(t)
		if w.count() != 2 {
			t.Errorf("%d requests, want 2: an abandoned one must not be joined", w.count())
		}
	})
}

// TestLeavingTheLine: who waits for a turn and leaves neither takes it nor holds it up.
func TestLeavingTheLine(t *testing.T) {
	story(t, reader.Options{Rate: 1, Burst: 1}, func(w *world) {
		t := w.t
		began := time.Now()
		w.value(t, t.Context(), object("a"))
		ctx, cancel := context.WithCancel(t.Context())
		quitter := w.ask(ctx, object("b"))
		synctest.Wait()
		last := w.ask(t.Context(), object("a"))
		synctest.Wait()
		cancel()
		<-quitter.done
		last.value(t)
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("the one behind went after %v, want 1s", waited)
		}
	})
}

// TestTurnAndLeaveAtOnce: a turn that comes in the moment in which its owner leaves is
// given back.
func TestTurnAndLeaveAtOnce(t *testing.T) {
	story(t, reader.Options{Rate: 100, Burst: 1}, func(w *world) {
		t := w.t
		for range 50 {
			var all sync.WaitGroup
			for i := range 4 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*10)*time.Millisecond)
				defer cancel()
				all.Go(func() { _, _ = w.Read(ctx, object(fmt.Sprint("x", i))) })
			}
			all.Wait()
		}
		time.Sleep(time.Second)
		for i := range 10 { // all ten places are there
			release := w.holding()
			reads := make([]*asked, 0, 10)
			for j := range 10 {
				reads = append(reads, w.ask(t.Context(), object(fmt.Sprint("y", i, "-", j))))
			}
			time.Sleep(time.Second)
			if n := w.busy(); n != 10 {
				t.Fatalf("%d under way, want 10", n)
			}
			release()
			for _, read := range reads {
				<-read.done
			}
		}
	})
}

// TestPanic: it fails the read that met it, and those who wait for the same.
func TestPanic(t *testing.T) {
	story(t, reader.Options{}, func(w *world) {
		t := w.t
		w.set(func(w *world) { w.fail = func() error { panic("s3cret") } })
		_, err := w.Read(t.Context(), object("a"))
		if !errors.Is(err, vault.ErrUnavailable) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("a read got %v", err)
		}
		if _, err := w.List(t.Context(), object("").Collection(), ""); !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("a list got %v", err)
		}
		w.failing(nil)
		if got := w.value(t, t.Context(), object("a")); got != "1" {
			t.Errorf("then got %q", got)
		}
	})
}

// TestManyVaults: invented names take no memory for good, and do not buy a vault a new
// budget.
func TestManyVaults(t *testing.T) {
	story(t, reader.Options{Rate: 1, Burst: 5}, func(w *world) {
		t := w.t
		for range 5 {
			w.value(t, t.Context(), object("a"))
		}
		for i := range 10_000 {
			_, _ = w.Read(t.Context(), vault.Reference{Vault: fmt.Sprint("invented-", i), Kind: vault.KindSecret, Name: "a"})
			if i%500 == 0 {
				time.Sleep(time.Second) // their budgets fill again
			}
		}
		if n := w.Gates(); n > 1_600 {
			t.Errorf("%d gates are kept", n)
		}
		if n := w.Flights(); n != 0 {
			t.Errorf("%d flights are kept", n)
		}
	})
	story(t, reader.Options{Rate: 0.001, Burst: 1}, func(w *world) {
		t := w.t
		w.value(t, t.Context(), object("a"))
		for i := range 1_500 {
			_, _ = w.Read(t.Context(), vault.Reference{Vault: fmt.Sprint("invented-", i), Kind: vault.KindSecret, Name: "a"})
		}
		began := time.Now()
		w.value(t, t.Context(), object("a"))
		if waited := time.Since(began); waited < 900*time.Second {
			t.Errorf("the second read went after %v: the budget was forgotten", waited)
		}
	})
}
