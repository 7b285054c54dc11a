// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// held is a Secret with our label in which each key is kept by these managers.
func held(keys map[string][]string) *plan.Observed {
	o := &plan.Observed{
		UID: "uid-x", ResourceVersion: "7", Type: corev1.SecretTypeOpaque,
		Data: map[string]secret.Value{}, Managers: keys, Labels: marks(),
		LabelManagers: map[string][]string{v2beta1.OutputLabel: {"akvs-uid-a"}},
	}
	for key, by := range keys {
		o.Data[key] = secret.New([]byte("held"))
		o.All = append(o.All, by...)
	}
	return o
}

// What was handed over to one is not handed over to the next.
func TestConsentIsForOne(t *testing.T) {
	t.Parallel()
	in := decide(facts(func(f *world) {
		f.Observed = held(map[string][]string{"password": {"kubectl"}, "theirs": {"akvs-uid-b"}})
		f.Observed.Labels[v2beta1.AdoptedLabel] = v2beta1.AdoptedLabelValue
		f.Observed.Annotations = map[string]string{v2beta1.AdoptAnnotation: "b"}
	}))
	if w := write(in); w != nil || ready(t, in).Reason != v2beta1.ReasonOutputTaken {
		t.Errorf("write %+v, said %v", w, said(in))
	}
}

// Who takes consent back is obeyed, whatever marks are left, and what was never
// ours is never owned.
func TestConsentCanBeTakenBack(t *testing.T) {
	t.Parallel()
	for name, marked := range map[string]bool{"MarkLeft": true, "MarkTaken": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := decide(facts(func(f *world) {
				f.AKVS.Spec.Output.Secret.Adopt = true
				f.Observed = held(map[string][]string{"password": {"akvs-uid-a"}, "theirs": {"kubectl"}})
				if marked {
					f.Observed.Labels[v2beta1.AdoptedLabel] = v2beta1.AdoptedLabelValue
				}
			}))
			if w := write(in); w != nil || ready(t, in).Reason != v2beta1.ReasonOutputTaken {
				t.Errorf("write %+v, said %v", w, said(in))
			}
		})
	}
}

// Garbage collection would take a guest's data along with ours.
func TestAnOutputWithAGuestIsNotOwned(t *testing.T) {
	t.Parallel()
	f := synced(withGuest)
	in := decide(f)
	if w := write(in); w == nil || w.Owner != nil || w.Labels[v2beta1.GuestsLabel] == "" {
		t.Fatalf("write %+v", w)
	}
	f = after(f, in)
	if in = decide(f); len(in.Writes) > 0 {
		t.Fatalf("wrote again: %+v", in.Writes)
	}
	delete(f.Observed.Data, "theirs")
	delete(f.Observed.Managers, "theirs")
	if w := write(decide(f)); w == nil || w.Owner == nil || w.Labels[v2beta1.GuestsLabel] != "" {
		t.Errorf("write %+v, want one that owns it again", w)
	}
}

// It is safe from garbage collection also while the output is disputed.
func TestADisputedOutputWithAGuestIsDisowned(t *testing.T) {
	t.Parallel()
	f := synced(withGuest, func(f *world) { f.AKVS.Spec.Output.Secret.Type = "example.com/x"; f.AKVS.Generation++ })
	in := decide(f)
	if w := write(in); w == nil || w.Owner != nil || w.Replace != nil || w.Payload.Type != corev1.SecretTypeOpaque || len(w.Payload.Data) != 1 {
		t.Fatalf("write %+v", w)
	}
	if ready(t, in).Reason != v2beta1.ReasonOutputConflict || in.Status.SecretHash != f.AKVS.Status.SecretHash {
		t.Errorf("said %v, status %+v", said(in), in.Status)
	}
	if in = decide(after(f, in)); len(in.Writes) > 0 {
		t.Errorf("wrote again: %+v", in.Writes)
	}
}

