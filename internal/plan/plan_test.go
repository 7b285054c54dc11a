// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"errors"
	"fmt"
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

func facts(change ...func(*plan.Facts)) plan.Facts {
	f := plan.Facts{AKVS: resource(), Object: object("s3cr3t"), Now: noon, Interval: time.Hour}
	for _, c := range change {
		c(&f)
	}
	return f
}

func failing(err error) func(*plan.Facts) {
	return func(f *plan.Facts) { f.Object, f.FetchErr = vault.Object{}, err }
}

// after is the next look, when nothing but what the intent says has happened.
func after(f plan.Facts, in plan.Intent) plan.Facts {
	akvs := f.AKVS.DeepCopy()
	akvs.Status = in.Status
	f.AKVS, f.Failures, f.Now = akvs, in.Failures, f.Now.Add(time.Hour)
	if in.Write != nil {
		f.Observed = carriedOut(f.Observed, *in.Write)
	}
	return f
}

// carriedOut is what server-side apply makes of a Secret.
func carriedOut(before *plan.Observed, w plan.Write) *plan.Observed {
	o := &plan.Observed{UID: "uid-out", Data: map[string]secret.Value{}, Managers: map[string][]string{}}
	if before != nil {
		*o = *before
		o.Data, o.Managers, o.Owners = map[string]secret.Value{}, map[string][]string{}, nil
		for key, value := range before.Data {
			others := without(before.Managers[key], w.Manager)
			if _, wanted := w.Payload.Data[key]; !wanted && len(others) < len(before.Managers[key]) && len(others) == 0 {
				continue // was ours alone
			}
			o.Data[key], o.Managers[key] = value, others
		}
		for _, ref := range before.Owners {
			if ref.UID != w.Owner.UID {
				o.Owners = append(o.Owners, ref)
			}
		}
	}
	for key, value := range w.Payload.Data {
		held, exists := o.Data[key]
		if exists && held.Equal(value) {
			o.Managers[key] = append(o.Managers[key], w.Manager)
			continue
		}
		o.Data[key], o.Managers[key] = value, []string{w.Manager}
	}
	o.Owners = append(o.Owners, w.Owner)
	o.Type, o.Labelled, o.ResourceVersion = w.Payload.Type, true, o.ResourceVersion+"1"
	return o
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
func synced(change ...func(*plan.Facts)) plan.Facts {
	f := facts()
	f = after(f, plan.Decide(f))
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

func TestDecideFirstWrite(t *testing.T) {
	t.Parallel()
	in := plan.Decide(facts())
	isController, block := false, true
	want := &plan.Write{
		Namespace: "ns", Name: "out", Manager: "akvs-uid-a",
		Owner: metav1.OwnerReference{
			APIVersion: "spv.no/v2beta1", Kind: "AzureKeyVaultSecret", Name: "a", UID: "uid-a",
			Controller: &isController, BlockOwnerDeletion: &block,
		},
		Payload: render.Payload{Kind: render.Secret, Type: corev1.SecretTypeOpaque, Data: map[string]secret.Value{"password": secret.New([]byte("s3cr3t"))}},
	}
	if diff := cmp.Diff(want, in.Write); diff != "" {
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
	if in.Requeue != time.Hour || in.Retry != nil {
		t.Errorf("requeue %s, retry %v", in.Requeue, in.Retry)
	}
}

func TestDecideSteadyStateSaysAndWritesNothing(t *testing.T) {
	t.Parallel()
	f := synced()
	in := plan.Decide(f)
	if in.Write != nil || len(in.Events) != 0 {
		t.Errorf("write %v, events %v", in.Write, in.Events)
	}
	if diff := cmp.Diff(f.AKVS.Status, in.Status); diff != "" {
		t.Errorf("status (-before +after):\n%s", diff)
	}
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
			in := plan.Decide(f)
			want := []string{"Ready=False " + tc.said, "Stalled=True " + tc.said, "Warning " + tc.said}
			if diff := cmp.Diff(want, said(in)); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
			if in.Write != nil || in.Retry != nil || in.Requeue != time.Hour {
				t.Errorf("write %v, retry %v, requeue %s", in.Write, in.Retry, in.Requeue)
			}
			if in.Status.ObjectVersion != version1 || in.Status.SecretName != "out" {
				t.Errorf("the status forgot the last output: %+v", in.Status)
			}
			if again := plan.Decide(after(f, in)); len(again.Events) != 0 {
				t.Errorf("the same problem is announced twice: %v", again.Events)
			}
			recovered := after(f, in)
			recovered.FetchErr, recovered.Object = nil, before.Object
			back := plan.Decide(recovered)
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
		facts plan.Facts
		said  []string // beyond what was said before
		kept  bool     // the status stays as it was
	}{
		"NothingYet": {facts(failing(vault.ErrUnavailable)), []string{"Ready=False " + unavailable, "Warning " + unavailable}, false},
		"Confirmed":  {synced(failing(vault.ErrUnavailable)), nil, true},
		"Throttled":  {synced(failing(vault.Throttled{})), nil, true},
		"Unknown":    {synced(failing(errors.New("boom"))), nil, true},
		"ConfirmedForLong": {
			synced(failing(vault.ErrUnavailable), func(f *plan.Facts) { f.Failures = 2 }),
			[]string{"Warning " + unavailable},
			true,
		},
		"ConfirmedForLonger": {
			synced(failing(vault.ErrUnavailable), func(f *plan.Facts) { f.Failures = 3 }), nil, true,
		},
		"OutputGone": {
			synced(failing(vault.ErrUnavailable), func(f *plan.Facts) { f.Observed = nil }),
			[]string{"Ready=False " + unavailable, "Warning " + unavailable},
			false,
		},
		"OutputChangedByHand": {
			synced(failing(vault.ErrUnavailable), func(f *plan.Facts) { f.Observed.Managers["password"] = []string{"kubectl-edit"} }),
			[]string{"Ready=False " + unavailable, "Warning " + unavailable},
			false,
		},
		"SpecChanged": {
			synced(failing(vault.ErrUnavailable), func(f *plan.Facts) { f.AKVS.Generation++ }),
			[]string{"Ready=False " + unavailable, "Warning " + unavailable},
			false,
		},
		"AnsweredNoBefore": {
			func() plan.Facts {
				f := synced(failing(vault.ErrForbidden))
				f = after(f, plan.Decide(f))
				f.FetchErr, f.Failures = vault.ErrUnavailable, 2
				return f
			}(), nil, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := plan.Decide(tc.facts)
			if in.Write != nil {
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
	in := plan.Decide(synced(failing(fmt.Errorf("reading: %w", vault.Throttled{RetryAfter: 7 * time.Second}))))
	if in.Requeue != 7*time.Second || in.Retry != nil {
		t.Errorf("requeue %s, retry %v, want 7s and none", in.Requeue, in.Retry)
	}
}

func TestDecideRotation(t *testing.T) {
	t.Parallel()
	f := synced(func(f *plan.Facts) {
		f.Object = vault.Object{Version: "00000000000000000000000000000002", Value: secret.New([]byte("n3w"))}
	})
	in := plan.Decide(f)
	if in.Write == nil || in.Write.UID != "uid-out" || in.Write.ResourceVersion != "1" {
		t.Fatalf("write %+v, want one upon the observed Secret", in.Write)
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
	for name, change := range map[string]func(*plan.Facts){
		"Value": func(f *plan.Facts) {
			f.Observed.Data["password"], f.Observed.Managers["password"] = secret.New([]byte("by hand")), []string{"kubectl-edit"}
		},
		"KeyRemoved":   func(f *plan.Facts) { delete(f.Observed.Data, "password"); delete(f.Observed.Managers, "password") },
		"LabelLost":    func(f *plan.Facts) { f.Observed.Labelled = false },
		"OwnerLost":    func(f *plan.Facts) { f.Observed.Owners = nil },
		"FieldsLost":   func(f *plan.Facts) { f.Observed.Managers = nil },
		"SecretGone":   func(f *plan.Facts) { f.Observed = nil },
		"KeyOfOldSpec": func(f *plan.Facts) { f.AKVS.Spec.Output.Secret.DataKey = "other"; f.AKVS.Generation++ },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := synced(change)
			in := plan.Decide(f)
			if in.Write == nil || len(in.Events) != 1 || ready(t, in).Status != metav1.ConditionTrue {
				t.Fatalf("write %v, said %v", in.Write, said(in))
			}
			if again := plan.Decide(after(f, in)); again.Write != nil || len(again.Events) != 0 {
				t.Errorf("not repaired at once: %v", said(again))
			}
		})
	}
}

func ownedBy(name string, uid types.UID) []metav1.OwnerReference {
	return []metav1.OwnerReference{{APIVersion: "spv.no/v2beta1", Kind: "AzureKeyVaultSecret", Name: name, UID: uid}}
}

func TestDecideWhoseSecretItIs(t *testing.T) {
	t.Parallel()
	opaque := func(key, value string, managers ...string) *plan.Observed {
		return &plan.Observed{
			UID: "uid-x", ResourceVersion: "5", Type: corev1.SecretTypeOpaque,
			Data:     map[string]secret.Value{key: secret.New([]byte(value))},
			Managers: map[string][]string{key: managers},
		}
	}
	for name, tc := range map[string]struct {
		observed func() *plan.Observed
		refused  string // empty: written
	}{
		"APersons":           {func() *plan.Observed { return opaque("password", "theirs", "kubectl") }, "it exists and was not made for this resource; delete it, or choose another name"},
		"APersonsOtherKey":   {func() *plan.Observed { return opaque("unrelated", "theirs", "kubectl") }, "it exists and was not made for this resource; delete it, or choose another name"},
		"APersonsEqualValue": {func() *plan.Observed { return opaque("password", "s3cr3t", "kubectl") }, "it exists and was not made for this resource; delete it, or choose another name"},
		"APersonsWithLabel":  {func() *plan.Observed { o := opaque("password", "x", "kubectl"); o.Labelled = true; return o }, "it exists and was not made for this resource; delete it, or choose another name"},
		"OfAnotherKind": {func() *plan.Observed {
			o := opaque("password", "x", "helm")
			o.Owners = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "a", UID: "uid-a"}}
			return o
		}, "it exists and was not made for this resource; delete it, or choose another name"},
		"SharedOtherKey": {func() *plan.Observed {
			o := opaque("user", "x", "akvs-uid-b")
			o.Owners = ownedBy("b", "uid-b")
			return o
		}, ""},
		"SharedSameKey": {func() *plan.Observed {
			o := opaque("password", "x", "akvs-uid-b")
			o.Owners = ownedBy("b", "uid-b")
			return o
		}, "another AzureKeyVaultSecret keeps the same key in it; choose another dataKey or name"},
		"SharedPersonsKey": {func() *plan.Observed {
			o := opaque("password", "x", "kubectl")
			o.Owners = ownedBy("b", "uid-b")
			return o
		}, "somebody else keeps the same key in it; choose another dataKey or name"},
		"SharedWithOneGone": {func() *plan.Observed {
			o := opaque("password", "x", "akvs-uid-c")
			o.Owners = append(ownedBy("b", "uid-b"), ownedBy("a", "uid-a")...)
			return o
		}, ""},
		"OfOurPredecessor": {func() *plan.Observed {
			o := opaque("password", "x", "akvs-uid-old")
			o.Owners = ownedBy("a", "uid-old")
			return o
		}, ""},
		"OfTheOriginal": {func() *plan.Observed {
			o := opaque("password", "x", "azure-keyvault-controller")
			o.Owners = ownedBy("a", "uid-a")
			return o
		}, ""},
		"OursWithoutOwner": {func() *plan.Observed { return opaque("password", "x", "akvs-uid-a") }, ""},
		"OursOfAnotherType": {func() *plan.Observed {
			o := opaque("password", "x", "akvs-uid-a")
			o.Type = corev1.SecretTypeTLS
			return o
		}, "it has another type, which cannot change; delete it to have it made anew"},
		"OursImmutable":     {func() *plan.Observed { o := opaque("password", "x", "akvs-uid-a"); o.Immutable = true; return o }, "it is immutable and holds something else; delete it to have it made anew"},
		"OursAboutToVanish": {func() *plan.Observed { o := opaque("password", "x", "akvs-uid-a"); o.Deleting = true; return o }, "it is being deleted; it is made anew once it is gone"},
		"OursRivalTookTheKey": {func() *plan.Observed {
			o := opaque("password", "x", "akvs-uid-b")
			o.Owners = append(ownedBy("b", "uid-b"), ownedBy("a", "uid-a")...)
			return o
		}, "another AzureKeyVaultSecret keeps the same key in it; choose another dataKey or name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := facts(func(f *plan.Facts) { f.Observed = tc.observed() })
			in := plan.Decide(f)
			if tc.refused == "" {
				if in.Write == nil || in.Write.UID != "uid-x" || in.Write.ResourceVersion != "5" {
					t.Errorf("write %+v, want one upon the observed Secret; said %v", in.Write, said(in))
				}
				return
			}
			text := "OutputConflict: Secret out: " + tc.refused
			if diff := cmp.Diff([]string{"Ready=False " + text, "Stalled=True " + text, "Warning " + text}, said(in)); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
			if in.Write != nil || in.Requeue != time.Hour {
				t.Errorf("write %v, requeue %s", in.Write, in.Requeue)
			}
		})
	}
}

func TestDecideOutputsThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*plan.Facts)
		said   string
	}{
		"ConfigMap": {
			func(f *plan.Facts) {
				f.AKVS.Spec.Output = v2beta1.Output{ConfigMap: &v2beta1.ConfigMapOutput{Name: "c", DataKey: "k"}}
			},
			"OutputInvalid: my-kv/db: there is no such output for this type of vault object",
		},
		"Type": {
			func(f *plan.Facts) { f.AKVS.Spec.Output.Secret.Type = "kubernetes.io/service-account-token" },
			"OutputInvalid: my-kv/db: this type of Secret gives rights in the cluster; choose another",
		},
		"KeyObject": {
			func(f *plan.Facts) { f.AKVS.Spec.Vault.Object.Type = v2beta1.ObjectKey },
			"OutputInvalid: my-kv/db: the vault's answer is not a public key of type RSA or EC",
		},
		"NoDataKey": {
			func(f *plan.Facts) { f.AKVS.Spec.Output.Secret.DataKey = "" },
			"OutputInvalid: my-kv/db: spec.output.secret.dataKey is required",
		},
		"Transform": {
			func(f *plan.Facts) {
				f.AKVS.Spec.Output.Transform = []v2beta1.Transform{"base64decode"}
				f.Object = object("no base64!")
			},
			"OutputInvalid: my-kv/db: a transform does not fit the value: base64decode needs base64",
		},
		"NoCertificate": {
			func(f *plan.Facts) {
				f.AKVS.Spec.Vault.Object.Type = v2beta1.ObjectCertificate
				f.AKVS.Spec.Output.Secret.Type = "kubernetes.io/tls"
			},
			"OutputInvalid: my-kv/db: the object is not a certificate with its private key, as PEM or PFX without password",
		},
		"NotExportable": {
			func(f *plan.Facts) {
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
			in := plan.Decide(facts(tc.change))
			if diff := cmp.Diff([]string{"Ready=False " + tc.said, "Stalled=True " + tc.said, "Warning " + tc.said}, said(in)); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
			if in.Write != nil {
				t.Error("a write of what cannot be")
			}
		})
	}
}

func TestDecideWithoutOutput(t *testing.T) {
	t.Parallel()
	f := facts(func(f *plan.Facts) { f.AKVS.Spec.Output = v2beta1.Output{} })
	if _, ok := plan.Reference(f.AKVS); ok {
		t.Error("a read for nothing")
	}
	in := plan.Decide(f)
	if diff := cmp.Diff([]string{"Ready=True NoOutput: no output is asked for; the Env Injector may use it"}, said(in)); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
	if in.Requeue != 0 || in.Write != nil {
		t.Errorf("requeue %s, write %v", in.Requeue, in.Write)
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
			in := plan.Decide(f).Settle(tc.err)
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
	if in := plan.Decide(facts()).Settle(nil); in.Write == nil || ready(t, in).Status != metav1.ConditionTrue {
		t.Errorf("success was turned into %v", said(in))
	}
}
