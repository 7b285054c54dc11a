// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
)

// Facts have an interval of an hour, and a floor of a minute.
func TestDecideWhenToLookAgain(t *testing.T) {
	t.Parallel()
	every := func(d time.Duration) *v2beta1.Refresh {
		return &v2beta1.Refresh{Interval: &metav1.Duration{Duration: d}}
	}
	for name, tc := range map[string]struct {
		refresh *v2beta1.Refresh
		version string
		jitter  float64
		want    time.Duration
	}{
		"Default":      {nil, "", 0, time.Hour},
		"Own":          {every(10 * time.Minute), "", 0, 10 * time.Minute},
		"OwnLonger":    {every(24 * time.Hour), "", 0, 24 * time.Hour},
		"BelowFloor":   {every(time.Second), "", 0, time.Minute},
		"Jittered":     {every(10 * time.Minute), "", 1.1, 11 * time.Minute},
		"PeriodicOnly": {&v2beta1.Refresh{Policy: v2beta1.RefreshPeriodic}, "", 0, time.Hour},
		"OnChange":     {&v2beta1.Refresh{Policy: v2beta1.RefreshOnChange}, "", 0, 0},
		"Once":         {&v2beta1.Refresh{Policy: v2beta1.RefreshOnce}, "", 0, 0},
		"Pinned":       {every(10 * time.Minute), version1, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := decide(facts(func(f *world) {
				f.AKVS.Spec.Refresh, f.AKVS.Spec.Vault.Object.Version, f.Settings.Jitter = tc.refresh, tc.version, tc.jitter
			}))
			if in.Requeue.Round(time.Second) != tc.want {
				t.Errorf("again in %s, want %s", in.Requeue, tc.want)
			}
		})
	}
}
