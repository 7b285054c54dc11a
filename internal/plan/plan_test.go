// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

const version1 = "00000000000000000000000000000001"

// resource outputs the secret my-kv/db to key password of Secret out.
func resource() *v2beta1.AzureKeyVaultSecret {
	return &v2beta1.AzureKeyVaultSecret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "uid-a", Generation: 1},
		Spec: v2beta1.AzureKeyVaultSecretSpec{
			Vault:  v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: "db", Type: v2beta1.ObjectSecret}},
			Output: v2beta1.Output{Secret: &v2beta1.SecretOutput{Name: "out", DataKey: "password"}},
		},
	}
}

func object(value string) vault.Object {
	return vault.Object{Version: version1, Value: secret.New([]byte(value))}
}

// A world is what a resource with one output each lives in.
type world struct {
	AKVS                *v2beta1.AzureKeyVaultSecret
	Object              vault.Object
	FetchErr            error
	Observed, ConfigMap *plan.Observed
	Rivals              []plan.Rival
	Failures            int
	Now                 time.Time
	Quiet               bool // nothing tells that the object has changed
	Known               vault.Known
	Settings            plan.Settings
}

func facts(change ...func(*world)) world {
	f := world{AKVS: resource(), Object: object("s3cr3t"), Now: noon, Settings: plan.Settings{Interval: time.Hour, Floor: time.Minute, Warning: 24 * time.Hour}}
	for _, c := range change {
		c(&f)
	}
	return f
}

// gathered is what the Controller would tell of the world. The vault answers what
// is asked, and nothing else. Unless it is quiet, the object may always be another.
func (w world) gathered() plan.Facts {
	f := plan.Facts{AKVS: w.AKVS, Outputs: plan.Asked(w.AKVS.Spec), Answers: map[vault.Reference]plan.Answer{}, Failures: w.Failures, Now: w.Now, Settings: w.Settings}
	for i := range f.Outputs {
		f.Outputs[i].Rivals, f.Outputs[i].Observed = w.Rivals, w.Observed
		if f.Outputs[i].Kind == render.ConfigMap {
			f.Outputs[i].Observed = w.ConfigMap
		}
	}
	f.Known = map[vault.Reference]vault.Known{}
	for _, watch := range f.Watches() {
		known := w.Known
		if !w.Quiet && watch.Version == "" {
			known.Since = w.Now
		}
		f.Known[watch.Reference] = known
	}
	for _, ref := range f.Reads() {
		f.Answers[ref] = plan.Answer{Object: w.Object, Err: w.FetchErr, Asked: f.Since(ref)}
	}
	return f
}

func decide(w world) plan.Intent { return plan.Decide(w.gathered()) }

// write is the first one of an intent, or nil.
func write(in plan.Intent) *plan.Write {
	if len(in.Writes) == 0 {
		return nil
	}
	return &in.Writes[0]
}

func failing(err error) func(*world) {
	return func(f *world) { f.Object, f.FetchErr = vault.Object{}, err }
}

// after is the next look, when nothing but what the intent says has happened.
func after(f world, in plan.Intent) world {
	akvs := f.AKVS.DeepCopy()
	akvs.Status = in.Status
	f.AKVS, f.Failures, f.Now = akvs, in.Failures, f.Now.Add(time.Hour)
	for _, w := range in.Writes {
		if w.Payload.Kind == render.ConfigMap {
			f.ConfigMap = carriedOut(f.ConfigMap, w)
		} else {
			f.Observed = carriedOut(f.Observed, w)
		}
	}
	return f
}

