// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
)

// Directory finds AzureKeyVaultSecrets. The caches hold those that this Controller
// cares for; what it does not care for, for its labels, the API server knows.
type Directory struct {
	Cached client.Reader
	Live   client.Reader
}

var errLookUp = errors.New("asking the API server for an AzureKeyVaultSecret failed")

// Asking are those of a namespace that are cared for and ask for an output.
func (d Directory) Asking(ctx context.Context, namespace string, kind render.Kind, name string) ([]v2beta1.AzureKeyVaultSecret, error) {
	var found v2beta1.AzureKeyVaultSecretList
	err := d.Cached.List(ctx, &found, client.InNamespace(namespace), client.MatchingFields{byOutput: outputKey(kind, name)})
	if err != nil {
		return nil, fmt.Errorf("finding who outputs to %s %s/%s: %w", kind, namespace, name, err)
	}
	return found.Items, nil
}

// Rivals implements Resources: those that are cared for, and those that the output
// names and somebody else cares for.
func (d Directory) Rivals(ctx context.Context, akvs *v2beta1.AzureKeyVaultSecret, o plan.Output) ([]plan.Rival, error) {
	found, err := d.Asking(ctx, akvs.Namespace, o.Kind, o.Name)
	if err != nil {
		return nil, err
	}
	known := map[types.UID]bool{akvs.UID: true}
	for i := range found {
		known[found[i].UID] = true
	}
	for _, uid := range o.Claimants() {
		if known[uid] {
			continue
		}
		other, err := d.elsewhere(ctx, akvs.Namespace, uid, o.Observed.Owners)
		if err != nil {
			return nil, err
		}
		if other != nil && plan.Asks(other, o.Kind, o.Name) == plan.TieKept {
			found = append(found, *other)
		}
	}
	var out []plan.Rival
	for i := range found {
		if other := &found[i]; other.UID != akvs.UID && other.DeletionTimestamp.IsZero() {
			ready := meta.FindStatusCondition(other.Status.Conditions, v2beta1.ConditionReady)
			out = append(out, plan.Rival{
				Name: other.Name, UID: other.UID, Created: other.CreationTimestamp,
				Disputed: ready != nil && ready.Reason == v2beta1.ReasonOutputConflict,
			})
		}
	}
	return out, nil
}

// elsewhere is one that exists and is not cared for here; nil is none such.
func (d Directory) elsewhere(ctx context.Context, namespace string, uid types.UID, owners []metav1.OwnerReference) (*v2beta1.AzureKeyVaultSecret, error) {
	known, err := d.cached(ctx, namespace, uid)
	if err != nil || known != nil {
		return nil, err // it is cared for, and asks for something else
	}
	return d.live(ctx, namespace, uid, owners)
}

// Lives implements Resources.
func (d Directory) Lives(ctx context.Context, akvs *v2beta1.AzureKeyVaultSecret) (bool, error) {
	live, err := d.get(ctx, types.NamespacedName{Namespace: akvs.Namespace, Name: akvs.Name}, akvs.UID)
	return live != nil && live.DeletionTimestamp.IsZero(), err
}

// cached returns nil for one that is not cared for, or gone.
func (d Directory) cached(ctx context.Context, namespace string, uid types.UID) (*v2beta1.AzureKeyVaultSecret, error) {
	var found v2beta1.AzureKeyVaultSecretList
	err := d.Cached.List(ctx, &found, client.InNamespace(namespace), client.MatchingFields{byUID: string(uid)})
	if err != nil {
		return nil, fmt.Errorf("looking for an AzureKeyVaultSecret: %w", err)
	}
	if len(found.Items) == 0 {
		return nil, nil //nolint:nilnil // absence is a fact like any other
	}
	return &found.Items[0], nil
}

// live asks the API server, and returns nil for one that is gone. An output names
// its owners; of others it knows the UID alone.
func (d Directory) live(ctx context.Context, namespace string, uid types.UID, owners []metav1.OwnerReference) (*v2beta1.AzureKeyVaultSecret, error) {
	name := ""
	if i := slices.IndexFunc(owners, func(ref metav1.OwnerReference) bool { return ref.UID == uid }); i >= 0 {
		name = owners[i].Name
	} else {
		var err error
		if name, err = d.nameOf(ctx, namespace, uid); err != nil || name == "" {
			return nil, err
		}
	}
	return d.get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, uid)
}

func (d Directory) get(ctx context.Context, key types.NamespacedName, uid types.UID) (*v2beta1.AzureKeyVaultSecret, error) {
	var live v2beta1.AzureKeyVaultSecret
	err := d.Live.Get(ctx, key, &live)
	switch {
	case isGone(err), err == nil && live.UID != uid:
		return nil, nil //nolint:nilnil // absence is a fact like any other
	case err != nil:
		return nil, errLookUp
	}
	return &live, nil
}

// isGone says whether the API server knows the resource and has no such object. An
// API server, or a proxy before it, that does not serve the resource answers 404,
// too, which says nothing of the object.
func isGone(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// pageSize is how many objects one request lists.
const pageSize = 500

// nameOf is empty when the namespace has none of this UID.
func (d Directory) nameOf(ctx context.Context, namespace string, uid types.UID) (string, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v2beta1.GroupVersion.WithKind(v2beta1.Kind + "List"))
	for {
		err := d.Live.List(ctx, list, client.InNamespace(namespace), client.Limit(pageSize), client.Continue(list.Continue))
		if err != nil {
			return "", errLookUp
		}
		for i := range list.Items {
			if list.Items[i].UID == uid {
				return list.Items[i].Name, nil
			}
		}
		if list.Continue == "" {
			return "", nil
		}
	}
}
