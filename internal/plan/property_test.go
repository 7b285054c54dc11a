// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// canary is in every value that the properties make up.
const canary = "c4n4ry"

func genValue(t *rapid.T, label string) secret.Value {
	text := rapid.SampledFrom([]string{canary, canary + "2", canary + " \n", "-----BEGIN " + canary, "YzRuNHJ5"}).Draw(t, label)
	return secret.New([]byte(text))
}

func genResource(t *rapid.T) *v2beta1.AzureKeyVaultSecret {
	akvs := resource()
	akvs.Generation = rapid.Int64Range(1, 3).Draw(t, "generation")
	akvs.Spec.Vault.Name = rapid.StringMatching(`[A-Za-z0-9-]{3,24}`).Draw(t, "vault")
	akvs.Spec.Vault.Object.Name = rapid.StringMatching(`[0-9A-Za-z-]{1,127}`).Draw(t, "object")
	akvs.Spec.Vault.Object.Type = rapid.SampledFrom([]v2beta1.ObjectType{
		v2beta1.ObjectSecret, v2beta1.ObjectSecret, v2beta1.ObjectCertificate, v2beta1.ObjectKey, v2beta1.ObjectMultiKeyValue,
	}).Draw(t, "objectType")
	akvs.Spec.Output.Secret.Name = rapid.StringMatching(`[a-z0-9]{1,253}`).Draw(t, "secretName")
	akvs.Spec.Output.Secret.Type = rapid.SampledFrom([]string{"", "Opaque", "kubernetes.io/tls", "example.com/x"}).Draw(t, "type")
	akvs.Spec.Output.Secret.DataKey = rapid.SampledFrom([]string{"password", "other", ""}).Draw(t, "dataKey")
	akvs.Spec.Output.Secret.Adopt = rapid.Bool().Draw(t, "adopt")
	akvs.Spec.Output.Secret.Immutable = rapid.IntRange(0, 3).Draw(t, "immutable output") == 0
	akvs.Labels = map[string]string{"team": rapid.SampledFrom([]string{"x", "y"}).Draw(t, "team")}
	akvs.Spec.Refresh = rapid.SampledFrom([]*v2beta1.Refresh{nil, {Policy: v2beta1.RefreshOnce}, {Policy: v2beta1.RefreshOnChange}}).Draw(t, "refresh")
	akvs.Spec.Output.Transform = rapid.SliceOfN(rapid.SampledFrom([]v2beta1.Transform{"trim", "base64encode", "base64decode"}), 0, 2).Draw(t, "transform")
	switch rapid.IntRange(0, 9).Draw(t, "shape") {
	case 0:
		akvs.Spec.Output = v2beta1.Output{}
	case 1:
		akvs.Spec.Output.ConfigMap = &v2beta1.ConfigMapOutput{Name: "c", DataKey: "k"}
	}
	return akvs
}

