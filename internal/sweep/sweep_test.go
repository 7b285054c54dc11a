// SPDX-License-Identifier: Apache-2.0

package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/akv2k8s/akv2k8s/internal/sweep"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestQuiet: as long as nothing changes an interval costs one request for 25 objects,
// and wakes nobody.
func TestQuiet(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		for i, ref := range w.fill(60) {
			w.follow(fmt.Sprint("f", i), interval, ref)
		}
		w.reset()
		time.Sleep(20*interval + time.Second)
		lists, reads, looks := w.counts()
		if diff := cmp.Diff([]int{60, 0, 0}, []int{lists, reads, looks}); diff != "" {
			t.Errorf("lists, reads and looks (-want +got):\n%s", diff)
		}
		if got := w.heard(); len(got) != 0 || w.swept() != 20 {
			t.Errorf("woke %v in %d sweeps", got, w.swept())
		}
		for _, census := range w.Census() {
			if census.Objects != 60 || census.Unconfirmed > interval+time.Second {
				t.Errorf("the census says %+v", census)
			}
		}
	})
}

// TestRechecked: a list goes on to say that all is well when an object may not be read
// any more. So each is read now and then, not all at once, and that is seen in a day
// and a half.
func TestRechecked(t *testing.T) {
	const day = 24 * time.Hour
	story(t, func(w *world) {
		t := w.t
		refs := w.fill(60)
		for i, ref := range refs {
			w.follow(fmt.Sprint("f", i), interval, ref)
		}
		time.Sleep(3 * interval)
		w.reset()
		time.Sleep(4 * day)
		if _, reads, looks := w.counts(); reads < 160 || reads > 480 || looks != 0 {
			t.Errorf("%d reads of 60 objects in four days, %d looks", reads, looks)
		}
		if most := busiest(w.made(), 4*time.Hour); most > 30 {
			t.Errorf("%d reads in four hours", most)
		}
		w.reset()
		w.fake.Fail(refs[7], vault.ErrForbidden)
		time.Sleep(day/2 + day + interval)
		if diff := cmp.Diff(map[string]int{"f7": 1}, w.heard()); diff != "" {
			t.Errorf("woken (-want +got):\n%s", diff)
		}
	})
}

// TestChanges are seen within an interval, by who follows the object and nobody else,
// and cost one read, or two where only a read can tell.
func TestChanges(t *testing.T) {
	certificate := vault.Reference{Vault: "kv", Kind: vault.KindCertificate, Name: "c"}
	private := certificate
	private.PrivateKey = true
	key := vault.Reference{Vault: "kv", Kind: vault.KindKey, Name: "k"}
	for name, tc := range map[string]struct {
		ref    vault.Reference
		before func(*world, vault.Reference)
		change func(*world, vault.Reference)
		reads  int // by the Sweeper
	}{
		"Version":            {ref: object("a"), change: (*world).change},
		"Certificate":        {ref: certificate, change: (*world).change},
		"CertificateWithKey": {ref: private, change: (*world).change},
		"Key":                {ref: key, change: (*world).change},
		"Disabled":           {ref: object("a"), change: func(w *world, ref vault.Reference) { w.fake.Disable(ref) }},
		"Enabled": {
			ref: object("a"), before: func(w *world, ref vault.Reference) { w.fake.Disable(ref) },
			change: func(w *world, ref vault.Reference) { w.fake.Enable(ref) },
		},
		"Deleted": {ref: object("a"), change: func(w *world, ref vault.Reference) { w.fake.Delete(ref) }, reads: 1},
		"Recovered": {
			ref: object("a"), before: func(w *world, ref vault.Reference) { w.fake.Delete(ref) },
			change: func(w *world, ref vault.Reference) { w.fake.Recover(ref) },
		},
		"Created": {
			ref: object("a"), before: func(w *world, ref vault.Reference) { w.fake.Delete(ref) },
			change: (*world).change,
		},
		"DeletedAndMadeAnew": {
			ref: object("a"), change: func(w *world, ref vault.Reference) {
				w.fake.Delete(ref)
				w.change(ref)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(w *world) {
				t := w.t
				w.put(tc.ref, time.Now().Add(-time.Hour))
				if tc.before != nil {
					tc.before(w, tc.ref)
					time.Sleep(5 * time.Second)
				}
				w.fill(1)
				w.follow("one", interval, tc.ref)
				w.follow("two", interval, tc.ref)
				w.follow("other", interval, object("x-0000"))
				time.Sleep(3*interval + time.Second/2)
				w.reset()
				tc.change(w, tc.ref)
				time.Sleep(interval)
				if diff := cmp.Diff(map[string]int{"one": 1, "two": 1}, w.heard()); diff != "" {
					t.Errorf("woken (-want +got):\n%s", diff)
				}
				for _, who := range []string{"one", "two"} {
					if got, want := w.sees(who, tc.ref), w.truth(tc.ref); got != want {
						t.Errorf("%s has read %s, the vault has %s", who, got, want)
					}
				}
				time.Sleep(5 * interval)
				if _, reads, looks := w.counts(); reads != tc.reads || looks != 2 {
					t.Errorf("%d reads and %d looks, want %d and 2", reads, looks, tc.reads)
				}
			})
		})
	}
}

