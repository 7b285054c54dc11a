// SPDX-License-Identifier: Apache-2.0

package reader_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/akv2k8s/akv2k8s/internal/reader"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// TestUrgentFirst: pod starts before changes before sweeps, but every fourth turn is the
// oldest one's.
func TestUrgentFirst(t *testing.T) {
	story(t, reader.Options{Rate: 1, Burst: 1}, func(w *world) {
		t := w.t
		w.value(t, t.Context(), object("a")) // the first turn, which takes the budget
		var reads []*asked
		for i, p := range []vault.Priority{vault.Sweep, vault.Sweep, vault.Change, vault.PodStart, vault.PodStart, vault.Change, vault.PodStart} {
			reads = append(reads, w.ask(demanding(t.Context(), p), object(fmt.Sprint(p, "-", i))))
			synctest.Wait()
		}
		for _, read := range reads {
			<-read.done
		}
		want := []string{"a", "2-3", "2-4", "0-0", "2-6", "1-2", "1-5", "0-1"}
		if diff := cmp.Diff(want, w.names()); diff != "" {
			t.Errorf("the order (-want +got):\n%s", diff)
		}
	})
}

// TestNobodyStarves: whatever comes, a sweep that waits has its turn.
func TestNobodyStarves(t *testing.T) {
	story(t, reader.Options{Rate: 10, Burst: 1}, func(w *world) {
		t := w.t
		w.value(t, t.Context(), object("a"))
		began := time.Now()
		var all sync.WaitGroup
		for i := range 400 { // twice what the budget allows
			all.Go(func() {
				time.Sleep(time.Duration(i) * 50 * time.Millisecond)
				_, _ = w.Read(demanding(t.Context(), vault.PodStart), object(fmt.Sprint("pod-", i)))
			})
		}
		time.Sleep(time.Second)
		_, _ = w.Read(t.Context(), object("sweep"))
		if waited := time.Since(began); waited > 10*time.Second {
			t.Errorf("the sweep waited for %v", waited)
		}
		all.Wait()
	})
}

// TestPromotion: a sweep that a pod start waits for goes like a pod start.
func TestPromotion(t *testing.T) {
	story(t, reader.Options{Rate: 1, Burst: 1}, func(w *world) {
		t := w.t
		w.value(t, t.Context(), object("a"))
		var reads []*asked
		for _, name := range []string{"x", "y"} {
			reads = append(reads, w.ask(t.Context(), object(name)))
			synctest.Wait()
		}
		reads = append(reads, w.ask(demanding(t.Context(), vault.PodStart), object("y")))
		for _, read := range reads {
			<-read.done
		}
		if diff := cmp.Diff([]string{"a", "y", "x"}, w.names()); diff != "" {
			t.Errorf("the order (-want +got):\n%s", diff)
		}
	})
}

// TestBudget: whatever is asked for and however long answers take, a vault gets no more
// than the budget in any span of time, and ten at a time; and nothing is lost.
func TestBudget(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var (
			perSecond = rapid.IntRange(1, 50).Draw(rt, "rate")
			burst     = rapid.IntRange(1, 60).Draw(rt, "burst")
			takes     = rapid.IntRange(0, 2000).Draw(rt, "takes")
			starts    = rapid.SliceOfN(rapid.IntRange(0, 5000), 1, 200).Draw(rt, "starts")
			patience  = rapid.IntRange(1, 20_000).Draw(rt, "patience")
		)
		story(t, reader.Options{Rate: float64(perSecond), Burst: burst}, func(w *world) {
			t := w.t
			w.takes = time.Duration(takes) * time.Millisecond
			var all sync.WaitGroup
			for i, start := range starts {
				all.Go(func() {
					time.Sleep(time.Duration(start) * time.Millisecond)
					ctx := demanding(t.Context(), vault.Priority(i%3))
					if i%5 == 0 {
						var cancel func()
						ctx, cancel = withTimeout(ctx, time.Duration(patience)*time.Millisecond)
						defer cancel()
					}
					_, err := w.Read(ctx, object(fmt.Sprint("x", i)))
					if i%5 != 0 && !errors.Is(err, vault.ErrNotFound) {
						t.Errorf("read %d: %v", i, err)
					}
				})
			}
			all.Wait()
			synctest.Wait()
			if w.most > 10 {
				t.Errorf("%d at once", w.most)
			}
			for i, first := range w.sent {
				for j, last := range w.sent[i:] {
					span := last.at.Sub(first.at).Seconds()
					if limit := float64(burst) + float64(perSecond)*span + 1e-6; float64(j+1) > limit {
						t.Fatalf("%d requests within %.3fs, at most %.2f may be", j+1, span, limit)
					}
				}
			}
		})
	})
}

// TestTenAtOnce counts lists and reads together.
func TestTenAtOnce(t *testing.T) {
	story(t, reader.Options{}, func(w *world) {
		t := w.t
		w.takes = time.Second
		began := time.Now()
		var all sync.WaitGroup
		for i := range 25 {
			all.Go(func() { _, _ = w.Read(t.Context(), object(fmt.Sprint("x", i))) })
			all.Go(func() { _, _ = w.List(t.Context(), object("").Collection(), "") })
		}
		all.Wait()
		if took := time.Since(began); w.most != 10 || took != 5*time.Second {
			t.Errorf("%d at once and %v in all, want 10 and 5s", w.most, took)
		}
	})
}

