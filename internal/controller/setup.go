// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Waker wakes resources that the watch tells of.
type Waker struct {
	queue atomic.Pointer[workqueue.TypedRateLimitingInterface[reconcile.Request]]
}

// Wake has a follower looked at. Nobody follows anything before the Controller works.
func (w *Waker) Wake(follower string) {
	namespace, name, _ := strings.Cut(follower, string(types.Separator))
	if queue := w.queue.Load(); queue != nil {
		(*queue).Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
	}
}

func (w *Waker) source() source.Source { //nolint:ireturn // what the builder takes
	return source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		w.queue.Store(&queue)
		return nil
	})
}

// Options of Setup.
type Options struct {
	Watch Watch
	Waker *Waker // what the Watch wakes resources with

	Settings    plan.Settings
	Concurrency int // resources in work at once
	StatusRate  int // how many ready resources are said not to be, per second
	Registry    prometheus.Registerer
}

// AllOutputs is what the two loops want of the cluster.
type AllOutputs interface {
	Outputs
	Releases
}

// reporter is the component that events name.
const reporter = "azurekeyvaultcontroller"

// The indexes of the caches.
const (
	byOutput   = "spec.output"  // AzureKeyVaultSecrets by kind and name of what they output to
	byUID      = "metadata.uid" // AzureKeyVaultSecrets by UID
	byClaimant = "claimant"     // outputs by the UIDs of the AzureKeyVaultSecrets that they name
)

// Setup adds the Controller to a manager. The returned check passes once the
// caches are filled, which every replica does, so that whoever takes over starts
// at once.
func Setup(ctx context.Context, mgr ctrl.Manager, v vault.Reader, outputs AllOutputs, o Options) (telemetry.Check, error) {
	if err := index(ctx, mgr.GetFieldIndexer()); err != nil {
		return nil, err
	}
	check, err := synced(ctx, mgr.GetCache(), &v2beta1.AzureKeyVaultSecret{}, metadata(render.Secret), metadata(render.ConfigMap))
	if err != nil {
		return nil, err
	}
	o.Registry.MustRegister(newCensus(mgr.GetClient(), mgr.Elected()))
	m := NewMetrics(o.Registry)
	directory := Directory{Cached: mgr.GetCache(), Live: mgr.GetAPIReader()}
	r := New(Parts{
		Vault:      v,
		Watch:      o.Watch,
		Outputs:    outputs,
		Resources:  directory,
		Status:     mgr.GetClient().Status(),
		Events:     mgr.GetEventRecorder(reporter),
		Metrics:    m,
		Clock:      time.Now,
		Settings:   func() plan.Settings { return jittered(o.Settings, rand.Float64()) }, //nolint:gosec // nobody gains by guessing when
		StatusRate: o.StatusRate,
	})
	if err := r.watch(mgr, directory, o.Waker, o.Concurrency); err != nil {
		return nil, err
	}
	for _, kind := range []render.Kind{render.Secret, render.ConfigMap} {
		releaser := &Releaser{
			Directory: directory, Kind: kind, Outputs: outputs, Events: mgr.GetEventRecorder(reporter), Metrics: m,
		}
		if err := releaser.watch(mgr, o.Concurrency); err != nil {
			return nil, err
		}
	}
	return check, nil
}

// index makes the caches answer what is asked of them at each look.
func index(ctx context.Context, indexer client.FieldIndexer) error {
	akvs := &v2beta1.AzureKeyVaultSecret{}
	return errors.Join(
		indexer.IndexField(ctx, akvs, byOutput, outputsOf),
		indexer.IndexField(ctx, akvs, byUID, func(o client.Object) []string { return []string{string(o.GetUID())} }),
		indexer.IndexField(ctx, metadata(render.Secret), byClaimant, claimantsOf),
		indexer.IndexField(ctx, metadata(render.ConfigMap), byClaimant, claimantsOf),
	)
}

func outputsOf(o client.Object) []string {
	akvs, ok := o.(*v2beta1.AzureKeyVaultSecret)
	if !ok {
		return nil
	}
	var out []string
	for _, asked := range plan.Asked(akvs.Spec) {
		out = append(out, outputKey(asked.Kind, asked.Name))
	}
	return out
}