// carriedOut is what the adapter and server-side apply make of an output.
func carriedOut(before *plan.Observed, w plan.Write) *plan.Observed {
	o := &plan.Observed{
		UID: "uid-out", Data: map[string]secret.Value{}, Labels: map[string]string{}, Annotations: map[string]string{},
		Managers: map[string][]string{}, LabelManagers: map[string][]string{}, AnnotationManagers: map[string][]string{},
	}
	if before == nil {
		before = o
	}
	o.UID, o.ResourceVersion = before.UID, before.ResourceVersion+"1"
	manager := w.Manager
	if w.Replace != nil { // made anew by the carrier, with what was others'
		before = &plan.Observed{UID: "uid-new", Owners: w.Replace.Owners}
		o.UID, manager = before.UID, plan.CarrierManager
		w.Labels, w.Annotations = union(w.Replace.Labels, w.Labels), union(w.Replace.Annotations, w.Annotations)
	}
	rename := inheriting(w)
	o.Data, o.Managers = applied(before.Data, before.Managers, w.Payload.Data, manager, rename, secret.Value.Equal)
	equal := func(a, b string) bool { return a == b }
	o.Labels, o.LabelManagers = applied(before.Labels, before.LabelManagers, w.Labels, manager, rename, equal)
	o.Annotations, o.AnnotationManagers = applied(before.Annotations, before.AnnotationManagers, w.Annotations, manager, rename, equal)
	for _, ref := range before.Owners {
		if plan.Manager(ref.UID) != w.Manager {
			o.Owners = append(o.Owners, ref)
		}
	}
	if w.Owner != nil {
		o.Owners = append(o.Owners, *w.Owner)
	}
	o.Type, o.Immutable = w.Payload.Type, w.Immutable
	for _, managers := range []map[string][]string{o.Managers, o.LabelManagers, o.AnnotationManagers} {
		for _, by := range managers {
			o.All = append(o.All, by...)
		}
	}
	return o
}

// inheriting says who owns a field, that the write names or not, after the
// take-over.
func inheriting(w plan.Write) func(manager string, named bool) string {
	return func(manager string, named bool) string {
		if w.TakeOver != nil && (slices.Contains(w.TakeOver.Whole, manager) || named && slices.Contains(w.TakeOver.Named, manager)) {
			return w.Manager
		}
		return manager
	}
}

// applied is one map after a server-side apply that forces its fields.
func applied[V any](before map[string]V, managers map[string][]string, want map[string]V, manager string,
	rename func(string, bool) string, equal func(V, V) bool,
) (map[string]V, map[string][]string) {
	data, by := map[string]V{}, map[string][]string{}
	for key, value := range before {
		_, wanted := want[key]
		var owners []string
		for _, m := range managers[key] {
			owners = append(owners, rename(m, wanted))
		}
		others := without(owners, manager)
		if !wanted && len(others) < len(owners) && len(others) == 0 {
			continue // was ours alone
		}
		data[key], by[key] = value, others
	}
	for key, value := range want {
		if held, exists := data[key]; !exists || !equal(held, value) {
			by[key] = nil
		}
		data[key], by[key] = value, append(by[key], manager)
	}
	return data, by
}

