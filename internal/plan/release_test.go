// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

const (
	noteRequired = "its AzureKeyVaultSecret is gone, and keys that this type of Secret needs are left in it"
	noteOrphan   = "its AzureKeyVaultSecret is gone and no longer owned it, so its data is left as it is"
)

// ties are those of uid-a and, with a second one, uid-b.
func ties(list ...plan.Tie) map[types.UID]plan.Tie {
	out := map[types.UID]plan.Tie{}
	for i, tie := range list {
		out[[]types.UID{"uid-a", "uid-b"}[i]] = tie
	}
	return out
}

// holding is an output with these keys of these managers.
func holding(keys map[string][]string, owners ...[]metav1.OwnerReference) *plan.Observed {
	o := owned(&plan.Observed{Type: corev1.SecretTypeOpaque, Managers: keys, Data: map[string]secret.Value{}, Labels: marks()}, owners...)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		o.Data[key] = secret.New([]byte(key))
		o.All = append(o.All, keys[key]...)
	}
	slices.Sort(o.All)
	o.All = slices.Compact(o.All)
	return o
}

func asAdopted(o *plan.Observed) *plan.Observed {
	o.Labels[v2beta1.AdoptedLabel] = v2beta1.AdoptedLabelValue
	return o
}

func typed(o *plan.Observed, as corev1.SecretType) *plan.Observed {
	o.Type = as
	return o
}

