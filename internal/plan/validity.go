// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
)

// validate says how the object's validity stands, and sees to it that this is
// looked at again when it changes. The vault gives an object before and after its
// validity, and so do we.
func (f Facts) validate(in *Intent) {
	before := meta.FindStatusCondition(f.AKVS.Status.Conditions, v2beta1.ConditionValid)
	if in.Status.NotBefore == nil && in.Status.Expires == nil {
		meta.RemoveStatusCondition(&in.Status.Conditions, v2beta1.ConditionValid)
		return
	}
	c := f.validity(in.Status)
	f.set(in, c)
	if c.reason != v2beta1.ReasonValid && (before == nil || before.Reason != c.reason || before.Message != c.message) {
		in.Events = append(in.Events, warn(c.reason, c.message)...)
	}
	if in.Retry == nil {
		in.Requeue = sooner(in.Requeue, f.turns(in.Status))
	}
}

func (f Facts) validity(s v2beta1.AzureKeyVaultSecretStatus) condition {
	date := func(t *metav1.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
	out := condition{kind: v2beta1.ConditionValid, status: yes, reason: v2beta1.ReasonValid}
	text := "it is valid"
	switch {
	case s.Expires != nil && !f.Now.Before(s.Expires.Time):
		out.status, out.reason, text = no, v2beta1.ReasonExpired, "it expired on "+date(s.Expires)
	case s.NotBefore != nil && f.Now.Before(s.NotBefore.Time):
		out.status, out.reason, text = no, v2beta1.ReasonNotYetValid, "it is not valid before "+date(s.NotBefore)
	case s.Expires != nil && !f.Now.Before(s.Expires.Add(-f.Settings.Warning)):
		out.reason, text = v2beta1.ReasonNearExpiry, "it expires on "+date(s.Expires)
	case s.Expires != nil:
		text = "it is valid until " + date(s.Expires)
	}
	out.message = f.aboutObject(text)
	return out
}

// turns is how long it takes until the validity is another; zero is never.
func (f Facts) turns(s v2beta1.AzureKeyVaultSecretStatus) time.Duration {
	var moments []time.Time
	if s.NotBefore != nil {
		moments = append(moments, s.NotBefore.Time)
	}
	if s.Expires != nil {
		moments = append(moments, s.Expires.Time, s.Expires.Add(-f.Settings.Warning))
	}
	var next time.Duration
	for _, m := range moments {
		if wait := m.Sub(f.Now); wait > 0 {
			next = sooner(next, wait+time.Second) // past it, whatever clocks round
		}
	}
	return next
}

// sooner is the shorter of two waits, of which zero is never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// instant has the precision that the API keeps; the zero time is none.
func instant(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	out := metav1.NewTime(t.UTC().Truncate(time.Second))
	return &out
}
