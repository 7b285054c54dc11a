// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// within gives the object a validity; a zero time is none.
func within(from, until time.Time) func(*world) {
	return func(f *world) { f.Object.NotBefore, f.Object.Expires = from, until }
}

// validity is what is said of it, and the events among the intent's that do.
func validity(in plan.Intent) []string {
	var out []string
	if c := meta.FindStatusCondition(in.Status.Conditions, v2beta1.ConditionValid); c != nil {
		out = append(out, string(c.Status)+" "+c.Reason+": "+c.Message)
	}
	for _, e := range in.Events {
		if slices.Contains([]string{v2beta1.ReasonNearExpiry, v2beta1.ReasonExpired, v2beta1.ReasonNotYetValid, v2beta1.ReasonValid}, e.Reason) {
			out = append(out, "event "+e.Reason)
		}
	}
	return out
}

func TestDecideValidity(t *testing.T) {
	t.Parallel()
	var never time.Time
	const second, day = time.Second, 24 * time.Hour
	for name, tc := range map[string]struct {
		from, until time.Time
		said        []string
		requeue     time.Duration // zero is until the watch tells
	}{
		"None":             {never, never, nil, 0},
		"LongToGo":         {never, noon.Add(30 * day), []string{"True Valid: my-kv/db: it is valid until 2026-02-01 12:00 UTC"}, 29*day + second},
		"NearInHalfAnHour": {never, noon.Add(day + 30*time.Minute), []string{"True Valid: my-kv/db: it is valid until 2026-01-03 12:30 UTC"}, 30*time.Minute + second},
		"NearInASecond":    {never, noon.Add(day + second), []string{"True Valid: my-kv/db: it is valid until 2026-01-03 12:00 UTC"}, 2 * second},
		"Near":             {never, noon.Add(day), []string{"True NearExpiry: my-kv/db: it expires on 2026-01-03 12:00 UTC", "event NearExpiry"}, day + second},
		"LastSecond":       {never, noon.Add(second), []string{"True NearExpiry: my-kv/db: it expires on 2026-01-02 12:00 UTC", "event NearExpiry"}, 2 * second},
		"Expired":          {never, noon, []string{"False Expired: my-kv/db: it expired on 2026-01-02 12:00 UTC", "event Expired"}, 0},
		"ExpiredLongAgo":   {never, noon.Add(-30 * day), []string{"False Expired: my-kv/db: it expired on 2025-12-03 12:00 UTC", "event Expired"}, 0},
		"Begun":            {noon, never, []string{"True Valid: my-kv/db: it is valid"}, 0},
		"BeginsInASecond":  {noon.Add(second), never, []string{"False NotYetValid: my-kv/db: it is not valid before 2026-01-02 12:00 UTC", "event NotYetValid"}, 2 * second},
		"BeginsSoon":       {noon.Add(10 * time.Minute), noon.Add(30 * day), []string{"False NotYetValid: my-kv/db: it is not valid before 2026-01-02 12:10 UTC", "event NotYetValid"}, 10*time.Minute + second},
		"EndsBeforeItsOn":  {noon.Add(day), noon.Add(-day), []string{"False Expired: my-kv/db: it expired on 2026-01-01 12:00 UTC", "event Expired"}, day + second},
		"FractionOfASec":   {never, noon.Add(day + 900*time.Millisecond), []string{"True NearExpiry: my-kv/db: it expires on 2026-01-03 12:00 UTC", "event NearExpiry"}, day + second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := facts(within(tc.from, tc.until))
			in := decide(f)
			if diff := cmp.Diff(tc.said, validity(in)); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
			if in.Requeue != tc.requeue {
				t.Errorf("looked at again after %s, want %s", in.Requeue, tc.requeue)
			}
			if ready(t, in).Reason != v2beta1.ReasonSynced || write(in) == nil {
				t.Errorf("the validity kept the output away: %v", said(in))
			}
			f = after(f, in)
			f.Now = noon
			again := decide(f)
			for _, e := range again.Events {
				t.Errorf("announced again: %v", e)
			}
			if diff := cmp.Diff(in.Status, again.Status); diff != "" {
				t.Errorf("status (-before +after):\n%s", diff)
			}
		})
	}
}

// With nothing to poll, the validity alone is a reason to look again; a warning of
// no time is none.
func TestDecideLooksAgainForTheValidityAlone(t *testing.T) {
	t.Parallel()
	f := facts(policy(v2beta1.RefreshOnChange), within(time.Time{}, noon.Add(48*time.Hour)))
	if got := decide(f).Requeue; got != 24*time.Hour+time.Second {
		t.Errorf("looked at again after %s, want it when the expiry is near", got)
	}
	f.Settings.Warning = 0
	if got := decide(f).Requeue; got != 48*time.Hour+time.Second {
		t.Errorf("looked at again after %s, want it at the expiry", got)
	}
}

// Each turn is announced once, also while the vault does not answer.
func TestDecideFollowsAValidity(t *testing.T) {
	t.Parallel()
	f := facts(within(noon.Add(10*time.Minute), noon.Add(26*time.Hour)))
	for _, step := range []struct {
		at   time.Duration
		err  error
		want []string
	}{
		{0, nil, []string{"False NotYetValid: my-kv/db: it is not valid before 2026-01-02 12:10 UTC", "event NotYetValid"}},
		{10*time.Minute + time.Second, nil, []string{"True Valid: my-kv/db: it is valid until 2026-01-03 14:00 UTC"}},
		{3 * time.Hour, vault.ErrUnavailable, []string{"True NearExpiry: my-kv/db: it expires on 2026-01-03 14:00 UTC", "event NearExpiry"}},
		{4 * time.Hour, nil, []string{"True NearExpiry: my-kv/db: it expires on 2026-01-03 14:00 UTC"}},
		{26 * time.Hour, vault.ErrForbidden, []string{"False Expired: my-kv/db: it expired on 2026-01-03 14:00 UTC", "event Expired"}},
		{27 * time.Hour, nil, []string{"False Expired: my-kv/db: it expired on 2026-01-03 14:00 UTC"}},
	} {
		f.Now, f.FetchErr = noon.Add(step.at), step.err
		in := decide(f)
		if diff := cmp.Diff(step.want, validity(in)); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", step.at, diff)
		}
		f = after(f, in)
	}
	f.FetchErr, f.Object.NotBefore, f.Object.Expires = nil, time.Time{}, time.Time{}
	if got := validity(decide(f)); got != nil {
		t.Errorf("a new version without a validity is said to be %v", got)
	}
}

// While the vault is asked again with a backoff, nothing else asks for a look.
func TestDecideLeavesABackoffAlone(t *testing.T) {
	t.Parallel()
	f := synced(within(time.Time{}, noon.Add(48*time.Hour)))
	f = after(f, decide(f))
	f.FetchErr = vault.ErrUnavailable
	if in := decide(f); in.Retry == nil || in.Requeue != 0 {
		t.Errorf("retry %v, requeue %s", in.Retry, in.Requeue)
	}
}