func genObserved(t *rapid.T) *plan.Observed {
	if rapid.Bool().Draw(t, "absent") {
		return nil
	}
	o := &plan.Observed{
		UID: "uid-x", ResourceVersion: "7",
		Type:   rapid.SampledFrom([]corev1.SecretType{corev1.SecretTypeOpaque, corev1.SecretTypeTLS}).Draw(t, "observedType"),
		Labels: map[string]string{}, LabelManagers: map[string][]string{},
		Immutable: rapid.IntRange(0, 5).Draw(t, "immutable") == 0,
		Deleting:  rapid.IntRange(0, 9).Draw(t, "deleting") == 0,
		Data:      map[string]secret.Value{},
		Managers:  map[string][]string{},
	}
	manager := rapid.SampledFrom([]string{"akvs-uid-a", "akvs-uid-b", "akvs-uid-old", "kubectl", plan.OriginalManager, plan.CarrierManager})
	for _, key := range []string{"password", "other", "tls.crt"} {
		if rapid.Bool().Draw(t, "has "+key) {
			o.Data[key] = genValue(t, key)
			o.Managers[key] = rapid.SliceOfNDistinct(manager, 0, 3, rapid.ID[string]).Draw(t, "managers of "+key)
		}
	}
	for _, label := range []string{v2beta1.OutputLabel, v2beta1.AdoptedLabel, "team"} {
		if rapid.Bool().Draw(t, "has "+label) {
			o.Labels[label] = rapid.SampledFrom([]string{v2beta1.OutputLabelValue, "true", "x"}).Draw(t, label)
			o.LabelManagers[label] = rapid.SliceOfNDistinct(manager, 0, 2, rapid.ID[string]).Draw(t, "managers of "+label)
		}
	}
	if rapid.Bool().Draw(t, "handed over") {
		o.Annotations = map[string]string{v2beta1.AdoptAnnotation: "a"}
	}
	for _, managers := range []map[string][]string{o.Managers, o.LabelManagers} {
		for _, by := range managers {
			o.All = append(o.All, by...)
		}
	}
	for _, ref := range []metav1.OwnerReference{ownedBy("a", "uid-a")[0], ownedBy("b", "uid-b")[0], ownedBy("a", "uid-old")[0]} {
		if rapid.Bool().Draw(t, "owner "+string(ref.UID)) {
			o.Owners = append(o.Owners, ref)
		}
	}
	return o
}

func genFacts(t *rapid.T) world {
	f := world{
		AKVS:      genResource(t),
		Object:    vault.Object{Version: rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "version"), Value: genValue(t, "value")},
		Observed:  genObserved(t),
		Failures:  rapid.IntRange(0, 5).Draw(t, "failures"),
		ConfigMap: genObserved(t),
		Now:       noon,
		Settings:  plan.Settings{Interval: time.Hour, Warning: 24 * time.Hour},
	}
	f.AKVS.CreationTimestamp = metav1.NewTime(noon.Add(-time.Hour))
	f.Rivals = rapid.SliceOfNDistinct(rapid.SampledFrom([]plan.Rival{elderB, youngerB}), 0, 1, rapid.ID[plan.Rival]).Draw(t, "rivals")
	if rapid.Bool().Draw(t, "limited") {
		f.Object.Expires = noon.AddDate(0, 0, rapid.IntRange(-3, 3).Draw(t, "expires")).Add(12 * time.Hour) // not within the hours of a test
	}
	if rapid.Bool().Draw(t, "known before") {
		f.AKVS.Status = decide(f).Status
		f.AKVS.Status.ObservedGeneration = rapid.Int64Range(1, 3).Draw(t, "observed generation")
	}
	return f
}

func genFailure(t *rapid.T) error {
	return rapid.SampledFrom([]error{
		vault.ErrNotFound, vault.ErrNoVault, vault.ErrDisabled, vault.ErrForbidden, vault.ErrFirewall, vault.ErrSignIn,
		vault.ErrUnavailable,
		vault.Throttled{},
		vault.Throttled{RetryAfter: time.Second},
		errors.New("remote " + canary), fmt.Errorf("remote %s: %w", canary, vault.ErrForbidden),
	}).Draw(t, "failure")
}

// A failed read, of whatever kind and in whatever state, writes nothing.
func TestNoFailedReadEverWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts(t)
		f.Object, f.FetchErr = vault.Object{}, genFailure(t)
		in := decide(f)
		if len(in.Writes) > 0 {
			t.Fatalf("write %+v", in.Writes)
		}
		if before, after := f.AKVS.Status, in.Status; before.SecretName != after.SecretName || before.SecretHash != after.SecretHash ||
			before.ObjectVersion != after.ObjectVersion || !before.LastAzureUpdate.Equal(after.LastAzureUpdate) {
			t.Fatalf("the status forgot the last output: %+v, was %+v", after, before)
		}
	})
}

