// SPDX-License-Identifier: Apache-2.0

package vaulttest_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/internal/vault/vaulttest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	vaulttest.RunContract(t, vaulttest.NewStage)
}

func TestFailNarrowsAndEnds(t *testing.T) {
	r := vaulttest.NewReader()
	one, two := vault.Reference{Vault: "kv1", Kind: vault.KindSecret, Name: "a"}, vault.Reference{Vault: "kv2", Kind: vault.KindSecret, Name: "a"}
	r.Put(one, vault.Object{})
	r.Put(two, vault.Object{})
	boom := errors.New("boom")
	r.Fail(vault.Reference{Vault: "kv1"}, boom)
	if _, err := r.Read(t.Context(), one); !errors.Is(err, boom) {
		t.Errorf("the broken vault: %v, want boom", err)
	}
	if _, err := r.Read(t.Context(), two); err != nil {
		t.Errorf("the other vault: %v", err)
	}
	r.Fail(vault.Reference{}, nil)
	if _, err := r.Read(t.Context(), one); err != nil {
		t.Errorf("the mended vault: %v", err)
	}
	if diff := cmp.Diff([]vault.Reference{one, two, one}, r.Reads()); diff != "" {
		t.Errorf("reads (-want +got):\n%s", diff)
	}
}
