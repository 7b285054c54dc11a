// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// claiming is a resource, an hour old, that meets an output.
func claiming(o *plan.Observed, change ...func(*world)) world {
	return facts(append([]func(*world){func(f *world) {
		f.Observed, f.AKVS.CreationTimestamp = o, metav1.NewTime(noon.Add(-time.Hour))
	}}, change...)...)
}

// asking makes b, if it is an owner, ask for the output too.
func asking(f *world) {
	if f.Observed.OwnedBy("uid-b") {
		f.Rivals = []plan.Rival{youngerB}
	}
}

// consented is with adoption asked for and granted.
func consented(f *world) {
	f.AKVS.Spec.Output.Secret.Adopt = true
	f.Observed.Annotations = map[string]string{v2beta1.AdoptAnnotation: "a"}
}

// Whose fields become ours: those of the original whole, unless another owner has
// not had his turn, or the output was somebody's before.
func TestWriteTakesOver(t *testing.T) {
	t.Parallel()
	const original, carrier = plan.OriginalManager, plan.CarrierManager
	a, b, old := ownedBy("a", "uid-a"), ownedBy("b", "uid-b"), ownedBy("a", "uid-old")
	named := func(managers ...string) *plan.TakeOver { return &plan.TakeOver{Named: managers} }
	whole := func(managers ...string) *plan.TakeOver { return &plan.TakeOver{Whole: managers} }
	for name, tc := range map[string]struct {
		observed *plan.Observed
		want     *plan.TakeOver
	}{
		"NothingOfOurs":       {owned(opaque("password", "x", "akvs-uid-a"), a), nil},
		"NothingOfARivals":    {owned(opaque("user", "x", "akvs-uid-b"), b), nil},
		"NothingOfAPersons":   {owned(opaque("password", "x", "kubectl"), a), nil},
		"OriginalAlone":       {owned(opaque("password", "x", original), a), whole(original)},
		"OriginalOtherWaits":  {owned(opaque("password", "x", original), a, b), named(original)},
		"OriginalOtherHadIt":  {owned(holding(map[string][]string{"password": {original}, "user": {"akvs-uid-b"}}), a, b), whole(original)},
		"Namesake":            {owned(opaque("password", "x", "akvs-uid-old"), old), whole("akvs-uid-old")},
		"NamesakeAndOriginal": {owned(opaque("password", "x", "akvs-uid-old", original), old), whole("akvs-uid-old", original)},
		"NamesakeBesideOther": {owned(opaque("password", "x", "akvs-uid-old"), old, b), named("akvs-uid-old")},
		"GoneWithoutAName":    {owned(opaque("password", "x", "akvs-uid-old"), a), nil},
		"Carrier":             {owned(opaque("password", "x", carrier), a), named(carrier)},
		"CarrierAndOriginal":  {owned(holding(map[string][]string{"password": {carrier}, "old": {original}}), a, b), named(carrier, original)},
		"OriginalAdopted":     {asAdopted(holding(map[string][]string{"password": {original}, "theirs": {original}}, a)), named(original)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := claiming(tc.observed, asking)
			if w.Observed.Labels[v2beta1.AdoptedLabel] != "" {
				consented(&w)
			}
			in := decide(w)
			if write(in) == nil {
				t.Fatalf("nothing is written: %v", said(in))
			}
			if diff := cmp.Diff(tc.want, write(in).TakeOver); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Of two that were made in the same second, the first by name keeps a key.
func TestDecideContestOfTheSameSecond(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]bool{"Aaron": true, "b": false} {
		rival := plan.Rival{Name: name, UID: "uid-b", Created: metav1.NewTime(noon.Add(-time.Hour))}
		in := decide(claiming(owned(opaque("password", "x", "akvs-uid-b"), ownedBy(name, "uid-b")), func(f *world) { f.Rivals = []plan.Rival{rival} }))
		if got := ready(t, in).Reason == v2beta1.ReasonOutputConflict; got != lost {
			t.Errorf("against %s: lost %t, want %t: %v", name, got, lost, said(in))
		}
	}
}

// Who gets nothing writes nothing, and who loses the last of what he had gives it up.
func TestDecideInVain(t *testing.T) {
	t.Parallel()
	b, elder := ownedBy("b", "uid-b"), func(f *world) { f.Rivals = []plan.Rival{elderB} }
	in := decide(claiming(owned(opaque("password", "x", "akvs-uid-b"), b), elder))
	if write(in) != nil {
		t.Errorf("joined without a key: %+v", write(in))
	}
	before := owned(holding(map[string][]string{"password": {"akvs-uid-b"}, "before": {"akvs-uid-a"}}), ownedBy("a", "uid-a"), b)
	if in = decide(claiming(before, elder)); write(in) == nil || len(write(in).Payload.Data) != 0 {
		t.Errorf("the key of before is not given up: %+v", write(in))
	}
}

// A key that is no longer asked for goes, also when nothing else changes.
func TestDecideDropsAKeyOfBefore(t *testing.T) {
	t.Parallel()
	another := func(f *world) {
		f.Observed.Data["before"], f.Observed.Managers["before"] = f.Observed.Data["password"], []string{"akvs-uid-a"}
	}
	f := synced(another)
	in := decide(f)
	if write(in) == nil || write(in).Replace != nil {
		t.Fatalf("write %+v, want one in place", write(in))
	}
	if _, still := after(f, in).Observed.Data["before"]; still {
		t.Error("the key of before is still there")
	}
	fixed := func(f *world) { f.AKVS.Spec.Output.Secret.Immutable, f.Observed.Immutable = true, true }
	if in = decide(synced(fixed)); write(in) != nil && write(in).Replace != nil {
		t.Errorf("what is immutable is made anew for nothing: %+v", write(in))
	}
	if in = decide(synced(fixed, another)); write(in) == nil || write(in).Replace == nil {
		t.Errorf("write %+v, want a replacement", write(in))
	}
}

// What cannot be changed in place is made anew for a namesake, and left alone once
// it was somebody's.
func TestDecideWhatIsMadeAnew(t *testing.T) {
	t.Parallel()
	in := decide(claiming(typed(owned(opaque("password", "x", "akvs-uid-old"), ownedBy("a", "uid-old")), corev1.SecretTypeTLS)))
	if write(in) == nil || write(in).Replace == nil {
		t.Errorf("a namesake's: write %+v, said %v", write(in), said(in))
	}
	in = decide(claiming(typed(asAdopted(holding(map[string][]string{"password": {"akvs-uid-a"}})), corev1.SecretTypeTLS), consented))
	if write(in) != nil || ready(t, in).Reason != v2beta1.ReasonOutputConflict {
		t.Errorf("an adopted one: write %+v, said %v", write(in), said(in))
	}
}

// An output without our mark is watched by nobody, so that it is not vouched for.
func TestDecideDuringAnOutageWithoutTheMark(t *testing.T) {
	t.Parallel()
	in := decide(synced(failing(vault.ErrUnavailable), func(f *world) { f.Observed.Labels = nil }))
	if got := ready(t, in); got.Reason != v2beta1.ReasonVaultUnavailable {
		t.Errorf("Ready is %s %s", got.Status, got.Reason)
	}
}

// What the original wrote for a resource without an owner is known by its status,
// and by nothing else.
func TestDecideKnowsTheOriginalsByTheStatus(t *testing.T) {
	t.Parallel()
	stripped := func() *plan.Observed { return opaque("password", "x", plan.OriginalManager) }
	for name, tc := range map[string]struct {
		status v2beta1.AzureKeyVaultSecretStatus
		ours   bool
	}{
		"Named":     {v2beta1.AzureKeyVaultSecretStatus{SecretName: "out"}, true},
		"Another":   {v2beta1.AzureKeyVaultSecretStatus{SecretName: "other"}, false},
		"OtherKind": {v2beta1.AzureKeyVaultSecretStatus{ConfigMapName: "out"}, false},
		"None":      {v2beta1.AzureKeyVaultSecretStatus{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := decide(claiming(stripped(), func(f *world) { f.AKVS.Status = tc.status }))
			if got := write(in) != nil; got != tc.ours {
				t.Errorf("written %t, want %t: %v", got, tc.ours, said(in))
			}
		})
	}
}
