// SPDX-License-Identifier: Apache-2.0

package imds_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/akv2k8s/akv2k8s/emulator/entra"
	"github.com/akv2k8s/akv2k8s/emulator/imds"
)

// How azidentity gets along with this endpoint is tested beside entra; here are
// the rows that a well-behaved client never meets.

const path = "/metadata/identity/oauth2/token"

func TestRefusals(t *testing.T) {
	const right = "?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
	for name, tc := range map[string]struct {
		query  string
		header string
		status int
		text   string
	}{
		"Good":            {right, "true", http.StatusOK, ""},
		"NoHeader":        {right, "", http.StatusBadRequest, "Required metadata header not specified"},
		"NoVersion":       {"?resource=https://vault.azure.net", "true", http.StatusBadRequest, "Required query variable 'api-version' is missing"},
		"NoResource":      {"?api-version=2018-02-01", "true", http.StatusBadRequest, "Required audience parameter not specified"},
		"UnknownIdentity": {right + "&client_id=x", "true", http.StatusBadRequest, "Identity not found"},
		"UnknownResource": {"?api-version=2018-02-01&resource=https://evil.example", "true", http.StatusBadRequest, "The resource principal named in the request was not found in the tenant"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := get(t, tc.query, tc.header, identity("a", ""))
			if status != tc.status || body["error_description"] != tc.text && tc.text != "" {
				t.Errorf("got %d %v, want %d %q", status, body, tc.status, tc.text)
			}
		})
	}
}

func TestNumbersAreStrings(t *testing.T) {
	_, body := get(t, "?api-version=2018-02-01&resource=https://vault.azure.net", "true", identity("a", ""))
	for _, field := range []string{"expires_in", "expires_on", "not_before", "ext_expires_in"} {
		if s, ok := body[field].(string); !ok || s == "" {
			t.Errorf("%s is %#v, want a string", field, body[field])
		}
	}
}

func TestDefaultIdentity(t *testing.T) {
	const query = "?api-version=2018-02-01&resource=https://vault.azure.net"
	for name, tc := range map[string]struct {
		principals []entra.Principal
		want       string // client id; empty: refused
	}{
		"SystemAssigned":  {[]entra.Principal{identity("a", "/a"), identity("b", ""), identity("c", "/c")}, "b"},
		"OnlyOne":         {[]entra.Principal{identity("a", "/a")}, "a"},
		"Several":         {[]entra.Principal{identity("a", "/a"), identity("c", "/c")}, ""},
		"None":            {nil, ""},
		"NotManaged":      {[]entra.Principal{{TenantID: "t", ClientID: "a", ObjectID: "o"}}, ""},
		"UnmanagedBeside": {[]entra.Principal{{TenantID: "t", ClientID: "x", ObjectID: "o"}, identity("a", "/a")}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := get(t, query, "true", tc.principals...)
			if got, _ := body["client_id"].(string); got != tc.want || (status == http.StatusOK) != (tc.want != "") {
				t.Errorf("got %d %v, want client %q", status, body, tc.want)
			}
		})
	}
}

func identity(client, resource string) entra.Principal {
	return entra.Principal{TenantID: "t", ClientID: client, ObjectID: "o-" + client, ManagedIdentity: true, ResourceID: resource}
}

func get(t *testing.T, query, header string, principals ...entra.Principal) (int, map[string]any) {
	t.Helper()
	authority, err := entra.New(entra.Config{Principals: principals})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path+query, nil)
	if header != "" {
		r.Header.Set("Metadata", header)
	}
	w := httptest.NewRecorder()
	imds.Handler(authority).ServeHTTP(w, r)
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("not JSON: %s", w.Body)
	}
	return w.Code, body
}
