// SPDX-License-Identifier: Apache-2.0

// Package controller keeps the output of each AzureKeyVaultSecret equal to its
// vault object: it gathers facts, has package plan decide, applies, and reports.
// It has no opinions of its own, keeps no value, and writes nothing while nothing
// changes. A second loop, Releaser (releaser.go), takes outputs away that nobody
// asks for any more.
//
// Start at Reconcile; Setup (setup.go) says what wakes it.
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Outputs are the Secrets and ConfigMaps of the cluster.
type Outputs interface {
	// Get returns nil for an object that does not exist.
	Get(context.Context, render.Kind, types.NamespacedName) (*plan.Observed, error)
	// Apply fails with the errors of package plan.
	Apply(context.Context, plan.Write) error
}

// Watch tells when an object of a vault may be another than the one last read.
type Watch interface {
	// Follow says what a follower watches from now on; nothing ends it.
	Follow(follower string, watches []vault.Watch)
	Known(follower string, ref vault.Reference) vault.Known
	// Saw tells of an answer, asked for at a time or later, that a follower has acted
	// upon.
	Saw(follower string, ref vault.Reference, asked time.Time, obj vault.Object, err error)
}

// Parts are what a Reconciler works with. All are needed.
type Parts struct {
	Vault   vault.Reader
	Watch   Watch
	Outputs Outputs
	Resources
	Status  client.SubResourceWriter // of AzureKeyVaultSecrets
	Events  events.EventRecorder
	Metrics *Metrics
	Clock   func() time.Time
	// Settings are the operator's; each call may answer with another jitter, so that
	// resources spread out.
	Settings func() plan.Settings
	// StatusRate is how many resources per second may be said to be not ready any more,
	// or stale, or warned of an outage.
	StatusRate int
}

// Resources knows the AzureKeyVaultSecrets of the cluster.
type Resources interface {
	// Rivals are those, besides the resource itself, that ask for an output.
	Rivals(context.Context, *v2beta1.AzureKeyVaultSecret, plan.Output) ([]plan.Rival, error)
	// Lives asks the API server whether the resource exists and is not being deleted.
	Lives(context.Context, *v2beta1.AzureKeyVaultSecret) (bool, error)
}

// Reconciler keeps outputs equal to their vault objects. It is safe for
// concurrent use on different resources.
type Reconciler struct {
	Parts

	failures counter // reads that the vault did not answer
	changes  counter // writes that met another writer
	damper   damper
	pacer    *pacer
}

// New returns a Reconciler of these parts.
func New(p Parts) *Reconciler { return &Reconciler{Parts: p, pacer: newPacer(p.StatusRate)} }

// readTimeout bounds one read of the vault. An adapter has its own, shorter one;
// this is for whoever forgets.
const readTimeout = 30 * time.Second

var (
	errStatus = errors.New("the status could not be written")
	errGone   = errors.New("the resource is gone, or about to be")
	errPutOff = errors.New("the status is to be written later")
)

// Named reconciles the resource of a name. One that is gone, or about to be, follows
// nothing any more.
func (r *Reconciler) Named(c client.Reader) reconcile.Reconciler { //nolint:ireturn // what the builder takes
	return reconcile.Func(func(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
		akvs := &v2beta1.AzureKeyVaultSecret{}
		switch err := c.Get(ctx, req.NamespacedName, akvs); {
		case apierrors.IsNotFound(err), err == nil && !akvs.DeletionTimestamp.IsZero():
			r.Watch.Follow(req.String(), nil)
			return reconcile.Result{}, nil // the Releaser and garbage collection take its outputs
		case err != nil:
			return reconcile.Result{}, fmt.Errorf("looking for the resource: %w", err)
		}
		return r.Reconcile(ctx, akvs)
	})
}