// TestTwiceASecond: a list cannot tell the second of two changes in one second, so what
// was read so soon after a change is read once more.
func TestTwiceASecond(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		w.change(object("a"))
		w.follow("one", interval, object("a"))
		w.change(object("a")) // in the same second
		time.Sleep(interval + time.Second)
		if got, want := w.sees("one", object("a")), w.truth(object("a")); got != want {
			t.Errorf("has read %s, the vault has %s", got, want)
		}
		w.reset()
		time.Sleep(10 * interval)
		if _, reads, _ := w.counts(); reads != 0 {
			t.Errorf("%d reads afterwards, want none", reads)
		}
	})
	story(t, func(w *world) {
		t := w.t
		w.change(object("a"))
		time.Sleep(2 * time.Second)
		w.follow("one", interval, object("a"))
		time.Sleep(10 * interval)
		if _, reads, _ := w.counts(); reads != 0 {
			t.Errorf("%d reads of what was read late enough, want none", reads)
		}
	})
}

// TestAListIsNoSnapshot: what it lacks is read before anybody is told.
func TestAListIsNoSnapshot(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		w.follow("one", interval, w.fill(1)...)
		w.set(func(w *world) { w.hidden["x-0000"] = true })
		time.Sleep(interval + time.Second)
		if _, reads, _ := w.counts(); reads != 1 || len(w.heard()) != 0 {
			t.Errorf("%d reads, woke %v", reads, w.heard())
		}
	})
}

// TestAReadInterrupted by a pause is made up for after it, not an interval later.
func TestAReadInterrupted(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		w.follow("one", time.Hour, w.fill(1)...)
		w.fake.Delete(object("x-0000"))
		w.set(func(w *world) {
			w.fail = func(ref vault.Reference) error {
				if ref.Name == "" {
					return nil
				}
				return vault.Throttled{RetryAfter: 10 * time.Second}
			}
		})
		time.Sleep(time.Hour + time.Second)
		w.set(func(w *world) { w.fail = nil })
		time.Sleep(30 * time.Second)
		if got := w.sees("one", object("x-0000")); got != vault.ErrNotFound.Error() {
			t.Errorf("has read %s", got)
		}
	})
}

// TestADisabledCertificate is given all the same when its key is not asked for: that is
// found out once, not at each sweep.
func TestADisabledCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sweep.Options{}, func(s vault.Source) vault.Source { return givesAll{s} })
		w.run(t)
		w.follow("one", interval, w.fill(1)...)
		w.fake.Disable(object("x-0000"))
		time.Sleep(interval + time.Second)
		if got := w.heard()["one"]; got != 1 {
			t.Errorf("woken %d times, want 1", got)
		}
		w.reset()
		time.Sleep(10 * interval)
		if _, reads, looks := w.counts(); reads+looks != 0 {
			t.Errorf("then %d reads and %d looks", reads, looks)
		}
	})
}

// givesAll gives what is disabled, too.
type givesAll struct{ vault.Source }

func (g givesAll) Read(ctx context.Context, ref vault.Reference) (vault.Object, error) {
	obj, err := g.Source.Read(ctx, ref)
	if !errors.Is(err, vault.ErrDisabled) {
		return obj, err
	}
	page, err := g.List(ctx, ref.Collection(), "")
	return vault.Object{Version: "v", Updated: page.Items[0].Updated, Answered: time.Now()}, err
}

