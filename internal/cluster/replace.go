// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
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
	rehearsal := successor
	rehearsal.Name = rehearsalName(w.Name)
	if _, err := o.apply(ctx, desired(rehearsal), client.FieldOwner(plan.CarrierManager), client.DryRunAll); err != nil {
		return err
	}
	key := types.NamespacedName{Namespace: w.Namespace, Name: w.Name}
	if err := o.Delete(ctx, w.Payload.Kind, key, &plan.Observed{UID: w.UID, ResourceVersion: w.ResourceVersion}); err != nil {
		return err
	}
	// From here on there is a gap, and our own end must not make it longer.
	return o.remake(context.WithoutCancel(ctx), successor)
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

// rehearsalName is a name that nobody has; 253 characters are the most that one may
// have.
func rehearsalName(name string) string {
	const most = 253 - 9
	return name[:min(len(name), most)] + "-" + rand.String(8)
}
