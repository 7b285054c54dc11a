// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/internal/plan"
)

// replace deletes the observed object and makes it anew at once; Kubernetes has no
// way to do both in one step. Nothing is deleted before the API server has agreed
// to take what comes in its place.
//
// The new object also has what the old one had of others, so it is made under
// plan.CarrierManager; the next look moves what is ours to our manager.
func (o *Outputs) replace(ctx context.Context, w plan.Write) error {
	successor := w
	successor.UID, successor.ResourceVersion = "", ""
	successor.Labels = merged(w.Replace.Labels, w.Labels)
	successor.Annotations = merged(w.Replace.Annotations, w.Annotations)
	if err := o.rehearse(ctx, successor); err != nil {
		return err
	}
	key := types.NamespacedName{Namespace: w.Namespace, Name: w.Name}
	if err := o.Delete(ctx, w.Payload.Kind, key, &plan.Observed{UID: w.UID, ResourceVersion: w.ResourceVersion}); err != nil {
		return err
	}
	// From here on there is a gap, and our own end must not make it longer.
	return o.remake(context.WithoutCancel(ctx), successor)
}

// rehearse creates the successor without keeping it. The API server asks every
// admission policy and quota before it finds that the name is taken, and that it is
// must be all that it says.
func (o *Outputs) rehearse(ctx context.Context, w plan.Write) error {
	u, err := fieldsOnly(desired(w))
	if err != nil {
		return err
	}
	err = o.writer.Create(ctx, u, client.FieldOwner(plan.CarrierManager), client.DryRunAll)
	switch {
	case apierrors.IsAlreadyExists(err):
		return nil
	case err == nil: // it is gone
		return plan.ErrChanged
	}
	return translate(err)
}

func (o *Outputs) remake(ctx context.Context, w plan.Write) error {
	w.Manager = plan.CarrierManager
	after, err := o.apply(ctx, desired(w), client.FieldOwner(w.Manager))
	switch {
	case errors.Is(err, plan.ErrChanged): // it is not gone yet, or somebody was faster
		return err
	case err != nil:
		return fmt.Errorf("%w (%w)", plan.ErrGap, err)
	case joined(after, w.Manager):
		return o.retract(ctx, w, after.GetUID())
	}
	return nil
}

// merged is both, the second over the first.
func merged(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, b)
	return out
}