func union(a, b map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

func without(list []string, name string) []string {
	var out []string
	for _, entry := range list {
		if entry != name {
			out = append(out, entry)
		}
	}
	return out
}

// synced is the next look at what was synced once.
func synced(change ...func(*world)) world {
	f := facts()
	f = after(f, decide(f))
	for _, c := range change {
		c(&f)
	}
	return f
}

func ready(t *testing.T, in plan.Intent) metav1.Condition {
	t.Helper()
	c := meta.FindStatusCondition(in.Status.Conditions, v2beta1.ConditionReady)
	if c == nil {
		t.Fatal("no Ready condition")
	}
	return *c
}

// said is all that a person reads of an intent.
func said(in plan.Intent) []string {
	var out []string
	for _, c := range in.Status.Conditions {
		out = append(out, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	for _, e := range in.Events {
		out = append(out, fmt.Sprintf("%s %s: %s", e.Type, e.Reason, e.Note))
	}
	return out
}

// marks are the labels that every output has.
func marks() map[string]string {
	return map[string]string{v2beta1.OutputLabel: v2beta1.OutputLabelValue}
}

func TestDecideFirstWrite(t *testing.T) {
	t.Parallel()
	in := decide(facts())
	isController, block := false, true
	want := &plan.Write{
		Namespace: "ns", Name: "out", Manager: "akvs-uid-a",
		Owner: &metav1.OwnerReference{
			APIVersion: "spv.no/v2beta1", Kind: "AzureKeyVaultSecret", Name: "a", UID: "uid-a",
			Controller: &isController, BlockOwnerDeletion: &block,
		},
		Labels: marks(), Annotations: map[string]string{},
		Payload: render.Payload{Kind: render.Secret, Type: corev1.SecretTypeOpaque, Data: map[string]secret.Value{"password": secret.New([]byte("s3cr3t"))}},
	}
	if diff := cmp.Diff(want, write(in)); diff != "" {
		t.Errorf("write (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"Ready=True Synced: my-kv/db: Secret out holds it",
		"Normal Synced: my-kv/db: Secret out created",
	}, said(in)); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
	status := in.Status
	if status.SecretName != "out" || status.ObjectVersion != version1 || status.ObservedGeneration != 1 ||
		len(status.SecretHash) != 32 || !status.LastAzureUpdate.Time.Equal(noon) {
		t.Errorf("status %+v", status)
	}
	if in.Requeue != 0 || in.Retry != nil {
		t.Errorf("requeue %s, retry %v", in.Requeue, in.Retry)
	}
}

func TestDecideSteadyStateSaysAndWritesNothing(t *testing.T) {
	t.Parallel()
	f := synced()
	in := decide(f)
	if write(in) != nil || len(in.Events) != 0 {
		t.Errorf("write %v, events %v", write(in), in.Events)
	}
	if diff := cmp.Diff(f.AKVS.Status, in.Status); diff != "" {
		t.Errorf("status (-before +after):\n%s", diff)
	}
}

// complaint is what is said of what only a person can mend.
func complaint(text string) []string {
	return []string{"Ready=False " + text, "Stalled=True " + text, "Warning " + text}
}

// elder is the warning under the reason that users have always known.
func elder(reason, text string) string {
	_, note, _ := strings.Cut(text, ": ")
	return "Warning " + reason + ": " + note
}

func TestDecideWhenTheVaultSaysNo(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		said string
	}{
		"NoVault":   {vault.ErrNoVault, "VaultNotFound: my-kv/db: there is no vault of this name"},
		"NotFound":  {fmt.Errorf("reading: %w", vault.ErrNotFound), "VaultObjectNotFound: my-kv/db: the vault has no such object"},
		"Disabled":  {vault.ErrDisabled, "VaultObjectDisabled: my-kv/db: the object, or this version of it, is disabled"},
		"Forbidden": {vault.ErrForbidden, "VaultForbidden: my-kv/db: the identity may not read this object"},
		"Firewall":  {vault.ErrFirewall, "VaultNetworkDenied: my-kv/db: the vault's firewall refuses this network"},
		"SignIn":    {vault.ErrSignIn, "SignInFailed: my-kv/db: signing in to Azure was refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := synced()
			f := synced(failing(tc.err))
			in := decide(f)
			want := append(complaint(tc.said), elder("ErrAzureVault", tc.said))
			if diff := cmp.Diff(want, said(in)); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
			if write(in) != nil || in.Retry != nil || in.Requeue != 0 {
				t.Errorf("write %v, retry %v, requeue %s", write(in), in.Retry, in.Requeue)
			}
			if in.Status.ObjectVersion != version1 || in.Status.SecretName != "out" {
				t.Errorf("the status forgot the last output: %+v", in.Status)
			}
			if again := decide(after(f, in)); len(again.Events) != 0 {
				t.Errorf("the same problem is announced twice: %v", again.Events)
			}
			recovered := after(f, in)
			recovered.FetchErr, recovered.Object = nil, before.Object
			back := decide(recovered)
			want = []string{"Ready=True Synced: my-kv/db: Secret out holds it", "Normal Synced: my-kv/db: Secret out holds it again"}
			if diff := cmp.Diff(want, said(back)); diff != "" {
				t.Errorf("after recovery (-want +got):\n%s", diff)
			}
			if !back.Status.LastAzureUpdate.Time.Equal(noon) {
				t.Error("lastAzureUpdate moved although the output did not change")
			}
		})
	}
}

func TestDecideDuringAnOutage(t *testing.T) {
	t.Parallel()
	unavailable := "VaultUnavailable: my-kv/db: the vault did not answer; it is tried again"
	for name, tc := range map[string]struct {
		facts world
		said  []string // beyond what was said before
		kept  bool     // the status stays as it was
	}{
		"NothingYet": {facts(failing(vault.ErrUnavailable)), []string{"Ready=False " + unavailable, "Warning " + unavailable, elder("ErrAzureVault", unavailable)}, false},
		"Confirmed":  {synced(failing(vault.ErrUnavailable)), nil, true},
		"Throttled":  {synced(failing(vault.Throttled{})), nil, true},
		"Unknown":    {synced(failing(errors.New("boom"))), nil, true},
		"ConfirmedForLong": {
			synced(failing(vault.ErrUnavailable), func(f *world) { f.Failures = 2 }),
			[]string{"Warning " + unavailable, elder("ErrAzureVault", unavailable)},
			true,
		},
		"ConfirmedForLonger": {
			synced(failing(vault.ErrUnavailable), func(f *world) { f.Failures = 3 }), nil, true,
		},
		"OutputGone": {
			synced(failing(vault.ErrUnavailable), func(f *world) { f.Observed = nil }),
			[]string{"Ready=False " + unavailable, "Warning " + unavailable, elder("ErrAzureVault", unavailable)},
			false,
		},
		"OutputChangedByHand": {
			synced(failing(vault.ErrUnavailable), func(f *world) { f.Observed.Managers["password"] = []string{"kubectl-edit"} }),
			[]string{"Ready=False " + unavailable, "Warning " + unavailable, elder("ErrAzureVault", unavailable)},
			false,
		},
		"SpecChanged": {
			synced(failing(vault.ErrUnavailable), func(f *world) { f.AKVS.Generation++ }),
			[]string{"Ready=False " + unavailable, "Warning " + unavailable, elder("ErrAzureVault", unavailable)},
			false,
		},
		"AnsweredNoBefore": {
			func() world {
				f := synced(failing(vault.ErrForbidden))
				f = after(f, decide(f))
				f.FetchErr, f.Failures = vault.ErrUnavailable, 2
				return f
			}(), nil, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := decide(tc.facts)
			if write(in) != nil {
				t.Error("a write during an outage")
			}
			if !errors.Is(in.Retry, vault.ErrUnavailable) || in.Requeue != 0 {
				t.Errorf("retry %v, requeue %s, want backoff", in.Retry, in.Requeue)
			}
			if in.Failures != tc.facts.Failures+1 {
				t.Errorf("failures %d after %d", in.Failures, tc.facts.Failures)
			}
			want := tc.said
			if tc.kept {
				want = append(said(plan.Intent{Status: tc.facts.AKVS.Status}), want...)
			}
			if diff := cmp.Diff(want, said(in)); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecideHeedsTheVaultsPause(t *testing.T) {
	t.Parallel()
	in := decide(synced(failing(fmt.Errorf("reading: %w", vault.Throttled{RetryAfter: 7 * time.Second}))))
	if in.Requeue != 7*time.Second || in.Retry != nil {
		t.Errorf("requeue %s, retry %v, want 7s and none", in.Requeue, in.Retry)
	}
}

// Thousands of resources that come back whenever a vault is tried again would be a
// storm of reads for the API server, which has to be asked before the vault.
func TestDecideComesBackEverLater(t *testing.T) {
	t.Parallel()
	resting := failing(vault.Resting{RetryAfter: time.Second})
	failures := func(n int) func(*world) { return func(f *world) { f.Failures = n } }
	for name, tc := range map[string]struct {
		facts world
		want  time.Duration
	}{
		"First":        {synced(resting), time.Second},
		"Third":        {synced(resting, failures(2)), 4 * time.Second},
		"AskedToLater": {synced(failing(vault.Throttled{RetryAfter: 7 * time.Second}), failures(2)), 7 * time.Second},
		"Watched":      {synced(resting, failures(1000)), 5 * time.Minute}, // and woken when the vault answers
		"Jittered":     {synced(resting, failures(1000), func(f *world) { f.Settings.Jitter = 1.1 }), 330 * time.Second},
		"Unwatched": {settled(v2beta1.RefreshOnChange, annotated("now"), resting, failures(1000), func(f *world) {
			f.Settings.Interval = time.Minute
		}), time.Minute},
		"UnwatchedAndRarely": {settled(v2beta1.RefreshOnChange, annotated("now"), resting, failures(1000)), 5 * time.Minute},
		"Never":              {synced(resting, failures(1000), func(f *world) { f.Settings.Interval = 0 }), 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := decide(tc.facts)
			if in.Requeue != tc.want || in.Retry != nil {
				t.Errorf("again after %s, error %v, want %s", in.Requeue, in.Retry, tc.want)
			}
		})
	}
}

func TestDecideRotation(t *testing.T) {
	t.Parallel()
	f := synced(func(f *world) {
		f.Object = vault.Object{Version: "00000000000000000000000000000002", Value: secret.New([]byte("n3w"))}
	})
	in := decide(f)
	if write(in) == nil || write(in).UID != "uid-out" || write(in).ResourceVersion != "1" {
		t.Fatalf("write %+v, want one upon the observed Secret", write(in))
	}
	if in.Status.SecretHash == f.AKVS.Status.SecretHash || !in.Status.LastAzureUpdate.Time.Equal(f.Now) {
		t.Errorf("hash or time did not change: %+v", in.Status)
	}
	if diff := cmp.Diff([]plan.Event{{Type: "Normal", Reason: "Synced", Note: "my-kv/db: Secret out updated"}}, in.Events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestDecideRepairsDrift(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*world){
		"Value": func(f *world) {
			f.Observed.Data["password"], f.Observed.Managers["password"] = secret.New([]byte("by hand")), []string{"kubectl-edit"}
		},
		"KeyRemoved":   func(f *world) { delete(f.Observed.Data, "password"); delete(f.Observed.Managers, "password") },
		"LabelLost":    func(f *world) { f.Observed.Labels, f.Observed.LabelManagers = nil, nil },
		"OwnerLost":    func(f *world) { f.Observed.Owners = nil },
		"FieldsLost":   func(f *world) { f.Observed.Managers, f.Observed.All = nil, nil },
		"SecretGone":   func(f *world) { f.Observed = nil },
		"KeyOfOldSpec": func(f *world) { f.AKVS.Spec.Output.Secret.DataKey = "other"; f.AKVS.Generation++ },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := synced(change)
			in := decide(f)
			if write(in) == nil || len(in.Events) != 1 || ready(t, in).Status != metav1.ConditionTrue {
				t.Fatalf("write %v, said %v", write(in), said(in))
			}
			if again := decide(after(f, in)); write(again) != nil || len(again.Events) != 0 {
				t.Errorf("not repaired at once: %v", said(again))
			}
		})
	}
}

func ownedBy(name string, uid types.UID) []metav1.OwnerReference {
	return []metav1.OwnerReference{{APIVersion: "spv.no/v2beta1", Kind: "AzureKeyVaultSecret", Name: name, UID: uid}}
}

// opaque is a Secret with one key.
func opaque(key, value string, managers ...string) *plan.Observed {
	return &plan.Observed{
		UID: "uid-x", ResourceVersion: "5", Type: corev1.SecretTypeOpaque, All: managers,
		Data:     map[string]secret.Value{key: secret.New([]byte(value))},
		Managers: map[string][]string{key: managers},
	}
}

// owned gives an output owners.
func owned(o *plan.Observed, refs ...[]metav1.OwnerReference) *plan.Observed {
	o.Owners = slices.Concat(refs...)
	return o
}

var (
	elderB   = plan.Rival{Name: "b", UID: "uid-b", Created: metav1.NewTime(noon.Add(-2 * time.Hour))}
	youngerB = plan.Rival{Name: "b", UID: "uid-b", Created: metav1.NewTime(noon)}
)

func TestDecideWhoseSecretItIs(t *testing.T) {
	t.Parallel()
	a, b := ownedBy("a", "uid-a"), ownedBy("b", "uid-b")
	const (
		taken    = "OutputTaken: Secret out: it exists already: delete it, choose another name, or adopt it"
		consent  = "OutputTaken: Secret out: it exists already, and its annotation spv.no/adopt-by does not name this resource"
		lost     = "OutputConflict: Secret out: AzureKeyVaultSecret b, which is older, keeps the same key in it; choose another key or name"
		otherOne = "OutputConflict: Secret out: another AzureKeyVaultSecret made it, with another type or immutable; choose another name"
		typed    = "OutputConflict: Secret out: it has another type and holds what is not ours; delete it to have it made anew"
		fixed    = "OutputConflict: Secret out: it is immutable and holds what is not ours; delete it to have it made anew"
		vanishes = "OutputConflict: Secret out: it is being deleted; it is made anew once it is gone"
	)
	with := func(o *plan.Observed, change func(*plan.Observed)) *plan.Observed { change(o); return o }
	handedOver := func(o *plan.Observed) { o.Annotations = map[string]string{v2beta1.AdoptAnnotation: "z, a"} }
	tls := func(o *plan.Observed) { o.Type = corev1.SecretTypeTLS }
	immutable := func(o *plan.Observed) { o.Immutable = true }
	foreign := func(o *plan.Observed) {
		o.Data["theirs"], o.Managers["theirs"] = secret.New([]byte("x")), []string{"kubectl"}
	}
	adopt := func(f *world) { f.AKVS.Spec.Output.Secret.Adopt = true }
	rival := func(r plan.Rival) func(*world) { return func(f *world) { f.Rivals = []plan.Rival{r} } }
	for name, tc := range map[string]struct {
		observed *plan.Observed
		change   func(*world)
		refused  string // empty: written
		replaced bool
	}{
		"APersons":                {opaque("password", "theirs", "kubectl"), nil, taken, false},
		"APersonsOtherKey":        {opaque("unrelated", "theirs", "kubectl"), nil, taken, false},
		"APersonsEqualValue":      {opaque("password", "s3cr3t", "kubectl"), nil, taken, false},
		"APersonsWithLabel":       {with(opaque("password", "x", "kubectl"), func(o *plan.Observed) { o.Labels = marks() }), nil, taken, false},
		"APersonsHandedOver":      {with(opaque("password", "x", "kubectl"), handedOver), nil, taken, false},
		"APersonsAdopted":         {opaque("password", "x", "kubectl"), adopt, consent, false},
		"HandedOverAndAdopted":    {with(opaque("password", "x", "kubectl"), handedOver), adopt, "", false},
		"HandedOverOtherType":     {with(with(opaque("user", "x", "kubectl"), handedOver), tls), adopt, typed, false},
		"HandedOverImmutable":     {with(with(opaque("user", "x", "kubectl"), handedOver), immutable), adopt, fixed, false},
		"OfAnotherKind":           {owned(opaque("password", "x", "helm"), []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "a", UID: "uid-a"}}), nil, taken, false},
		"SharedOtherKey":          {owned(opaque("user", "x", "akvs-uid-b"), b), rival(elderB), "", false},
		"SharedKeyOfAnElder":      {owned(opaque("password", "x", "akvs-uid-b"), b), rival(elderB), lost, false},
		"SharedEqualValue":        {owned(opaque("password", "s3cr3t", "akvs-uid-b"), b), rival(elderB), lost, false},
		"SharedKeyOfAYounger":     {owned(opaque("password", "x", "akvs-uid-b"), b), rival(youngerB), "", false},
		"SharedPersonsKey":        {owned(opaque("password", "x", "kubectl"), b), rival(elderB), "", false},
		"SharedWithOneGone":       {owned(opaque("password", "x", "akvs-uid-c"), b, a), nil, "", false},
		"ElderHeirOfTheOriginal":  {owned(opaque("password", "x", plan.OriginalManager), b), rival(elderB), lost, false},
		"OfOurPredecessor":        {owned(opaque("password", "x", "akvs-uid-old"), ownedBy("a", "uid-old")), nil, "", false},
		"OfTheOriginal":           {owned(opaque("password", "x", plan.OriginalManager), a), nil, "", false},
		"OfTheOriginalStripped":   {opaque("password", "x", plan.OriginalManager), func(f *world) { f.AKVS.Status.SecretName = "out" }, "", false},
		"OfTheOriginalSharedType": {with(owned(opaque("password", "x", plan.OriginalManager), a), tls), rival(elderB), typed, false},
		"OfTheOriginalNotOurs":    {opaque("password", "x", plan.OriginalManager), nil, taken, false},
		"OursWithoutOwner":        {opaque("password", "x", "akvs-uid-a"), nil, "", false},
		"OursElderTookTheKey":     {owned(opaque("password", "x", "akvs-uid-b"), b, a), rival(elderB), lost, false},
		"OursOfAnotherType":       {with(opaque("password", "x", "akvs-uid-a"), tls), nil, "", true},
		"OfTheOriginalOtherType":  {with(owned(opaque("password", "x", plan.OriginalManager), a), tls), nil, "", true},
		"OtherTypeForeignKey":     {with(with(opaque("password", "x", "akvs-uid-a"), tls), foreign), nil, typed, false},
		"OtherTypeShared":         {with(owned(opaque("password", "x", "akvs-uid-a"), a, b), tls), nil, typed, false},
		"OtherTypeOfAnother":      {with(owned(opaque("user", "x", "akvs-uid-b"), b), tls), nil, otherOne, false},
		"OursImmutable":           {with(opaque("password", "x", "akvs-uid-a"), immutable), nil, "", true},
		"ImmutableForeignKey":     {with(with(opaque("password", "x", "akvs-uid-a"), immutable), foreign), nil, fixed, false},
		"ImmutableOfAnother":      {with(owned(opaque("user", "x", "akvs-uid-b"), b), immutable), nil, otherOne, false},
		"OursAboutToVanish":       {with(opaque("password", "x", "akvs-uid-a"), func(o *plan.Observed) { o.Deleting = true }), nil, vanishes, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := facts(func(f *world) {
				f.Observed = tc.observed
				f.AKVS.CreationTimestamp = metav1.NewTime(noon.Add(-time.Hour))
			})
			if tc.change != nil {
				tc.change(&f)
			}
			in := decide(f)
			if tc.refused == "" {
				if write(in) == nil || write(in).UID != "uid-x" || write(in).ResourceVersion != "5" || (write(in).Replace != nil) != tc.replaced {
					t.Errorf("write %+v, want one upon the observed Secret; said %v", write(in), said(in))
				}
				return
			}
			want := append(complaint(tc.refused), elder("ErrResourceExists", tc.refused))
			if tc.refused == lost {
				want = append(want, "Warning OutputConflict: AzureKeyVaultSecret a: it asks for a key of an output that this older one keeps; it does not get it")
			}
			if diff := cmp.Diff(want, said(in)); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
			if in.Requeue != time.Hour {
				t.Errorf("requeue %s", in.Requeue)
			}
		})
	}
}

