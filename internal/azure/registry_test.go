// SPDX-License-Identifier: Apache-2.0

package azure_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/akv2k8s/akv2k8s/internal/azure"
)

// registryAnswer exchanges a token for registries, of the right kind alone.
func registryAnswer(w *azureWorld, status int, body string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		claims, err := w.authority.Verify(r.PostFormValue("access_token"))
		right := err == nil && claims.Audience == "https://containerregistry.azure.net" && r.Method == http.MethodPost &&
			r.URL.Path == "/oauth2/exchange" && r.PostFormValue("grant_type") == "access_token" && r.PostFormValue("service") == r.Host
		if !right {
			status, body = http.StatusBadRequest, canary
		}
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, body)
	})
}

func TestRegistryIdentity(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"Exchanged":  {http.StatusOK, `{"refresh_token": "refresh"}`, "refresh"},
		"Refused":    {http.StatusUnauthorized, canary, ""},
		"Redirected": {http.StatusFound, "", ""},
		"Nothing":    {http.StatusOK, `{}`, ""},
		"NotJSON":    {http.StatusOK, canary, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.vault = registryAnswer(w, tc.status, tc.body)
			identity := azure.NewRegistryIdentity(w.credential(t, nil))
			for range 2 {
				got, err := identity.RefreshToken(t.Context(), "mine.azurecr.io")
				if string(got.Reveal()) != tc.want || (err != nil) != (tc.want == "") {
					t.Fatalf("RefreshToken() = %q, %v", got.Reveal(), err)
				}
				if err != nil && strings.Contains(err.Error(), canary) {
					t.Errorf("the registry's words are passed on: %v", err)
				}
			}
			if n := w.count("/oauth2/exchange"); tc.want != "" && n != 1 {
				t.Errorf("%d exchanges for one token", n)
			}
		})
	}
}

// A tenant names the host: whoever is no registry of the cloud sees no token.
func TestRegistryIdentityServesItsCloudAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	identity := azure.NewRegistryIdentity(w.credential(t, nil))
	for host, want := range map[string]bool{
		"mine.azurecr.io": true, "mine-a1b2.azurecr.io": true, "mine.westeurope.geo.azurecr.io": true,
		"azurecr.io": false, ".azurecr.io": false, "evil-azurecr.io": false, "mine.azurecr.io.evil.example": false,
		"mine.azurecr.io:8443": false, "evil.example/.azurecr.io": false, "me@evil.example#.azurecr.io": false, "mine.azurecr.cn": false, "docker.io": false, "": false,
	} {
		if got := identity.Serves(host); got != want {
			t.Errorf("Serves(%q) = %v", host, got)
		}
		if want {
			continue
		}
		if _, err := identity.RefreshToken(t.Context(), host); err == nil {
			t.Errorf("%q is given a token", host)
		}
	}
	if n := w.count(""); n > 0 {
		t.Errorf("%d requests", n)
	}
}
