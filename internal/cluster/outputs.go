// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"slices"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// Outputs reads and writes the Secrets and ConfigMaps that the Controller keeps.
// Reads go to the API server: the contents of Secrets are not kept in memory.
type Outputs struct {
	live   client.Reader
	writer client.Writer
}

// NewOutputs reads from live, which must not be a cache, and writes to writer.
func NewOutputs(live client.Reader, writer client.Writer) *Outputs {
	return &Outputs{live: live, writer: writer}
}

// Get returns nil for an object that does not exist.
func (o *Outputs) Get(ctx context.Context, kind render.Kind, key types.NamespacedName) (*plan.Observed, error) {
	object := newObject(kind)
	err := o.live.Get(ctx, key, object)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // absence is a fact like any other
	case err != nil:
		return nil, fmt.Errorf("reading %s %s: %w", kind, key, translate(err))
	}
	if s, ok := object.(*corev1.Secret); ok {
		return plan.ObserveSecret(s), nil
	}
	return plan.ObserveConfigMap(object.(*corev1.ConfigMap)), nil //nolint:forcetypeassert // newObject makes one of the two
}

func newObject(kind render.Kind) client.Object { //nolint:ireturn // either kind
	if kind == render.Secret {
		return &corev1.Secret{}
	}
	return &corev1.ConfigMap{}
}

// Apply carries one write out. It fails with the errors of package plan.
func (o *Outputs) Apply(ctx context.Context, w plan.Write) error {
	if w.Replace != nil {
		return o.replace(ctx, w)
	}
	if w.TakeOver != nil {
		version, err := o.takeOver(ctx, w)
		if err != nil {
			return err
		}
		w.ResourceVersion = version
	}
	options := []client.ApplyOption{client.FieldOwner(w.Manager)}
	if w.ResourceVersion != "" {
		// Who owns which field was decided upon this very version, and any other
		// fails: nothing is forced that was not seen.
		options = append(options, client.ForceOwnership)
	}
	after, err := o.apply(ctx, desired(w), options...)
	if err != nil {
		return err
	}
	if w.ResourceVersion == "" && joined(after, w.Manager) {
		return o.retract(ctx, w, after.GetUID())
	}
	return nil
}

// apply returns the object as this very write left it, managed fields included,
// which the typed configuration would drop.
func (o *Outputs) apply(ctx context.Context, config any, options ...client.ApplyOption) (*unstructured.Unstructured, error) {
	u, err := fieldsOnly(config)
	if err != nil {
		return nil, err
	}
	if err := o.writer.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), options...); err != nil {
		return nil, translate(err)
	}
	return u, nil
}

// fieldsOnly has what the configuration sets and nothing else.
func fieldsOnly(config any) (*unstructured.Unstructured, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(config)
	if err != nil {
		return nil, plan.ErrWrite // the converter's error may quote what it was given
	}
	return &unstructured.Unstructured{Object: fields}, nil
}

// desired is what a write applies.
func desired(w plan.Write) any {
	if w.Payload.Kind == render.ConfigMap {
		text, binary := texts(w.Payload.Data)
		c := corev1ac.ConfigMap(w.Name, w.Namespace).WithLabels(w.Labels).WithAnnotations(w.Annotations).
			WithData(text).WithBinaryData(binary)
		if w.Immutable {
			c.WithImmutable(true)
		}
		mark(w, c.ObjectMetaApplyConfiguration)
		return c
	}
	s := corev1ac.Secret(w.Name, w.Namespace).WithLabels(w.Labels).WithAnnotations(w.Annotations).
		WithType(w.Payload.Type).WithData(reveal(w.Payload.Data))
	if w.Immutable {
		s.WithImmutable(true)
	}
	mark(w, s.ObjectMetaApplyConfiguration)
	return s
}

