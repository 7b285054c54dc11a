// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Options of Setup.
type Options struct {
	Interval    time.Duration // between two looks at the same object; zero is never
	Concurrency int           // resources in work at once
	Registry    prometheus.Registerer
}

// reporter is the component that events name.
const reporter = "azurekeyvaultcontroller"

// byOutput indexes AzureKeyVaultSecrets by the Secret that they output to.
const byOutput = "spec.output.secret.name"

// maxBackoff is how long a vault that does not answer is left alone at most.
const maxBackoff = 5 * time.Minute

// Setup adds the Controller to a manager. The returned check passes once the
// caches are filled, which every replica does, so that whoever takes over starts
// at once.
func Setup(ctx context.Context, mgr ctrl.Manager, v vault.Reader, outputs Outputs, o Options) (telemetry.Check, error) {
	err := mgr.GetFieldIndexer().IndexField(ctx, &v2beta1.AzureKeyVaultSecret{}, byOutput, outputName)
	if err != nil {
		return nil, fmt.Errorf("indexing AzureKeyVaultSecrets: %w", err)
	}
	check, err := synced(ctx, mgr.GetCache(), &v2beta1.AzureKeyVaultSecret{}, secretMetadata())
	if err != nil {
		return nil, err
	}
	o.Registry.MustRegister(newCensus(mgr.GetClient(), mgr.Elected()))
	r := New(Parts{
		Vault:    v,
		Outputs:  outputs,
		Status:   mgr.GetClient().Status(),
		Events:   mgr.GetEventRecorder(reporter),
		Metrics:  NewMetrics(o.Registry),
		Clock:    time.Now,
		Interval: func() time.Duration { return jitter(o.Interval, rand.Float64()) }, //nolint:gosec // nobody gains by guessing when
	})
	return check, r.watch(mgr, o.Concurrency)
}

func (r *Reconciler) watch(mgr ctrl.Manager, concurrency int) error {
	warm := true
	return ctrl.NewControllerManagedBy(mgr).
		Named("azurekeyvaultsecret").
		For(&v2beta1.AzureKeyVaultSecret{}, builder.WithPredicates(r.specChanged())).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(sharers(mgr.GetClient())),
			builder.WithPredicates(outputDisturbed())).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: concurrency,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, maxBackoff),
			EnableWarmup:            &warm,
		}).
		Complete(reconcile.AsReconciler(mgr.GetClient(), r))
}

// specChanged lets through what a person did; our own status never wakes us.
func (r *Reconciler) specChanged() predicate.Funcs {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool { return e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() },
		DeleteFunc: func(e event.DeleteEvent) bool {
			r.failures.set(e.Object.GetUID(), 0)
			return false // nothing is left to do
		},
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
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

// sharers finds who outputs to a Secret. Owner references are not asked: losing
// them is one of the things that must be noticed.
func sharers(list client.Reader) handler.MapFunc {
	return func(ctx context.Context, s client.Object) []reconcile.Request {
		var found v2beta1.AzureKeyVaultSecretList
		err := list.List(ctx, &found, client.InNamespace(s.GetNamespace()), client.MatchingFields{byOutput: s.GetName()})
		if err != nil {
			logger(ctx).Error("cannot find who outputs to a Secret", telemetry.KeyError, err)
			return nil
		}
		var out []reconcile.Request
		for i := range found.Items {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&found.Items[i])})
		}
		return out
	}
}

func outputName(o client.Object) []string {
	akvs, ok := o.(*v2beta1.AzureKeyVaultSecret)
	if !ok || akvs.Spec.Output.Secret == nil {
		return nil
	}
	return []string{akvs.Spec.Output.Secret.Name}
}

func secretMetadata() *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
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

// jitter spreads an interval over 10 % to either side; random is in [0, 1).
// Resources that a restart aligned drift apart again.
func jitter(interval time.Duration, random float64) time.Duration {
	return time.Duration(float64(interval) * (0.9 + 0.2*random))
}