// Of what the original wrote for several, only our part moves until we are the
// last: what else is in it may be a key of theirs, whose vault is silent now.
func TestDecideTakesOverNoPartOfOthers(t *testing.T) {
	t.Parallel()
	named, whole := &plan.TakeOver{Named: []string{plan.OriginalManager}}, &plan.TakeOver{Whole: []string{plan.OriginalManager}}
	for name, tc := range map[string]struct {
		owners []metav1.OwnerReference
		rivals []plan.Rival
		done   bool // the rival has its part
		want   *plan.TakeOver
	}{
		"Alone":         {ownedBy("a", "uid-a"), nil, false, whole},
		"Owned":         {append(ownedBy("a", "uid-a"), ownedBy("b", "uid-b")...), []plan.Rival{elderB}, false, named},
		"OwnerAsksElse": {append(ownedBy("a", "uid-a"), ownedBy("b", "uid-b")...), nil, false, whole},
		"Stripped":      {nil, []plan.Rival{elderB}, false, named},
		"StrippedAlone": {nil, nil, false, whole},
		"OtherDisputed": {ownedBy("a", "uid-a"), []plan.Rival{{Name: "b", UID: "uid-b", Disputed: true}}, false, whole},
		"StrippedLast":  {nil, []plan.Rival{elderB}, true, whole},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := facts(func(f *world) {
				f.Observed = owned(opaque("password", "x", plan.OriginalManager), tc.owners)
				f.AKVS.Status.SecretName, f.Rivals = "out", tc.rivals
				if tc.done {
					f.Observed.All = append(f.Observed.All, "akvs-uid-b")
				}
			})
			w := write(decide(f))
			if w == nil {
				t.Fatal("nothing is written")
			}
			if diff := cmp.Diff(tc.want, w.TakeOver); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What is not contested is written although something else is.
func TestDecideWritesWhatIsNotContested(t *testing.T) {
	t.Parallel()
	f := facts(func(f *world) {
		f.Observed = owned(opaque("password", "x", "akvs-uid-b"), ownedBy("b", "uid-b"))
		f.Rivals = []plan.Rival{elderB}
		f.AKVS.CreationTimestamp = youngerB.Created
		f.AKVS.Spec.Output.ConfigMap = &v2beta1.ConfigMapOutput{Name: "c", DataKey: "k"}
	})
	in := decide(f)
	if w := write(in); w == nil || len(w.Payload.Data) != 0 && w.Payload.Kind != render.ConfigMap {
		t.Fatalf("write %+v", w)
	}
	if ready(t, in).Reason != v2beta1.ReasonOutputConflict {
		t.Errorf("said %v", said(in))
	}
}

func TestDecideOutputsThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*world)
		said   string
	}{
		"Reserved": {
			func(f *world) { f.AKVS.Spec.Output.Secret.Type = "kubernetes.io/service-account-token" },
			"OutputInvalid: my-kv/db: this type of Secret gives rights in the cluster; choose another",
		},
		"KeyObject": {
			func(f *world) { f.AKVS.Spec.Vault.Object.Type = v2beta1.ObjectKey },
			"OutputInvalid: my-kv/db: the vault's answer is not a public key of type RSA or EC",
		},
		"Metadata": {
			func(f *world) {
				f.AKVS.Spec.Output.Secret.Annotations = map[string]string{"kubernetes.io/service-account.name": "x"}
			},
			"OutputInvalid: my-kv/db: labels or annotations of the output are not as Kubernetes takes them, or are reserved",
		},
		"NoDataKey": {
			func(f *world) { f.AKVS.Spec.Output.Secret.DataKey = "" },
			"OutputInvalid: my-kv/db: spec.output.secret.dataKey is required",
		},
		"Transform": {
			func(f *world) {
				f.AKVS.Spec.Output.Transform = []v2beta1.Transform{"base64decode"}
				f.Object = object("no base64!")
			},
			"OutputInvalid: my-kv/db: a transform does not fit the value: base64decode needs base64",
		},
		"NoCertificate": {
			func(f *world) {
				f.AKVS.Spec.Vault.Object.Type = v2beta1.ObjectCertificate
				f.AKVS.Spec.Output.Secret.Type = "kubernetes.io/tls"
			},
			"OutputInvalid: my-kv/db: the object is not a certificate with its private key, as PEM or PFX without password",
		},
		"NotExportable": {
			func(f *world) {
				f.AKVS.Spec.Vault.Object.Type = v2beta1.ObjectCertificate
				f.AKVS.Spec.Output.Secret.Type = "kubernetes.io/tls"
				f.Object = object("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
				f.Object = object("-----BEGIN NOTHING-----\nAAAA\n-----END NOTHING-----\n")
			},
			"KeyNotExportable: my-kv/db: the private key is not exportable: make the certificate with an exportable key",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := decide(facts(tc.change))
			want := complaint(tc.said)
			if name == "NotExportable" {
				want = append(want, elder("ErrAzureVault", tc.said))
			}
			if diff := cmp.Diff(want, said(in)); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
			if write(in) != nil {
				t.Error("a write of what cannot be")
			}
		})
	}
}