// A decision that was carried out needs no second one.
func TestCarriedOutMeansDone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts(t)
		if rapid.Bool().Draw(t, "fails") {
			f.Object, f.FetchErr = vault.Object{}, genFailure(t)
		}
		in := decide(f)
		f = after(f, in)
		if slices.ContainsFunc(in.Writes, func(w plan.Write) bool { return w.Replace != nil }) {
			in = decide(f) // takes over what the carrier made
			f = after(f, in)
		}
		again := decide(f)
		if write(again) != nil {
			t.Fatalf("wrote again: %+v upon %+v\nsaid %v", write(again), f.Observed, said(again))
		}
		if diff := fmt.Sprint(said(plan.Intent{Status: in.Status})); diff != fmt.Sprint(said(plan.Intent{Status: again.Status})) {
			t.Fatalf("said %s, then %v", diff, said(again))
		}
		for _, e := range again.Events { // an outage is announced later than it begins
			if e.Reason != v2beta1.ReasonVaultUnavailable {
				t.Fatalf("announced again: %v", again.Events)
			}
		}
	})
}

// Nothing that can be printed holds a value or a remote error's text, and
// everything that a person reads fits a line.
func TestNothingPrintableHoldsTheValue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts(t)
		if rapid.Bool().Draw(t, "fails") {
			f.Object, f.FetchErr = vault.Object{}, genFailure(t)
		}
		in := decide(f)
		if rapid.Bool().Draw(t, "apply fails") {
			in = in.Settle(slices.Repeat([]error{errors.New("remote " + canary)}, len(in.Writes)))
		}
		f.FetchErr = nil // what came over the wire may be in the error itself, not in what is made of it
		if text := fmt.Sprintf("%v %+v %#v %s", in.Status, write(in), write(in), said(in)); strings.Contains(text, canary) {
			t.Fatalf("leaked: %s", text)
		}
		if text := fmt.Sprintf("%v %+v %#v", f, f, f.Observed); strings.Contains(text, canary) {
			t.Fatalf("facts leaked: %s", text)
		}
		if in.Retry != nil && strings.Contains(in.Retry.Error(), canary) {
			t.Fatalf("retry leaked: %v", in.Retry)
		}
		for _, c := range in.Status.Conditions {
			if len(c.Message) > 140 || strings.ContainsAny(c.Message, "\n\r") {
				t.Fatalf("message of %d characters: %s", len(c.Message), c.Message)
			}
		}
		for _, e := range in.Events {
			if len(e.Note) > 140 {
				t.Fatalf("note of %d characters: %s", len(e.Note), e.Note)
			}
		}
	})
}

// Whatever is written, no key of an older AzureKeyVaultSecret changes, and what is
// made anew held nothing that was not ours.
func TestOthersKeysStay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts(t)
		for _, w := range decide(f).Writes {
			seen := f.Observed
			if w.Payload.Kind == render.ConfigMap {
				seen = f.ConfigMap
			}
			if seen == nil {
				continue
			}
			elder := len(f.Rivals) > 0 && f.Rivals[0] == elderB
			for key, held := range seen.Data {
				checkKey(t, w, key, held, seen.Managers[key], elder)
			}
			if w.Replace != nil && seen.Labels[v2beta1.AdoptedLabel] == v2beta1.AdoptedLabelValue {
				t.Fatal("deleted an adopted Secret")
			}
		}
	})
}

func checkKey(t *rapid.T, w plan.Write, key string, held secret.Value, by []string, elder bool) {
	value, written := w.Payload.Data[key]
	switch {
	case written && !value.Equal(held) && elder && contains(by, "akvs-uid-b"):
		t.Fatalf("took key %s from an older AzureKeyVaultSecret", key)
	case !written && w.Replace != nil && (len(by) == 0 || len(by) == 1 && by[0] == "kubectl"):
		t.Fatalf("deleted key %s, which was somebody else's", key)
	}
}

func contains(list []string, name string) bool { return len(without(list, name)) < len(list) }
