// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/envexec"
)

// startBudget of the stage's broker.
const startBudget = 3 * time.Minute

// label sets a label of the pod's namespace, or takes it away.
func (s *stage) label(t *testing.T, value string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}
	if err := s.live.Get(t.Context(), client.ObjectKeyFromObject(ns), ns); err != nil {
		t.Fatal(err)
	}
	ns.Labels = map[string]string{brokerapi.GuardLabel: value}
	if err := s.live.Update(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
}

// runs has the kubelet write that container app was started so long ago.
func (s *stage) runs(ctx context.Context, t *testing.T, since time.Duration) {
	t.Helper()
	p := pod()
	if err := s.live.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
		t.Fatal(err)
	}
	p.Status.Phase = corev1.PodRunning
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{
		Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(time.Now().Add(-since))},
	}}}
	if err := s.live.Status().Update(ctx, p); err != nil {
		t.Fatal(err)
	}
}

// Under the guard values are for containers that start; without it, for whoever asks as
// the pod.
func TestGuard(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		label  string
		since  time.Duration
		status int
	}{
		"GuardedAndLate":     {brokerapi.GuardValue, startBudget + time.Minute, http.StatusForbidden},
		"GuardedAndStarting": {brokerapi.GuardValue, time.Second, http.StatusOK},
		"NotGuarded":         {"disabled", startBudget + time.Minute, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.label(t, tc.label)
			s.runs(t.Context(), t, tc.since)
			got := s.ask(t, "good", "app")
			if got.status != tc.status {
				t.Fatalf("%d %s", got.status, got.failure.Message)
			}
			if tc.status == http.StatusOK {
				return
			}
			if !got.failure.Retry || got.header.Get("Retry-After") != "1" || !strings.Contains(got.failure.Message, "its namespace has an exec guard") {
				t.Errorf("%+v, Retry-After %q", got.failure, got.header.Get("Retry-After"))
			}
			if log := s.log.String(); strings.Count(log, `"rule":"StartedLongAgo"`) != 1 {
				t.Errorf("the audit: %s", log)
			}
		})
	}
}

// A start does not ask about the namespace; where the verdict hangs on it, not to know
// is an outage.
func TestGuardAsksWhereItCounts(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.fail["Namespace"] = errBoom
	s.runs(t.Context(), t, time.Second)
	if got := s.ask(t, "good", "app"); got.status != http.StatusOK {
		t.Errorf("a start: %d %s", got.status, got.failure.Message)
	}
	s.runs(t.Context(), t, time.Hour)
	if got := s.ask(t, "good", "app"); got.status != http.StatusServiceUnavailable || !got.failure.Retry {
		t.Errorf("late: %d %+v", got.status, got.failure)
	}
	if log := s.log.String(); strings.Contains(log, "StartedLongAgo") {
		t.Errorf("the audit names a rule that did not decide: %s", log)
	}
	delete(s.fail, "Namespace")
	if err := s.live.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}); err != nil {
		t.Fatal(err)
	}
	if got := s.ask(t, "good", "app"); got.status != http.StatusServiceUnavailable {
		t.Errorf("without a namespace: %d", got.status)
	}
}

// What the kubelet has restarted waits until its status has caught up; what was not
// restarted never gets anything, however often it asks.
func TestGuardAndTheStatusThatLags(t *testing.T) {
	const asked = "its namespace has an exec guard"
	again := []string{brokerapi.EnvRetries + "=2", brokerapi.EnvRetryWait + "=1", "PASSWORD=db@azurekeyvault"}
	s := newStage(t)
	s.label(t, brokerapi.GuardValue)
	s.runs(t.Context(), t, time.Hour)
	status, environ, said := s.wrap(t, "good", "app", again...)
	if status != envexec.ExitFailed || environ != nil || strings.Count(s.log.String(), `"rule":"StartedLongAgo"`) != 3 || !strings.Contains(said, asked) {
		t.Errorf("by hand: %d, %d variables, %s", status, len(environ), said)
	}

	s = newStage(t)
	s.label(t, brokerapi.GuardValue)
	s.runs(t.Context(), t, time.Hour)
	broker := s.handler
	var caughtUp atomic.Bool
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		broker.ServeHTTP(w, r)
		if caughtUp.CompareAndSwap(false, true) {
			s.runs(r.Context(), t, 0) // the kubelet's word, after the first request
		}
	})
	_, environ, said = s.wrap(t, "good", "app", again...)
	if !slices.Equal(environ, []string{"PASSWORD=" + canary + "=db"}) || !strings.Contains(said, asked) {
		t.Errorf("restarted: %d variables, %s", len(environ), said)
	}
}