func outputKey(kind render.Kind, name string) string { return string(kind) + "/" + name }

func claimantsOf(o client.Object) []string {
	var out []string
	for _, uid := range plan.Claimants(o) {
		out = append(out, string(uid))
	}
	return out
}

func (r *Reconciler) watch(mgr ctrl.Manager, d Directory, w *Waker, concurrency int) error {
	warm := true
	return ctrl.NewControllerManagedBy(mgr).
		Named("azurekeyvaultsecret").
		For(&v2beta1.AzureKeyVaultSecret{}, builder.WithPredicates(r.changed())).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(sharers(d, render.Secret)),
			builder.WithPredicates(outputDisturbed())).
		WatchesMetadata(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(sharers(d, render.ConfigMap)),
			builder.WithPredicates(outputDisturbed())).
		WatchesRawSource(w.source()).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: concurrency,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, plan.MaxBackoff),
			EnableWarmup:            &warm,
		}).
		Complete(r.Named(mgr.GetClient()))
}

// changed lets through what a person did, labels and annotations among it; our own
// status never wakes us.
func (r *Reconciler) changed() predicate.Funcs {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := e.ObjectOld, e.ObjectNew
			if before.GetUID() != after.GetUID() { // a gap in the watch hid the end of the one
				r.forget(before)
				return true
			}
			return before.GetGeneration() != after.GetGeneration() || !maps.Equal(before.GetLabels(), after.GetLabels()) ||
				!maps.Equal(before.GetAnnotations(), after.GetAnnotations())
		},
		DeleteFunc: func(e event.DeleteEvent) bool {
			r.forget(e.Object)
			return true // a look under way may follow it again; the outputs are the Releaser's
		},
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

func (r *Reconciler) forget(akvs client.Object) {
	r.failures.set(akvs.GetUID(), 0)
	r.changes.set(akvs.GetUID(), 0)
	r.damper.forget(akvs.GetUID())
	r.pacer.forget(akvs.GetUID())
	r.Watch.Follow(follower(akvs), nil)
}

// outputDisturbed lets through what somebody else did to an output. One that
// appears is ours, or is met at the next look.
func outputDisturbed() predicate.Funcs {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		UpdateFunc:  func(e event.UpdateEvent) bool { return plan.Disturbed(e.ObjectOld, e.ObjectNew) },
		DeleteFunc:  func(event.DeleteEvent) bool { return true }, // or it lost our label
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

// sharers finds who outputs to an object. Owner references are not asked: losing
// them is one of the things that must be noticed.
func sharers(d Directory, kind render.Kind) handler.MapFunc {
	return func(ctx context.Context, o client.Object) []reconcile.Request {
		found, err := d.Asking(ctx, o.GetNamespace(), kind, o.GetName())
		if err != nil {
			logger(ctx).Error("cannot find who outputs to an object", telemetry.KeyError, err)
			return nil
		}
		var out []reconcile.Request
		for i := range found {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&found[i])})
		}
		return out
	}
}

// metadata stands for objects of the kind of which only that is watched.
func metadata(kind render.Kind) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(string(kind)))
	return m
}

var errCaches = errors.New("the caches are not filled yet")

// synced starts to watch the objects and returns a check that they are all here.
func synced(ctx context.Context, c cache.Cache, objects ...client.Object) (telemetry.Check, error) {
	var informers []cache.Informer
	for _, object := range objects {
		informer, err := c.GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watching %T: %w", object, err)
		}
		informers = append(informers, informer)
	}
	return func(*http.Request) error {
		for _, informer := range informers {
			if !informer.HasSynced() {
				return errCaches
			}
		}
		return nil
	}, nil
}

// jittered spreads intervals over 10 % to either side; random is in [0, 1).
// Resources that a restart aligned drift apart again.
func jittered(s plan.Settings, random float64) plan.Settings {
	s.Jitter = 0.9 + 0.2*random
	return s
}