// TestPinned versions are in no list: they are read one by one, by their own interval,
// spread over it.
func TestPinned(t *testing.T) {
	const day = 24 * time.Hour
	story(t, func(w *world) {
		t := w.t
		ref := w.fill(1)[0]
		obj, err := w.fake.Read(t.Context(), ref)
		ref.Version = obj.Version
		w.follow("two", day)
		w.Follow("one", []vault.Watch{{Reference: ref, Every: day}})
		w.Follow("two", []vault.Watch{{Reference: ref, Every: day}})
		w.Saw("one", ref, time.Now(), obj, err)
		if got := w.heard(); len(got) != 0 {
			t.Errorf("woke %v for the first answer: a version is what it is", got)
		}
	})
	story(t, func(w *world) {
		t := w.t
		var refs []vault.Reference
		for _, ref := range w.fill(48) {
			obj, _ := w.fake.Read(t.Context(), ref)
			ref.Version = obj.Version
			refs = append(refs, ref)
			w.follow("f"+ref.Name, day, ref)
		}
		w.reset()
		time.Sleep(day)
		lists, reads, _ := w.counts()
		if lists != 0 || reads < 48 || reads > 58 || len(w.heard()) != 0 {
			t.Errorf("%d lists and %d reads, woke %d", lists, reads, len(w.heard()))
		}
		if most := busiest(w.made(), time.Hour); most > 12 {
			t.Errorf("%d reads in one hour, want about 2", most)
		}
		w.follow("another", day, refs[7])
		w.follow("another", day)
		w.fake.Disable(refs[7])
		time.Sleep(day)
		if diff := cmp.Diff(map[string]int{"fx-0007": 1}, w.heard()); diff != "" {
			t.Errorf("woken (-want +got):\n%s", diff)
		}
		if got := w.sees("fx-0007", refs[7]); got != vault.ErrDisabled.Error() {
			t.Errorf("has read %s", got)
		}
	})
}

