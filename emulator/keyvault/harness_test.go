// SPDX-License-Identifier: Apache-2.0

package keyvault_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/keyvault"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// Tokens that the harness's Verify knows; anything else has a wrong signature.
const (
	admin        = "admin"
	reader       = "reader"       // Key Vault Secrets User
	scoped       = "scoped"       // the same, for secrets/plain only
	stranger     = "stranger"     // known and granted nothing
	otherTenant  = "other-tenant" // right audience, wrong tenant
	wrongService = "management"   // right tenant, wrong audience
	expired      = "expired"
	forged       = "forged"
)

const seedYAML = `
tenant: tenant-1
principals:
  - { name: admin, clientId: a }
  - { name: reader, clientId: r }
  - { name: scoped, clientId: s }
  - { name: stranger, clientId: x }
vaults:
  - name: my-kv
    permissions:
      - { principal: admin, roles: [Key Vault Administrator] }
      - { principal: reader, roles: [Key Vault Secrets User] }
      - { principal: scoped, roles: [Key Vault Secrets User], scopes: [secrets/plain] }
    secrets:
      - { name: plain, value: canary, contentType: text/plain, tags: { a: b }, version: 0123456789abcdef0123456789abcdef }
      - { name: off, value: canary, enabled: false }
      - { name: future, value: canary, notBefore: 2099-01-01T00:00:00Z }
  - name: policy-kv
    access: policy
    permissions:
      - { principal: admin, secrets: [all], certificates: [all], keys: [all] }
      - { principal: reader, secrets: [get] }
    secrets:
      - { name: plain, value: canary }
`

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func verify(raw string) (keyvault.Caller, error) {
	c := keyvault.Caller{TenantID: "tenant-1", ObjectID: "oid-" + raw, AppID: "app-" + raw, Audience: "https://vault.azure.net"}
	switch raw {
	case admin, reader, scoped, stranger:
	case otherTenant:
		c.TenantID = "tenant-2"
	case wrongService:
		c.Audience = "https://management.azure.com/"
	case expired:
		return keyvault.Caller{}, keyvault.ErrTokenExpired
	default:
		return keyvault.Caller{}, keyvault.ErrTokenSignature
	}
	return c, nil
}

func start(t *testing.T, extra ...string) *keyvault.Server {
	t.Helper()
	parsed, err := seed.Parse([]byte(seedYAML+strings.Join(extra, "")), nil)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, p := range parsed.Principals {
		ids[p.Name] = "oid-" + p.Name
	}
	s, err := keyvault.New(keyvault.Config{
		Vaults: parsed.Vaults, Principals: ids, Verify: verify, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answer is a response, decoded.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

// code is error.code, and error.innererror.code behind a slash where there is one.
func (a answer) code() string {
	detail, _ := a.body["error"].(map[string]any)
	code, _ := detail["code"].(string)
	if inner, is := detail["innererror"].(map[string]any); is {
		code += "/" + inner["code"].(string)
	}
	return code
}

func (a answer) message() string {
	detail, _ := a.body["error"].(map[string]any)
	message, _ := detail["message"].(string)
	return message
}

func (a answer) str(path ...string) string {
	at := a.body
	for _, step := range path[:len(path)-1] {
		at, _ = at[step].(map[string]any)
	}
	out, _ := at[path[len(path)-1]].(string)
	return out
}

// ask sends "METHOD path" with a token ("" sends none) and a body ("" sends none) to my-kv, or to the vault in front
// of a colon. The api-version is added where there is no query.
func ask(t *testing.T, s http.Handler, token, what, body string) answer {
	t.Helper()
	method, path, _ := strings.Cut(what, " ")
	vault, rest, named := strings.Cut(path, ":")
	if !named {
		vault, rest = "my-kv", path
	}
	if !strings.Contains(rest, "?") {
		rest += "?api-version=2026-04-01"
	}
	r := httptest.NewRequestWithContext(t.Context(), method, "https://"+vault+".vault.azure.net"+rest, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	out := answer{status: w.Code, header: w.Header(), text: w.Body.String()}
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &out.body); err != nil {
			t.Fatalf("%s: not JSON: %s", what, w.Body)
		}
	}
	return out
}

// must is ask as admin for what has to work.
func must(t *testing.T, s http.Handler, what, body string) answer {
	t.Helper()
	got := ask(t, s, admin, what, body)
	if got.status >= 300 {
		t.Fatalf("%s: %d %s", what, got.status, got.text)
	}
	return got
}
