// SPDX-License-Identifier: Apache-2.0

package eventgrid_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/emulator/eventgrid"
	"github.com/akv2k8s/akv2k8s/emulator/keyvault"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

func aVersion() keyvault.Version {
	return keyvault.Version{
		ID: "https://my-kv.vault.azure.net/secrets/db/0123456789abcdef0123456789abcdef", Resource: "/subscriptions/0/vaults/my-kv",
		Vault: "my-kv", Kind: "Secret", Name: "db", Version: "0123456789abcdef0123456789abcdef", Expires: new(int64(1900000000)),
		Time: time.Date(2026, 7, 25, 1, 8, 33, 0, time.UTC),
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	data := map[string]any{
		"Id": aVersion().ID, "VaultName": "my-kv", "ObjectType": "Secret", "ObjectName": "db", "Version": aVersion().Version,
		"NBF": nil, "EXP": 1900000000.0,
	}
	for schema, want := range map[seed.Schema]map[string]any{
		seed.SchemaEventGrid: {
			"id": "id", "topic": aVersion().Resource, "subject": "db", "eventType": "Microsoft.KeyVault.SecretNearExpiry", "data": data,
			"dataVersion": "1", "metadataVersion": "1", "eventTime": "2026-07-25T01:08:33.0000000Z",
		},
		seed.SchemaCloud: {
			"id": "id", "source": aVersion().Resource, "subject": "db", "type": "Microsoft.KeyVault.SecretNearExpiry", "data": data,
			"time": "2026-07-25T01:08:33.0000000Z", "specversion": "1.0",
		},
	} {
		var got map[string]any
		if err := json.Unmarshal(eventgrid.Encode(schema, "id", eventgrid.NearExpiry, aVersion()), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", schema, diff)
		}
	}
}

// queue answers with the statuses given, then with 201 for ever; what it took is in the channel.
func queue(t *testing.T, statuses ...int) (*httptest.Server, chan string) {
	t.Helper()
	taken, next := make(chan string, 100), make(chan int, len(statuses))
	for _, status := range statuses {
		next <- status
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusCreated
		select {
		case status = <-next:
		default:
		}
		var in struct{ MessageText string }
		if err := xml.NewDecoder(r.Body).Decode(&in); err != nil || r.Header.Get("Authorization") != "Bearer token" {
			t.Errorf("got a request with %q: %v", r.Header.Get("Authorization"), err)
		}
		if status == http.StatusCreated {
			taken <- r.URL.Path + " " + in.MessageText
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return server, taken
}

func publisher(t *testing.T, client *http.Client, attempts int) *eventgrid.Publisher {
	t.Helper()
	p := eventgrid.New(eventgrid.Config{
		Token: func() (string, error) { return "token", nil }, HTTP: client, Attempts: attempts, Pause: time.Millisecond,
	})
	t.Cleanup(p.Close)
	return p
}

// settle waits until nothing is under way.
func settle(p *eventgrid.Publisher) {
	for p.Counts().Waiting > 0 {
		<-time.After(time.Millisecond)
	}
}

func TestDeliveryIsTriedAgain(t *testing.T) {
	t.Parallel()
	server, taken := queue(t, http.StatusServiceUnavailable, http.StatusForbidden)
	p := publisher(t, server.Client(), 3)
	p.Subscribe("", &seed.EventGrid{Queue: server.URL + "/account/events"})
	p.Created(aVersion())
	path, text, _ := strings.Cut(<-taken, " ")
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || path != "/account/events/messages" || !strings.Contains(string(raw), "SecretNewVersionCreated") {
		t.Errorf("got %s %s: %v", path, raw, err)
	}
	settle(p)
	if diff := cmp.Diff(eventgrid.Counts{Delivered: 1}, p.Counts()); diff != "" {
		t.Error(diff)
	}
	p.ResetCounts()
	if diff := cmp.Diff(eventgrid.Counts{}, p.Counts()); diff != "" {
		t.Error(diff)
	}
}

func TestDeliveryIsGivenUp(t *testing.T) {
	t.Parallel()
	server, _ := queue(t, http.StatusNotFound, http.StatusNotFound)
	p := publisher(t, server.Client(), 2)
	p.Subscribe("", &seed.EventGrid{Queue: server.URL + "/events"})
	if err := p.Publish(eventgrid.Expired, aVersion()); err != nil {
		t.Fatal(err)
	}
	settle(p)
	if diff := cmp.Diff(eventgrid.Counts{Failed: 1}, p.Counts()); diff != "" {
		t.Error(diff)
	}
}

func TestWhereEventsGo(t *testing.T) {
	t.Parallel()
	server, taken := queue(t)
	p := publisher(t, server.Client(), 1)
	if err := p.Publish(eventgrid.Expired, aVersion()); !errors.Is(err, eventgrid.ErrNoTarget) {
		t.Errorf("nowhere: got %v", err)
	}
	to := func(path string) *seed.EventGrid { return &seed.EventGrid{Queue: server.URL + path} }
	for _, step := range []struct {
		vault string
		to    *seed.EventGrid
		want  string
	}{
		{"", to("/common"), "/common/messages"},
		{"My-KV", to("/own"), "/own/messages"},
		{"other-kv", to("/other"), "/own/messages"},
		{"my-kv", nil, "/common/messages"},
	} {
		p.Subscribe(step.vault, step.to)
		p.Created(aVersion())
		if got, _, _ := strings.Cut(<-taken, " "); got != step.want {
			t.Errorf("after %q: went to %s, want %s", step.vault, got, step.want)
		}
	}
}

func TestRoute(t *testing.T) {
	t.Parallel()
	p := publisher(t, http.DefaultClient, 1)
	p.Subscribe("", &seed.EventGrid{Queue: "https://account1.queue.core.windows.net/events", Address: "127.0.0.1:10001"})
	p.Subscribe("my-kv", &seed.EventGrid{Queue: "https://account2.queue.core.windows.net:443/events", Address: "127.0.0.1:10002"})
	p.Subscribe("other", &seed.EventGrid{Queue: "https://account3.queue.core.windows.net/events"})
	for host, want := range map[string]string{
		"account1.queue.core.windows.net": "127.0.0.1:10001", "Account2.queue.core.windows.net": "127.0.0.1:10002",
		"account3.queue.core.windows.net": "", "account1.queue.core.windows.net.example": "",
	} {
		if got, ok := p.Route(host); got != want && ok {
			t.Errorf("%s leads to %q, want %q", host, got, want)
		}
	}
}
