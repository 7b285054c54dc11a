// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/akv2k8s/akv2k8s/internal/controller"
	"github.com/akv2k8s/akv2k8s/internal/eventgrid"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// fakeQueue does as a queue of Azure does: what was received and not deleted is
// delivered again. One goroutine at a time looks at it.
type fakeQueue struct {
	messages []eventgrid.Message
	hidden   map[string]time.Time // until when, by id
	failing  func(n int) error    // what the nth Receive, from 0, fails with
	keeping  map[string]int       // how many deletes of a message fail, by id
	hangs    bool                 // until the context ends

	began time.Time
	asked []time.Duration // when Receive was called, from the beginning
}

const visibility = 30 * time.Second

func (q *fakeQueue) put(bodies ...string) {
	for _, body := range bodies {
		id := strconv.Itoa(len(q.messages))
		q.messages = append(q.messages, eventgrid.Message{ID: id, Body: []byte(body)})
	}
}

func (q *fakeQueue) Receive(ctx context.Context) ([]eventgrid.Message, error) {
	q.asked = append(q.asked, time.Since(q.began))
	if q.hangs {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return nil, vault.ErrUnavailable
	}
	if q.failing != nil {
		if err := q.failing(len(q.asked) - 1); err != nil {
			return nil, fmt.Errorf("receiving: %w", err)
		}
	}
	var out []eventgrid.Message
	for _, m := range q.messages {
		if len(out) < 32 && !time.Now().Before(q.hidden[m.ID]) {
			q.hidden[m.ID] = time.Now().Add(visibility)
			out = append(out, m)
		}
	}
	return out, nil
}

func (q *fakeQueue) Delete(_ context.Context, m eventgrid.Message) error {
	if q.keeping[m.ID] > 0 {
		q.keeping[m.ID]--
		return vault.ErrUnavailable
	}
	q.messages = slices.DeleteFunc(q.messages, func(other eventgrid.Message) bool { return other.ID == m.ID })
	return nil
}

// fakeLooks are the looks that were asked for, in order.
type fakeLooks []string

func (l *fakeLooks) Look(vaultName string, kind vault.Kind, name string) {
	*l = append(*l, vaultName+" "+string(kind)+" "+name)
}

func (l *fakeLooks) LookAtPermissions(vaultName string) { *l = append(*l, vaultName+" permissions") }

// A hearing is a Listener with all around it.
type hearing struct {
	queue    fakeQueue
	looks    fakeLooks
	registry *prometheus.Registry
	log      bytes.Buffer
}

// listens plays a time, in no time, after which the listener must end in order.
func listens(t *testing.T, poll, during time.Duration, prepare func(*fakeQueue)) *hearing {
	t.Helper()
	h := &hearing{registry: prometheus.NewRegistry()}
	synctest.Test(t, func(t *testing.T) {
		h.queue.began, h.queue.hidden = time.Now(), map[string]time.Time{}
		prepare(&h.queue)
		sut := controller.Listener{
			Queue: &h.queue, Suffix: "vault.azure.net", Poll: poll, Looks: &h.looks,
			Metrics: controller.NewEventMetrics(h.registry), Log: slog.New(slog.NewTextHandler(&h.log, nil)),
		}
		ctx, cancel := context.WithTimeout(t.Context(), during)
		defer cancel()
		if err := sut.Run(ctx); err != nil {
			t.Errorf("it ended with %v", err)
		}
		if took := time.Since(h.queue.began); took != during {
			t.Errorf("it ended after %s, its context after %s", took, during)
		}
	})
	return h
}

