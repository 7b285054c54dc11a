// SPDX-License-Identifier: Apache-2.0

package emulator_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/akv2k8s/akv2k8s/emulator/emulatortest"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

const seedYAML = `
tenant: tenant-1
principals:
  - { name: app, clientId: client-1, secrets: [app-secret] }
  - { name: node, clientId: client-2, managedIdentity: true }
vaults:
  - name: my-kv
    permissions:
      - { principal: app, roles: [Key Vault Administrator] }
      - { principal: node, roles: [Key Vault Secrets User] }
    secrets: [{ name: db, value: first }]
    certificates: [{ name: crt, keyType: EC }]
`

const secretURL = "https://my-kv.vault.azure.net/secrets/db?api-version=2026-04-01"

func do(t *testing.T, client *http.Client, r *http.Request) (int, map[string]any, error) {
	t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err
	}
	var body map[string]any
	_ = json.Unmarshal(raw, &body) // some answers are plain text
	return resp.StatusCode, body, nil
}

func request(t *testing.T, method, target, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func signIn(t *testing.T, client *http.Client) string {
	t.Helper()
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"client-1"}, "client_secret": {"app-secret"}, "scope": {"https://vault.azure.net/.default"},
	}
	r := request(t, http.MethodPost, "https://login.microsoftonline.com/tenant-1/oauth2/v2.0/token", form.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, body, err := do(t, client, r)
	if err != nil || status != http.StatusOK {
		t.Fatalf("signing in: %d %v %v", status, body["error"], err)
	}
	token, _ := body["access_token"].(string)
	return token
}

func read(t *testing.T, client *http.Client, token string) (int, string, error) {
	t.Helper()
	r := request(t, http.MethodGet, secretURL, "")
	r.Header.Set("Authorization", "Bearer "+token)
	status, body, err := do(t, client, r)
	value, _ := body["value"].(string)
	return status, value, err
}

func TestAnUnmodifiedClientReadsASecret(t *testing.T) {
	t.Parallel()
	in := emulatortest.Start(t, seedYAML)
	client := in.Client()
	token := signIn(t, client)
	for _, want := range []string{"first", "second"} {
		if status, value, err := read(t, client, token); err != nil || status != 200 || value != want {
			t.Errorf("got %d %q %v, want %q", status, value, err, want)
		}
		in.SetSecret("my-kv", "db", "second")
	}
	if got := in.Requests("secrets/get", 200); got != 2 {
		t.Errorf("counted %d reads", got)
	}
	counted := in.Counters()
	if counted.SignIns["/oauth2/v2.0/token 200"] != 1 || counted.Connections["proxy"] != 2 || counted.Connections["https"] != 2 {
		t.Errorf("got %+v", counted)
	}
}

func TestManagedIdentityThroughTheProxy(t *testing.T) {
	t.Parallel()
	client := emulatortest.Start(t, seedYAML).Client()
	r := request(t, http.MethodGet, "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource="+url.QueryEscape("https://vault.azure.net"), "")
	r.Header.Set("Metadata", "true")
	status, body, err := do(t, client, r)
	if err != nil || status != 200 {
		t.Fatalf("got %d %v", status, err)
	}
	token, _ := body["access_token"].(string)
	if status, value, err := read(t, client, token); err != nil || status != 200 || value != "first" {
		t.Errorf("got %d %q %v", status, value, err)
	}
}

func TestOtherHostsAreRefused(t *testing.T) {
	t.Parallel()
	client := emulatortest.Start(t, seedYAML).Client()
	for name, target := range map[string]string{
		"Elsewhere":    "https://example.com/",
		"UnknownVault": "https://no-such.vault.azure.net/secrets/db?api-version=7.4",
		"VaultDeeper":  "https://a.my-kv.vault.azure.net/",
	} {
		if status, _, err := do(t, client, request(t, http.MethodGet, target, "")); err == nil {
			t.Errorf("%s: got an answer, %d", name, status)
		}
	}
}

func TestResetBreaksTheConnection(t *testing.T) {
	t.Parallel()
	in := emulatortest.Start(t, seedYAML)
	client := in.Client()
	token := signIn(t, client)
	in.SetFaults("my-kv", seed.Fault{Kind: seed.FaultReset, Count: 1})
	client.Transport.(*http.Transport).DisableKeepAlives = true // the transport repeats what fails on a kept connection
	if status, _, err := read(t, client, token); err == nil {
		t.Errorf("got an answer, %d", status)
	}
	if status, _, err := read(t, client, token); err != nil || status != 200 {
		t.Errorf("the fault outlives its count: %d %v", status, err)
	}
}

func TestLatencyEndsWithTheClient(t *testing.T) {
	t.Parallel()
	in := emulatortest.Start(t, seedYAML)
	client := in.Client()
	token := signIn(t, client)
	in.SetFaults("my-kv", seed.Fault{Kind: seed.FaultLatency, Latency: seed.Duration(1 << 40)})
	ctx, cancel := context.WithCancel(t.Context())
	r := request(t, http.MethodGet, secretURL, "").WithContext(ctx)
	r.Header.Set("Authorization", "Bearer "+token)
	ended := make(chan error, 1)
	go func() {
		_, _, err := do(t, client, r)
		ended <- err
	}()
	cancel()
	if err := <-ended; err == nil {
		t.Error("got an answer from a vault that waits")
	}
}

func TestRevokedTokensAreRefused(t *testing.T) {
	t.Parallel()
	in := emulatortest.Start(t, seedYAML)
	client := in.Client()
	token := signIn(t, client)
	in.Emulator.Authority.RevokeTokens()
	if status, _, err := read(t, client, token); err != nil || status != 401 {
		t.Errorf("got %d %v", status, err)
	}
	if status, _, err := read(t, client, signIn(t, client)); err != nil || status != 200 {
		t.Errorf("a new token: got %d %v", status, err)
	}
}