// busiest is the most requests in any span of time.
func busiest(requests []request, span time.Duration) int {
	most, from := 0, 0
	for i, r := range requests {
		for r.at.Sub(requests[from].at) > span {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// longest is the longest time in which something was not read, of all.
func longest(requests []request, began, end time.Time, of []vault.Reference) time.Duration {
	last, out := map[vault.Reference]time.Time{}, time.Duration(0)
	for _, ref := range of {
		last[ref] = began
	}
	for _, r := range requests {
		out = max(out, r.at.Sub(last[r.ref]))
		last[r.ref] = r.at
	}
	for at := range maps.Values(last) {
		out = max(out, end.Sub(at))
	}
	return out
}

// TestWithoutListing each object is read, spread over the interval, and none is
// forgotten, however often listing is tried again.
func TestWithoutListing(t *testing.T) {
	for name, every := range map[string]time.Duration{"Minutes": 2 * time.Minute, "Hour": time.Hour} {
		t.Run(name, func(t *testing.T) {
			story(t, func(w *world) {
				t := w.t
				w.failing(vault.ErrForbidden, true)
				began := time.Now()
				refs := w.fill(120)
				for _, ref := range refs {
					w.follow("f"+ref.Name, every, ref)
				}
				time.Sleep(12 * every)
				lists, reads, _ := w.counts()
				if got := longest(w.made(), began, time.Now(), refs); got > 2*every+10*time.Second { // due, but forbidden to list, and then spread out
					t.Errorf("something was not read for %v", got)
				}
				if reads < 11*120 || reads > 14*120 {
					t.Errorf("%d reads, want about %d", reads, 12*120)
				}
				if most := busiest(w.made(), every/20); most > 40 {
					t.Errorf("%d reads in a twentieth of the interval", most)
				}
				if most := int(12*every/(5*time.Minute)) + 1; lists > most {
					t.Errorf("%d attempts to list, want %d at most", lists, most)
				}
				w.reset()
				for _, ref := range refs {
					w.change(ref)
				}
				time.Sleep(every + 10*time.Second)
				if got := w.heard(); len(got) != 120 {
					t.Errorf("%d were woken within the interval, want 120", len(got))
				}
				// Newcomers do not come all at once either.
				w.reset()
				for i := range 100 {
					ref := object(fmt.Sprint("new-", i))
					w.put(ref, time.Now().Add(-time.Hour))
					w.follow("f"+ref.Name, every, ref)
				}
				time.Sleep(every)
				if most := busiest(w.made(), every/20); most > 60 {
					t.Errorf("with newcomers %d reads in a twentieth of the interval", most)
				}
				w.set(func(w *world) { w.fail = nil })
				w.LookAtPermissions("KV")
				time.Sleep(every)
				w.reset()
				time.Sleep(3 * every)
				if lists, reads, _ := w.counts(); lists == 0 || reads != 0 {
					t.Errorf("when it may list: %d lists and %d reads", lists, reads)
				}
			})
		})
	}
}

// TestFewAmongMany: of a vault with forty pages three objects are read, but for an
// attempt each hour.
func TestFewAmongMany(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		refs := w.fill(1000)
		w.follow("one", interval, refs[0], refs[500], refs[999])
		time.Sleep(6 * time.Hour)
		lists, reads, _ := w.counts()
		if lists > 6*3+3 {
			t.Errorf("%d pages in six hours, want three an hour", lists)
		}
		if sweeps := int(6 * time.Hour / interval); reads < 3*sweeps*9/10 || reads > 3*sweeps*12/10 {
			t.Errorf("%d reads in six hours, want about %d", reads, 3*sweeps)
		}
		w.change(refs[999])
		time.Sleep(interval + time.Second)
		if got, want := w.sees("one", refs[999]), w.truth(refs[999]); got != want {
			t.Errorf("has read %s, the vault has %s", got, want)
		}
		for _, ref := range refs[30:] {
			w.fake.Delete(ref)
		}
		time.Sleep(time.Hour + interval)
		w.reset()
		time.Sleep(10 * interval)
		if lists, reads, _ := w.counts(); lists == 0 || reads > 3 {
			t.Errorf("%d pages and %d reads when the vault has become small", lists, reads)
		}
		for _, ref := range refs[30:] {
			w.fake.Recover(ref)
		}
		w.follow("many", interval, refs...)
		w.reset()
		time.Sleep(interval + 2*time.Second)
		if lists, _, _ := w.counts(); lists < 40 {
			t.Errorf("%d pages when a list costs less, want 40", lists)
		}
	})
}

// TestStaleness is told at a bounded rate, and its end too.
func TestStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sweep.Options{StaleAfter: 3, StaleRate: 10}, nil)
		w.run(t)
		refs := w.fill(2)
		for i := range 100 {
			w.follow(fmt.Sprint("f", i), interval, refs...)
		}
		w.failing(vault.ErrForbidden, true)
		w.set(func(w *world) {
			w.fail = func(vault.Reference) error { return vault.Throttled{RetryAfter: time.Second} }
		})
		time.Sleep(3*interval - 2*time.Second)
		if got := w.heard(); len(got) != 0 || w.Known("f0", refs[0]).Stale {
			t.Errorf("too early woken: %v", got)
		}
		for _, want := range []bool{true, false} {
			for len(w.heard()) == 0 {
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(3 * time.Second)
			if got := len(w.heard()); got < 30 || got > 40 {
				t.Errorf("stale %v: %d were told within 3 s, want 10 a second", want, got)
			}
			time.Sleep(20 * time.Second)
			if got := w.heard(); len(got) != 100 || got["f0"] != 1 {
				t.Errorf("stale %v: %d were told in all, f0 %d times", want, len(got), got["f0"])
			}
			if w.Known("f0", refs[0]).Stale != want {
				t.Errorf("stale is not %v", want)
			}
			w.reset()
			w.set(func(w *world) { w.fail = nil })
		}
	})
}

// TestOutage: whose read failed is woken when the vault is back, be the object listed or
// read singly, and be others served earlier.
func TestOutage(t *testing.T) {
	for name, listsFail := range map[string]error{"Listed": nil, "Singly": vault.ErrForbidden} {
		t.Run(name, func(t *testing.T) {
			story(t, func(w *world) {
				t := w.t
				refs := w.fill(2)
				w.failing(vault.ErrUnavailable, false)
				w.follow("one", interval, refs...)
				w.follow("two", interval, refs...)
				time.Sleep(5 * interval)
				w.reset()
				w.set(func(w *world) { w.fail = nil })
				if listsFail != nil {
					w.failing(listsFail, true)
				}
				w.look("one") // does not wait
				time.Sleep(interval + 2*time.Second)
				for _, who := range []string{"one", "two"} {
					if got, want := w.sees(who, refs[1]), w.truth(refs[1]); got != want {
						t.Errorf("%s has read %q, the vault has %s", who, got, want)
					}
				}
			})
		})
	}
}