// Reconcile gathers facts, decides, applies, and reports. Only Decide thinks.
func (r *Reconciler) Reconcile(ctx context.Context, akvs *v2beta1.AzureKeyVaultSecret) (reconcile.Result, error) {
	if wait := r.damper.wait(akvs, r.Clock()); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	facts, unseen, err := r.gather(ctx, akvs)
	switch {
	case ctx.Err() != nil:
		return reconcile.Result{}, nil //nolint:nilerr // a read that our own end cut short says nothing
	case errors.Is(err, errGone):
		return reconcile.Result{}, nil
	case unseen != nil:
		return r.conclude(ctx, facts, facts.Unseen(*unseen, err))
	case err != nil:
		return reconcile.Result{}, err
	}
	intent := plan.Decide(facts)
	return r.conclude(ctx, facts, intent.Settle(r.apply(ctx, intent)))
}

// conclude reports, and tells the watch what has been acted upon. Of what is put off
// it must tell again.
func (r *Reconciler) conclude(ctx context.Context, facts plan.Facts, in plan.Intent) (reconcile.Result, error) {
	result, err := r.report(ctx, facts.AKVS, in)
	switch {
	case errors.Is(err, errPutOff):
		return result, nil
	case errors.Is(err, errStatus), in.Changes > 0:
		return result, err
	}
	for ref, answer := range facts.Answers {
		r.Watch.Saw(follower(facts.AKVS), ref, answer.Asked, answer.Object, answer.Err)
	}
	return result, err
}

// follower is what the watch calls a resource.
func follower(akvs client.Object) string { return client.ObjectKeyFromObject(akvs).String() }

// gather says which output could not be looked at, if one could not.
func (r *Reconciler) gather(ctx context.Context, akvs *v2beta1.AzureKeyVaultSecret) (plan.Facts, *plan.Output, error) {
	facts := plan.Facts{
		AKVS: akvs, Outputs: plan.Asked(akvs.Spec),
		Known: map[vault.Reference]vault.Known{}, Answers: map[vault.Reference]plan.Answer{},
		Failures: r.failures.of(akvs.UID), Changes: r.changes.of(akvs.UID), Settings: r.Settings(), Now: r.Clock(),
	}
	for i := range facts.Outputs {
		o := &facts.Outputs[i]
		var err error
		if o.Observed, err = r.Outputs.Get(ctx, o.Kind, types.NamespacedName{Namespace: akvs.Namespace, Name: o.Name}); err != nil {
			return facts, o, err
		}
		if o.Rivals, err = r.Rivals(ctx, akvs, *o); err != nil {
			return facts, nil, err
		}
	}
	if slices.ContainsFunc(facts.Outputs, func(o plan.Output) bool { return o.Stripped(akvs.UID) }) {
		// Whoever deletes with --cascade=orphan has the owners taken away first, and
		// our cache may not know of it yet.
		switch lives, err := r.Lives(ctx, akvs); {
		case err != nil:
			return facts, nil, err
		case !lives:
			return facts, nil, errGone
		}
	}
	r.watched(&facts)
	for _, ref := range facts.Reads() {
		facts.Answers[ref] = r.read(ctx, ref, facts.Since(ref))
	}
	return facts, nil, nil
}

// watched follows what the resource depends on, and gathers what is known of it.
func (r *Reconciler) watched(facts *plan.Facts) {
	watches := facts.Watches()
	r.Watch.Follow(follower(facts.AKVS), watches)
	for _, w := range watches {
		facts.Known[w.Reference] = r.Watch.Known(follower(facts.AKVS), w.Reference)
	}
}

// read has an answer that was asked for at a time or later.
func (r *Reconciler) read(ctx context.Context, ref vault.Reference, since time.Time) plan.Answer {
	ctx, cancel := context.WithTimeout(vault.WithDemand(ctx, vault.Demand{Priority: vault.Change, Since: since}), readTimeout)
	defer cancel()
	start := r.Clock()
	obj, err := r.Vault.Read(ctx, ref)
	r.Metrics.read(ref.Kind, err, r.Clock().Sub(start))
	return plan.Answer{Object: obj, Err: err, Asked: since}
}

