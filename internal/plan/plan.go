// SPDX-License-Identifier: Apache-2.0

// Package plan decides what becomes of an AzureKeyVaultSecret: it is given facts
// and returns an intent. It performs no I/O, reads no clock and logs nothing.
// Every sentence that a person reads in a condition or an event is made here,
// from our own errors.
//
// Start at Decide. When the vault is asked is in refresh.go, who may write which
// output in claim.go, what an output carries besides its data in metadata.go, what
// is said about it all in say.go. Release (release.go) decides what becomes of an
// output that is not asked for any more.
package plan

import (
	"errors"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Facts are everything a decision may depend on. A failed read is a fact too.
type Facts struct {
	AKVS     *v2beta1.AzureKeyVaultSecret    // as last seen, its status included
	Outputs  []Output                        // those that the spec asks for
	Known    map[vault.Reference]vault.Known // of what Watches asks for
	Answers  map[vault.Reference]Answer      // to what Reads asks for
	Failures int                             // how often in a row the vault was unavailable before this
	Changes  int                             // how often in a row a write met another writer
	Now      time.Time
	Settings Settings
}

// Output is what is known of one output that the spec asks for.
type Output struct {
	Kind     render.Kind
	Name     string
	Observed *Observed // as it is; nil when it does not exist
	Rivals   []Rival   // who else in the namespace asks for it
}

// Claimants are the AzureKeyVaultSecrets that the output names as it is.
func (o Output) Claimants() []types.UID {
	if o.Observed == nil {
		return nil
	}
	return o.Observed.Claimants()
}

// Stripped says whether the output was the resource's own and no longer says so.
func (o Output) Stripped(uid types.UID) bool {
	return o.Observed != nil && !o.Observed.unowned() && !o.Observed.OwnedBy(uid) && o.Observed.has(Manager(uid))
}

// Answer is what came of one read.
type Answer struct {
	Object vault.Object
	Err    error     // one of package vault's errors, perhaps wrapped
	Asked  time.Time // when it was asked for, or later
}

// Settings are the operator's.
type Settings struct {
	Interval time.Duration // between two looks at an object; zero is never
	Floor    time.Duration // of the interval that a spec may ask for
	Jitter   float64       // what intervals are multiplied with; zero counts as one
	Warning  time.Duration // how long before its expiry an object is near it; zero is never
}

// Intent is what should happen next.
type Intent struct {
	Writes   []Write                           // empty when the cluster already agrees
	Status   v2beta1.AzureKeyVaultSecretStatus // all of it, as it should be afterwards
	Events   []Event
	Failures int           // Facts.Failures of the next decision
	Changes  int           // Facts.Changes of the next decision
	Requeue  time.Duration // when to decide again; zero leaves it to the next change
	Retry    error         // non-nil asks for exponential backoff instead of Requeue

	facts Facts // for Settle
}

// Asked are the outputs that a spec asks for, by kind and name.
func Asked(spec v2beta1.AzureKeyVaultSecretSpec) []Output {
	var out []Output
	if s := spec.Output.Secret; s != nil {
		out = append(out, Output{Kind: render.Secret, Name: s.Name})
	}
	if c := spec.Output.ConfigMap; c != nil {
		out = append(out, Output{Kind: render.ConfigMap, Name: c.Name})
	}
	return out
}

// Decide maps facts to an intent.
func Decide(f Facts) Intent {
	if len(f.Outputs) == 0 {
		return f.idle()
	}
	verdicts := make([]verdict, 0, len(f.Outputs))
	for _, o := range f.Outputs {
		verdicts = append(verdicts, f.judge(o))
	}
	return f.conclude(verdicts)
}

// A verdict is what is decided of one output.
type verdict struct {
	output Output
	object *vault.Object // what was read; nil when nothing was, or nothing came
	write  *Write        // nil when there is nothing to write
	disown *Write        // what keeps a guest's data safe although the output is disputed
	fault  *fault        // nil when the output is, or is about to be, right
}

// A fault is what keeps an output from being right.
type fault struct {
	reason  string
	message string
	hold    hold
	told    bool    // the watches tell when it is over
	remote  error   // the failed read, while hold is untilVault
	winners []Rival // who keeps the keys that were asked for
}

// A hold says what a fault waits for.
type hold int

const (
	untilPerson hold = iota // to change the vault or somebody else's object; looked at again at the usual interval
	untilSpec               // to be another
	untilVault              // answers
)

// judge decides about one output.
//
//	the read                     the output
//	was not needed               is right as it is
//	failed                       stays as it is
//	gave what cannot be shown    stays as it is
//	gave an object               is claimed and, unless it agrees, written
func (f Facts) judge(o Output) verdict {
	v := verdict{output: o}
	ref, err := f.reference(o)
	if err == nil {
		err = checkMetadata(f.options(o.Kind))
	}
	if err != nil {
		return v.fail(f.explained(err, untilSpec))
	}
	answer, read := f.Answers[ref]
	switch {
	case !read:
		return v
	case answer.Err != nil:
		return v.fail(f.unread(answer.Err))
	}
	v.object = &answer.Object
	payload, err := render.Output(f.AKVS.Spec, o.Kind, answer.Object)
	if err != nil {
		why := f.explained(err, untilPerson)
		why.told = f.told()
		return v.fail(why)
	}
	c := f.claim(o, payload)
	if c.err == nil && !f.vain(o, c) && !f.agrees(o, c) {
		v.write = f.write(o, c)
	}
	if c.err != nil {
		v.disown = f.disown(o, c)
	}
	if c.err != nil || len(c.winners) > 0 {
		return v.fail(f.disputed(o, c))
	}
	return v
}

func (v verdict) writes() []Write {
	var out []Write
	for _, w := range []*Write{v.write, v.disown} {
		if w != nil {
			out = append(out, *w)
		}
	}
	return out
}

// told says whether somebody tells when the verdict may be another. What is well is
// watched.
func (v verdict) told() bool { return v.fault == nil || v.fault.told || v.fault.hold == untilSpec }

func (v verdict) fail(why fault) verdict {
	v.fault = &why
	return v
}

// explained is for a spec or object that gives no output.
func (f Facts) explained(err error, until hold) fault {
	if errors.Is(err, errMetadata) {
		return fault{reason: v2beta1.ReasonOutputInvalid, message: f.aboutObject(err.Error()), hold: until}
	}
	known := render.Explain(err)
	return fault{reason: known.Reason, message: f.aboutObject(known.Text), hold: until}
}

// unread is for a vault that gave nothing. A refusal is about the present and the
// output is of the past, so Ready becomes False while the output stays; silence is
// about neither.
func (f Facts) unread(err error) fault {
	known := render.Explain(err)
	if known.Outage {
		return fault{reason: v2beta1.ReasonVaultUnavailable, message: f.aboutObject(sentenceUnavailable), hold: untilVault, remote: err}
	}
	return fault{reason: known.Reason, message: f.aboutObject(known.Text), hold: untilPerson, told: f.told()}
}

// conclude makes one intent of the verdicts: everything that can be written is,
// and the worst that was met is said.
func (f Facts) conclude(verdicts []verdict) Intent {
	in := f.kept(verdicts)
	worst := worstOf(verdicts)
	switch {
	case worst == nil:
		f.succeed(&in, verdicts)
	case worst.hold == untilVault:
		f.wait(&in, *worst)
	default:
		f.stall(&in, verdicts, *worst)
	}
	if slices.ContainsFunc(in.Writes, func(w Write) bool { return w.Replace != nil }) {
		in.Requeue = time.Second // what the carrier made is still to be taken over
	}
	f.validate(&in)
	f.confirm(&in)
	return in
}

// kept is what holds whatever is said: the writes, and what the status tells of
// outputs and object.
func (f Facts) kept(verdicts []verdict) Intent {
	in := Intent{Status: *f.AKVS.Status.DeepCopy(), facts: f}
	before, s := f.AKVS.Status, &in.Status
	wrote := false
	for _, v := range verdicts {
		in.Writes = append(in.Writes, v.writes()...)
		wrote = wrote || v.write != nil
		f.tell(s, v)
	}
	f.forget(s)
	if wrote || s.SecretName != before.SecretName || s.ConfigMapName != before.ConfigMapName ||
		s.ObjectVersion != before.ObjectVersion || s.LastAzureUpdate == nil && s.ObjectVersion != "" {
		s.LastAzureUpdate = f.now()
	}
	return in
}

// tell records what was read, and what of it is, or is about to be, in an output.
func (f Facts) tell(s *v2beta1.AzureKeyVaultSecretStatus, v verdict) {
	switch {
	case v.object != nil:
		s.NotBefore, s.Expires = instant(v.object.NotBefore), instant(v.object.Expires)
	case f.AKVS.Generation != f.AKVS.Status.ObservedGeneration: // it may be another object's
		s.NotBefore, s.Expires = nil, nil
	}
	if v.object != nil && (v.fault == nil || v.write != nil) {
		s.ObjectVersion = v.object.Version
		f.name(s, v.output, hash(f.AKVS.Spec, v.object.Version))
	}
}

// name records an output that was, or is about to be, written.
func (f Facts) name(s *v2beta1.AzureKeyVaultSecretStatus, o Output, hash string) {
	if o.Kind == render.Secret {
		s.SecretName, s.SecretHash = o.Name, hash
		return
	}
	s.ConfigMapName, s.ConfigMapHash = o.Name, hash
}

// forget drops what the status tells of outputs that are not asked for any more.
func (f Facts) forget(s *v2beta1.AzureKeyVaultSecretStatus) {
	if f.AKVS.Spec.Output.Secret == nil {
		s.SecretName, s.SecretHash = "", ""
	}
	if f.AKVS.Spec.Output.ConfigMap == nil {
		s.ConfigMapName, s.ConfigMapHash = "", ""
	}
}

// worstOf is the fault that a person hears of: one that needs a person before one
// that needs time.
func worstOf(verdicts []verdict) *fault {
	var worst *fault
	for _, v := range verdicts {
		if v.fault != nil && (worst == nil || worst.hold == untilVault) {
			worst = v.fault
		}
	}
	return worst
}

// succeed: the outputs are, or are about to be, what the vault holds.
func (f Facts) succeed(in *Intent, verdicts []verdict) {
	f.handled(in)
	f.conditions(in, condition{v2beta1.ConditionReady, yes, v2beta1.ReasonSynced, f.aboutObject(f.outputNames() + " " + holds(verdicts) + " it")})
	in.Events = f.announce(verdicts)
}

// stall: only a person can go on. Outputs that are at no fault are cared for all
// the same. Of what changes in a vault the watches tell; whatever else a person
// mends is looked for by the clock.
func (f Facts) stall(in *Intent, verdicts []verdict, why fault) {
	f.conditions(in,
		condition{v2beta1.ConditionReady, no, why.reason, why.message},
		condition{v2beta1.ConditionStalled, yes, why.reason, why.message})
	in.Events = f.complain(*in, why)
	in.Requeue = f.retryInterval()
	isHeld := func(h hold) func(verdict) bool {
		return func(v verdict) bool { return v.fault != nil && v.fault.hold == h }
	}
	if i := slices.IndexFunc(verdicts, isHeld(untilVault)); i >= 0 {
		f.again(in, *verdicts[i].fault)
		return
	}
	f.handled(in)
	if !slices.ContainsFunc(verdicts, func(v verdict) bool { return !v.told() }) {
		in.Requeue = 0
	}
}

// outageThreshold is how many reads in a row must fail before a working output
// gets an event: with the backoff of one second and doubling, a blip of three
// seconds stays quiet.
const outageThreshold = 3

// wait leaves the last answer standing as long as it is about this very spec and,
// if it was good, the outputs are still what was confirmed. So an outage of a
// vault rewrites no status; an event tells of it once.
func (f Facts) wait(in *Intent, why fault) {
	switch {
	case !f.stands():
		f.conditions(in, condition{v2beta1.ConditionReady, no, why.reason, why.message})
		in.Events = f.complain(*in, why)
	case f.Failures+1 == outageThreshold && isReady(f.AKVS.Status):
		in.Events = warn(why.reason, why.message)
	}
	f.again(in, why)
}

// again asks the vault once more, ever later, and not before it says. A vault that is
// left alone says so to everybody for the same moment, and thousands that all came back
// then would read their outputs from the API server for nothing.
func (f Facts) again(in *Intent, why fault) {
	in.Failures = f.Failures + 1
	if asked := vault.RetryAfter(why.remote); asked > 0 {
		in.Requeue = max(asked, f.backoff())
		return
	}
	in.Retry = vault.ErrUnavailable
}

// MaxBackoff is how long it takes at most until what failed is tried again.
const MaxBackoff = 5 * time.Minute

// backoff doubles from one second. Who is watched by the clock is woken when the vault
// answers; who is not waits no longer than the interval.
func (f Facts) backoff() time.Duration {
	longest := MaxBackoff
	byTheClock := func(w vault.Watch) bool { return w.Every > 0 }
	if every := f.interval(); every > 0 && !slices.ContainsFunc(f.Watches(), byTheClock) {
		longest = min(longest, every)
	}
	return f.jittered(min(time.Second<<min(f.Failures, 10), longest))
}

// idle is for what the Env Injector alone uses.
func (f Facts) idle() Intent {
	in := f.kept(nil)
	in.Status.ObjectVersion, in.Status.LastAzureUpdate = "", nil
	in.Status.NotBefore, in.Status.Expires = nil, nil
	f.handled(&in)
	f.conditions(&in, condition{v2beta1.ConditionReady, yes, v2beta1.ReasonNoOutput, sentenceNoOutput})
	f.validate(&in)
	f.confirm(&in)
	return in
}

// Settle folds what became of the writes back into the intent; errs are in the
// order of Writes, with nil for those that were carried out.
func (in Intent) Settle(errs []error) Intent {
	for i, err := range errs {
		switch {
		case err == nil:
			continue
		case errors.Is(err, ErrChanged) && in.facts.Changes < patience: // decide again upon what it is now; nobody need know
			return Intent{Status: in.facts.AKVS.Status, Changes: in.facts.Changes + 1, Requeue: time.Second}
		}
		return in.failed(in.Writes[i], err)
	}
	return in
}

// patience is how often in a row a write may meet another writer before that is a
// failure: whoever answers 409 to everything is no other writer.
const patience = 5

// Unseen is for an output that could not be looked at: nothing is decided.
func (f Facts) Unseen(o Output, err error) Intent {
	return Intent{facts: f}.failed(Write{Name: o.Name, Payload: render.Payload{Kind: o.Kind}}, err)
}

// failed says which write failed. What the others achieved is found again.
func (in Intent) failed(w Write, err error) Intent {
	why := ErrWrite
	for _, known := range []error{ErrNotAllowed, ErrRefused, ErrGap} {
		if errors.Is(err, known) {
			why = known
		}
	}
	f := in.facts
	out := f.kept(nil)
	said := fault{reason: v2beta1.ReasonApplyFailed, message: fit(string(w.Payload.Kind)+" "+w.Name, ": "+why.Error())}
	f.conditions(&out, condition{v2beta1.ConditionReady, no, said.reason, said.message})
	out.Events, out.Retry = f.complain(out, said), why
	return out
}