// Immutable cannot be undone, so it is for outputs that are ours alone.
func TestNobodyElsesOutputIsMadeImmutable(t *testing.T) {
	t.Parallel()
	for name, observed := range map[string]*plan.Observed{
		"Joined": owned(held(map[string][]string{"theirs": {"akvs-uid-b"}}), ownedBy("b", "uid-b")),
		"Shared": owned(held(map[string][]string{"password": {"akvs-uid-a"}, "theirs": {"akvs-uid-b"}}), ownedBy("a", "uid-a"), ownedBy("b", "uid-b")),
		"Guest":  owned(held(map[string][]string{"password": {"akvs-uid-a"}, "theirs": {"kubectl"}}), ownedBy("a", "uid-a")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := decide(facts(func(f *world) {
				f.AKVS.Spec.Output.Secret.Immutable = true
				f.Rivals, f.Observed = []plan.Rival{elderB}, observed
			}))
			if w := write(in); w != nil && w.Immutable || ready(t, in).Reason != v2beta1.ReasonOutputConflict {
				t.Errorf("write %+v, said %v", w, said(in))
			}
		})
	}
}

// Between a replacement and the look after it, what was made anew is its owner's.
func TestAReplacementIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	f := synced(func(f *world) {
		f.AKVS.Spec.Vault.Object.Version, f.AKVS.Spec.Output.Secret.Type = version1, "example.com/x"
		f.AKVS.Generation++
	})
	in := decide(f)
	if write(in) == nil || write(in).Replace == nil || in.Requeue != time.Second {
		t.Fatalf("write %+v, requeue %s", write(in), in.Requeue)
	}
	f = after(f, in)
	b := facts(func(g *world) {
		g.AKVS.Name, g.AKVS.UID, g.AKVS.CreationTimestamp = "b", "uid-b", metav1.NewTime(noon)
		g.AKVS.Spec.Output.Secret.Type, g.Observed = "example.com/x", f.Observed
		g.Rivals = []plan.Rival{{Name: "a", UID: "uid-a"}}
	})
	if in := decide(b); ready(t, in).Reason != v2beta1.ReasonOutputConflict {
		t.Errorf("a younger one takes the key: %v", said(in))
	}
}

// One output that cannot be does not keep the other from being cared for.
func TestOneFaultDoesNotStopTheOtherOutput(t *testing.T) {
	t.Parallel()
	f := facts(func(f *world) {
		f.AKVS.Spec.Output.Secret.Labels = map[string]string{"no label!": "x"}
		f.AKVS.Spec.Output.ConfigMap = &v2beta1.ConfigMapOutput{Name: "c", DataKey: "k"}
	})
	if in := decide(f); len(in.Writes) != 1 || in.Requeue != 0 {
		t.Errorf("%d writes, requeue %s", len(in.Writes), in.Requeue)
	}
	f.FetchErr, f.Object = vault.ErrUnavailable, vault.Object{}
	annotated("now")(&f)
	if in := decide(f); in.Retry == nil || in.Status.HandledRefresh != "" {
		t.Errorf("retry %v, refresh handled %q", in.Retry, in.Status.HandledRefresh)
	}
}

// The first of a drop's two requests may be all that was carried out.
func TestADropCanBeDoneAgain(t *testing.T) {
	t.Parallel()
	o := held(map[string][]string{"password": {"akvs-uid-a", plan.ReleasedManager}})
	o.Type = "example.com/x"
	out := plan.Release(plan.ReleaseFacts{Kind: render.Secret, Observed: o, Ties: map[types.UID]plan.Tie{"uid-a": plan.TieGone}})
	if len(out.Drop) != 1 || len(out.Drop[0].Stay) != 1 {
		t.Errorf("%+v, want the key to stay", out)
	}
}

func TestReleaseDeletesNothingThatSomebodyElseDeclares(t *testing.T) {
	t.Parallel()
	o := owned(held(map[string][]string{"password": {"akvs-uid-a", "argocd"}}), ownedBy("a", "uid-a"))
	out := plan.Release(plan.ReleaseFacts{Kind: render.Secret, Observed: o, Ties: map[types.UID]plan.Tie{"uid-a": plan.TieLeft}})
	if out.Delete {
		t.Error("deletes the Secret")
	}
}

// Who answers every write with a conflict is not just another writer.
func TestSettleLosesPatience(t *testing.T) {
	t.Parallel()
	f := facts()
	in := plan.Decide(f.gathered()).Settle([]error{plan.ErrChanged})
	if in.Changes != 1 || in.Retry != nil {
		t.Errorf("changes %d, retry %v", in.Changes, in.Retry)
	}
	g := f.gathered()
	g.Changes = 5
	if in = plan.Decide(g).Settle([]error{plan.ErrChanged}); in.Retry == nil || ready(t, in).Reason != v2beta1.ReasonApplyFailed {
		t.Errorf("retry %v, said %v", in.Retry, said(in))
	}
}
