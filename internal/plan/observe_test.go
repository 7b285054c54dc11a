// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

func entry(t *testing.T, manager, fields string) metav1.ManagedFieldsEntry {
	t.Helper()
	f := &metav1.FieldsV1{}
	if err := json.Unmarshal([]byte(fields), f); err != nil {
		t.Fatal(err)
	}
	return metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationApply, FieldsType: "FieldsV1", FieldsV1: f}
}

func TestObserve(t *testing.T) {
	t.Parallel()
	now, yes := metav1.Now(), true
	got := plan.ObserveSecret(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			UID: "u", ResourceVersion: "3", Labels: map[string]string{"spv.no/output-of": "AzureKeyVaultSecret"},
			DeletionTimestamp: &now, OwnerReferences: ownedBy("a", "uid-a"),
			ManagedFields: []metav1.ManagedFieldsEntry{
				entry(t, "akvs-uid-a", `{"f:data":{"f:tls.crt":{},"f:tls.key":{}},"f:metadata":{"f:labels":{"f:x":{}}},"f:type":{}}`),
				entry(t, "kubectl-edit", `{"f:data":{".":{},"f:tls.key":{},"f:f:odd":{}}}`),
				entry(t, "nothing", `{"f:metadata":{}}`),
			},
		},
		Type: corev1.SecretTypeTLS, Immutable: &yes,
		Data: map[string][]byte{"tls.crt": []byte("c"), "tls.key": []byte("k")},
	})
	want := &plan.Observed{
		UID: "u", ResourceVersion: "3", Type: corev1.SecretTypeTLS, Immutable: true, Deleting: true,
		Labels: map[string]string{"spv.no/output-of": "AzureKeyVaultSecret"},
		Data:   map[string]secret.Value{"tls.crt": secret.New([]byte("c")), "tls.key": secret.New([]byte("k"))},
		Owners: ownedBy("a", "uid-a"),
		Managers: map[string][]string{
			"tls.crt": {"akvs-uid-a"}, "tls.key": {"akvs-uid-a", "kubectl-edit"}, "f:odd": {"kubectl-edit"},
		},
		LabelManagers: map[string][]string{"x": {"akvs-uid-a"}}, AnnotationManagers: map[string][]string{},
		All: []string{"akvs-uid-a", "kubectl-edit", "nothing"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestManagerFitsTheLimit(t *testing.T) {
	t.Parallel()
	if got := plan.Manager("7f9c24e8-3b1d-4c5e-9f5a-0123456789ab"); got != "akvs-7f9c24e8-3b1d-4c5e-9f5a-0123456789ab" || len(got) > 128 {
		t.Errorf("manager %q", got)
	}
}

func TestDisturbed(t *testing.T) {
	t.Parallel()
	ours := entry(t, "akvs-uid-a", `{"f:data":{"f:k":{}}}`)
	before := metav1.ObjectMeta{OwnerReferences: ownedBy("a", "uid-a"), ManagedFields: []metav1.ManagedFieldsEntry{ours, entry(t, "kubectl", `{"f:data":{"f:x":{}}}`)}}
	for name, tc := range map[string]struct {
		change func(*metav1.ObjectMeta)
		want   bool
	}{
		"Refreshed": {func(m *metav1.ObjectMeta) {
			m.ResourceVersion = "2"
			m.ManagedFields[0].Time = &metav1.Time{Time: noon}
		}, false},
		"OthersKeyAdded": {func(m *metav1.ObjectMeta) {
			m.ManagedFields = append(m.ManagedFields, entry(t, "kubectl", `{"f:data":{"f:y":{}}}`))
		}, true},
		"WrittenAsText": {func(m *metav1.ObjectMeta) {
			m.ManagedFields = append(m.ManagedFields, entry(t, "kubectl", `{"f:stringData":{"f:k":{}}}`))
		}, true},
		"CarriersKeyLost": {func(m *metav1.ObjectMeta) { m.ManagedFields[0].Manager = plan.CarrierManager }, true},
		"OthersKeyLost":   {func(m *metav1.ObjectMeta) { m.ManagedFields = m.ManagedFields[:1] }, true},
		"HandedOver":      {func(m *metav1.ObjectMeta) { m.Annotations = map[string]string{v2beta1.AdoptAnnotation: "a"} }, true},
		"Annotated":       {func(m *metav1.ObjectMeta) { m.Annotations = map[string]string{"x": "y"} }, false},
		"Labelled":        {func(m *metav1.ObjectMeta) { m.Labels = map[string]string{"x": "y"} }, false},
		"SharerJoined": {func(m *metav1.ObjectMeta) {
			m.OwnerReferences = append(m.OwnerReferences, ownedBy("b", "uid-b")...)
			m.ManagedFields = append(m.ManagedFields, entry(t, "akvs-uid-b", `{"f:data":{"f:z":{}}}`))
		}, false},
		"SharerJoinedOurKey": {func(m *metav1.ObjectMeta) {
			m.ManagedFields = append(m.ManagedFields, entry(t, "akvs-uid-b", `{"f:data":{"f:k":{}}}`))
		}, true},
		"ValueChanged": {func(m *metav1.ObjectMeta) {
			m.ManagedFields = []metav1.ManagedFieldsEntry{entry(t, "akvs-uid-a", `{"f:metadata":{}}`), entry(t, "kubectl-edit", `{"f:data":{"f:k":{}}}`)}
		}, true},
		"FieldsLost": {func(m *metav1.ObjectMeta) { m.ManagedFields = nil }, true},
		"OwnerLost":  {func(m *metav1.ObjectMeta) { m.OwnerReferences = nil }, true},
		"OwnerOther": {func(m *metav1.ObjectMeta) { m.OwnerReferences[0].UID = types.UID("uid-z") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after := before.DeepCopy()
			tc.change(after)
			if got := plan.Disturbed(&before, after); got != tc.want {
				t.Errorf("Disturbed() = %v, want %v", got, tc.want)
			}
		})
	}
}
