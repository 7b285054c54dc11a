// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/internal/controller"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// A change by hand is repaired at once; whoever undoes every repair is answered
// ever more slowly.
func TestReconcileDampsAFight(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put("one")
	s.settled(t)
	undo := func() {
		s.undone(t)
		if _, err := s.reconcile(t); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		undo()
		if got := s.data(t)["password"]; got != "one" {
			t.Fatalf("not repaired at once: %q", got)
		}
	}
	s.undone(t)
	before := len(s.vault.Reads())
	if res, err := s.reconcile(t); err != nil || res.RequeueAfter <= 0 || len(s.vault.Reads()) != before {
		t.Errorf("result %v, error %v, %d reads; want to be put off", res, err, len(s.vault.Reads())-before)
	}
	s.now = s.now.Add(time.Minute)
	undo()
	if got := s.data(t)["password"]; got != "one" {
		t.Errorf("not repaired after the wait: %q", got)
	}
}

// A turn that nobody needs any more is given up: kept, it would let thousands pass at
// once when the next outage comes.
func TestReconcileGivesUpItsTurn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.parts.StatusRate = 1
	s.sut = controller.New(s.parts).Named(s.cluster)
	s.put("one")
	s.settled(t)
	refused := func() bool {
		s.vault.Fail(vault.Reference{}, vault.ErrForbidden)
		res, err := s.reconcile(t)
		if err != nil {
			t.Fatal(err)
		}
		s.vault.Fail(vault.Reference{}, nil)
		s.settled(t)
		return res.RequeueAfter != time.Second
	}
	if !refused() || refused() {
		t.Fatal("want one to be told, and one to wait")
	}
	s.now = s.now.Add(10 * time.Second)
	if !refused() || refused() {
		t.Error("want one to be told, and one to wait, as before")
	}
}

// undone is the output after somebody put another value in.
func (s *stage) undone(t *testing.T) {
	t.Helper()
	out := &corev1.Secret{}
	out.Namespace, out.Name = "ns", "out"
	patch := client.RawPatch(types.MergePatchType, []byte(`{"data":{"password":"eA=="}}`))
	if err := s.cluster.Patch(t.Context(), out, patch, client.FieldOwner("kubectl-edit")); err != nil {
		t.Fatal(err)
	}
}
