// SPDX-License-Identifier: Apache-2.0

package emulator_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/emulator/emulatortest"
)

// The admin endpoint says where events go and sends some; the proxy leads the queue's host to where it really is.
func TestEventsByAdmin(t *testing.T) {
	t.Parallel()
	in := emulatortest.Start(t, `vaults: [{ name: my-kv, secrets: [{ name: db, value: x }] }]`)
	taken := make(chan string, 10)
	queue := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, err := in.Emulator.Authority.Verify(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if err == nil {
			taken <- claims.Audience + " " + r.Host + r.URL.Path
		}
		w.WriteHeader(http.StatusCreated)
	}))
	queue.TLS = in.CA.TLSConfig()
	queue.StartTLS()
	t.Cleanup(queue.Close)
	to := `{"queue":"https://account1.queue.core.windows.net/events","address":"` + queue.Listener.Addr().String() + `"}`
	const want = "https://storage.azure.com account1.queue.core.windows.net/events/messages"
	for _, step := range []struct {
		request, body string
		status        int
		sent          bool
	}{
		{"POST /v1/vaults/my-kv/secrets/db/event", `{"event":"NearExpiry"}`, 400, false},
		{"PUT /v1/event-grid", `{"queue":"http://account1.queue.core.windows.net/events"}`, 400, false},
		{"PUT /v1/event-grid", `{"queue":"https://q/e","schema":"soap"}`, 400, false},
		{"PUT /v1/event-grid", to, 204, false},
		{"POST /v1/vaults/my-kv/secrets/db/event", `{"event":"NearExpiry"}`, 204, true},
		{"POST /v1/vaults/my-kv/secrets/db/event", `{"event":"Deleted"}`, 400, false},
		{"POST /v1/vaults/my-kv/secrets/none/event", `{"event":"Expired"}`, 404, false},
		{"POST /v1/vaults/none/secrets/db/event", `{"event":"Expired"}`, 404, false},
		{"PUT /v1/vaults/my-kv/secrets/new", `{"value":"x"}`, 200, true},
		{"DELETE /v1/event-grid", "", 204, false},
		{"PUT /v1/vaults/my-kv/secrets/new", `{"value":"y"}`, 200, false},
		{"PUT /v1/vaults/none/event-grid", to, 404, false},
		{"DELETE /v1/vaults/none/event-grid", "", 404, false},
		{"PUT /v1/vaults/my-kv/event-grid", to, 204, false},
		{"PUT /v1/vaults/my-kv/secrets/new", `{"value":"z"}`, 200, true},
		{"DELETE /v1/vaults/my-kv/event-grid", "", 204, false},
		{"PUT /v1/vaults/my-kv/secrets/new", `{"value":"z"}`, 200, false},
	} {
		method, path, _ := strings.Cut(step.request, " ")
		if status := ask(t, http.DefaultClient, method, in.AdminURL+path, step.body); status != step.status {
			t.Fatalf("%s %s: got %d, want %d", step.request, step.body, status, step.status)
		}
		if !step.sent {
			continue
		}
		if diff := cmp.Diff(want, <-taken); diff != "" {
			t.Errorf("%s: %s", step.request, diff)
		}
	}
	if len(taken) != 0 {
		t.Errorf("%d events more than asked for", len(taken))
	}
}

func TestProxyLeadsToQueue(t *testing.T) {
	t.Parallel()
	in := emulatortest.Start(t, `{}`)
	queue := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	queue.TLS = in.CA.TLSConfig()
	queue.StartTLS()
	t.Cleanup(queue.Close)
	to := `{"queue":"https://account1.queue.core.windows.net/events","address":"` + queue.Listener.Addr().String() + `"}`
	ask(t, http.DefaultClient, http.MethodPut, in.AdminURL+"/v1/event-grid", to)
	if status := ask(t, in.Client(), http.MethodGet, "https://account1.queue.core.windows.net/events", ""); status != http.StatusTeapot {
		t.Errorf("got %d from the queue", status)
	}
	for _, other := range []string{"https://account2.queue.core.windows.net/", "https://account1.queue.core.windows.net:8443/"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, other, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := in.Client().Do(req); err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s was led somewhere", other)
		}
	}
}

func ask(t *testing.T, client *http.Client, method, url, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}
