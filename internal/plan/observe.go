// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// Observed is what a decision needs to know of an output as it is.
type Observed struct {
	UID             types.UID
	ResourceVersion string
	Type            corev1.SecretType
	Data            map[string]secret.Value
	Immutable       bool
	Deleting        bool
	Labelled        bool // carries our label
	Owners          []metav1.OwnerReference
	// Managers are, for each key of the data, the field managers that own it.
	Managers map[string][]string
}

// Observe takes ownership of the Secret's data.
func Observe(s *corev1.Secret) *Observed {
	o := &Observed{
		UID:             s.UID,
		ResourceVersion: s.ResourceVersion,
		Type:            s.Type,
		Data:            make(map[string]secret.Value, len(s.Data)),
		Immutable:       s.Immutable != nil && *s.Immutable,
		Deleting:        s.DeletionTimestamp != nil,
		Labelled:        s.Labels[v2beta1.OutputLabel] == v2beta1.OutputLabelValue,
		Owners:          s.OwnerReferences,
		Managers:        managers(s.ManagedFields),
	}
	for key, value := range s.Data {
		o.Data[key] = secret.New(value)
	}
	return o
}

const managerPrefix = "akvs-"

// Manager is the field manager of one AzureKeyVaultSecret. The UID, and not the
// name, tells it from a namesake that came later.
func Manager(uid types.UID) string { return managerPrefix + string(uid) }

// managers reads who owns which key of a Secret's data.
func managers(entries []metav1.ManagedFieldsEntry) map[string][]string {
	out := map[string][]string{}
	for _, entry := range entries {
		for key := range dataKeys(entry) {
			out[key] = append(out[key], entry.Manager)
		}
	}
	return out
}

// dataKeys is what one entry says of the data: in fieldsV1, "f:" leads a map's
// key and "." stands for the map itself.
func dataKeys(entry metav1.ManagedFieldsEntry) map[string]bool {
	if entry.FieldsV1 == nil || entry.Subresource != "" {
		return nil
	}
	var fields struct {
		Data map[string]json.RawMessage `json:"f:data"`
	}
	if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil {
		return nil // nothing of it is known to be anybody's
	}
	keys := map[string]bool{}
	for name := range fields.Data {
		if key, ok := strings.CutPrefix(name, "f:"); ok {
			keys[key] = true
		}
	}
	return keys
}

// Disturbed says whether an update took something away from an
// AzureKeyVaultSecret: a key of the data, for who changes a value takes its
// ownership, or an owner reference. Refreshing a value never does, so that our
// own writes cause no second look.
func Disturbed(before, after metav1.Object) bool {
	now := map[string]map[string]bool{}
	for _, entry := range after.GetManagedFields() {
		now[entry.Manager] = union(now[entry.Manager], dataKeys(entry))
	}
	for _, entry := range before.GetManagedFields() {
		if !strings.HasPrefix(entry.Manager, managerPrefix) {
			continue
		}
		for key := range dataKeys(entry) {
			if !now[entry.Manager][key] {
				return true
			}
		}
	}
	left := map[types.UID]bool{}
	for _, ref := range after.GetOwnerReferences() {
		left[ref.UID] = true
	}
	for _, ref := range before.GetOwnerReferences() {
		if isAKVS(ref) && !left[ref.UID] {
			return true
		}
	}
	return false
}

func union(a, b map[string]bool) map[string]bool {
	out := make(map[string]bool, len(a)+len(b))
	for _, set := range []map[string]bool{a, b} {
		for key := range set {
			out[key] = true
		}
	}
	return out
}