// apply carries the writes out, each whatever became of the others.
func (r *Reconciler) apply(ctx context.Context, in plan.Intent) []error {
	errs := make([]error, len(in.Writes))
	for i, w := range in.Writes {
		errs[i] = r.write(ctx, w, in.Status.ObjectVersion)
	}
	return errs
}

func (r *Reconciler) write(ctx context.Context, w plan.Write, version string) error {
	err := r.Outputs.Apply(ctx, w)
	r.Metrics.wrote(w.UID == "", err)
	log := logger(ctx).With("kind", w.Payload.Kind, "output", w.Name, telemetry.KeyVersion, version)
	switch {
	case errors.Is(err, plan.ErrChanged):
		log.Debug("output changed meanwhile", telemetry.KeyError, err)
	case err != nil:
		log.Warn("writing the output failed", telemetry.KeyError, err)
	default:
		log.Info("wrote the output", "replaced", w.Replace != nil)
	}
	return err
}

func (r *Reconciler) report(ctx context.Context, akvs *v2beta1.AzureKeyVaultSecret, in plan.Intent) (reconcile.Result, error) {
	r.changes.set(akvs.UID, in.Changes)
	r.damper.note(akvs, in, r.Clock())
	news := !equality.Semantic.DeepEqual(akvs.Status, in.Status)
	if wait := r.pace(akvs, in, news); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, errPutOff
	}
	r.failures.set(akvs.UID, in.Failures) // what is told at a count is put off with it
	if news {
		before := akvs.DeepCopy()
		akvs.Status = in.Status
		// The lock tells a namesake that was made meanwhile.
		err := r.Status.Patch(ctx, akvs, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		switch {
		case apierrors.IsConflict(err):
			return reconcile.Result{RequeueAfter: time.Second}, errPutOff
		case client.IgnoreNotFound(err) != nil:
			return reconcile.Result{}, errStatus
		}
	}
	for _, e := range in.Events {
		about := akvs
		if e.About != nil {
			about = &v2beta1.AzureKeyVaultSecret{ObjectMeta: metav1.ObjectMeta{Namespace: akvs.Namespace, Name: e.About.Name, UID: e.About.UID}}
		}
		r.Events.Eventf(about, nil, e.Type, e.Reason, "Sync", "%s", e.Note)
	}
	if in.Retry != nil {
		return reconcile.Result{}, fmt.Errorf("trying again later: %w", in.Retry)
	}
	return reconcile.Result{RequeueAfter: in.Requeue}, nil
}

// pace is how long a resource has to wait until it may be said to be worse than it
// was, or to be stale no longer, or somebody may be warned of an outage that the status
// does not speak of: no worker waits for that.
func (r *Reconciler) pace(akvs *v2beta1.AzureKeyVaultSecret, in plan.Intent, news bool) time.Duration {
	worse := isReady(akvs.Status) && !isReady(in.Status)
	warned := !news && slices.ContainsFunc(in.Events, func(e plan.Event) bool { return e.Type == plan.Warning })
	if !worse && !warned && isStale(akvs.Status) == isStale(in.Status) {
		r.pacer.forget(akvs.UID) // lest the turn be kept for the next outage, and everybody's with it
		return 0
	}
	return r.pacer.wait(akvs.UID, r.Clock())
}

func isStale(s v2beta1.AzureKeyVaultSecretStatus) bool {
	return meta.IsStatusConditionTrue(s.Conditions, v2beta1.ConditionStale)
}

func isReady(s v2beta1.AzureKeyVaultSecretStatus) bool {
	return meta.IsStatusConditionTrue(s.Conditions, v2beta1.ConditionReady)
}

// logger is the one that came with the request, which names the resource, or the
// process's.
func logger(ctx context.Context) *slog.Logger {
	if log := logr.FromContextAsSlogLogger(ctx); log != nil {
		return log
	}
	return slog.New(logr.ToSlogHandler(ctrl.Log))
}