func TestRelease(t *testing.T) {
	t.Parallel()
	const mine, other = "akvs-uid-a", "akvs-uid-b"
	kept, left, gone := plan.TieKept, plan.TieLeft, plan.TieGone
	a, b, theirs := ownedBy("a", "uid-a"), ownedBy("b", "uid-b"), []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "uid-x"}}
	alone := func() map[string][]string { return map[string][]string{"password": {mine}} }
	both := func() map[string][]string { return map[string][]string{"password": {mine}, "user": {other}} }
	besides := func() map[string][]string { return map[string][]string{"password": {mine}, "theirs": {"kubectl"}} }
	pair := func(more string) map[string][]string {
		return map[string][]string{corev1.TLSCertKey: {mine}, corev1.TLSPrivateKeyKey: {mine}, more: {"kubectl"}}
	}
	nothing, deleted := plan.ReleaseIntent{}, plan.ReleaseIntent{Delete: true}
	drop := func(drops ...plan.Drop) plan.ReleaseIntent { return plan.ReleaseIntent{Drop: drops} }
	for name, tc := range map[string]struct {
		observed *plan.Observed
		ties     map[types.UID]plan.Tie
		want     plan.ReleaseIntent
	}{
		"Absent":        {nil, nil, nothing},
		"OfNobodysOurs": {holding(map[string][]string{"theirs": {"kubectl"}}), nil, nothing},
		"AboutToVanish": {func() *plan.Observed { o := holding(alone(), a); o.Deleting = true; return o }(), ties(gone), nothing},
		"Kept":          {holding(alone(), a), ties(kept), nothing},
		"KeptStripped":  {holding(alone()), ties(kept), nothing},

		"Left":           {holding(alone(), a), ties(left), deleted},
		"LeftStripped":   {holding(alone()), ties(left), deleted},
		"Gone":           {holding(alone(), a), ties(gone), deleted},
		"GoneOriginal":   {holding(map[string][]string{"password": {plan.OriginalManager}}, a), ties(gone), deleted},
		"GoneMadeAnew":   {holding(map[string][]string{"password": {plan.CarrierManager}}, a), ties(gone), deleted},
		"BothGone":       {holding(both(), a, b), ties(gone, gone), deleted},
		"OneGoneOneLeft": {holding(both(), a, b), ties(gone, left), deleted},

		"GoneStripped":        {holding(alone()), ties(gone), drop(plan.Drop{Manager: mine, Stay: []string{"password"}, Note: noteOrphan})},
		"GoneStrippedCoOwned": {holding(map[string][]string{"password": {mine, "kubectl"}}), ties(gone), drop(plan.Drop{Manager: mine})},
		"BothGoneOneStripped": {holding(both(), a), ties(gone, gone), drop(plan.Drop{Manager: mine}, plan.Drop{Manager: other, Stay: []string{"user"}, Note: noteOrphan})},

		"GoneBesideKept":         {holding(both(), a, b), ties(gone, kept), drop(plan.Drop{Manager: mine})},
		"LeftBesideKept":         {holding(both(), a, b), ties(left, kept), drop(plan.Drop{Manager: mine})},
		"GoneStrippedBesideKept": {holding(both(), b), ties(gone, kept), drop(plan.Drop{Manager: mine})},
		"GoneWithoutAField":      {holding(map[string][]string{"user": {other}}, a, b), ties(gone, kept), nothing},
		"GoneBesideAPersonsKey":  {holding(besides(), a), ties(gone), drop(plan.Drop{Manager: mine})},
		"LeftBesideAPersonsKey":  {holding(besides(), a), ties(left), drop(plan.Drop{Manager: mine})},
		"GoneBesideNobodysKey":   {holding(map[string][]string{"password": {mine}, "theirs": nil}, a), ties(gone), drop(plan.Drop{Manager: mine})},
		"GoneBesideAnotherOwner": {holding(alone(), a, theirs), ties(gone), drop(plan.Drop{Manager: mine})},
		"GoneAdopted":            {asAdopted(holding(alone())), ties(gone), drop(plan.Drop{Manager: mine})},
		"LeftAdopted":            {asAdopted(holding(besides())), ties(left), drop(plan.Drop{Manager: mine})},

		"TypeNeedsItsKeys": {
			typed(holding(pair("theirs"), a), corev1.SecretTypeTLS), ties(gone),
			drop(plan.Drop{Manager: mine, Stay: []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey}, Note: noteRequired}),
		},
		"TypeHasOneKeyOfOthers": {
			typed(holding(map[string][]string{corev1.TLSCertKey: {mine, "kubectl"}, corev1.TLSPrivateKeyKey: {mine}}, a, theirs), corev1.SecretTypeTLS), ties(left),
			drop(plan.Drop{Manager: mine, Stay: []string{corev1.TLSPrivateKeyKey}, Note: noteRequired}),
		},
		"TypeHasItsKeysOfOthers": {
			typed(holding(map[string][]string{corev1.SSHAuthPrivateKey: {"kubectl"}, "password": {mine}}, a), corev1.SecretTypeSSHAuth), ties(gone),
			drop(plan.Drop{Manager: mine}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := plan.Release(plan.ReleaseFacts{Kind: render.Secret, Observed: tc.observed, Ties: tc.ties})
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A ConfigMap has no type that would need its keys.
func TestReleaseOfAConfigMap(t *testing.T) {
	t.Parallel()
	o := typed(holding(map[string][]string{corev1.TLSCertKey: {"akvs-uid-a"}, "theirs": {"kubectl"}}, ownedBy("a", "uid-a")), "")
	got := plan.Release(plan.ReleaseFacts{Kind: render.ConfigMap, Observed: o, Ties: ties(plan.TieGone)})
	if diff := cmp.Diff(plan.ReleaseIntent{Drop: []plan.Drop{{Manager: "akvs-uid-a"}}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAsks(t *testing.T) {
	t.Parallel()
	ready := func(status metav1.ConditionStatus, generation int64) func(*v2beta1.AzureKeyVaultSecret) {
		return func(akvs *v2beta1.AzureKeyVaultSecret) {
			akvs.Status.ObservedGeneration = generation
			akvs.Status.Conditions = []metav1.Condition{{Type: v2beta1.ConditionReady, Status: status}}
		}
	}
	for name, tc := range map[string]struct {
		change func(*v2beta1.AzureKeyVaultSecret)
		kind   render.Kind
		name   string
		want   plan.Tie
	}{
		"Asks":             {ready(metav1.ConditionTrue, 1), render.Secret, "out", plan.TieKept},
		"AsksInVain":       {ready(metav1.ConditionFalse, 1), render.Secret, "out", plan.TieKept},
		"OtherName":        {ready(metav1.ConditionTrue, 1), render.Secret, "old", plan.TieLeft},
		"OtherKind":        {ready(metav1.ConditionTrue, 1), render.ConfigMap, "out", plan.TieLeft},
		"NewOneNotThere":   {ready(metav1.ConditionFalse, 1), render.Secret, "old", plan.TieKept},
		"NewOneNotTried":   {ready(metav1.ConditionTrue, 0), render.Secret, "old", plan.TieKept},
		"NothingSaidSoFar": {func(*v2beta1.AzureKeyVaultSecret) {}, render.Secret, "old", plan.TieKept},
		"NoOutputAtAll": {func(akvs *v2beta1.AzureKeyVaultSecret) {
			ready(metav1.ConditionTrue, 1)(akvs)
			akvs.Spec.Output = v2beta1.Output{}
		}, render.Secret, "out", plan.TieLeft},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			akvs := resource()
			tc.change(akvs)
			if got := plan.Asks(akvs, tc.kind, tc.name); got != tc.want {
				t.Errorf("tie %d, want %d", got, tc.want)
			}
		})
	}
}

// dropped is what the adapter and server-side apply make of an output.
func dropped(o *plan.Observed, d plan.Drop) *plan.Observed {
	out := &plan.Observed{
		Type: o.Type, Labels: o.Labels, Annotations: o.Annotations, Data: map[string]secret.Value{}, Managers: map[string][]string{},
	}
	for key, value := range o.Data {
		by, others := o.Managers[key], without(o.Managers[key], d.Manager)
		if slices.Contains(d.Stay, key) {
			others = append(others, plan.ReleasedManager)
		}
		if len(others) == 0 && len(by) > 0 {
			continue
		}
		out.Data[key], out.Managers[key] = value, others
		out.All = append(out.All, others...)
	}
	for _, ref := range o.Owners {
		if plan.Manager(ref.UID) != d.Manager {
			out.Owners = append(out.Owners, ref)
		}
	}
	return out
}

func genReleaseFacts(t *rapid.T) plan.ReleaseFacts {
	manager := rapid.SampledFrom([]string{"akvs-uid-a", "akvs-uid-b", "akvs-uid-c", "kubectl", plan.OriginalManager, plan.CarrierManager, plan.ReleasedManager})
	keys := map[string][]string{}
	for _, key := range []string{"password", "user", corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		if rapid.Bool().Draw(t, "has "+key) {
			keys[key] = rapid.SliceOfNDistinct(manager, 0, 3, rapid.ID[string]).Draw(t, "managers of "+key)
		}
	}
	o := holding(keys)
	for _, ref := range [][]metav1.OwnerReference{ownedBy("a", "uid-a"), ownedBy("b", "uid-b"), {{APIVersion: "apps/v1", Kind: "Deployment", Name: "x", UID: "uid-x"}}} {
		if rapid.Bool().Draw(t, "owner "+string(ref[0].UID)) {
			o.Owners = append(o.Owners, ref...)
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "adopted") == 0 {
		asAdopted(o)
	}
	kind := rapid.SampledFrom([]render.Kind{render.Secret, render.ConfigMap}).Draw(t, "kind")
	o.Type = rapid.SampledFrom([]corev1.SecretType{corev1.SecretTypeOpaque, corev1.SecretTypeTLS}).Draw(t, "type")
	if kind == render.ConfigMap {
		o.Type = ""
	}
	all := map[types.UID]plan.Tie{}
	for _, uid := range []types.UID{"uid-a", "uid-b", "uid-c"} {
		all[uid] = rapid.SampledFrom([]plan.Tie{plan.TieKept, plan.TieLeft, plan.TieGone}).Draw(t, "tie of "+string(uid))
	}
	return plan.ReleaseFacts{Kind: kind, Observed: o, Ties: named(o, all)}
}

// named are the ties of those that the output still names.
func named(o *plan.Observed, all map[types.UID]plan.Tie) map[types.UID]plan.Tie {
	out := map[types.UID]plan.Tie{}
	for _, uid := range o.Claimants() {
		out[uid] = all[uid]
	}
	return out
}

// isForeign says whether a key is somebody's who is no AzureKeyVaultSecret.
func isForeign(managers []string) bool {
	return !slices.ContainsFunc(managers, func(m string) bool {
		return m == plan.OriginalManager || m == plan.CarrierManager || len(m) > 5 && m[:5] == "akvs-"
	})
}

// Nothing that an existing, asking AzureKeyVaultSecret keeps and nothing of
// anybody else's ever goes; and what is released once needs no second time.
func TestReleaseTakesOnlyWhatIsFree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := genReleaseFacts(t)
		all := f.Ties
		for range 4 { // at most one for each of three, and a look that finds nothing
			in := plan.Release(f)
			if in.Delete {
				checkDisposable(t, f)
				return
			}
			if len(in.Drop) == 0 {
				return
			}
			checkDrop(t, f, in.Drop[0])
			f.Observed = dropped(f.Observed, in.Drop[0])
			f.Ties = named(f.Observed, all)
		}
		t.Fatalf("it does not come to rest: %+v of %+v", plan.Release(f), f.Observed)
	})
}

func checkDisposable(t *rapid.T, f plan.ReleaseFacts) {
	t.Helper()
	for uid, tie := range f.Ties {
		if tie == plan.TieKept {
			t.Fatalf("deleted although %s asks for it", uid)
		}
	}
	for key := range f.Observed.Data {
		if isForeign(f.Observed.Managers[key]) {
			t.Fatalf("deleted with key %s, which was somebody else's", key)
		}
	}
	if f.Observed.Labels[v2beta1.AdoptedLabel] != "" {
		t.Fatal("deleted although it was adopted")
	}
	if slices.ContainsFunc(f.Observed.Owners, func(ref metav1.OwnerReference) bool { return ref.Kind != v2beta1.Kind }) {
		t.Fatal("deleted although somebody else owns it")
	}
}

func checkDrop(t *rapid.T, f plan.ReleaseFacts, d plan.Drop) {
	t.Helper()
	if f.Ties[types.UID(d.Manager[len("akvs-"):])] == plan.TieKept {
		t.Fatalf("dropped the fields of %s, which is there", d.Manager)
	}
	after := dropped(f.Observed, d)
	for key, by := range f.Observed.Managers {
		others := without(by, d.Manager)
		if _, still := after.Data[key]; !still && (len(others) > 0 || len(by) == 0) {
			t.Fatalf("key %s of %v went with %s", key, others, d.Manager)
		}
		if _, still := after.Data[key]; !still && f.Observed.Type == corev1.SecretTypeTLS && (key == corev1.TLSCertKey || key == corev1.TLSPrivateKeyKey) {
			t.Fatalf("key %s, without which the API server refuses the Secret, went", key)
		}
	}
	if again := dropped(after, d); !cmp.Equal(keysOf(after), keysOf(again)) {
		t.Fatalf("a second drop takes more: %v, then %v", keysOf(after), keysOf(again))
	}
}

func keysOf(o *plan.Observed) []string { return slices.Sorted(maps.Keys(o.Data)) }
