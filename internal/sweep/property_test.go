// SPDX-License-Identifier: Apache-2.0

package sweep_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/akv2k8s/akv2k8s/internal/reader"
	"github.com/akv2k8s/akv2k8s/internal/sweep"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// TestFollowersCatchUp: whatever happens in a vault, and to it, after it has been quiet
// for three sweeps each follower has read what is there.
func TestFollowersCatchUp(t *testing.T) {
	kinds := []vault.Reference{
		{Vault: "kv", Kind: vault.KindSecret, Name: "s0"},
		{Vault: "kv", Kind: vault.KindSecret, Name: "s1"},
		{Vault: "kv", Kind: vault.KindCertificate, Name: "c0"},
		{Vault: "kv", Kind: vault.KindCertificate, Name: "c0", PrivateKey: true},
		{Vault: "kv", Kind: vault.KindKey, Name: "k0"},
	}
	type step struct{ Wait, Op, Object int }
	steps := rapid.Custom(func(rt *rapid.T) step {
		return step{
			Wait:   rapid.OneOf(rapid.IntRange(0, 1200), rapid.IntRange(0, 40_000)).Draw(rt, "wait"),
			Op:     rapid.IntRange(0, 11).Draw(rt, "op"),
			Object: rapid.IntRange(0, len(kinds)-1).Draw(rt, "object"),
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		var (
			history = rapid.SliceOfN(steps, 1, 25).Draw(rt, "history")
			takes   = time.Duration(rapid.IntRange(0, 1500).Draw(rt, "takes")) * time.Millisecond
			others  = rapid.IntRange(0, 60).Draw(rt, "others")
			listed  = rapid.Bool().Draw(rt, "listed")
			polite  = rapid.Bool().Draw(rt, "polite")
		)
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			var through func(vault.Source) vault.Source
			if polite {
				through = func(s vault.Source) vault.Source {
					return reader.New(s, reader.Options{ShareWindow: 5 * time.Second, Rate: 20, Burst: 20})
				}
			}
			w := newWorld(t, sweep.Options{}, through)
			w.takes = takes
			w.fill(others)
			for _, ref := range kinds {
				if !ref.PrivateKey {
					w.change(ref)
				}
			}
			whole := func() {
				w.set(func(w *world) { w.fail = nil })
				if !listed {
					w.failing(vault.ErrForbidden, true)
				}
			}
			whole()
			w.run(t)
			followers := map[string][]vault.Reference{"a": kinds[:2], "b": kinds[1:4], "c": kinds[2:], "d": kinds}
			for who, refs := range followers {
				go w.follow(who, interval, refs...)
			}
			for _, s := range history {
				time.Sleep(time.Duration(s.Wait) * time.Millisecond)
				ref := kinds[s.Object]
				ref.PrivateKey = false
				act(w, s.Op, ref, whole)
				switch s.Op {
				case 7:
					w.failing(outages[s.Object], false)
				case 11:
					w.Follow("a", nil)
					go w.follow("a", interval, followers["a"]...)
				}
			}
			whole()
			w.LookAtPermissions("kv")
			time.Sleep(4*interval + 20*time.Second)
			for who, refs := range followers {
				for _, ref := range refs {
					if got, want := w.sees(who, ref), w.truth(ref); got != want {
						wrong = append(wrong, fmt.Sprintf("%s has read %s of %s %s, the vault has %s", who, got, fmt.Sprint(ref.Kind, ref.PrivateKey), ref.Name, want))
					}
					if known := w.Known(who, ref); !known.Since.IsZero() {
						wrong = append(wrong, fmt.Sprintf("%s of %s is behind", who, ref.Name))
					}
				}
			}
		})
		if wrong != nil {
			rt.Fatalf("after %+v, polite %v, listed %v:\n%s", history, polite, listed, strings.Join(wrong, "\n"))
		}
	})
}

var outages = []error{
	vault.ErrUnavailable, vault.Throttled{RetryAfter: 3 * time.Second}, vault.ErrFirewall, vault.ErrForbidden, errors.New("odd"),
}

// act does one thing to the vault, or what may happen around it.
func act(w *world, op int, ref vault.Reference, mend func()) {
	switch op {
	case 0, 1, 2:
		w.change(ref)
	case 3:
		w.fake.Disable(ref)
	case 4:
		w.fake.Enable(ref)
	case 5:
		w.fake.Delete(ref)
	case 6:
		w.fake.Recover(ref)
	case 8:
		mend()
	case 9:
		go w.look("a") // for a reason of its own
	case 10:
		w.Look("kv", ref.Kind, ref.Name)
	}
}