// TestOthersAreTold: what one follower happens to see first another must see as well.
func TestOthersAreTold(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		ref := w.fill(1)[0]
		w.follow("one", interval, ref)
		w.follow("two", interval, ref)
		time.Sleep(interval / 2)
		w.change(ref)
		w.reset()
		asked := time.Now()
		obj, err := w.fake.Read(t.Context(), ref)
		w.Saw("one", ref, asked, obj, err)
		if diff := cmp.Diff(map[string]int{"two": 1}, w.heard()); diff != "" {
			t.Errorf("woken (-want +got):\n%s", diff)
		}
		if got, want := w.sees("two", ref), w.truth(ref); got != want {
			t.Errorf("two has read %s, the vault has %s", got, want)
		}
	})
}

// TestAnOldAnswer: who acted upon one that was asked for before another follower's looks
// again.
func TestAnOldAnswer(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		ref := w.fill(1)[0]
		w.follow("one", interval, ref)
		w.follow("two", interval, ref)
		before := time.Now()
		old, err := w.fake.Read(t.Context(), ref)
		time.Sleep(time.Second)
		w.change(ref)
		w.Look("kv", vault.KindSecret, ref.Name)
		synctest.Wait()
		w.reset()
		w.Saw("two", ref, before, old, err)
		if diff := cmp.Diff(map[string]int{"two": 1}, w.heard()); diff != "" {
			t.Errorf("woken (-want +got):\n%s", diff)
		}
	})
}

// TestSilencesApart: that one got an answer is no help to another, whose read had none.
func TestSilencesApart(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		ref := w.fill(1)[0]
		w.follow("one", time.Hour, ref)
		w.follow("two", time.Hour, ref)
		w.Look("kv", vault.KindSecret, ref.Name) // so both know that they must look
		synctest.Wait()
		w.reset()
		w.change(ref)
		w.failing(vault.ErrUnavailable, false)
		w.Look("kv", vault.KindSecret, ref.Name)
		synctest.Wait()
		w.set(func(w *world) { w.fail = nil })
		w.look("one")
		if got, want := w.sees("two", ref), w.truth(ref); got != want {
			t.Errorf("two has read %s, the vault has %s", got, want)
		}
	})
}

// TestRefusalsOfTheWholeVault are told once, and so is their end.
func TestRefusalsOfTheWholeVault(t *testing.T) {
	for _, refusal := range []error{vault.ErrFirewall, vault.ErrSignIn, vault.ErrNoVault} {
		story(t, func(w *world) {
			t := w.t
			ref := w.fill(1)[0]
			w.follow("one", interval, ref)
			w.reset()
			w.failing(refusal, false)
			time.Sleep(10 * interval)
			if got := w.heard()["one"]; got != 1 || w.sees("one", ref) != refusal.Error() {
				t.Errorf("%v: woken %d times, has read %s", refusal, got, w.sees("one", ref))
			}
			if w.Known("one", ref).Stale {
				t.Errorf("%v: a verdict is no silence", refusal)
			}
			w.set(func(w *world) { w.fail = nil })
			time.Sleep(interval + time.Second)
			if got, want := w.sees("one", ref), w.truth(ref); got != want {
				t.Errorf("%v: has read %s, the vault has %s", refusal, got, want)
			}
		})
	}
}

// TestManyRefusals: only a read can tell whether what was refused still is. While
// thousands are read like that, each in its turn, the others are looked for as ever.
func TestManyRefusals(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		refs := w.fill(400)
		for i, ref := range refs {
			if i > 0 {
				w.fake.Fail(ref, vault.ErrForbidden)
			}
			w.follow("f"+ref.Name, interval, ref)
		}
		time.Sleep(3 * interval)
		w.set(func(w *world) {
			w.fail = func(ref vault.Reference) error {
				if ref.Name != "" {
					time.Sleep(time.Second) // 100 s for all of them
				}
				return nil
			}
		})
		w.reset()
		began := time.Now()
		for range 10 {
			w.change(refs[0])
			time.Sleep(interval + interval/2)
			if got, want := w.sees("f"+refs[0].Name, refs[0]), w.truth(refs[0]); got != want {
				t.Errorf("an interval and a half after the change it sees %q, the vault has %q", got, want)
			}
		}
		if got := longest(w.made(), began, time.Now(), refs[1:]); got > 4*time.Minute {
			t.Errorf("something was not read for %v", got)
		}
	})
}

