// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// A field is one entry of managed fields.
type field struct{ by, how, fields string }

const (
	update = string(metav1.ManagedFieldsOperationUpdate)
	apply  = string(metav1.ManagedFieldsOperationApply)
)

func managed(list []field) []metav1.ManagedFieldsEntry {
	var out []metav1.ManagedFieldsEntry
	for _, f := range list {
		entry := metav1.ManagedFieldsEntry{Manager: f.by, Operation: metav1.ManagedFieldsOperationType(f.how), APIVersion: "v1", FieldsType: "FieldsV1"}
		if f.how == "status" {
			entry.Operation, entry.Subresource = metav1.ManagedFieldsOperationUpdate, "status"
		}
		if f.fields != "" {
			entry.FieldsV1 = metav1.NewFieldsV1(f.fields)
		}
		out = append(out, entry)
	}
	return out
}

func asFields(entries []metav1.ManagedFieldsEntry) []field {
	var out []field
	for _, e := range entries {
		f := field{by: e.Manager, how: string(e.Operation)}
		if e.Subresource != "" {
			f.how = e.Subresource
		}
		if e.FieldsV1 != nil {
			f.fields = string(e.FieldsV1.GetRawBytes())
		}
		out = append(out, f)
	}
	return out
}

func TestTakeOverMovesFields(t *testing.T) {
	t.Parallel()
	const (
		original = plan.OriginalManager
		ours     = "akvs-uid-a"
		all      = `{"f:data":{"f:k":{},"f:old":{}},"f:metadata":{"f:labels":{"f:spv.no/output-of":{},"f:team":{}},"f:ownerReferences":{"k:{\"uid\":\"uid-a\"}":{},"k:{\"uid\":\"uid-b\"}":{}}},"f:type":{}}`
		rest     = `{"f:data":{"f:old":{}},"f:metadata":{"f:labels":{"f:team":{}},"f:ownerReferences":{"k:{\"uid\":\"uid-b\"}":{}}},"f:type":{}}`
		mine     = `{"f:data":{"f:k":{}},"f:metadata":{"f:labels":{"f:spv.no/output-of":{}},"f:ownerReferences":{"k:{\"uid\":\"uid-a\"}":{}}}}`
		note     = `{"f:metadata":{"f:annotations":{"f:note":{}}}}`
		k        = `{"f:data":{"f:k":{}}}`
		other    = `{"f:data":{"f:other":{}}}`
	)
	whole, named := &plan.TakeOver{Whole: []string{original}}, &plan.TakeOver{Named: []string{original}}
	for name, tc := range map[string]struct {
		before []field
		take   *plan.TakeOver
		want   []field
	}{
		"Whole":            {[]field{{original, update, all}}, whole, []field{{ours, apply, all}}},
		"WholeBesideOurs":  {[]field{{ours, apply, note}, {original, update, k}}, whole, []field{{ours, apply, `{"f:data":{"f:k":{}},"f:metadata":{"f:annotations":{"f:note":{}}}}`}}},
		"WholeBesideOther": {[]field{{"kubectl", update, other}, {original, update, k}}, whole, []field{{"kubectl", update, other}, {ours, apply, k}}},
		"Named":            {[]field{{original, update, all}}, named, []field{{original, update, rest}, {ours, apply, mine}}},
		"NamedBesideOurs":  {[]field{{original, update, all}, {ours, apply, note}}, named, []field{{original, update, rest}, {ours, apply, `{"f:data":{"f:k":{}},"f:metadata":{"f:annotations":{"f:note":{}},"f:labels":{"f:spv.no/output-of":{}},"f:ownerReferences":{"k:{\"uid\":\"uid-a\"}":{}}}}`}}},
		"NamedToTheLast":   {[]field{{original, update, k}}, named, []field{{ours, apply, k}}},
		"NamedWithin": { // what is below a name goes with it
			[]field{{original, update, `{"f:metadata":{"f:ownerReferences":{"k:{\"uid\":\"uid-a\"}":{".":{},"f:name":{}}}}}`}},
			named,
			[]field{{ours, apply, `{"f:metadata":{"f:ownerReferences":{"k:{\"uid\":\"uid-a\"}":{".":{},"f:name":{}}}}}`}},
		},
		"OfTheCarrier": {
			[]field{{plan.CarrierManager, apply, all}},
			&plan.TakeOver{Named: []string{plan.CarrierManager}},
			[]field{
				{plan.CarrierManager, apply, `{"f:metadata":{"f:labels":{"f:team":{}},"f:ownerReferences":{"k:{\"uid\":\"uid-b\"}":{}}},"f:type":{}}`},
				{ours, apply, `{"f:data":{"f:k":{},"f:old":{}},"f:metadata":{"f:labels":{"f:spv.no/output-of":{}},"f:ownerReferences":{"k:{\"uid\":\"uid-a\"}":{}}}}`},
			},
		},
		"OfANamesake": {
			[]field{{"akvs-uid-old", apply, k}, {original, update, other}},
			&plan.TakeOver{Whole: []string{"akvs-uid-old"}},
			[]field{{original, update, other}, {ours, apply, k}},
		},
		"OfBoth": {
			[]field{{"akvs-uid-old", apply, k}, {original, update, all}},
			&plan.TakeOver{Whole: []string{"akvs-uid-old"}, Named: []string{original}},
			[]field{{original, update, rest}, {ours, apply, mine}},
		},
		"OfASubresource": {[]field{{original, "status", k}, {original, update, other}}, whole, []field{{original, "status", k}, {ours, apply, other}}},
		"WithoutFields":  {[]field{{original, update, ""}, {original, update, k}}, whole, []field{{original, update, ""}, {ours, apply, k}}},
		"OfOneSoNamed": { // who applies by that name is not the original, as package plan has it
			[]field{{original, apply, other}, {original, update, k}},
			whole,
			[]field{{original, apply, other}, {ours, apply, k}},
		},
		"OfOneNamedLikeUs": {
			[]field{{"akvs-uid-old", update, other}, {"akvs-uid-old", apply, k}},
			&plan.TakeOver{Whole: []string{"akvs-uid-old"}},
			[]field{{"akvs-uid-old", update, other}, {ours, apply, k}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{object: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{UID: "uid-x", ResourceVersion: "5", ManagedFields: managed(tc.before)}}}
			err := s.outputs().Apply(t.Context(), write(func(w *plan.Write) { w.UID, w.ResourceVersion, w.TakeOver = "uid-x", "5", tc.take }))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, asFields(s.entries), cmp.AllowUnexported(field{})); diff != "" {
				t.Errorf("managed fields (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"get", "patch by akv2k8s", `upon "5"`, "apply by akvs-uid-a with force upon 6"}, s.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

// The text and the bytes of a ConfigMap are in two places.
func TestTakeOverOfAConfigMap(t *testing.T) {
	t.Parallel()
	before := []field{{"akvs-uid-old", apply, `{"f:binaryData":{"f:b":{}},"f:data":{"f:k":{},"f:old":{}}}`}}
	s := &script{object: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{UID: "uid-x", ResourceVersion: "5", ManagedFields: managed(before)}}}
	err := s.outputs().Apply(t.Context(), write(func(w *plan.Write) {
		w.UID, w.ResourceVersion, w.TakeOver = "uid-x", "5", &plan.TakeOver{Named: []string{"akvs-uid-old"}}
		w.Payload = render.Payload{Kind: render.ConfigMap, Data: map[string]secret.Value{"k": secret.New([]byte("one")), "b": secret.New([]byte("two"))}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := []field{{"akvs-uid-old", apply, `{"f:data":{"f:old":{}}}`}, {"akvs-uid-a", apply, `{"f:binaryData":{"f:b":{}},"f:data":{"f:k":{}}}`}}
	if diff := cmp.Diff(want, asFields(s.entries), cmp.AllowUnexported(field{})); diff != "" {
		t.Errorf("managed fields (-want +got):\n%s", diff)
	}
}

func TestTakeOverFails(t *testing.T) {
	t.Parallel()
	secrets := schema.GroupResource{Resource: "secrets"}
	entries := []field{{plan.OriginalManager, update, `{"f:data":{"f:k":{}}}`}}
	for name, tc := range map[string]struct {
		fail    map[string]error
		version string // that is decided upon
		entries []field
		want    error
		asked   []string
	}{
		"Gone":       {map[string]error{"get": apierrors.NewNotFound(secrets, "out")}, "5", entries, plan.ErrChanged, []string{"get"}},
		"Unread":     {map[string]error{"get": errBoom}, "5", entries, plan.ErrWrite, []string{"get"}},
		"Changed":    {nil, "4", entries, plan.ErrChanged, []string{"get"}},
		"ChangesNow": {map[string]error{"patch": apierrors.NewConflict(secrets, "out", errBoom)}, "5", entries, plan.ErrChanged, []string{"get", "patch by akv2k8s"}},
		"NotAllowed": {map[string]error{"patch": apierrors.NewForbidden(secrets, "out", errBoom)}, "5", entries, plan.ErrNotAllowed, []string{"get", "patch by akv2k8s"}},
		"NoFields":   {nil, "5", []field{{plan.OriginalManager, update, `{"f:data":`}}, plan.ErrWrite, []string{"get"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{fail: tc.fail, object: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{UID: "uid-x", ResourceVersion: "5", ManagedFields: managed(tc.entries)}}}
			err := s.outputs().Apply(t.Context(), write(func(w *plan.Write) {
				w.UID, w.ResourceVersion, w.TakeOver = "uid-x", tc.version, &plan.TakeOver{Whole: []string{plan.OriginalManager}}
			}))
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			saysNothing(t, err)
			if diff := cmp.Diff(tc.asked, s.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}
