// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/internal/config"
)

// variables are what a component's container is told, as its process asks for it.
func variables(t *testing.T, values, name string) func(string) string {
	t.Helper()
	for _, d := range deployments(t, values) {
		if component(d) != name {
			continue
		}
		told := map[string]string{}
		for _, env := range d.Spec.Template.Spec.Containers[0].Env {
			told[env.Name] = env.Value
			if env.ValueFrom != nil {
				told[env.Name] = "from-elsewhere"
			}
		}
		return func(name string) string { return told[name] }
	}
	t.Fatalf("there is no Deployment of %s", name)
	return nil
}

// reading is what both processes know of reading vaults, and what each knows alone.
type reading struct {
	config.Reading

	Resync, EventPoll, EventResync, CachedMaxAge time.Duration
	StaleAfter                                   int
	EventQueue, OnVaultUnavailable               string
}

func controllerReads(t *testing.T, values string) reading {
	t.Helper()
	c, err := config.ParseController(nil, variables(t, values, "controller"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return reading{
		Reading: c.Reading, Resync: c.Resync, EventQueue: c.EventQueue, EventPoll: c.EventPoll, EventResync: c.EventResync,
		StaleAfter: c.StaleAfter,
	}
}

func brokerReads(t *testing.T, values string) reading {
	t.Helper()
	b, err := config.ParseBroker(nil, variables(t, values, "broker"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return reading{Reading: b.Reading, OnVaultUnavailable: b.OnVaultUnavailable, CachedMaxAge: b.CachedMaxAge}
}

// TestHowVaultsAreRead: the values arrive, and the chart's defaults are those of the
// processes.
func TestHowVaultsAreRead(t *testing.T) {
	t.Parallel()
	shared := config.Reading{ShareWindow: 5 * time.Second, Rate: 100, Burst: 500}
	for name, tc := range map[string]struct {
		values             string
		controller, broker reading
	}{
		"Default": {
			"",
			reading{Reading: shared, Resync: 30 * time.Second, EventPoll: time.Second, EventResync: 10 * time.Minute, StaleAfter: 3},
			reading{Reading: shared, OnVaultUnavailable: config.UnavailableFail, CachedMaxAge: time.Hour},
		},
		"Given": {
			cases(t)["reading"],
			reading{
				Reading: config.Reading{Rate: 40, Burst: 200}, Resync: 2 * time.Minute, StaleAfter: 5,
				EventQueue: "https://account.queue.core.windows.net/queue", EventPoll: 500 * time.Millisecond, EventResync: 15 * time.Minute,
			},
			reading{
				Reading:            config.Reading{ShareWindow: time.Minute, Rate: 80, Burst: 800},
				OnVaultUnavailable: config.UnavailableUseCached, CachedMaxAge: 4 * time.Hour,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tc.controller, controllerReads(t, tc.values)); d != "" {
				t.Errorf("the Controller (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tc.broker, brokerReads(t, tc.values)); d != "" {
				t.Errorf("the broker (-want +got):\n%s", d)
			}
		})
	}
}

// TestMistakesInReadingAreExplained: what a number's limits do not say, a sentence
// does, and none of them repeats a shared access signature.
func TestMistakesInReadingAreExplained(t *testing.T) {
	t.Parallel()
	const queue = "write https://ACCOUNT.queue.core.windows.net/QUEUE, without a shared access signature"
	const duration = "write a number of seconds, or a duration such as 90s or 1m30s"
	for name, tc := range map[string]struct{ setting, says string }{
		"Signature":    {"controller.eventQueue.url=https://account.queue.core.windows.net/queue?sig=planted", queue},
		"Account":      {"controller.eventQueue.url=https://planted.example/queue", queue},
		"NoQueue":      {"controller.eventQueue.url=https://planted.queue.core.windows.net", queue},
		"Poll":         {"controller.eventQueue.pollInterval=planted", duration},
		"Resync":       {"controller.eventQueue.resyncPeriod=planted", duration},
		"Window":       {"global.keyVaultReads.shareWindow=planted", duration},
		"OwnWindow":    {"env_injector.keyVaultReads.shareWindow=planted", duration},
		"OwnRate":      {"controller.keyVaultReads.rate=planted", "write a number of requests, or nothing to have the global one"},
		"Age":          {"env_injector.cachedMaxAge=planted", duration},
		"StartBudget":  {"env_injector.execGuard.startBudget=planted", duration},
		"Unavailable":  {"env_injector.onVaultUnavailable=planted", "'fail', 'use-cached'"},
		"StaleTooSoon": {"controller.staleAfter=1", "minimum: got 1, want 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := template(t, product, "akv2k8s", "--set", tc.setting)
			switch {
			case err == nil:
				t.Errorf("helm accepted --set %s", tc.setting)
			case !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "planted"):
				t.Errorf("helm said %v, want it to say %q and not to repeat what was set", err, tc.says)
			}
		})
	}
}
