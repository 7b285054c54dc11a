// SPDX-License-Identifier: Apache-2.0

// Package plan decides what becomes of an AzureKeyVaultSecret: it is given facts
// and returns an intent. It performs no I/O, reads no clock and logs nothing.
// Every sentence that a person reads in a condition or an event is made here,
// from our own errors.
//
// Start at Decide. Who may write which Secret is in claim.go, what is said about
// it in say.go.
package plan

import (
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Facts are everything a decision may depend on. A failed read is a fact too.
type Facts struct {
	AKVS     *v2beta1.AzureKeyVaultSecret // as last seen, its status included
	Object   vault.Object                 // what Reference names, unless FetchErr
	FetchErr error                        // one of package vault's errors, perhaps wrapped
	Observed *Observed                    // the output as it is; nil when it does not exist
	Failures int                          // how often in a row the vault was unavailable before this
	Now      time.Time
	Interval time.Duration // when to look again; zero is never
}

// Intent is what should happen next.
type Intent struct {
	Write    *Write                            // nil when the cluster already agrees
	Status   v2beta1.AzureKeyVaultSecretStatus // all of it, as it should be afterwards
	Events   []Event
	Failures int           // Facts.Failures of the next decision
	Requeue  time.Duration // when to decide again; zero leaves it to the next change
	Retry    error         // non-nil asks for exponential backoff instead of Requeue

	facts Facts // for Settle
}

// Write is one server-side apply.
type Write struct {
	Namespace, Name string
	Manager         string // the field manager
	Owner           metav1.OwnerReference
	Payload         render.Payload
	// UID and ResourceVersion are what was decided upon, so that nothing else is
	// ever overwritten. Empty, there was no such Secret.
	UID             types.UID
	ResourceVersion string
}

// The ways a write fails, as far as anyone must act differently.
var (
	// ErrChanged is a Secret that is no longer the observed one.
	ErrChanged = errors.New("the Secret changed meanwhile")
	// ErrNotAllowed is a right that the controller lacks.
	ErrNotAllowed = errors.New("the API server does not allow the controller to write it")
	// ErrRefused is a Secret that the API server, a quota or a policy does not take.
	ErrRefused = errors.New("the API server, a quota or an admission policy refuses it")
	// ErrWrite is every other failure.
	ErrWrite = errors.New("the API server did not carry it out")
)

// Reference is what to read for the decision; without an output, or with one
// that cannot be, there is nothing to read.
func Reference(akvs *v2beta1.AzureKeyVaultSecret) (vault.Reference, bool) {
	if !hasOutput(akvs) {
		return vault.Reference{}, false
	}
	ref, err := render.OutputReference(akvs.Spec, render.Secret)
	return ref, err == nil
}

func hasOutput(akvs *v2beta1.AzureKeyVaultSecret) bool {
	return akvs.Spec.Output.Secret != nil || akvs.Spec.Output.ConfigMap != nil
}

// Decide maps facts to an intent.
func Decide(f Facts) Intent {
	if !hasOutput(f.AKVS) {
		return f.idle()
	}
	if _, err := render.OutputReference(f.AKVS.Spec, render.Secret); err != nil {
		return f.unrenderable(err).never() // only another spec changes it
	}
	if f.FetchErr != nil {
		return f.unread()
	}
	want, err := render.Output(f.AKVS.Spec, render.Secret, f.Object)
	if err != nil {
		return f.unrenderable(err)
	}
	if err := claim(f, want); err != nil {
		return f.stalled(v2beta1.ReasonOutputConflict, f.aboutSecret(err))
	}
	return f.synced(want)
}

// Settle folds the error of carrying the write out back into the intent.
func (in Intent) Settle(err error) Intent {
	switch {
	case err == nil:
		return in
	case errors.Is(err, ErrChanged): // decide again upon what it is now; nobody need know
		return Intent{Status: in.facts.AKVS.Status, Requeue: time.Second}
	}
	why := ErrWrite
	for _, known := range []error{ErrNotAllowed, ErrRefused} {
		if errors.Is(err, known) {
			why = known
		}
	}
	out := in.facts.notReady(v2beta1.ReasonApplyFailed, in.facts.aboutSecret(why))
	out.Requeue, out.Retry = 0, why
	return out
}

// idle is for what the Env Injector alone uses.
func (f Facts) idle() Intent {
	in := f.intent(condition{v2beta1.ConditionReady, metav1.ConditionTrue, v2beta1.ReasonNoOutput, sentenceNoOutput})
	return in.never()
}

// synced is the good end: the output is, or is about to be, what the vault holds.
func (f Facts) synced(want render.Payload) Intent {
	in := f.intent(condition{v2beta1.ConditionReady, metav1.ConditionTrue, v2beta1.ReasonSynced, f.aboutObject("Secret " + f.secretName() + " holds it")})
	before := f.AKVS.Status
	in.Status.SecretName = f.secretName()
	in.Status.ObjectVersion = f.Object.Version
	in.Status.SecretHash = hash(f.AKVS.Spec, f.Object.Version)
	if !f.agrees(want) {
		in.Write = f.write(want)
	}
	if in.Write != nil || before.LastAzureUpdate == nil ||
		before.ObjectVersion != in.Status.ObjectVersion || before.SecretName != in.Status.SecretName {
		in.Status.LastAzureUpdate = f.now()
	}
	if in.Write != nil || !isReady(before) {
		in.Events = []Event{f.announce(in.Write)}
	}
	return in
}

func (f Facts) write(want render.Payload) *Write {
	w := &Write{
		Namespace: f.AKVS.Namespace,
		Name:      f.secretName(),
		Manager:   Manager(f.AKVS.UID),
		Owner:     owner(f.AKVS),
		Payload:   want,
	}
	if f.Observed != nil {
		w.UID, w.ResourceVersion = f.Observed.UID, f.Observed.ResourceVersion
	}
	return w
}

// outageThreshold is how many reads in a row must fail before a working output
// gets an event: with the backoff of one second and doubling, a blip of three
// seconds stays quiet.
const outageThreshold = 3

// unread decides without the object. Nothing is ever written here.
//
//	the vault says                          condition             again
//	no, and only a person can change that   Ready=False, Stalled  at the usual interval
//	slow down                               see unavailable       when the vault says
//	nothing                                 see unavailable       exponential backoff
func (f Facts) unread() Intent {
	if fault := render.Explain(f.FetchErr); !fault.Outage {
		// A refusal is about the present and the output is of the past, so Ready is
		// False while the output stays.
		return f.stalled(fault.Reason, f.aboutObject(fault.Text))
	}
	in := f.unavailable()
	if slow, ok := errors.AsType[vault.Throttled](f.FetchErr); ok && slow.RetryAfter > 0 {
		in.Requeue = slow.RetryAfter
		return in
	}
	in.Requeue, in.Retry = 0, vault.ErrUnavailable
	return in
}

// unavailable leaves the last answer standing as long as it is about this very
// spec and, if it was good, the output is still what was confirmed. So an outage
// of a vault rewrites no status; an event tells of it once.
func (f Facts) unavailable() Intent {
	if !f.stands() {
		in := f.notReady(v2beta1.ReasonVaultUnavailable, f.aboutObject(sentenceUnavailable))
		in.Failures = f.Failures + 1
		return in
	}
	in := Intent{Status: f.AKVS.Status, Failures: f.Failures + 1, Requeue: f.Interval, facts: f}
	if in.Failures == outageThreshold && isReady(f.AKVS.Status) {
		in.Events = []Event{{Warning, v2beta1.ReasonVaultUnavailable, f.aboutObject(sentenceUnavailable)}}
	}
	return in
}

// unrenderable is an object or spec that gives no output.
func (f Facts) unrenderable(err error) Intent {
	fault := render.Explain(err)
	return f.stalled(fault.Reason, f.aboutObject(fault.Text))
}

// never waits for a change of the resource.
func (in Intent) never() Intent {
	in.Requeue = 0
	return in
}
