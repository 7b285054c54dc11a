// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	Kind    render.Kind
	Outputs Releases
	Cached  client.Reader // the caches: of AzureKeyVaultSecrets, and of the metadata of outputs
	Live    client.Reader // of AzureKeyVaultSecrets
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

// cached returns nil for one that the caches do not have.
func (r *Releaser) cached(ctx context.Context, namespace string, uid types.UID) (*v2beta1.AzureKeyVaultSecret, error) {
	var found v2beta1.AzureKeyVaultSecretList
	err := r.Cached.List(ctx, &found, client.InNamespace(namespace), client.MatchingFields{byUID: string(uid)})
	if err != nil {
		return nil, fmt.Errorf("looking for an AzureKeyVaultSecret: %w", err)
	}
	if len(found.Items) == 0 {
		return nil, nil //nolint:nilnil // absence is a fact like any other
	}
	return &found.Items[0], nil
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
	name := ""
	switch i := slices.IndexFunc(seen.Owners, func(ref metav1.OwnerReference) bool { return ref.UID == uid }); {
	case known != nil:
		name = known.Name
	case i >= 0:
		name = seen.Owners[i].Name
	default:
		return r.tieOfNameless(ctx, key.Namespace, uid)
	}
	var live v2beta1.AzureKeyVaultSecret
	err = r.Live.Get(ctx, types.NamespacedName{Namespace: key.Namespace, Name: name}, &live)
	switch {
	case isGone(err), err == nil && live.UID != uid:
		return plan.TieGone, nil
	case err != nil:
		return plan.TieKept, errors.New("asking the API server for an AzureKeyVaultSecret failed")
	case known == nil:
		return plan.TieKept, nil
	}
	return plan.Asks(&live, r.Kind, key.Name), nil
}

// isGone says whether the API server knows the resource and has no such object. An
// API server, or a proxy before it, that does not serve the resource answers 404,
// too, which says nothing of the object.
func isGone(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// pageSize is how many objects one request lists.
const pageSize = 500

// tieOfNameless looks for a claimant of which the output knows the UID alone.
func (r *Releaser) tieOfNameless(ctx context.Context, namespace string, uid types.UID) (plan.Tie, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v2beta1.GroupVersion.WithKind(v2beta1.Kind + "List"))
	for {
		err := r.Live.List(ctx, list, client.InNamespace(namespace), client.Limit(pageSize), client.Continue(list.Continue))
		if err != nil {
			return plan.TieKept, errors.New("listing the AzureKeyVaultSecrets of a namespace failed")
		}
		if slices.ContainsFunc(list.Items, func(m metav1.PartialObjectMetadata) bool { return m.UID == uid }) {
			return plan.TieKept, nil
		}
		if list.Continue == "" {
			return plan.TieGone, nil
		}
	}
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
	for _, d := range in.Drop {
		err := r.Outputs.Drop(ctx, r.Kind, key, seen, d)
		r.Metrics.released(err)
		if err != nil {
			return err
		}
		log.Info("released the fields of one that asks for the output no longer", "left", strings.Join(d.Stay, ","))
		if d.Note != "" {
			r.Events.Eventf(r.about(key, seen.UID), nil, plan.Warning, v2beta1.EventReleased, "Release", "%s", d.Note)
		}
		// The next drop is decided upon what this one left.
		return plan.ErrChanged
	}
	return nil
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
