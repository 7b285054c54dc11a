// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/akv2k8s/akv2k8s/internal/plan"
)

// takeOver makes fields that others own the fields of w.Manager, so that the apply
// which follows changes or drops them. It touches managed fields alone, and returns
// the version that this leaves.
func (o *Outputs) takeOver(ctx context.Context, w plan.Write) (string, error) {
	object := newObject(w.Payload.Kind)
	if err := o.live.Get(ctx, types.NamespacedName{Namespace: w.Namespace, Name: w.Name}, object); err != nil {
		return "", translate(err)
	}
	if object.GetResourceVersion() != w.ResourceVersion {
		return "", plan.ErrChanged
	}
	entries, err := inherit(object.GetManagedFields(), w)
	if err != nil {
		return "", plan.ErrWrite
	}
	patch, err := json.Marshal([]map[string]any{
		{"op": "replace", "path": "/metadata/managedFields", "value": entries},
		{"op": "replace", "path": "/metadata/resourceVersion", "value": object.GetResourceVersion()},
	})
	if err != nil {
		return "", plan.ErrWrite
	}
	if err := o.writer.Patch(ctx, object, client.RawPatch(types.JSONPatchType, patch), client.FieldOwner(fieldOwner)); err != nil {
		return "", translate(err)
	}
	return object.GetResourceVersion(), nil
}

// fieldOwner is the manager of the few writes that are no apply. It must not be the
// program's name, which the original has too.
const fieldOwner = "akv2k8s"

// inherit moves fields from the managers of a write's take-over to its own.
// client-go's csaupgrade moves whole entries, and those of updates alone: a
// namesake's are applies, and of a shared output only what is ours may move.
func inherit(entries []metav1.ManagedFieldsEntry, w plan.Write) ([]metav1.ManagedFieldsEntry, error) {
	named, moved := fieldsOf(w), fieldpath.NewSet()
	var out []metav1.ManagedFieldsEntry
	for _, entry := range entries {
		manager := plan.ManagerName(entry)
		whole := slices.Contains(w.TakeOver.Whole, manager)
		if entry.Subresource != "" || !whole && !slices.Contains(w.TakeOver.Named, manager) || entry.FieldsV1 == nil {
			out = append(out, entry)
			continue
		}
		owned, err := parseFields(entry)
		if err != nil {
			return nil, err
		}
		rest := fieldpath.NewSet()
		switch {
		case whole:
		case manager == plan.CarrierManager: // nobody else's data is ever with it
			rest = owned.RecursiveDifference(named.Union(allData))
		default:
			rest = owned.RecursiveDifference(named)
		}
		moved = moved.Union(owned.Difference(rest))
		if rest.Empty() {
			continue
		}
		if out, err = appendFields(out, entry, rest); err != nil {
			return nil, err
		}
	}
	return addFields(out, w.Manager, moved)
}

var allData = fieldpath.NewSet(fieldpath.MakePathOrDie("data"), fieldpath.MakePathOrDie("binaryData"))

// fieldsOf are the fields that a write names, but for those that it cannot lose.
func fieldsOf(w plan.Write) *fieldpath.Set {
	set := fieldpath.NewSet()
	for key := range w.Payload.Data {
		set.Insert(fieldpath.MakePathOrDie("data", key))
		set.Insert(fieldpath.MakePathOrDie("binaryData", key))
	}
	for key := range w.Labels {
		set.Insert(fieldpath.MakePathOrDie("metadata", "labels", key))
	}
	for key := range w.Annotations {
		set.Insert(fieldpath.MakePathOrDie("metadata", "annotations", key))
	}
	if w.Owner != nil {
		set.Insert(fieldpath.MakePathOrDie("metadata", "ownerReferences", fieldpath.KeyByFields("uid", string(w.Owner.UID))))
	}
	return set
}

// addFields gives the fields to the manager's apply.
func addFields(entries []metav1.ManagedFieldsEntry, manager string, fields *fieldpath.Set) ([]metav1.ManagedFieldsEntry, error) {
	mine := func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == ""
	}
	entry := metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationApply, APIVersion: "v1", FieldsType: "FieldsV1"}
	if i := slices.IndexFunc(entries, mine); i >= 0 {
		entry = entries[i]
		owned, err := parseFields(entry)
		if err != nil {
			return nil, err
		}
		fields, entries = fields.Union(owned), slices.Delete(entries, i, i+1)
	}
	return appendFields(entries, entry, fields)
}

func parseFields(entry metav1.ManagedFieldsEntry) (*fieldpath.Set, error) {
	set := fieldpath.NewSet()
	return set, set.FromJSON(bytes.NewReader(entry.FieldsV1.GetRawBytes()))
}

func appendFields(entries []metav1.ManagedFieldsEntry, like metav1.ManagedFieldsEntry, fields *fieldpath.Set) ([]metav1.ManagedFieldsEntry, error) {
	raw, err := fields.ToJSON()
	if err != nil {
		return nil, err
	}
	like.FieldsV1 = metav1.NewFieldsV1(string(raw))
	return append(entries, like), nil
}
