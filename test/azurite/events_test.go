// SPDX-License-Identifier: Apache-2.0

package azurite_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/akv2k8s/akv2k8s/emulator/emulatortest"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
	"github.com/akv2k8s/akv2k8s/internal/azure"
	"github.com/akv2k8s/akv2k8s/internal/eventgrid"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/test/azurite"
)

const seeds = `
principals: [{ name: app, clientId: client-1, secrets: [app-secret] }]
vaults:
  - name: my-kv
    permissions: [{ principal: app, roles: [Key Vault Administrator] }]
    secrets: [{ name: db, value: first }]
    keys: [{ name: signing, type: EC }]
  - name: other-kv
`

// world is vaults, a queue for their events, and a Queue as the Controller has it: production names, verified TLS,
// and a token of the sign-in hosts.
type world struct {
	*emulatortest.Instance

	queues *azurite.Instance
	cred   *azure.Credential
}

func newWorld(t *testing.T, queues ...string) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("installs and starts Azurite")
	}
	in := emulatortest.Start(t, seeds)
	w := &world{Instance: in, queues: azurite.Start(t, in.CA, queues...)}
	proxy, err := url.Parse(in.ProxyURL)
	if err != nil {
		t.Fatal(err)
	}
	client, err := azure.NewHTTPClient(azure.HTTPOptions{CABundle: in.CAFile, Proxy: http.ProxyURL(proxy)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	env := map[string]string{"AZURE_TENANT_ID": seed.DefaultTenant, "AZURE_CLIENT_ID": "client-1", "AZURE_CLIENT_SECRET": "app-secret"}
	w.cred, err = azure.NewCredential(azure.SignIn{
		Method: azure.MethodEnvironment, Getenv: func(name string) string { return env[name] }, HTTP: client,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// sendTo makes the vaults' events go to a queue and returns that queue.
func (w *world) sendTo(t *testing.T, queue string, schema seed.Schema) *azure.Queue {
	t.Helper()
	w.SendEvents(seed.EventGrid{Queue: w.queues.URL(queue), Address: w.queues.Address, Schema: schema})
	return w.queue(t, queue)
}

func (w *world) queue(t *testing.T, name string) *azure.Queue {
	t.Helper()
	queue, err := azure.NewQueue(w.cred, w.queues.URL(name), azure.QueueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return queue
}

// receive asks until there are so many messages, in whatever order.
func receive(t *testing.T, queue eventgrid.Queue, count int) []eventgrid.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []eventgrid.Message
	for len(got) < count {
		more, err := queue.Receive(ctx)
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(got), count, err)
		}
		got = append(got, more...)
		if len(more) == 0 {
			pause(ctx)
		}
	}
	return got
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

// understood is what messages say, sorted, without when.
func understood(t *testing.T, messages []eventgrid.Message) []eventgrid.Notice {
	t.Helper()
	var out []eventgrid.Notice
	for _, m := range messages {
		notices, err := eventgrid.Parse(m.Body, "vault.azure.net")
		if err != nil {
			t.Fatalf("%s: %v", m.Body, err)
		}
		for i, n := range notices {
			if n.Time.IsZero() {
				t.Error("a notice has no time")
			}
			notices[i].Time = time.Time{}
		}
		out = append(out, notices...)
	}
	slices.SortFunc(out, func(a, b eventgrid.Notice) int {
		return strings.Compare(string(a.Event+eventgrid.Event(a.Kind)), string(b.Event+eventgrid.Event(b.Kind)))
	})
	return out
}

// What happens in a vault is heard of in both schemas, once, and is gone when it was dealt with.
func TestEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "grid-events", "cloud-events")
	for _, schema := range []seed.Schema{seed.SchemaEventGrid, seed.SchemaCloud} {
		queue := w.sendTo(t, map[seed.Schema]string{seed.SchemaEventGrid: "grid-events", seed.SchemaCloud: "cloud-events"}[schema], schema)
		w.SetSecret("my-kv", "db", "changed")
		w.PutCertificate("my-kv", seed.Certificate{Meta: seed.Meta{Name: "cert-" + string(schema)}, KeyType: "EC"})
		w.Publish("NewVersionCreated", "my-kv", "keys", "signing")
		w.Publish("NearExpiry", "my-kv", "secrets", "db")
		w.Publish("Expired", "my-kv", "keys", "signing")
		messages := receive(t, queue, 5)
		want := []eventgrid.Notice{
			{Event: eventgrid.Expired, Vault: "my-kv", Kind: vault.KindKey, Name: "signing"},
			{Event: eventgrid.NearExpiry, Vault: "my-kv", Kind: vault.KindSecret, Name: "db"},
			{Event: eventgrid.NewVersion, Vault: "my-kv", Kind: vault.KindCertificate, Name: "cert-" + string(schema)},
			{Event: eventgrid.NewVersion, Vault: "my-kv", Kind: vault.KindKey, Name: "signing"},
			{Event: eventgrid.NewVersion, Vault: "my-kv", Kind: vault.KindSecret, Name: "db"},
		}
		if diff := cmp.Diff(want, understood(t, messages)); diff != "" {
			t.Errorf("%s: %s", schema, diff)
		}
		for _, m := range messages {
			if _, err := base64.StdEncoding.DecodeString(string(m.Body)); err != nil {
				t.Errorf("%s: the message is not base64, as Event Grid's are: %s", schema, m.Body)
			}
			if m.Deliveries != 1 || m.Inserted.IsZero() {
				t.Errorf("%s: the message says nothing of its delivery: %+v", schema, m)
			}
			if err := queue.Delete(t.Context(), m); err != nil {
				t.Error(err)
			}
			if err := queue.Delete(t.Context(), m); err != nil {
				t.Errorf("deleting what is gone: %v", err)
			}
		}
	}
}

// A version that is written over the wire is told of as one that a test writes.
func TestOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "events")
	queue := w.sendTo(t, "events", "")
	token, err := w.Emulator.Authority.Issue(w.Emulator.Authority.Principals()[0], "https://vault.azure.net")
	if err != nil {
		t.Fatal(err)
	}
	for path, body := range map[string]string{
		"PUT secrets/wired": `{"value":"x"}`, "POST keys/wired-key/create": `{"kty":"EC"}`, "POST keys/signing/rotate": "",
		"POST certificates/wired-cert/create": `{"policy":{"key_props":{"kty":"EC"},"x509_props":{"subject":"CN=x"},"issuer":{"name":"Self"}}}`,
	} {
		method, path, _ := strings.Cut(path, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, "https://my-kv.vault.azure.net/"+path+"?api-version=7.4", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token.Raw)
		resp, err := w.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %s", method, path, resp.Status)
		}
	}
	var names []string
	for _, n := range understood(t, receive(t, queue, 4)) {
		names = append(names, string(n.Event)+" "+string(n.Kind)+" "+n.Name)
	}
	slices.Sort(names)
	want := []string{"NewVersion certificate wired-cert", "NewVersion key signing", "NewVersion key wired-key", "NewVersion secret wired"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

// A vault with a place of its own sends there and nowhere else.
func TestOneVaultsOwnQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "events", "other-events")
	common := w.sendTo(t, "events", "")
	w.Emulator.Events.Subscribe("other-kv", &seed.EventGrid{Queue: w.queues.URL("other-events"), Address: w.queues.Address})
	w.SetSecret("other-kv", "a", "1")
	w.SetSecret("my-kv", "b", "1")
	for name, queue := range map[string]*azure.Queue{"a": w.queue(t, "other-events"), "b": common} {
		got := understood(t, receive(t, queue, 1))
		if len(got) != 1 || got[0].Name != name {
			t.Errorf("got %v, want %s", got, name)
		}
	}
}

