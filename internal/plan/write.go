// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// Write is one server-side apply of an output, or its replacement.
type Write struct {
	Namespace, Name string
	Manager         string                 // the field manager
	Owner           *metav1.OwnerReference // nil for what must not go with us
	Labels          map[string]string      // our marks among them
	Annotations     map[string]string
	Immutable       bool
	Payload         render.Payload
	// UID and ResourceVersion are what was decided upon, so that nothing else is
	// ever overwritten. Empty, there was no such object.
	UID             types.UID
	ResourceVersion string
	// TakeOver moves fields to Manager before the apply, which then drops those
	// that are not part of it. Nil moves none.
	TakeOver *TakeOver
	// Replace deletes the object and creates it anew, for what cannot be changed in
	// place. Nil changes it in place.
	Replace *Replace
}

// TakeOver names managers whose fields become ours.
type TakeOver struct {
	Whole []string // those of whom every field becomes ours
	Named []string // those of whom only what the write names does
}

// CarrierManager makes the object that replaces another one, with what that had of
// others.
const CarrierManager = "akv2k8s-carrier"

// Replace is what a replacement takes along although it is not ours.
type Replace struct {
	Labels      map[string]string
	Annotations map[string]string
	Owners      []metav1.OwnerReference
}

// The ways a write fails, as far as anyone must act differently.
var (
	// ErrChanged is an object that is no longer the observed one.
	ErrChanged = errors.New("the output changed meanwhile")
	// ErrNotAllowed is a right that the controller lacks.
	ErrNotAllowed = errors.New("the API server does not allow the controller to write it")
	// ErrRefused is an object that the API server, a quota or a policy does not take.
	ErrRefused = errors.New("the API server, a quota or an admission policy refuses it")
	// ErrGap is a replacement that was deleted and not created yet.
	ErrGap = errors.New("it was deleted to be made anew, and making it failed; it is tried again")
	// ErrWrite is every other failure.
	ErrWrite = errors.New("the API server did not carry it out")
)

func (f Facts) write(o Output, c claim) *Write {
	w := &Write{
		Namespace:   f.AKVS.Namespace,
		Name:        o.Name,
		Manager:     Manager(f.AKVS.UID),
		Labels:      c.labels,
		Annotations: c.annotations,
		Immutable:   f.options(o.Kind).Immutable,
		Payload:     c.payload,
		TakeOver:    c.takeOver,
	}
	if !c.marks.unowned() {
		w.Owner = owner(f.AKVS)
	}
	if o.Observed == nil {
		return w
	}
	w.UID, w.ResourceVersion = o.Observed.UID, o.Observed.ResourceVersion
	if c.replace {
		w.TakeOver = nil
		w.Replace = &Replace{
			Labels:      o.Observed.foreign(o.Observed.Labels, o.Observed.LabelManagers),
			Annotations: o.Observed.foreign(o.Observed.Annotations, o.Observed.AnnotationManagers),
			Owners:      o.Observed.foreignOwners(),
		}
	}
	return w
}

// disown gives up the owner reference to an output that has come to hold a guest's
// data and cannot be written otherwise: garbage collection must not take that data
// along. What else is ours stays as it is.
func (f Facts) disown(o Output, c claim) *Write {
	seen := o.Observed
	if !c.marks.guests || !seen.OwnedBy(f.AKVS.UID) || seen.Deleting {
		return nil
	}
	c.payload = render.Payload{Kind: o.Kind, Type: seen.Type, Data: map[string]secret.Value{}}
	for key, value := range seen.Data {
		if f.keeps(o, key) {
			c.payload.Data[key] = value
		}
	}
	c.takeOver = nil
	w := f.write(o, c)
	w.Immutable = seen.Immutable
	return w
}

// owner is not a controller, for several AzureKeyVaultSecrets may own one output.
func owner(akvs metav1.Object) *metav1.OwnerReference {
	isController, block := false, true
	return &metav1.OwnerReference{
		APIVersion: ownerVersion, Kind: ownerKind, Name: akvs.GetName(), UID: akvs.GetUID(),
		Controller: &isController, BlockOwnerDeletion: &block,
	}
}