func TestAdminEndpoint(t *testing.T) {
	t.Parallel()
	in := emulatortest.Start(t, seedYAML)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	call := func(what, body string) (int, map[string]any) {
		t.Helper()
		method, path, _ := strings.Cut(what, " ")
		status, out, err := do(t, client, request(t, method, in.AdminURL+path, body))
		if err != nil {
			t.Fatal(err)
		}
		return status, out
	}
	before := in.Certificate("my-kv", "crt")
	for _, step := range []struct {
		what, body string
		status     int
		says       string
	}{
		{"GET /healthz", "", 200, ""},
		{"GET /ca.crt", "", 200, ""},
		{"GET /v1/vaults", "", 200, ""},
		{"PUT /v1/vaults/my-kv/secrets/db", `{"value":"changed","contentType":"text/plain"}`, 200, ""},
		{"GET /v1/vaults/my-kv/secrets/db", "", 200, ""},
		{"PUT /v1/vaults/my-kv/secrets/db", `{"valeu":"x"}`, 400, `unknown field "valeu"`},
		{"PUT /v1/vaults/my-kv/secrets/db", `{`, 400, "the body is not JSON of the form that this endpoint takes"},
		{"PUT /v1/vaults/none/secrets/db", `{"value":"x"}`, 404, "no such vault"},
		{"GET /v1/vaults/my-kv/secrets/none", "", 404, "no such object"},
		{"POST /v1/vaults/my-kv/certificates/crt/rotate", "", 200, ""},
		{"PUT /v1/vaults/my-kv/certificates/new", `{"keyType":"EC","chain":2}`, 200, ""},
		{"PATCH /v1/vaults/my-kv/secrets/db", `{"enabled":false}`, 204, ""},
		{"PATCH /v1/vaults/my-kv/secrets/db", `{"tags":{"a":"b"}}`, 204, ""},
		{"PATCH /v1/vaults/my-kv/secrets/db", `{}`, 400, "enabled and tags are missing; one is needed"},
		{"DELETE /v1/vaults/my-kv/certificates/new", "", 204, ""},
		{"POST /v1/vaults/my-kv/deleted/certificates/new/recover", "", 204, ""},
		{"DELETE /v1/vaults/my-kv/certificates/new?purge=true", "", 204, ""},
		{"PUT /v1/vaults/my-kv/permissions", `{"permissions":[{"principal":"app","roles":["Key Vault Reader"]}]}`, 204, ""},
		{"PUT /v1/vaults/my-kv/permissions", `{"permissions":[{"principal":"app","roles":["Owner"]}]}`, 400, ""},
		{"PUT /v1/vaults/my-kv/faults", `{"faults":[{"kind":"latency","latency":"5ms"},{"kind":"throttle","retryAfter":3,"count":2}]}`, 204, ""},
		{"PUT /v1/vaults/my-kv/faults", `{"faults":[{"kind":"latency","latency":"soon"}]}`, 400, ""},
		{"DELETE /v1/vaults/my-kv/faults", "", 204, ""},
		{"PUT /v1/vaults/my-kv/faults", `{"faults":[{"kind":"hang","operations":["secrets/lsit"]}]}`, 400, `faults[0] (hang): no operation is called "secrets/lsit"`},
		{"PUT /v1/vaults/my-kv/limit", `{}`, 204, ""},
		{"PUT /v1/vaults/my-kv/limit", `{"transactions":10,"per":"1s"}`, 204, ""},
		{"PUT /v1/vaults/my-kv/limit", `{"transactions":-1}`, 400, "limit: transactions and per are not negative"},
		{"DELETE /v1/vaults/my-kv/limit", "", 204, ""},
		{"PUT /v1/vaults/my-kv/clock", `{"offset":"-5m"}`, 204, ""},
		{"PUT /v1/vaults/my-kv/clock", `{}`, 400, "offset is missing"},
		{"PUT /v1/sign-in/faults", `{"faults":[{"kind":"error","operations":["/oauth2/v2.0/token"],"probability":0.5}]}`, 204, ""},
		{"PUT /v1/sign-in/faults", `{"faults":[{"kind":"dns"}]}`, 400, ""},
		{"PUT /v1/sign-in/faults", `{"faults":[{"kind":"hang","operations":["token"]}]}`, 400, `faults[0] (hang): no operation of a sign-in is called "token"`},
		{"GET /v1/sign-in", "", 200, ""},
		{"DELETE /v1/sign-in/faults", "", 204, ""},
		{"POST /v1/tokens/revoke", "", 204, ""},
		{"GET /v1/counters", "", 200, ""},
		{"DELETE /v1/counters", "", 204, ""},
	} {
		status, body := call(step.what, step.body)
		if says, _ := body["error"].(string); status != step.status || step.says != "" && says != step.says {
			t.Errorf("%s: got %d %v", step.what, status, body)
		}
	}
	if _, body := call("GET /v1/vaults/my-kv/certificates/crt", ""); body["version"] == before.Version || body["keyPem"] == before.KeyPEM {
		t.Error("the certificate was not rotated")
	}
	if got := in.Secret("my-kv", "db"); got.Value != "changed" || got.Enabled {
		t.Errorf("got %+v", got)
	}
}

func TestAdminRefusesWebPages(t *testing.T) {
	t.Parallel()
	in := emulatortest.Start(t, seedYAML)
	r := request(t, http.MethodPut, in.AdminURL+"/v1/vaults/my-kv/secrets/db", `{"value":"x"}`)
	r.Header.Set("Origin", "https://example.com")
	if status, _, err := do(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, r); err != nil || status != http.StatusForbidden {
		t.Errorf("got %d %v", status, err)
	}
}