// What nobody deletes comes again, and says how often it came; the same news may come twice.
func TestAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "events")
	w.sendTo(t, "events", "")
	queue, err := azure.NewQueue(w.cred, w.queues.URL("events"), azure.QueueOptions{Visibility: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	w.SetSecret("my-kv", "db", "changed")
	first := receive(t, queue, 1)
	second := receive(t, queue, 1)
	if diff := cmp.Diff(first, second, cmpopts.IgnoreFields(eventgrid.Message{}, "Receipt", "Deliveries")); diff != "" {
		t.Error(diff)
	}
	if second[0].Deliveries != 2 {
		t.Errorf("it was delivered %d times by its own account", second[0].Deliveries)
	}
	if err := queue.Delete(t.Context(), first[0]); err != nil {
		t.Errorf("deleting with the receipt of an earlier delivery: %v", err)
	}
	w.Publish("NewVersionCreated", "my-kv", "secrets", "db")
	w.Publish("NewVersionCreated", "my-kv", "secrets", "db")
	twice := understood(t, receive(t, w.queue(t, "events"), 2))
	if diff := cmp.Diff(twice[0], twice[1]); diff != "" {
		t.Error(diff)
	}
}

// Poison is told apart and can be deleted like anything else.
func TestPoison(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "events")
	queue := w.sendTo(t, "events", "")
	for _, text := range []string{"not an event", `{"eventType":"Microsoft.KeyVault.SecretExpired","data":{"Id":"https://evil.example/secrets/a"}}`} {
		w.queues.Put("events", text)
		m := receive(t, queue, 1)[0]
		if string(m.Body) != text {
			t.Errorf("got %q, want %q", m.Body, text)
		}
		if _, err := eventgrid.Parse(m.Body, "vault.azure.net"); !errors.Is(err, eventgrid.ErrPoison) {
			t.Errorf("got %v, want ErrPoison", err)
		}
		if err := queue.Delete(t.Context(), m); err != nil {
			t.Error(err)
		}
	}
}

// What a queue refuses and lacks comes out in our words.
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "events")
	w.sendTo(t, "events", "")
	if _, err := w.queue(t, "no-such-queue").Receive(t.Context()); !errors.Is(err, vault.ErrNoQueue) {
		t.Errorf("a queue that is not there: got %v", err)
	}
	for name, audience := range map[string]string{"": "https://storage.azure.com", "AuthenticationFailed": "https://vault.azure.net"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.queues.URL("events")+"/messages", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		token, err := w.Emulator.Authority.Issue(w.Emulator.Authority.Principals()[0], audience)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token.Raw)
		req.Header.Set("X-Ms-Version", "2024-11-04")
		resp, err := w.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("X-Ms-Error-Code"); got != name {
			t.Errorf("a token for %s: got %s %q, want %q", audience, resp.Status, got, name)
		}
	}
}

// A queue that cannot be reached neither fails nor delays a write, and is counted once it is given up.
func TestQueueIsDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SendEvents(seed.EventGrid{Queue: w.queues.URL("events"), Address: "127.0.0.1:1"})
	w.SetSecret("my-kv", "db", "changed")
	if got := w.Secret("my-kv", "db").Value; got != "changed" {
		t.Errorf("the vault holds %q", got)
	}
	if got := w.Counters().Events; got.Waiting != 1 || got.Delivered != 0 {
		t.Errorf("got %+v, want one that waits", got)
	}
	w.Emulator.Events.Close()
	if got := w.Counters().Events; got.Waiting != 0 || got.Failed != 1 {
		t.Errorf("got %+v, want one that failed", got)
	}
}
