// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
)

// Releases takes outputs away, whole or in part. All of it fails with the errors of
// package plan.
type Releases interface {
	Get(context.Context, render.Kind, types.NamespacedName) (*plan.Observed, error)
	Delete(context.Context, render.Kind, types.NamespacedName, *plan.Observed) error
	Drop(context.Context, render.Kind, types.NamespacedName, *plan.Observed, plan.Drop) error
}

// Releaser looks at outputs of one kind, and takes away what belonged to an
// AzureKeyVaultSecret that is gone or asks for it no longer. Outputs carry our
// label, so that a start sees them all: what happened while nobody ran is found
// then, without finalizers.
type Releaser struct {
	Directory

	Kind    render.Kind
	Outputs Releases
	Events  events.EventRecorder
	Metrics *Metrics
}

// Reconcile gathers facts, has package plan decide, and carries it out. The caches
// only raise a suspicion; what is decided upon is asked of the API server.
func (r *Releaser) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	m := metadata(r.Kind)
	if err := r.Cached.Get(ctx, req.NamespacedName, m); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	suspect, err := r.suspect(ctx, m)
	if err != nil || !suspect {
		return reconcile.Result{}, err
	}
	facts, err := r.gather(ctx, req.NamespacedName)
	if err != nil {
		return reconcile.Result{}, err
	}
	err = r.carryOut(ctx, req.NamespacedName, facts.Observed, plan.Release(facts))
	if errors.Is(err, plan.ErrChanged) { // decide again upon what it is now
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	return reconcile.Result{}, err
}

// suspect says whether, as far as the caches know, somebody let go of the output.
func (r *Releaser) suspect(ctx context.Context, m metav1.Object) (bool, error) {
	for _, uid := range plan.Claimants(m) {
		known, err := r.cached(ctx, m.GetNamespace(), uid)
		if err != nil {
			return false, err
		}
		if known == nil || plan.Asks(known, r.Kind, m.GetName()) != plan.TieKept {
			return true, nil
		}
	}
	return false, nil
}

func (r *Releaser) gather(ctx context.Context, key types.NamespacedName) (plan.ReleaseFacts, error) {
	seen, err := r.Outputs.Get(ctx, r.Kind, key)
	if err != nil || seen == nil {
		return plan.ReleaseFacts{}, err
	}
	facts := plan.ReleaseFacts{Kind: r.Kind, Observed: seen, Ties: map[types.UID]plan.Tie{}}
	for _, uid := range seen.Claimants() {
		if facts.Ties[uid], err = r.tie(ctx, key, seen, uid); err != nil {
			return plan.ReleaseFacts{}, err
		}
	}
	return facts, nil
}

// tie asks the API server how one claimant stands to the output. One that exists
// and that our caches do not have is somebody else's to care for: another
// Controller's, for other labels.
func (r *Releaser) tie(ctx context.Context, key types.NamespacedName, seen *plan.Observed, uid types.UID) (plan.Tie, error) {
	known, err := r.cached(ctx, key.Namespace, uid)
	if err != nil {
		return plan.TieKept, err
	}
	var live *v2beta1.AzureKeyVaultSecret
	if known != nil {
		live, err = r.get(ctx, client.ObjectKeyFromObject(known), uid)
	} else {
		live, err = r.live(ctx, key.Namespace, uid, seen.Owners)
	}
	switch {
	case err != nil:
		return plan.TieKept, err
	case live == nil:
		return plan.TieGone, nil
	case known == nil:
		return plan.TieKept, nil
	}
	return plan.Asks(live, r.Kind, key.Name), nil
}

func (r *Releaser) carryOut(ctx context.Context, key types.NamespacedName, seen *plan.Observed, in plan.ReleaseIntent) error {
	log := logger(ctx).With("kind", r.Kind, "output", key.Name)
	if in.Delete {
		err := r.Outputs.Delete(ctx, r.Kind, key, seen)
		r.Metrics.released(err)
		if err == nil {
			log.Info("deleted an output that nobody asks for any more")
		}
		return err
	}
	if len(in.Drop) == 0 {
		return nil
	}
	d := in.Drop[0] // the next is decided upon what this one leaves
	err := r.Outputs.Drop(ctx, r.Kind, key, seen, d)
	r.Metrics.released(err)
	if err != nil {
		return err
	}
	log.Info("released the fields of one that asks for the output no longer", "left", len(d.Stay))
	if d.Note != "" {
		r.Events.Eventf(r.about(key, seen.UID), nil, plan.Warning, v2beta1.EventReleased, "Release", "%s", d.Note)
	}
	return plan.ErrChanged
}

// about is the output as events name it.
func (r *Releaser) about(key types.NamespacedName, uid types.UID) client.Object { //nolint:ireturn // either kind
	m := metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: uid}
	if r.Kind == render.Secret {
		return &corev1.Secret{ObjectMeta: m}
	}
	return &corev1.ConfigMap{ObjectMeta: m}
}

func (r *Releaser) watch(mgr ctrl.Manager, concurrency int) error {
	warm := true
	var outputs client.Object = &corev1.Secret{}
	if r.Kind == render.ConfigMap {
		outputs = &corev1.ConfigMap{}
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("release-"+strings.ToLower(string(r.Kind))).
		WatchesMetadata(outputs, &handler.EnqueueRequestForObject{}).
		Watches(&v2beta1.AzureKeyVaultSecret{}, handler.EnqueueRequestsFromMapFunc(r.named)).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency, EnableWarmup: &warm}).
		Complete(r)
}

// named are the outputs that name an AzureKeyVaultSecret and that it does not ask
// for, as it is now or was before it was deleted.
func (r *Releaser) named(ctx context.Context, akvs client.Object) []reconcile.Request {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(string(r.Kind) + "List"))
	err := r.Cached.List(ctx, list, client.InNamespace(akvs.GetNamespace()), client.MatchingFields{byClaimant: string(akvs.GetUID())})
	if err != nil {
		logger(ctx).Error("cannot find the outputs of an AzureKeyVaultSecret", telemetry.KeyError, err)
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}