// TestPermissions: when they change, what was forbidden is tried at once, even where a
// refusal is just under way.
func TestPermissions(t *testing.T) {
	for name, tc := range map[string]struct {
		every time.Duration
		takes time.Duration
		after time.Duration // the second change of permissions
		list  bool          // is allowed all the time
	}{
		"Listed":    {every: time.Hour, list: true},
		"Singly":    {every: time.Hour},
		"SlowList":  {every: time.Hour, takes: 2 * time.Second, after: time.Second},
		"SlowRead":  {every: time.Hour, takes: 2 * time.Second, after: 3 * time.Second},
		"Unclocked": {},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(w *world) {
				t := w.t
				w.set(func(w *world) {
					w.fail = func(ref vault.Reference) error {
						if tc.list && ref.Name == "" {
							return nil
						}
						return vault.ErrForbidden
					}
				})
				refs := w.fill(1)
				w.follow("one", tc.every, refs...)
				if tc.every > 0 {
					time.Sleep(5 * tc.every)
				}
				w.set(func(w *world) { w.takes = tc.takes })
				w.LookAtPermissions("kv")
				time.Sleep(tc.after) // a request that met the old permissions is under way
				w.set(func(w *world) { w.fail, w.takes = nil, 0 })
				w.reset()
				w.LookAtPermissions("kv")
				time.Sleep(10 * time.Second)
				if lists, _, _ := w.counts(); lists == 0 && tc.after > 0 {
					t.Error("listing was not tried again")
				}
				if got, want := w.sees("one", refs[0]), w.truth(refs[0]); got != want {
					t.Errorf("has read %s, the vault has %s", got, want)
				}
			})
		})
	}
}

// TestLook wakes whom an event concerns.
func TestLook(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		private := vault.Reference{Vault: "kv", Kind: vault.KindCertificate, Name: "c", PrivateKey: true}
		public := private
		public.PrivateKey = false
		w.follow("secret", 0, object("c"))
		w.follow("private", 0, private)
		w.follow("public", 0, public)
		w.follow("key", 0, vault.Reference{Vault: "kv", Kind: vault.KindKey, Name: "c"})
		for kind, want := range map[vault.Kind]map[string]int{
			vault.KindSecret:      {"secret": 1, "private": 1},
			vault.KindCertificate: {"private": 1, "public": 1},
			vault.KindKey:         {"key": 1},
		} {
			w.reset()
			before := time.Now()
			time.Sleep(time.Second)
			w.Look("KV", kind, "C")
			if diff := cmp.Diff(want, w.heard()); diff != "" {
				t.Errorf("%s: woken (-want +got):\n%s", kind, diff)
			}
			if _, _, looks := w.counts(); looks != len(want) {
				t.Errorf("%s: %d looks, want %d: an earlier answer will not do", kind, looks, len(want))
			}
			if known := w.Known("key", object("c")); known.Since.After(before) {
				t.Error("who does not follow an object knows of it")
			}
		}
	})
}

// TestAPatientFollower is not told earlier by a list that is made for others.
func TestAPatientFollower(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		refs := w.fill(60)
		for i, ref := range refs[1:] {
			w.follow(fmt.Sprint("f", i), interval, ref)
		}
		w.follow("patient", time.Hour, refs[0])
		time.Sleep(time.Hour + interval)
		w.reset()
		w.fake.Put(refs[0], vault.Object{Updated: time.Now()})
		time.Sleep(25 * time.Minute)
		if got := w.heard(); len(got) != 0 {
			t.Errorf("woke %v", got)
		}
		time.Sleep(35*time.Minute + interval)
		if diff := cmp.Diff(map[string]int{"patient": 1}, w.heard()); diff != "" {
			t.Errorf("woken (-want +got):\n%s", diff)
		}
	})
}

// TestLatecomers are looked for together with the others from the first time on, however
// late they came.
func TestLatecomers(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		for i, ref := range w.fill(60) {
			if i == 30 {
				time.Sleep(interval * 3 / 5)
			}
			w.follow(fmt.Sprint("f", i), interval, ref)
		}
		w.reset()
		time.Sleep(4*interval + time.Second)
		lists, _, _ := w.counts()
		if w.swept() != 4 || lists != 4*3 {
			t.Errorf("%d sweeps with %d lists in four intervals", w.swept(), lists)
		}
	})
}

