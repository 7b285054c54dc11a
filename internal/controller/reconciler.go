// SPDX-License-Identifier: Apache-2.0

// Package controller keeps the output of each AzureKeyVaultSecret equal to its
// vault object: it gathers facts, has package plan decide, applies, and reports.
// It has no opinions of its own, keeps no value, and writes nothing while nothing
// changes.
//
// Start at Reconcile; Setup (setup.go) says what wakes it.
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Outputs are the Secrets of the cluster.
type Outputs interface {
	// Get returns nil for a Secret that does not exist.
	Get(context.Context, types.NamespacedName) (*plan.Observed, error)
	// Apply fails with the errors of package plan.
	Apply(context.Context, plan.Write) error
}

// Parts are what a Reconciler works with. All are needed.
type Parts struct {
	Vault   vault.Reader
	Outputs Outputs
	Status  client.SubResourceWriter // of AzureKeyVaultSecrets
	Events  events.EventRecorder
	Metrics *Metrics
	Clock   func() time.Time
	// Interval says when to look again; each call may answer differently, so that
	// resources spread out. Zero is never.
	Interval func() time.Duration
}

// Reconciler keeps outputs equal to their vault objects. It is safe for
// concurrent use on different resources.
type Reconciler struct {
	Parts

	failures counter
}

// New returns a Reconciler of these parts.
func New(p Parts) *Reconciler { return &Reconciler{Parts: p} }

// readTimeout bounds one read of the vault. An adapter has its own, shorter one;
// this is for whoever forgets.
const readTimeout = 30 * time.Second

var errStatus = errors.New("the status could not be written")

// Reconcile gathers facts, decides, applies, and reports. Only Decide thinks.
func (r *Reconciler) Reconcile(ctx context.Context, akvs *v2beta1.AzureKeyVaultSecret) (reconcile.Result, error) {
	if !akvs.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil // outputs are owned: garbage collection takes them
	}
	facts, err := r.gather(ctx, akvs)
	if err != nil || ctx.Err() != nil { // a read that our own end cut short says nothing
		return reconcile.Result{}, err
	}
	intent := plan.Decide(facts)
	intent = intent.Settle(r.apply(ctx, facts, intent))
	return r.report(ctx, akvs, intent)
}

func (r *Reconciler) gather(ctx context.Context, akvs *v2beta1.AzureKeyVaultSecret) (plan.Facts, error) {
	facts := plan.Facts{AKVS: akvs, Failures: r.failures.of(akvs.UID), Interval: r.Interval()}
	if ref, ok := plan.Reference(akvs); ok {
		facts.Object, facts.FetchErr = r.read(ctx, ref)
		// The output is looked at last: what is decided upon should be fresh.
		var err error
		facts.Observed, err = r.Outputs.Get(ctx, types.NamespacedName{Namespace: akvs.Namespace, Name: akvs.Spec.Output.Secret.Name})
		if err != nil {
			return plan.Facts{}, err
		}
	}
	facts.Now = r.Clock()
	return facts, nil
}

func (r *Reconciler) read(ctx context.Context, ref vault.Reference) (vault.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	start := r.Clock()
	obj, err := r.Vault.Read(ctx, ref)
	r.Metrics.read(ref.Kind, err, r.Clock().Sub(start))
	return obj, err
}

func (r *Reconciler) apply(ctx context.Context, facts plan.Facts, in plan.Intent) error {
	if in.Write == nil {
		return nil
	}
	err := r.Outputs.Apply(ctx, *in.Write)
	r.Metrics.wrote(facts.Observed == nil, err)
	log := logger(ctx).With("secret", in.Write.Name, telemetry.KeyVersion, in.Status.ObjectVersion)
	switch {
	case errors.Is(err, plan.ErrChanged):
		log.Debug("output changed meanwhile", telemetry.KeyError, err)
	case err != nil:
		log.Warn("writing the output failed", telemetry.KeyError, err)
	default:
		log.Info("wrote the output")
	}
	return err
}

func (r *Reconciler) report(ctx context.Context, akvs *v2beta1.AzureKeyVaultSecret, in plan.Intent) (reconcile.Result, error) {
	r.failures.set(akvs.UID, in.Failures)
	if !equality.Semantic.DeepEqual(akvs.Status, in.Status) {
		before := akvs.DeepCopy()
		akvs.Status = in.Status
		if err := r.Status.Patch(ctx, akvs, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return reconcile.Result{}, errStatus
		}
	}
	for _, e := range in.Events {
		r.Events.Eventf(akvs, nil, e.Type, e.Reason, "Sync", "%s", e.Note)
	}
	if in.Retry != nil {
		return reconcile.Result{}, fmt.Errorf("trying again later: %w", in.Retry)
	}
	return reconcile.Result{RequeueAfter: in.Requeue}, nil
}

// logger is the one that came with the request; it names the resource.
func logger(ctx context.Context) *slog.Logger {
	if log := logr.FromContextAsSlogLogger(ctx); log != nil {
		return log
	}
	return slog.New(slog.DiscardHandler)
}

// counter remembers how often in a row a resource's vault was unavailable. It
// forgets with the process, which costs one more event at worst.
type counter struct {
	mu sync.Mutex
	n  map[types.UID]int
}

func (c *counter) of(uid types.UID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[uid]
}

func (c *counter) set(uid types.UID, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[types.UID]int{}
	}
	if n == 0 {
		delete(c.n, uid)
		return
	}
	c.n[uid] = n
}