// counted compares what is counted of some metrics, without their help.
func (h *hearing) counted(t *testing.T, want string, names ...string) {
	t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if slices.Contains(names, f.GetName()) {
			want = fmt.Sprintf("# HELP %[1]s %[2]s\n# TYPE %[1]s %[3]s\n", f.GetName(), f.GetHelp(), strings.ToLower(f.GetType().String())) + strings.TrimPrefix(want, "\n")
		}
	}
	if err := testutil.GatherAndCompare(h.registry, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

func (h *hearing) failures(t *testing.T, n int) {
	t.Helper()
	h.counted(t, fmt.Sprintf("akv2k8s_event_queue_failures_total %d\n", n), "akv2k8s_event_queue_failures_total")
}

func (h *hearing) dropped(t *testing.T, n int) {
	t.Helper()
	h.counted(t, fmt.Sprintf("akv2k8s_events_dropped_total %d\n", n), "akv2k8s_events_dropped_total")
}

// said is an event of an object, such as keys/signing, in the schema of Event Grid.
func said(event, object string) string { return saidAt(event, object, time.Time{}) }

func saidAt(event, object string, when time.Time) string {
	fields := map[string]any{"eventType": "Microsoft.KeyVault." + event, "data": map[string]string{"Id": "https://my-kv.vault.azure.net/" + object}}
	if !when.IsZero() {
		fields["eventTime"] = when.Format(time.RFC3339Nano)
	}
	raw, _ := json.Marshal(fields) // strings only
	return string(raw)
}

// What a message says has objects looked at, and the message is gone, whatever it was.
func TestListenerHears(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		bodies  []string
		looks   []string
		dropped int
	}{
		"Secret":      {[]string{said("SecretNewVersionCreated", "secrets/db/ee059b2bb5bc48398a53b168c6cdcb10")}, []string{"my-kv secret db"}, 0},
		"Key":         {[]string{said("KeyNewVersionCreated", "keys/signing")}, []string{"my-kv key signing"}, 0},
		"Certificate": {[]string{said("CertificateNewVersionCreated", "certificates/web")}, []string{"my-kv certificate web", "my-kv secret web", "my-kv key web"}, 0},
		"NearExpiry":  {[]string{said("SecretNearExpiry", "secrets/db")}, []string{"my-kv secret db"}, 0},
		"Expired":     {[]string{said("KeyExpired", "keys/signing")}, []string{"my-kv key signing"}, 0},
		"Policy":      {[]string{said("VaultAccessPolicyChanged", "")}, []string{"my-kv permissions"}, 0},
		"Twice":       {[]string{said("SecretExpired", "secrets/db"), said("SecretExpired", "secrets/db")}, []string{"my-kv secret db", "my-kv secret db"}, 0},
		"NearExpiryAfterExpired": {
			[]string{said("SecretExpired", "secrets/db"), said("SecretNearExpiry", "secrets/db"), said("SecretNewVersionCreated", "secrets/db")},
			[]string{"my-kv secret db", "my-kv secret db", "my-kv secret db"},
			0,
		},
		"Array":          {[]string{"[" + said("SecretExpired", "secrets/a") + "," + said("SecretExpired", "secrets/b") + "]"}, []string{"my-kv secret a", "my-kv secret b"}, 0},
		"AnotherService": {[]string{`{"eventType":"Microsoft.Storage.BlobCreated","data":{}}`}, nil, 0},
		"AnotherCloud":   {[]string{strings.ReplaceAll(said("SecretExpired", "secrets/db"), "azure.net", "azure.cn")}, nil, 1},
		"Poison":         {[]string{canary, "", "{", `{"a":1}`}, nil, 4},
		"PoisonBetween":  {[]string{said("KeyExpired", "keys/a"), canary, said("KeyExpired", "keys/b")}, []string{"my-kv key a", "my-kv key b"}, 1},
		"PoisonWithin":   {[]string{"[" + said("KeyExpired", "keys/a") + `,{"` + canary + `":1}]`}, []string{"my-kv key a"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := listens(t, time.Second, time.Minute, func(q *fakeQueue) { q.put(tc.bodies...) })
			if diff := cmp.Diff(tc.looks, []string(h.looks)); diff != "" {
				t.Error(diff)
			}
			if len(h.queue.messages) != 0 {
				t.Errorf("%d messages are still there", len(h.queue.messages))
			}
			h.dropped(t, tc.dropped)
			h.failures(t, 0)
			if got := strings.Count(h.log.String(), "dropped a message"); got != tc.dropped {
				t.Errorf("%d of %d drops are in the log: %s", got, tc.dropped, &h.log)
			}
			if strings.Contains(h.log.String(), canary) {
				t.Errorf("a message is in the log: %s", &h.log)
			}
		})
	}
}

// asked compares when the queue was asked, in seconds.
func (h *hearing) asked(t *testing.T, want ...float64) {
	t.Helper()
	var got []float64
	for _, at := range h.queue.asked {
		got = append(got, at.Seconds())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("when it was asked: %s", diff)
	}
}

// A full queue is emptied at once, and an empty one is asked at intervals.
func TestListenerDrains(t *testing.T) {
	t.Parallel()
	h := listens(t, time.Second, 2500*time.Millisecond, func(q *fakeQueue) {
		for i := range 100 {
			q.put(said("SecretNewVersionCreated", fmt.Sprintf("secrets/s%d", i)))
		}
	})
	h.asked(t, 0, 0, 0, 0, 0, 1, 2)
	if len(h.looks) != 100 || len(h.queue.messages) != 0 {
		t.Errorf("%d looks, %d messages are left", len(h.looks), len(h.queue.messages))
	}
}

// A queue that fails is asked ever later, but not more often than one that works.
func TestListenerLeavesAQueueAlone(t *testing.T) {
	t.Parallel()
	always := func(err error) func(int) error { return func(int) error { return err } }
	for name, tc := range map[string]struct {
		poll, during time.Duration
		failing      func(n int) error
		asked        []float64
		failures     int
	}{
		"EverLater": {time.Second, 250 * time.Second, always(vault.ErrUnavailable), []float64{0, 1, 3, 7, 15, 31, 63, 123, 183, 243}, 10},
		"Refused":   {time.Second, 5 * time.Second, always(vault.ErrForbidden), []float64{0, 1, 3}, 3},
		"Slow":      {5 * time.Minute, 16 * time.Minute, always(vault.ErrNoQueue), []float64{0, 300, 600, 900}, 4},
		"AskedTo":   {time.Second, 200 * time.Second, always(vault.Throttled{RetryAfter: 90 * time.Second}), []float64{0, 90, 180}, 3},
		"AskedALittle": {
			time.Second, 20 * time.Second, always(vault.Throttled{RetryAfter: 3 * time.Second}),
			[]float64{0, 3, 6, 10, 18},
			5,
		},
		"Recovers": {time.Second, 19500 * time.Millisecond, func(n int) error {
			if n < 4 || n == 6 {
				return vault.ErrUnavailable
			}
			return nil
		}, []float64{0, 1, 3, 7, 15, 16, 17, 18, 19}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := listens(t, tc.poll, tc.during, func(q *fakeQueue) { q.failing = tc.failing })
			h.asked(t, tc.asked...)
			h.failures(t, tc.failures)
			recoveries := 0
			if name == "Recovers" {
				recoveries = 2
			}
			if got := strings.Count(h.log.String(), "the queue of events answers again"); got != recoveries {
				t.Errorf("%d of %d recoveries are in the log", got, recoveries)
			}
		})
	}
}