// TestIntervals: each object is looked for as often as its most impatient follower
// wants, and no more often.
func TestIntervals(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		w.failing(vault.ErrForbidden, true)
		refs := w.fill(3)
		w.follow("patient", time.Hour, refs[0], refs[1])
		w.follow("hasty", time.Minute, refs[1], refs[2])
		time.Sleep(10 * time.Hour)
		got := map[string]int{}
		for _, r := range w.made() {
			got[r.ref.Name]++
		}
		for name, want := range map[string]int{"x-0000": 10, "x-0001": 600, "x-0002": 600} {
			if got[name] < want*9/10 || got[name] > want*12/10 {
				t.Errorf("%s was read %d times in ten hours, want about %d", name, got[name], want)
			}
		}
		w.follow("hasty", time.Minute, refs[2])
		w.reset()
		time.Sleep(10 * time.Hour)
		if n := len(w.made()) - 600; n < -60 || n > 130 {
			t.Errorf("%d reads when the hasty one left an object", len(w.made()))
		}
	})
}

// TestFollowing in all orders.
func TestFollowing(t *testing.T) {
	check := func(t *testing.T, w *world, who string, ref vault.Reference) {
		t.Helper()
		w.change(ref)
		time.Sleep(interval + 2*time.Second)
		if got, want := w.sees(who, ref), w.truth(ref); got != want {
			t.Errorf("%s has read %q, the vault has %s", who, got, want)
		}
	}
	for name, tell := range map[string]func(*world, []vault.Reference){
		"Twice": func(w *world, refs []vault.Reference) {
			t := w.t
			upper := refs[0]
			upper.Name = "X-0000"
			w.follow("one", interval, refs[0], refs[0], upper)
			check(t, w, "one", refs[0])
			w.follow("one", interval)
			w.follow("two", interval)
			if got := w.Census(); len(got) != 0 {
				t.Errorf("still watched: %v", got)
			}
		},
		"TwiceAndOneLeaves": func(w *world, refs []vault.Reference) {
			t := w.t
			w.follow("one", interval, refs[0], refs[0])
			w.follow("one", interval, refs[0])
			check(t, w, "one", refs[0])
		},
		"OffAndOn": func(w *world, refs []vault.Reference) {
			t := w.t
			w.follow("one", interval, refs[0])
			w.follow("one", 0, refs[0])
			time.Sleep(5 * interval)
			w.follow("one", interval, refs[0])
			check(t, w, "one", refs[0])
		},
		"Sooner": func(w *world, refs []vault.Reference) {
			t := w.t
			w.follow("one", 24*time.Hour, refs[0])
			time.Sleep(time.Minute)
			w.follow("one", interval, refs[0])
			check(t, w, "one", refs[0])
		},
		"Another": func(w *world, refs []vault.Reference) {
			t := w.t
			w.follow("one", interval, refs[0])
			time.Sleep(time.Minute)
			w.follow("one", interval, refs[1])
			check(t, w, "one", refs[1])
			if known := w.Known("one", refs[0]); known != (vault.Known{}) {
				t.Errorf("what is not watched any more is known: %v", known)
			}
		},
		"AwayAndBackDuringALook": func(w *world, refs []vault.Reference) {
			t := w.t
			w.follow("one", interval, refs[0])
			w.set(func(w *world) { w.takes = 10 * time.Second })
			time.Sleep(interval + time.Second) // the list is under way
			w.follow("one", interval)
			go w.follow("one", interval, refs[0])
			time.Sleep(time.Second)
			w.set(func(w *world) { w.takes = 0 })
			time.Sleep(time.Minute)
			check(t, w, "one", refs[0])
		},
		"ALookLongerThanTheInterval": func(w *world, refs []vault.Reference) {
			t := w.t
			w.set(func(w *world) { w.takes = 4 * time.Second })
			w.follow("one", time.Second, refs[0])
			time.Sleep(time.Minute)
			w.reset()
			time.Sleep(time.Minute)
			if lists, reads, _ := w.counts(); lists < 10 || lists > 15 || reads != 0 {
				t.Errorf("%d lists and %d reads in a minute", lists, reads)
			}
			check(t, w, "one", refs[0])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("Running", func(t *testing.T) {
				story(t, func(w *world) { tell(w, w.fill(2)) })
			})
			t.Run("BeforeRun", func(t *testing.T) {
				if name == "AwayAndBackDuringALook" || name == "ALookLongerThanTheInterval" {
					t.Skip("nothing looks before Run")
				}
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, sweep.Options{}, nil)
					refs := w.fill(2)
					w.follow("one", interval, refs[0])
					w.follow("one", interval)
					w.follow("two", interval, refs[1])
					time.Sleep(time.Hour)
					w.run(t)
					tell(w, refs)
				})
			})
		})
	}
}

