// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Watches are the objects of which the resource must hear when they may be others,
// each once.
//
//	the resource                       watches
//	is Periodic and follows the latest  at every interval
//	is Periodic and names a version     once a day: it may be disabled
//	waits for a vault that is silent    at every interval
//	is anything else                    nothing
func (f Facts) Watches() []vault.Watch {
	var out []vault.Watch
	for _, o := range f.Outputs {
		ref, err := f.reference(o)
		watched := func(w vault.Watch) bool { return w.Reference == ref }
		if err != nil || slices.ContainsFunc(out, watched) {
			continue
		}
		switch {
		case f.polled(), f.silenced():
			out = append(out, vault.Watch{Reference: ref, Every: f.interval()})
		case f.policy() == v2beta1.RefreshPeriodic:
			out = append(out, vault.Watch{Reference: ref, Every: pinnedInterval})
		}
	}
	return out
}

// pinnedInterval is how often a version that a spec names is looked for. It never
// changes, but it may be disabled or deleted.
const pinnedInterval = 24 * time.Hour

// Reads are what must be asked of the vault before deciding, each once. What is
// not due is not asked for.
//
//	the resource                       is asked for
//	is new, changed, or not Ready      always
//	asks for a refresh by annotation   once for each value of it
//	watches an object                  when that may be another
//	is anything else                   when the output is not as it was confirmed
func (f Facts) Reads() []vault.Reference {
	var out []vault.Reference
	for _, o := range f.Outputs {
		ref, err := f.reference(o)
		if err == nil && f.due(o, ref) && !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out
}

// reference is what to read for one output. Once is Once: what repairs an output
// is the version that was first in it, as long as the spec is the one of then.
func (f Facts) reference(o Output) (vault.Reference, error) {
	ref, err := render.OutputReference(f.AKVS.Spec, o.Kind)
	if err == nil && f.policy() == v2beta1.RefreshOnce && ref.Version == "" && !f.asked() && f.written() {
		ref.Version = f.AKVS.Status.ObjectVersion
	}
	return ref, err
}

// written says whether this very spec was once in an output.
func (f Facts) written() bool {
	s := f.AKVS.Status
	now := hash(f.AKVS.Spec, s.ObjectVersion)
	return s.ObjectVersion != "" && (s.SecretHash == now || s.ConfigMapHash == now)
}

func (f Facts) policy() v2beta1.RefreshPolicy {
	if r := f.AKVS.Spec.Refresh; r != nil && r.Policy != "" {
		return r.Policy
	}
	return v2beta1.RefreshPeriodic
}

// polled says whether the object is looked for at every interval, if there is one.
func (f Facts) polled() bool {
	return f.policy() == v2beta1.RefreshPeriodic && f.AKVS.Spec.Vault.Object.Version == ""
}

// told says whether the watch tells of whatever changes in the vault. Events alone tell
// neither of permissions nor of what is enabled.
func (f Facts) told() bool { return f.polled() && f.interval() > 0 }

// asked says whether a person wants a look now: the spec is another than the one
// that the status speaks of, or the annotation is.
func (f Facts) asked() bool {
	s := f.AKVS.Status
	return s.ObservedGeneration != f.AKVS.Generation || s.HandledRefresh != f.requested()
}

func (f Facts) requested() string {
	text := []rune(f.AKVS.Annotations[v2beta1.RefreshAnnotation])
	return string(text[:min(len(text), v2beta1.MaxHandledRefresh)])
}

// handled says that what was asked for has been done.
func (f Facts) handled(in *Intent) { in.Status.HandledRefresh = f.requested() }

func (f Facts) due(o Output, ref vault.Reference) bool {
	return f.asked() || !isReady(f.AKVS.Status) || f.moved(ref) || !f.confirmed(o)
}

// moved says whether the object may be another than the one last read.
func (f Facts) moved(ref vault.Reference) bool { return !f.Known[ref].Since.IsZero() }

// Since is the earliest moment at which an answer may have been asked for that this
// look can use: when the resource was made or, if that is later, the watch told of
// something, or else now. Nobody says when an annotation was set.
func (f Facts) Since(ref vault.Reference) time.Time {
	told, made := f.Known[ref].Since, f.AKVS.CreationTimestamp.Time
	switch {
	case f.AKVS.Status.ObservedGeneration == 0 && f.requested() == "" && made.Before(f.Now): // by the API server's clock
		if told.After(made) {
			return told
		}
		return made
	case f.moved(ref) && !f.asked():
		return told
	}
	return f.Now
}

// silenced says whether the last thing heard of the vault was nothing.
func (f Facts) silenced() bool {
	last := readyCondition(f.AKVS.Status)
	return last != nil && last.Reason == v2beta1.ReasonVaultUnavailable
}

// confirmed says whether the output is known, without a value to compare, to be
// what was once written. Who changes a key takes its ownership.
func (f Facts) confirmed(o Output) bool {
	shape, err := render.OutputShape(f.AKVS.Spec, o.Kind)
	if err != nil || shape.Open || !f.standing(o) {
		return false
	}
	for _, key := range shape.Keys {
		if slices.ContainsFunc(o.Observed.Managers[key], func(m string) bool { return strings.HasPrefix(m, overlay) }) {
			return false // ownership does not tell
		}
	}
	c := f.claim(o, render.Payload{Kind: o.Kind, Type: shape.Type, Data: keysOnly(shape.Keys)})
	return c.err == nil && len(c.winners) == 0 && !f.inherits(o, c) &&
		f.sameMetadata(o.Observed.Labels, o.Observed.LabelManagers, c.labels) &&
		f.sameMetadata(o.Observed.Annotations, o.Observed.AnnotationManagers, c.annotations)
}

// standing says whether nobody has touched the output's data, as far as that can
// be known without reading the vault.
func (f Facts) standing(o Output) bool {
	shape, err := render.OutputShape(f.AKVS.Spec, o.Kind)
	if err != nil || o.Observed == nil || o.Observed.Type != shape.Type {
		return false
	}
	if shape.Open {
		return o.Observed.has(Manager(f.AKVS.UID)) && f.intact(o, f.ourKeys(o))
	}
	return f.intact(o, keysOnly(shape.Keys)) && !slices.ContainsFunc(shape.Keys, func(key string) bool { return !f.keeps(o, key) })
}

func keysOnly(keys []string) map[string]secret.Value {
	out := make(map[string]secret.Value, len(keys))
	for _, key := range keys {
		out[key] = secret.Value{}
	}
	return out
}

// ourKeys are those that we keep in an output.
func (f Facts) ourKeys(o Output) map[string]secret.Value {
	out := map[string]secret.Value{}
	for key := range o.Observed.Managers {
		if f.keeps(o, key) {
			out[key] = secret.Value{}
		}
	}
	return out
}

// stands says whether the last answer still holds without a new one: it was an
// answer, about this spec, and if it was good then nobody has touched the outputs.
func (f Facts) stands() bool {
	status := f.AKVS.Status
	last := readyCondition(status)
	switch {
	case last == nil, status.ObservedGeneration != f.AKVS.Generation,
		last.Reason == v2beta1.ReasonVaultUnavailable, last.Reason == v2beta1.ReasonApplyFailed:
		return false
	case last.Status != yes:
		return true
	}
	return !slices.ContainsFunc(f.Outputs, func(o Output) bool { return !f.standing(o) })
}

// interval is the spec's or, when it has none, the operator's.
func (f Facts) interval() time.Duration {
	if r := f.AKVS.Spec.Refresh; r != nil && r.Interval != nil {
		return max(r.Interval.Duration, f.Settings.Floor)
	}
	return f.Settings.Interval
}

// retryInterval is how long it takes to look again at what nobody tells of.
func (f Facts) retryInterval() time.Duration {
	d := f.jittered(f.interval())
	if d == 0 {
		return stallInterval
	}
	return d
}

func (f Facts) jittered(d time.Duration) time.Duration {
	if f.Settings.Jitter > 0 {
		return time.Duration(float64(d) * f.Settings.Jitter)
	}
	return d
}

// stallInterval is how long it takes to look again at what a person must mend,
// where nothing is looked at by the clock: the vault does not tell when it is.
const stallInterval = 5 * time.Minute
