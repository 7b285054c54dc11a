// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/emulator/emulatortest"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
	"github.com/akv2k8s/akv2k8s/test/azurite"
)

// An audience is a vault whose events go into a queue, and the program that listens to
// it. The queue is Azurite, under its production name.
type audience struct {
	*stage

	vault  *emulatortest.Instance
	queues *azurite.Instance
}

// vaultEvents is the queue of most stories.
const vaultEvents = "vault-events"

// newAudience has the queues, and nobody sends anything there yet.
func newAudience(t *testing.T, queues ...string) *audience {
	t.Helper()
	if testing.Short() {
		t.Skip("installs and starts Azurite")
	}
	in := emulatortest.Start(t, `
principals: [{ name: node, clientId: 22222222-2222-4222-8222-222222222222, secrets: [c4n4ry-client-secret] }]
vaults:
  - name: quiet-kv
    permissions: [{ principal: node, roles: [Key Vault Administrator] }]
    secrets: [{ name: untold, value: c4n4ry-one }]
  - name: my-kv
    permissions: [{ principal: node, roles: [Key Vault Administrator] }]
    secrets: [{ name: db, value: c4n4ry-one }]
    certificates: [{ name: web, subject: CN=web.example }]
    keys: [{ name: signing, type: EC }]
`)
	return &audience{stage: &stage{namespace: namespace(t)}, vault: in, queues: azurite.Start(t, in.CA, queues...)}
}

// listens starts a program that listens to a queue.
func (a *audience) listens(t *testing.T, queue string, args ...string) *replica {
	t.Helper()
	r := start(t, a.vault.ProxyURL, []string{
		"CA_BUNDLE=" + a.vault.CAFile, "RUNTIME_NAMESPACE=" + a.namespace,
		"AUTH_TYPE=environment", "AZURE_TENANT_ID=" + tenant,
		"AZURE_CLIENT_ID=22222222-2222-4222-8222-222222222222", "AZURE_CLIENT_SECRET=c4n4ry-client-secret",
	}, append([]string{"--watch-all-namespaces=false", "--leader-elect=false", "--event-queue=" + a.queues.URL(queue)}, args...)...)
	r.ready(t)
	return r
}

// sends has events go into a queue.
func (a *audience) sends(queue string, schema seed.Schema) {
	a.vault.SendEvents(seed.EventGrid{Queue: a.queues.URL(queue), Address: a.queues.Address, Schema: schema})
}

// rotateKey gives the key a version over the wire and returns its id.
func (a *audience) rotateKey(t *testing.T) string {
	t.Helper()
	token, err := a.vault.Emulator.Authority.Issue(a.vault.Emulator.Authority.Principals()[0], "https://vault.azure.net")
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://my-kv.vault.azure.net/keys/signing/rotate?api-version=7.4", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token.Raw)
	resp, err := a.vault.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("rotating the key: %s", resp.Status)
	}
	version, err := a.vault.Emulator.Vaults.Newest("my-kv", "keys", "signing")
	if err != nil {
		t.Fatal(err)
	}
	return version.Version
}

// emptied waits until every message in vaultEvents was dealt with.
func (a *audience) emptied(t *testing.T) {
	t.Helper()
	eventually(t, "the queue is empty", func() error {
		if waiting := a.vault.Counters().Events.Waiting; waiting > 0 {
			return fmt.Errorf("%d events are on their way", waiting)
		}
		if n := a.queues.Count(vaultEvents); n > 0 {
			return fmt.Errorf("%d messages are in it", n)
		}
		return nil
	})
}