// TestThousandsDue: of thousands of single reads four are under way, they end when
// nobody wants them any more, and go on after a pause where they stopped.
func TestThousandsDue(t *testing.T) {
	setUp := func(w *world) {
		w.failing(vault.ErrForbidden, true)
		w.follow("one", time.Minute, w.fill(300)...)
		time.Sleep(10 * time.Minute)
		w.failing(vault.ErrUnavailable, false) // so that all come due together
		time.Sleep(5 * time.Minute)
		w.failing(vault.ErrForbidden, true)
		w.reset()
		w.set(func(w *world) { w.takes, w.most = time.Second, 0 })
		time.Sleep(30 * time.Second)
	}
	story(t, func(w *world) {
		t := w.t
		setUp(w)
		if w.counts(); w.most > 5 { // and one follower
			t.Errorf("%d at once", w.most)
		}
		w.Follow("one", nil)
		time.Sleep(2 * time.Second)
		w.reset()
		time.Sleep(time.Minute)
		if lists, reads, _ := w.counts(); lists+reads > 0 {
			t.Errorf("%d lists and %d reads for nobody", lists, reads)
		}
	})
	story(t, func(w *world) {
		t := w.t
		setUp(w)
		w.Follow("one", []vault.Watch{{Reference: object("x-0000"), Every: time.Minute}})
		time.Sleep(2 * time.Second)
		w.reset()
		time.Sleep(30 * time.Second)
		if _, reads, _ := w.counts(); reads > 1 {
			t.Errorf("%d reads of what nobody follows", reads)
		}
	})
	story(t, func(w *world) {
		t := w.t
		setUp(w)
		w.reset()
		w.set(func(w *world) {
			w.takes, w.fail = 0, func(vault.Reference) error { return vault.Throttled{RetryAfter: time.Minute} }
		})
		time.Sleep(50 * time.Second)
		if _, reads, _ := w.counts(); reads > 8 {
			t.Errorf("%d reads during a pause", reads)
		}
	})
}

// TestAFailingPage: a page that does not come is asked for again, and a list that
// ends early tells of what it had.
func TestAFailingPage(t *testing.T) {
	story(t, func(w *world) {
		t := w.t
		refs := w.fill(60)
		w.follow("one", interval, refs...)
		time.Sleep(interval / 2)
		w.reset()
		page, fails := 0, 3
		w.set(func(w *world) {
			w.fail = func(ref vault.Reference) error {
				if ref.Name != "" {
					return nil
				}
				if page++; page >= 2 && page < 2+fails {
					return vault.ErrUnavailable
				}
				return nil
			}
		})
		w.change(refs[0])
		w.change(refs[59])
		time.Sleep(interval)
		if lists, _, _ := w.counts(); lists != 6 || w.swept() != 1 {
			t.Errorf("%d pages in %d sweeps, want 6 in 1", lists, w.swept())
		}
		if got, want := w.sees("one", refs[59]), w.truth(refs[59]); got != want {
			t.Errorf("has read %s, the vault has %s", got, want)
		}
		w.set(func(*world) { page, fails = 0, 1_000_000 })
		w.change(refs[0])
		time.Sleep(interval + 10*time.Second)
		if got, want := w.sees("one", refs[0]), w.truth(refs[0]); got != want {
			t.Errorf("of the first page has read %s, the vault has %s", got, want)
		}
	})
}

// TestSweepsLeaveNothing behind, over a thousand of them.
func TestSweepsLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sweep.Options{}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		refs := w.fill(30)
		w.follow("one", interval, refs...)
		for i := 0; w.swept() < 1000; i++ {
			if i%7 == 0 {
				w.change(refs[i%30])
			}
			w.follow("passing", interval, vault.Reference{Vault: "kv", Kind: vault.KindKey, Name: "k"})
			time.Sleep(interval)
			w.follow("passing", interval)
			synctest.Wait()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > 20 {
			t.Errorf("%d goroutines", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
		// That all goroutines have ended is checked by synctest, and by goleak.
		if _, _, looks := w.counts(); looks == 0 {
			t.Error("nothing has happened")
		}
	})
}