// TestAnAskedForPause is kept by everybody, to the second, and said to everybody.
func TestAnAskedForPause(t *testing.T) {
	story(t, reader.Options{}, func(w *world) {
		t := w.t
		w.failing(vault.Throttled{RetryAfter: 30 * time.Second})
		_, err := w.Read(t.Context(), object("a"))
		if diff := cmp.Diff(vault.Throttled{RetryAfter: 30 * time.Second}, err); diff != "" {
			t.Errorf("the first (-want +got):\n%s", diff)
		}
		time.Sleep(10 * time.Second)
		if diff := cmp.Diff(vault.Throttled{RetryAfter: 20 * time.Second}, w.refused(t, t.Context())); diff != "" {
			t.Errorf("the second (-want +got):\n%s", diff)
		}
		if _, err := w.List(t.Context(), object("").Collection(), ""); vault.RetryAfter(err) != 20*time.Second {
			t.Errorf("a list got %v", err)
		}
		other := object("a")
		other.Vault = "other"
		if _, err := w.Read(t.Context(), other); vault.RetryAfter(err) != 30*time.Second {
			t.Errorf("another vault was not asked: %v", err)
		}
		w.failing(nil)
		other.Vault = "KV"
		if _, err := w.Read(t.Context(), other); vault.RetryAfter(err) != 20*time.Second {
			t.Errorf("a name in upper case got around: %v", err)
		}
		time.Sleep(20 * time.Second)
		w.value(t, t.Context(), object("a"))
		if w.held != 3 {
			t.Errorf("%d held, want 3", w.held)
		}
	})
}

// TestRestsGrow to 16 s and start over with an answer. Nobody shortens them by more than
// a fifth.
func TestRestsGrow(t *testing.T) {
	for name, failure := range map[string]error{"Throttled": vault.Throttled{}, "Silent": vault.ErrUnavailable} {
		t.Run(name, func(t *testing.T) {
			story(t, reader.Options{}, func(w *world) {
				t := w.t
				w.failing(failure)
				for w.count() < 4 && failure == vault.ErrUnavailable { //nolint:errorlint // the value itself
					_, _ = w.Read(t.Context(), object("a"))
				}
				for _, seconds := range []int{1, 2, 4, 8, 16, 16} {
					_, _ = w.Read(t.Context(), object("a"))
					want := time.Duration(seconds) * time.Second
					wait := vault.RetryAfter(w.refused(t, t.Context()))
					if !near(wait, want) {
						t.Errorf("a rest of %v, want %v", wait, want)
					}
					time.Sleep(wait)
				}
				w.failing(vault.ErrForbidden) // an answer
				_, _ = w.Read(t.Context(), object("a"))
				w.failing(vault.Throttled{})
				_, _ = w.Read(t.Context(), object("a"))
				if wait := vault.RetryAfter(w.refused(t, t.Context())); !near(wait, time.Second) {
					t.Errorf("after an answer a rest of %v, want 1s", wait)
				}
			})
		})
	}
}

// TestTogetherThrottled: ten that were under way are told the same once.
func TestTogetherThrottled(t *testing.T) {
	story(t, reader.Options{}, func(w *world) {
		t := w.t
		w.failing(vault.Throttled{})
		w.takes = time.Second
		reads := make([]*asked, 0, 15)
		for i := range 15 {
			reads = append(reads, w.ask(t.Context(), object(fmt.Sprint("x", i))))
		}
		for _, read := range reads {
			<-read.done
			if !errors.Is(read.err, vault.ErrUnavailable) {
				t.Errorf("a read got %v", read.err)
			}
		}
		rests := w.rests()
		if len(rests) != 1 || !near(rests[0].d, time.Second) || !rests[0].asked {
			t.Errorf("rests: %v, want one of 1s", rests)
		}
		if w.count() != 10 || w.held != 5 {
			t.Errorf("%d requests and %d held, want 10 and 5", w.count(), w.held)
		}
	})
}

// TestBreaker opens at the fifth silence in a row, and not when there was an answer in
// between.
func TestBreaker(t *testing.T) {
	story(t, reader.Options{}, func(w *world) {
		t := w.t
		w.failing(vault.ErrUnavailable)
		for range 3 {
			for range 4 {
				_, _ = w.Read(t.Context(), object("a"))
			}
			w.failing(nil)
			w.value(t, t.Context(), object("a"))
			w.failing(vault.ErrUnavailable)
		}
		if got := w.rests(); got != nil {
			t.Errorf("rests %v too early", got)
		}
		for range 5 {
			_, _ = w.Read(t.Context(), object("a"))
		}
		if _, resting := errors.AsType[vault.Resting](w.refused(t, t.Context())); !resting {
			t.Error("a rest that was not asked for must not say so")
		}
	})
}

