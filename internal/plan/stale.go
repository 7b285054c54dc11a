// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// confirm says whether the vault has failed for too long to confirm what is in the
// outputs. An output stays as it is all the same.
//
//	all that is watched       the condition Stale
//	was answered, or is known  goes
//	has something stale        is there
//	is not known yet           stays as it is: the process has only started
func (f Facts) confirm(in *Intent) {
	before := meta.FindStatusCondition(f.AKVS.Status.Conditions, v2beta1.ConditionStale)
	stale, since, unknown := f.staleness()
	switch {
	case in.Status.ObjectVersion == "" || !stale && !unknown:
		meta.RemoveStatusCondition(&in.Status.Conditions, v2beta1.ConditionStale)
		return
	case !stale, before != nil && since.IsZero():
		return
	}
	text := "the vault has not confirmed it since the Controller started"
	if !since.IsZero() {
		text = "the vault has not confirmed it since " + since.UTC().Format("2006-01-02 15:04:05 MST")
	}
	message := f.aboutObject(text)
	f.set(in, condition{v2beta1.ConditionStale, yes, v2beta1.ReasonNotConfirmed, message})
	if before == nil {
		in.Events = append(in.Events, warn(v2beta1.ReasonNotConfirmed, message)...)
	}
}

// staleness is about all watches: whether one is stale, and the oldest moment of a
// confirmation among those; or else whether one is not known yet.
func (f Facts) staleness() (bool, time.Time, bool) {
	stale, since, unknown := false, time.Time{}, false
	for _, w := range f.Watches() {
		if answer, read := f.Answers[w.Reference]; read && !vault.IsOutage(answer.Err) {
			continue
		}
		switch known := f.Known[w.Reference]; {
		case known.Stale:
			if !stale || known.Confirmed.Before(since) {
				since = known.Confirmed
			}
			stale = true
		case known.Confirmed.IsZero():
			unknown = true
		}
	}
	return stale, since, unknown
}
