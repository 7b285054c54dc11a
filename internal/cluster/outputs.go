// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
)

// Outputs reads and writes the Secrets that the Controller keeps. Reads go to the
// API server: the contents of Secrets are not kept in memory.
type Outputs struct {
	live   client.Reader
	writer client.Writer
}

// NewOutputs reads from live, which must not be a cache, and writes to writer.
func NewOutputs(live client.Reader, writer client.Writer) *Outputs {
	return &Outputs{live: live, writer: writer}
}

// Get returns nil for a Secret that does not exist.
func (o *Outputs) Get(ctx context.Context, key types.NamespacedName) (*plan.Observed, error) {
	var s corev1.Secret
	err := o.live.Get(ctx, key, &s)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // absence is a fact like any other
	case err != nil:
		return nil, fmt.Errorf("reading Secret %s: %w", key, plain(err))
	}
	return plan.Observe(&s), nil
}

// Apply carries one write out. It fails with the errors of package plan.
func (o *Outputs) Apply(ctx context.Context, w plan.Write) error {
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
		return o.release(ctx, w, after.GetUID())
	}
	return nil
}

// apply returns the Secret as this very write left it, managed fields included,
// which the typed configuration would drop.
func (o *Outputs) apply(ctx context.Context, s *corev1ac.SecretApplyConfiguration, options ...client.ApplyOption) (*unstructured.Unstructured, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(s)
	if err != nil {
		return nil, plan.ErrWrite // the converter's error may quote what it was given
	}
	u := &unstructured.Unstructured{Object: fields}
	if err := o.writer.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), options...); err != nil {
		return nil, translate(err)
	}
	return u, nil
}

func desired(w plan.Write) *corev1ac.SecretApplyConfiguration {
	s := corev1ac.Secret(w.Name, w.Namespace).
		WithLabels(map[string]string{v2beta1.OutputLabel: v2beta1.OutputLabelValue}).
		WithOwnerReferences(metav1ac.OwnerReference().
			WithAPIVersion(w.Owner.APIVersion).WithKind(w.Owner.Kind).WithName(w.Owner.Name).WithUID(w.Owner.UID).
			WithController(*w.Owner.Controller).WithBlockOwnerDeletion(*w.Owner.BlockOwnerDeletion)).
		WithType(w.Payload.Type).
		WithData(reveal(w.Payload))
	if w.ResourceVersion != "" {
		s.WithUID(w.UID).WithResourceVersion(w.ResourceVersion)
	}
	return s
}

// joined says whether a write that was to create found somebody else's Secret.
func joined(s *unstructured.Unstructured, manager string) bool {
	return slices.ContainsFunc(s.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Manager != manager
	})
}

// release takes back what was just put into a Secret that appeared between
// looking and writing: applying nothing gives up every field of this manager.
// The UID sees to it that nothing is created.
func (o *Outputs) release(ctx context.Context, w plan.Write, uid types.UID) error {
	empty := corev1ac.Secret(w.Name, w.Namespace).WithUID(uid)
	if _, err := o.apply(ctx, empty, client.FieldOwner(w.Manager)); err != nil {
		return err
	}
	return plan.ErrChanged
}

// reveal is one of the places where values leave the process.
func reveal(p render.Payload) map[string][]byte {
	out := make(map[string][]byte, len(p.Data))
	for key, value := range p.Data {
		out[key] = value.Reveal()
	}
	return out
}