// TestProbe: after a rest one request finds out whether it is over; pod starts wait for
// that, others are sent away.
func TestProbe(t *testing.T) {
	story(t, reader.Options{}, func(w *world) {
		t := w.t
		w.failing(vault.Throttled{RetryAfter: time.Second})
		_, _ = w.Read(t.Context(), object("a"))
		time.Sleep(time.Second)
		w.failing(nil)
		release := w.holding()
		reads := []*asked{w.ask(t.Context(), object("a"))}
		synctest.Wait()
		for i := range 3 {
			reads = append(reads, w.ask(demanding(t.Context(), vault.PodStart), object(fmt.Sprint("pod-", i))))
		}
		synctest.Wait()
		if _, err := w.Read(demanding(t.Context(), vault.Change), object("b")); vault.RetryAfter(err) != time.Second {
			t.Errorf("a change got %v", err)
		}
		if n := w.busy(); n != 1 {
			t.Errorf("%d requests find out whether the rest is over", n)
		}
		release()
		for _, read := range reads {
			<-read.done
		}
		if w.count() != 5 {
			t.Errorf("%d requests, want 5", w.count())
		}
	})
}

// TestProbeIsNotHeldUp by what was sent before the rest and hangs.
func TestProbeIsNotHeldUp(t *testing.T) {
	story(t, reader.Options{}, func(w *world) {
		t := w.t
		release := w.holding()
		hanging := w.ask(t.Context(), object("hangs"))
		synctest.Wait()
		w.set(func(w *world) { w.hold = nil })
		w.failing(vault.Throttled{RetryAfter: time.Second})
		_, _ = w.Read(t.Context(), object("a"))
		w.failing(nil)
		time.Sleep(time.Second)
		began := time.Now()
		w.value(t, t.Context(), object("a"))
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited for %v", waited)
		}
		release()
		<-hanging.done
	})
}

// TestLateAnswers: what was sent before a rest says nothing about its end, be it an
// answer or none.
func TestLateAnswers(t *testing.T) {
	for name, late := range map[string]error{"Answers": nil, "Silences": vault.ErrUnavailable} {
		t.Run(name, func(t *testing.T) {
			story(t, reader.Options{}, func(w *world) {
				t := w.t
				hold := make(chan struct{})
				w.set(func(w *world) { w.hold, w.fail = hold, func() error { return late } })
				var reads []*asked
				for i := range 9 {
					reads = append(reads, w.ask(t.Context(), object(fmt.Sprint("x", i))))
				}
				synctest.Wait()
				w.set(func(w *world) { w.hold, w.fail = nil, func() error { return vault.Throttled{} } })
				_, _ = w.Read(t.Context(), object("a"))
				w.set(func(w *world) { w.fail = func() error { return late } })
				close(hold)
				for _, read := range reads {
					<-read.done
				}
				if rests := w.rests(); len(rests) != 1 {
					t.Errorf("rests: %v", rests)
				}
				wait := vault.RetryAfter(w.refused(t, t.Context()))
				time.Sleep(wait)
				w.failing(vault.Throttled{})
				_, _ = w.Read(t.Context(), object("a"))
				if wait := vault.RetryAfter(w.refused(t, t.Context())); !near(wait, 2*time.Second) {
					t.Errorf("the second rest is %v, want 2s", wait)
				}
			})
		})
	}
}

// TestAnAbandonedProbe leaves its place to the next.
func TestAnAbandonedProbe(t *testing.T) {
	story(t, reader.Options{}, func(w *world) {
		t := w.t
		w.failing(vault.Throttled{RetryAfter: time.Second})
		_, _ = w.Read(t.Context(), object("a"))
		time.Sleep(time.Second)
		w.failing(nil)
		release := w.holding()
		ctx, cancel := withTimeout(t.Context(), time.Second)
		defer cancel()
		probe := w.ask(ctx, object("a"))
		synctest.Wait()
		pod := w.ask(demanding(t.Context(), vault.PodStart), object("b"))
		<-probe.done
		synctest.Wait()
		if n := w.busy(); n != 1 {
			t.Errorf("%d under way, want the next probe", n)
		}
		release()
		<-pod.done
		if n := len(w.rests()); n != 1 {
			t.Errorf("%d rests: who leaves teaches nothing", n)
		}
	})
}

// TestAfterARest not all goes at once that the budget gathered meanwhile.
func TestAfterARest(t *testing.T) {
	story(t, reader.Options{Rate: 10, Burst: 500}, func(w *world) {
		t := w.t
		w.failing(vault.Throttled{RetryAfter: 10 * time.Minute})
		_, _ = w.Read(t.Context(), object("a"))
		time.Sleep(10 * time.Minute)
		w.failing(nil)
		w.value(t, t.Context(), object("a"))
		before, end := w.count(), time.Now()
		var all sync.WaitGroup
		for i := range 300 {
			all.Go(func() { _, _ = w.Read(t.Context(), object(fmt.Sprint("x", i))) })
		}
		all.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		atOnce := slices.IndexFunc(w.sent[before:], func(s sent) bool { return s.at.After(end) })
		if atOnce != 50 {
			t.Errorf("%d at once, want 50", atOnce)
		}
	})
}