// counts is the sum of a metric's series.
func (r *replica) counts(t *testing.T, metric string) int {
	t.Helper()
	_, body := r.get(t, "/metrics")
	sum, found := 0, regexp.MustCompile(`(?m)^`+metric+`(?:\{[^}]*\})? (\d+)$`).FindAllStringSubmatch(body, -1)
	for _, m := range found {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	if len(found) == 0 {
		t.Errorf("there is no metric %s", metric)
	}
	return sum
}

const hourly = "--azure-resync-period=1h"

// A new version is in the output long before anybody looks by the clock: of a secret,
// a certificate with its private key, the secret behind it, and a key; in either schema,
// and with both in one queue. What no event tells of stays as it was.
func TestAnEventBringsANewVersion(t *testing.T) {
	t.Parallel()
	a := newAudience(t, vaultEvents, "nobody-listens")
	a.vault.Emulator.Events.Subscribe("quiet-kv", &seed.EventGrid{Queue: a.queues.URL("nobody-listens"), Address: a.queues.Address})
	a.sends(vaultEvents, "")
	r := a.listens(t, vaultEvents, hourly)
	a.apply(t, "db")
	a.apply(t, "untold", outputTo("untold", "password"), func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Vault.Name = "quiet-kv" })
	a.apply(t, "web", func(spec *v2beta1.AzureKeyVaultSecretSpec) {
		spec.Vault.Object.Type = v2beta1.ObjectCertificate
		spec.Output.Secret = &v2beta1.SecretOutput{Name: "web", Type: "kubernetes.io/tls"}
	})
	a.apply(t, "behind-web", outputTo("behind-web", "pfx"), func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Vault.Object.Name = "web" })
	a.apply(t, "signing", outputTo("signing", "key.pem"), func(spec *v2beta1.AzureKeyVaultSecretSpec) {
		spec.Vault.Object.Type, spec.Output.Format = v2beta1.ObjectKey, v2beta1.FormatPEM
	})
	for _, name := range []string{"db", "untold", "web", "behind-web", "signing"} {
		a.ready(t, name, "True Synced")
	}
	a.vault.SetSecret("quiet-kv", "untold", "c4n4ry-two")

	for _, schema := range []seed.Schema{seed.SchemaEventGrid, seed.SchemaCloud} {
		web, signing := a.contents(t, "web"), a.contents(t, "signing")
		a.sends(vaultEvents, schema)
		a.vault.SetSecret("my-kv", "db", "c4n4ry-"+string(schema))
		version := a.vault.RotateCertificate("my-kv", "web")
		a.holds(t, "password", "-"+string(schema))
		a.follows(t, "web", version)
		a.follows(t, "behind-web", version)
		a.follows(t, "signing", a.rotateKey(t))

		renewed := a.contents(t, "web")
		if _, err := tls.X509KeyPair(renewed["tls.crt"], renewed["tls.key"]); err != nil {
			t.Errorf("%s: no pair: %v", schema, err)
		}
		if string(renewed["tls.crt"]) == string(web["tls.crt"]) || string(a.contents(t, "signing")["key.pem"]) == string(signing["key.pem"]) {
			t.Errorf("%s: the status has the new version, the output the old one", schema)
		}
	}
	a.emptied(t)
	if n := r.counts(t, "akv2k8s_events_total"); n < 6 {
		t.Errorf("%d events were heard, want 6", n)
	}
	if got := a.contents(t, "untold")["password"]; string(got) != "c4n4ry-one" {
		t.Errorf("without an event the output became %s: the story proves nothing", got)
	}
	a.saysNoValue(t)
	r.stop(t)
}