// A person reads what is wrong with a queue once, and again when it is something else.
func TestListenerSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	h := listens(t, time.Second, time.Hour, func(q *fakeQueue) {
		q.failing = func(n int) error {
			switch {
			case n < 10:
				return vault.ErrNoQueue
			case n < 20:
				return vault.ErrForbidden
			case n == 25:
				return vault.ErrForbidden
			}
			return nil
		}
	})
	var got []string
	for line := range strings.Lines(h.log.String()) {
		_, words, _ := strings.Cut(line, "level=")
		got = append(got, strings.TrimSpace(words))
	}
	refused := `WARN msg="cannot listen to the queue of events" reason="receiving: the identity may not read this object"`
	recovered := `INFO msg="the queue of events answers again"`
	want := []string{`WARN msg="cannot listen to the queue of events" reason="receiving: there is no such queue"`, refused, recovered, refused, recovered}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A message that cannot be deleted holds up no other: all that came with it is heard
// at once, and what comes again does no harm.
func TestListenerHearsBeforeItDeletes(t *testing.T) {
	t.Parallel()
	h := listens(t, time.Second, 40*time.Second, func(q *fakeQueue) {
		q.put(said("SecretExpired", "secrets/a"), said("SecretExpired", "secrets/b"))
		q.keeping = map[string]int{"0": 1}
		q.failing = func(n int) error { // what is heard is heard from the first answer
			if n > 0 && time.Since(q.began) < visibility {
				return vault.ErrUnavailable
			}
			return nil
		}
	})
	want := []string{"my-kv secret a", "my-kv secret b", "my-kv secret a", "my-kv secret b"}
	if diff := cmp.Diff(want, []string(h.looks)); diff != "" {
		t.Error(diff)
	}
	if len(h.queue.messages) != 0 {
		t.Errorf("%d messages are still there", len(h.queue.messages))
	}
}

// The lag is counted from Azure's clock, which may be ahead of ours, if the event
// says when it was.
func TestListenerCountsLag(t *testing.T) {
	t.Parallel()
	h := listens(t, time.Second, time.Second, func(q *fakeQueue) {
		for _, ago := range []time.Duration{3 * time.Second, time.Minute, -time.Hour} {
			q.put(saidAt("SecretNewVersionCreated", "secrets/db", time.Now().Add(-ago)))
		}
		q.put(said("KeyExpired", "keys/timeless"), said("KeyNearExpiry", "keys/timeless"), said("VaultAccessPolicyChanged", ""))
	})
	h.counted(t, `
akv2k8s_event_lag_seconds_bucket{le="0.25"} 1
akv2k8s_event_lag_seconds_bucket{le="0.5"} 1
akv2k8s_event_lag_seconds_bucket{le="1"} 1
akv2k8s_event_lag_seconds_bucket{le="2"} 1
akv2k8s_event_lag_seconds_bucket{le="5"} 2
akv2k8s_event_lag_seconds_bucket{le="15"} 2
akv2k8s_event_lag_seconds_bucket{le="60"} 3
akv2k8s_event_lag_seconds_bucket{le="300"} 3
akv2k8s_event_lag_seconds_bucket{le="3600"} 3
akv2k8s_event_lag_seconds_bucket{le="+Inf"} 3
akv2k8s_event_lag_seconds_sum 63
akv2k8s_event_lag_seconds_count 3
`, "akv2k8s_event_lag_seconds")
	h.counted(t, `
akv2k8s_events_total{event="Expired"} 1
akv2k8s_events_total{event="NearExpiry"} 1
akv2k8s_events_total{event="NewVersion"} 3
akv2k8s_events_total{event="PolicyChanged"} 1
`, "akv2k8s_events_total")
}

// It ends with its context, also in the middle of a call, which is no failure then.
func TestListenerEnds(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*fakeQueue){
		"WhileItWaits":     func(*fakeQueue) {},
		"WhileItReceives":  func(q *fakeQueue) { q.hangs = true },
		"WhileItLeavesOff": func(q *fakeQueue) { q.failing = func(int) error { return vault.Throttled{RetryAfter: time.Hour} } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := listens(t, time.Second, 1500*time.Millisecond, prepare)
			h.failures(t, map[string]int{"WhileItLeavesOff": 1}[name])
		})
	}
}
