// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
)

// Why a Secret may not be written. Each is read behind the Secret's name.
var (
	errForeign    = errors.New("it exists and was not made for this resource; delete it, or choose another name")
	errType       = errors.New("it has another type, which cannot change; delete it to have it made anew")
	errShared     = errors.New("another AzureKeyVaultSecret keeps the same key in it; choose another dataKey or name")
	errForeignKey = errors.New("somebody else keeps the same key in it; choose another dataKey or name")
	errImmutable  = errors.New("it is immutable and holds something else; delete it to have it made anew")
	errDeleting   = errors.New("it is being deleted; it is made anew once it is gone")
)

// claim says why the output may not be written, or nil.
//
//	the Secret                                             we
//	does not exist                                         make it
//	names us as owner, or has fields that we wrote         write it, over whoever changed our keys
//	names an owner of our own name that is gone            write it: we were made anew
//	is another AzureKeyVaultSecret's                       join it with keys that nobody has
//	is anybody else's                                      leave it alone
func claim(f Facts, want render.Payload) error {
	o := f.Observed
	if o == nil {
		return nil
	}
	ours := o.belongsTo(f.AKVS)
	switch {
	case !ours && !slices.ContainsFunc(o.Owners, isAKVS):
		return errForeign
	case o.Deleting:
		return errDeleting
	case o.Type != want.Type:
		return errType
	case o.Immutable && !f.agrees(want):
		return errImmutable
	}
	for key, value := range want.Data {
		if held, exists := o.Data[key]; !exists || held.Equal(value) {
			continue
		}
		switch by := o.Managers[key]; {
		case slices.Contains(by, Manager(f.AKVS.UID)):
		case slices.ContainsFunc(by, func(m string) bool { return o.rival(m, f.AKVS) }):
			return errShared
		case !ours:
			return errForeignKey
		}
	}
	return nil
}

// belongsTo goes by the owner reference and, because some tools strip those, by
// the fields that we once wrote.
func (o *Observed) belongsTo(akvs *v2beta1.AzureKeyVaultSecret) bool {
	for _, ref := range o.Owners {
		if isAKVS(ref) && (ref.UID == akvs.UID || ref.Name == akvs.Name) {
			return true
		}
	}
	for _, by := range o.Managers {
		if slices.Contains(by, Manager(akvs.UID)) {
			return true
		}
	}
	return false
}

// rival says whether the manager is another AzureKeyVaultSecret that still owns
// the Secret. One that is gone has lost its owner reference to garbage collection.
func (o *Observed) rival(manager string, akvs *v2beta1.AzureKeyVaultSecret) bool {
	uid, ok := strings.CutPrefix(manager, managerPrefix)
	return ok && slices.ContainsFunc(o.Owners, func(ref metav1.OwnerReference) bool {
		return isAKVS(ref) && ref.UID == types.UID(uid) && ref.Name != akvs.Name
	})
}

func isAKVS(ref metav1.OwnerReference) bool {
	return ref.Kind == v2beta1.Kind && strings.HasPrefix(ref.APIVersion, v2beta1.GroupVersion.Group+"/")
}

// owner is not a controller, for several AzureKeyVaultSecrets may own one Secret.
func owner(akvs *v2beta1.AzureKeyVaultSecret) metav1.OwnerReference {
	isController, block := false, true
	return metav1.OwnerReference{
		APIVersion: v2beta1.GroupVersion.String(), Kind: v2beta1.Kind, Name: akvs.Name, UID: akvs.UID,
		Controller: &isController, BlockOwnerDeletion: &block,
	}
}

// agrees says whether the output is what a write would make it.
func (f Facts) agrees(want render.Payload) bool {
	if !f.intact() {
		return false
	}
	for key, value := range want.Data {
		if held, ok := f.Observed.Data[key]; !ok || !held.Equal(value) || !f.keeps(key) {
			return false
		}
	}
	for key := range f.Observed.Managers {
		if _, wanted := want.Data[key]; !wanted && f.keeps(key) {
			return false // a key of ours that is no longer asked for
		}
	}
	return f.Observed.Type == want.Type
}

// intact says whether the output still has the marks of ours.
func (f Facts) intact() bool {
	return f.Observed != nil && f.Observed.Labelled &&
		slices.ContainsFunc(f.Observed.Owners, func(ref metav1.OwnerReference) bool {
			return isAKVS(ref) && ref.UID == f.AKVS.UID
		})
}

func (f Facts) keeps(key string) bool {
	return slices.Contains(f.Observed.Managers[key], Manager(f.AKVS.UID))
}

// stands says whether the last answer still holds without a new one: it was an
// answer, about this spec, and if it was good then nobody has touched the output.
// Who changes a key takes its ownership, so no value needs comparing.
func (f Facts) stands() bool {
	status := f.AKVS.Status
	last := readyCondition(status)
	switch {
	case last == nil, status.ObservedGeneration != f.AKVS.Generation,
		last.Reason == v2beta1.ReasonVaultUnavailable, last.Reason == v2beta1.ReasonApplyFailed:
		return false
	case last.Status != metav1.ConditionTrue:
		return true
	}
	shape, err := render.OutputShape(f.AKVS.Spec, render.Secret)
	return err == nil && f.intact() && f.Observed.Type == shape.Type &&
		!slices.ContainsFunc(shape.Keys, func(key string) bool { return !f.keeps(key) })
}