// mark says whose the object is, and which version of it is meant.
func mark(w plan.Write, m *metav1ac.ObjectMetaApplyConfiguration) {
	if w.Replace != nil {
		for _, ref := range w.Replace.Owners {
			m.OwnerReferences = append(m.OwnerReferences, metav1ac.OwnerReferenceApplyConfiguration{
				APIVersion: &ref.APIVersion, Kind: &ref.Kind, Name: &ref.Name, UID: &ref.UID,
				Controller: ref.Controller, BlockOwnerDeletion: ref.BlockOwnerDeletion,
			})
		}
	}
	if w.Owner != nil {
		m.OwnerReferences = append(m.OwnerReferences, *metav1ac.OwnerReference().
			WithAPIVersion(w.Owner.APIVersion).WithKind(w.Owner.Kind).WithName(w.Owner.Name).WithUID(w.Owner.UID).
			WithController(*w.Owner.Controller).WithBlockOwnerDeletion(*w.Owner.BlockOwnerDeletion))
	}
	if w.ResourceVersion != "" {
		m.UID, m.ResourceVersion = &w.UID, &w.ResourceVersion
	}
}

// joined says whether a write that was to create found somebody else's object.
func joined(u *unstructured.Unstructured, manager string) bool {
	return slices.ContainsFunc(u.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Manager != manager
	})
}

// retract takes back what was just put into an object that appeared between
// looking and writing.
func (o *Outputs) retract(ctx context.Context, w plan.Write, uid types.UID) error {
	if _, err := o.apply(ctx, bare(w.Payload.Kind, w.Namespace, w.Name, uid, ""), client.FieldOwner(w.Manager)); err != nil {
		return err
	}
	return plan.ErrChanged
}

// bare is an object without any field: applying it gives up every field of a
// manager. The UID sees to it that nothing is created; an empty version is any.
func bare(kind render.Kind, namespace, name string, uid types.UID, version string) any {
	if kind == render.ConfigMap {
		c := corev1ac.ConfigMap(name, namespace).WithUID(uid)
		if version != "" {
			c.WithResourceVersion(version)
		}
		return c
	}
	s := corev1ac.Secret(name, namespace).WithUID(uid)
	if version != "" {
		s.WithResourceVersion(version)
	}
	return s
}

// Delete deletes the object as it was observed, and fails with ErrChanged if it is
// not so any more.
func (o *Outputs) Delete(ctx context.Context, kind render.Kind, key types.NamespacedName, seen *plan.Observed) error {
	object := newObject(kind)
	object.SetNamespace(key.Namespace)
	object.SetName(key.Name)
	err := o.writer.Delete(ctx, object, client.Preconditions{UID: &seen.UID, ResourceVersion: &seen.ResourceVersion})
	if err != nil {
		return translate(err)
	}
	return nil
}

// Drop takes the fields of one manager away from the object as it was observed.
func (o *Outputs) Drop(ctx context.Context, kind render.Kind, key types.NamespacedName, seen *plan.Observed, d plan.Drop) error {
	version := seen.ResourceVersion
	if len(d.Stay) > 0 || seen.Immutable || seen.Type != "" && seen.Type != corev1.SecretTypeOpaque {
		// What nobody declares any more would go, type and immutability among it.
		kept := plan.Write{
			Namespace: key.Namespace, Name: key.Name, UID: seen.UID, ResourceVersion: version, Immutable: seen.Immutable,
			Payload: render.Payload{Kind: kind, Type: seen.Type, Data: map[string]secret.Value{}},
		}
		for _, name := range d.Stay {
			kept.Payload.Data[name] = seen.Data[name]
		}
		after, err := o.apply(ctx, desired(kept), client.FieldOwner(plan.ReleasedManager))
		if err != nil {
			return err
		}
		version = after.GetResourceVersion()
	}
	_, err := o.apply(ctx, bare(kind, key.Namespace, key.Name, seen.UID, version), client.FieldOwner(d.Manager))
	return err
}

// reveal is one of the places where values leave the process.
func reveal(data map[string]secret.Value) map[string][]byte {
	out := make(map[string][]byte, len(data))
	for key, value := range data {
		out[key] = value.Reveal()
	}
	return out
}

// texts are the values as a ConfigMap wants them: what is text apart from what is
// not.
func texts(data map[string]secret.Value) (map[string]string, map[string][]byte) {
	text, binary := map[string]string{}, map[string][]byte{}
	for key, value := range reveal(data) {
		if utf8.Valid(value) {
			text[key] = string(value)
		} else {
			binary[key] = value
		}
	}
	return text, binary
}