func TestDecideWithoutOutput(t *testing.T) {
	t.Parallel()
	f := facts(func(f *world) { f.AKVS.Spec.Output = v2beta1.Output{} })
	if reads := f.gathered().Reads(); len(reads) != 0 {
		t.Errorf("reads for nothing: %v", reads)
	}
	in := decide(f)
	if diff := cmp.Diff([]string{"Ready=True NoOutput: no output is asked for; the Env Injector may use it"}, said(in)); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
	if in.Requeue != 0 || write(in) != nil {
		t.Errorf("requeue %s, write %v", in.Requeue, write(in))
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	failed := func(text string) []string {
		text = "ApplyFailed: Secret out: " + text
		return []string{"Ready=False " + text, "Warning " + text}
	}
	for name, tc := range map[string]struct {
		err   error
		said  []string
		retry error
	}{
		"NotAllowed": {fmt.Errorf("%w (HTTP status 403)", plan.ErrNotAllowed), failed("the API server does not allow the controller to write it"), plan.ErrNotAllowed},
		"Refused":    {plan.ErrRefused, failed("the API server, a quota or an admission policy refuses it"), plan.ErrRefused},
		"Other":      {errors.New("boom s3cr3t"), failed("the API server did not carry it out"), plan.ErrWrite},
		"Changed":    {plan.ErrChanged, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := facts()
			in := decide(f).Settle([]error{tc.err})
			if diff := cmp.Diff(tc.said, said(in)); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
			if !errors.Is(in.Retry, tc.retry) || (tc.retry == nil) != (in.Requeue > 0) {
				t.Errorf("retry %v, requeue %s", in.Retry, in.Requeue)
			}
			if in.Status.ObjectVersion != "" || in.Status.LastAzureUpdate != nil {
				t.Errorf("the status tells of an output that was not written: %+v", in.Status)
			}
		})
	}
	if in := decide(facts()).Settle([]error{nil}); write(in) == nil || ready(t, in).Status != metav1.ConditionTrue {
		t.Errorf("success was turned into %v", said(in))
	}
}