func (a *audience) contents(t *testing.T, name string) map[string][]byte {
	t.Helper()
	out, err := a.secret(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return out.Data
}

// What comes twice, is about nothing or is no event does no harm and is gone; what a
// vault allowed meanwhile is tried at once; and who was away misses nothing.
func TestTheQueueHoldsAnything(t *testing.T) {
	t.Parallel()
	a := newAudience(t, vaultEvents)
	a.sends(vaultEvents, "")
	r := a.listens(t, vaultEvents, hourly)
	a.apply(t, "db")
	before := a.holds(t, "password", "-one")
	a.ready(t, "db", "True Synced")

	poison := []string{"c4n4ry", "e30=", `{"c4n4ry":`, `[{"eventType":"Microsoft.KeyVault.SecretExpired","data":{"Id":"https://my-kv.example.com/secrets/c4n4ry"}}]`}
	for _, text := range poison {
		a.queues.Put(vaultEvents, text)
	}
	for range 40 { // more than are received at once
		a.vault.Publish("NewVersionCreated", "my-kv", "secrets", "db")
	}
	a.queues.Put(vaultEvents, `{"eventType":"Microsoft.Storage.BlobCreated","data":{}}`)
	a.vault.Publish("Expired", "my-kv", "keys", "signing") // which nobody follows
	a.emptied(t)
	if got := r.counts(t, "akv2k8s_events_dropped_total"); got != len(poison) {
		t.Errorf("%d messages were dropped, want %d", got, len(poison))
	}
	if got := r.counts(t, "akv2k8s_events_total"); got != 41 {
		t.Errorf("%d events were heard, want 41", got)
	}
	a.same(t, before)
	a.vault.SetSecret("my-kv", "db", "c4n4ry-two")
	a.holds(t, "password", "-two")

	a.vault.SetPermissions("my-kv")
	a.vault.SetSecret("my-kv", "db", "c4n4ry-three")
	a.ready(t, "db", "False VaultForbidden")
	a.vault.SetPermissions("my-kv", seed.Permission{Principal: "node", Roles: []string{"Key Vault Secrets User"}})
	a.queues.Put(vaultEvents, `{"eventType":"Microsoft.KeyVault.VaultAccessPolicyChanged","data":{"Id":"https://my-kv.vault.azure.net/"}}`)
	a.holds(t, "password", "-three")

	a.emptied(t)
	r.stop(t)
	for _, value := range []string{"four", "five"} {
		a.vault.SetSecret("my-kv", "db", "c4n4ry-"+value)
	}
	again := a.listens(t, vaultEvents, hourly)
	a.holds(t, "password", "-five")
	a.emptied(t)
	a.vault.SetSecret("my-kv", "db", "c4n4ry-six")
	a.holds(t, "password", "-six")
	a.saysNoValue(t)
	again.stop(t)
	if log := r.stderr.String(); strings.Count(log, "dropped a message") != len(poison) {
		t.Errorf("not every drop is in the log")
	}
}

// Without its queue the program looks by the clock, as it would without the flag, and
// says what is wrong; once the queue is there it listens.
func TestWithoutItsQueue(t *testing.T) {
	t.Parallel()
	a := newAudience(t, "refused", "silent")
	refusing := a.refusingQueue(t)
	for _, tc := range []struct {
		queue, address, says string
		repair               func()
	}{
		{"missing", a.queues.Address, "there is no such queue", func() { a.queues.Create("missing") }},
		{"refused", refusing.Listener.Addr().String(), "the identity may not receive from this queue", refusing.Close},
		{"silent", "127.0.0.1:" + freePort(t), "the queue did not answer", func() {}},
	} {
		t.Run(tc.queue, func(t *testing.T) { // one after the other: the vaults' events go to one place at a time
			s := &audience{stage: &stage{namespace: namespace(t)}, vault: a.vault, queues: a.queues}
			s.vault.SendEvents(seed.EventGrid{Queue: s.queues.URL(tc.queue), Address: tc.address})
			r := s.listens(t, tc.queue, "--azure-resync-period=1", "--event-resync-period=1s", "--event-poll-interval=100ms")
			s.vault.SetSecret("my-kv", "db", "c4n4ry-first")
			s.apply(t, "db")
			s.holds(t, "password", "-first")
			s.vault.SetSecret("my-kv", "db", "c4n4ry-second")
			s.holds(t, "password", "-second")
			eventually(t, "failures are counted", func() error {
				if n := r.counts(t, "akv2k8s_event_queue_failures_total"); n < 2 {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
			if n := r.counts(t, "akv2k8s_events_total"); n != 0 {
				t.Errorf("%d events were heard", n)
			}
			r.ready(t)

			tc.repair()
			s.sends(tc.queue, "")
			s.vault.Publish("NearExpiry", "my-kv", "secrets", "db")
			eventually(t, "it hears", func() error {
				if n := r.counts(t, "akv2k8s_events_total"); n < 1 {
					return fmt.Errorf("%d events", n)
				}
				return nil
			})
			for _, sentence := range []string{tc.says, "the queue of events answers again"} {
				eventually(t, "the log says "+sentence, func() error {
					if !strings.Contains(r.stderr.String(), sentence) {
						return errors.New("not yet")
					}
					return nil
				})
			}
			r.stop(t)
		})
	}
}

// refusingQueue answers as Azure Storage does to an identity without the role.
func (a *audience) refusingQueue(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Ms-Error-Code", "AuthorizationPermissionMismatch")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthorizationPermissionMismatch</Code><Message>c4n4ry</Message></Error>`)
	}))
	server.TLS, server.EnableHTTP2 = a.vault.CA.TLSConfig(), true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}
