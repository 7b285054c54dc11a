// SPDX-License-Identifier: Apache-2.0

package entra

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"slices"
	"strings"
)

const maxFormBytes = 1 << 20

// Hosts are the names under which Handler expects to be reached: the sign-in
// hosts of the public, China and US Government clouds.
func Hosts() []string {
	return []string{
		"login.microsoftonline.com", "login.microsoft.com", "login.windows.net",
		"login.chinacloudapi.cn", "login.partner.microsoftonline.cn",
		"login.microsoftonline.us", "login.usgovcloudapi.net",
	}
}

func isAuthorityHost(host string) bool { return slices.Contains(Hosts(), strings.ToLower(host)) }

// Handler serves the sign-in hosts.
func (a *Authority) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /common/discovery/instance", a.serveInstances)
	mux.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", a.serveConfiguration)
	mux.HandleFunc("GET /{tenant}/discovery/v2.0/keys", a.serveKeys)
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", a.serveToken)
	return mux
}

//nolint:tagliatelle // the service's names
type instanceMetadata struct {
	PreferredNetwork string   `json:"preferred_network"`
	PreferredCache   string   `json:"preferred_cache"`
	Aliases          []string `json:"aliases"`
}

func (a *Authority) serveInstances(w http.ResponseWriter, r *http.Request) {
	host, tenant, ok := cutEndpoint(r.URL.Query().Get("authorization_endpoint"))
	if !ok {
		a.refuse(w, r, invalidRequest(50049, "Unknown or invalid instance."))
		return
	}
	respond(w, http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": "https://" + host + "/" + tenant + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata": []instanceMetadata{
			{"login.microsoftonline.com", "login.windows.net", []string{"login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"}},
			{"login.partner.microsoftonline.cn", "login.partner.microsoftonline.cn", []string{"login.partner.microsoftonline.cn", "login.chinacloudapi.cn"}},
			{"login.microsoftonline.us", "login.microsoftonline.us", []string{"login.microsoftonline.us", "login.usgovcloudapi.net"}},
		},
	})
}

// cutEndpoint takes https://HOST/TENANT/oauth2/v2.0/authorize apart.
func cutEndpoint(endpoint string) (string, string, bool) {
	rest, ok := strings.CutPrefix(endpoint, "https://")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 2 || parts[1] == "" {
		return "", "", false
	}
	return parts[0], parts[1], true
}

func (a *Authority) serveConfiguration(w http.ResponseWriter, r *http.Request) {
	tenant := r.PathValue("tenant")
	if !a.hasTenant(tenant) {
		a.refuse(w, r, unknownTenant(tenant))
		return
	}
	base := "https://" + r.Host + "/" + tenant
	respond(w, http.StatusOK, map[string]any{
		"issuer":                                base + "/v2.0",
		"authorization_endpoint":                base + "/oauth2/v2.0/authorize",
		"token_endpoint":                        base + "/oauth2/v2.0/token",
		"jwks_uri":                              base + "/discovery/v2.0/keys",
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"response_types_supported":              []string{"code"},
		"subject_types_supported":               []string{"pairwise"},
		"tenant_region_scope":                   "EU",
		"cloud_instance_name":                   "microsoftonline.com",
	})
}

func (a *Authority) serveKeys(w http.ResponseWriter, _ *http.Request) {
	public := a.key.PublicKey
	respond(w, http.StatusOK, jwks{Keys: []jwk{{
		KeyType: "RSA", Use: "sig", KeyID: a.keyID,
		Modulus:  base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
		Exponent: base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()),
	}}})
}

//nolint:tagliatelle // OAuth's names
type tokenBody struct {
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	ExtExpiresIn int64  `json:"ext_expires_in"`
	AccessToken  string `json:"access_token"`
}

func (a *Authority) serveToken(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		a.refuse(w, r, invalidRequest(900561, "The request body is not a form."))
		return
	}
	token, err := a.grant(r.Context(), tokenRequest{host: r.Host, tenant: r.PathValue("tenant"), form: r.PostForm})
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	// One second less than the lifetime, as Entra answers.
	left := int64(token.Expires.Sub(token.Issued).Seconds()) - 1
	respond(w, http.StatusOK, tokenBody{"Bearer", left, left, token.Raw})
}

func (a *Authority) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var refused *aadError
	if !errors.As(err, &refused) {
		refused = &aadError{http.StatusInternalServerError, "server_error", 90033, "A transient error has occurred. Please try again."}
	}
	respond(w, refused.status, refused.body(r.Header.Get("Client-Request-Id"), a.now()))
}

// Refuse answers as the service does while it cannot work: 429 when there are too many requests, 5xx otherwise.
func (a *Authority) Refuse(w http.ResponseWriter, r *http.Request, status int) {
	a.refuse(w, r, unavailable(status))
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store, no-cache")
	w.Header().Set("Pragma", "no-cache")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone; nobody is left to tell
}
