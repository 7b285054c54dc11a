// SPDX-License-Identifier: Apache-2.0

package azure_test

import (
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// A thousand lists, ten at a time, start with one question of how the vault wants to be
// spoken to, and use ten connections at most; nothing of them is left in the end.
func TestManyRequestsCostLittle(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("Requests", func(t *testing.T) {
		s, emulator := newStageAndEmulator(t)
		lister, ok := s.Reader.(vault.Lister)
		if !ok {
			t.Fatal("it does not list")
		}
		s.SetSecret("there", "v", "")
		const atOnce, each = 10, 100
		var all sync.WaitGroup
		for range atOnce {
			all.Go(func() {
				for range each {
					page, err := lister.List(t.Context(), vault.Collection{Vault: s.Vault, Kind: vault.KindSecret}, "")
					if err != nil || len(page.Items) != 1 {
						t.Errorf("%d items, %v", len(page.Items), err)
						return
					}
				}
			})
		}
		all.Wait()
		if n := emulator.Requests("challenge", 0); n != 1 {
			t.Errorf("%d challenges, want one", n)
		}
		if n := emulator.Requests("secrets/list", 200); n != atOnce*each {
			t.Errorf("%d lists", n)
		}
		const signIn = 1 // has a connection of its own
		if n := emulator.Counters().Connections["https"]; n > atOnce+signIn {
			t.Errorf("%d connections", n)
		}
	})
	goleak.VerifyNone(t, before)
}
