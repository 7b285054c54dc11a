// SPDX-License-Identifier: Apache-2.0

package entra_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/emulator/entra"
)

// The real azidentity signs in here, with instance discovery and certificate
// verification on.

func TestClientSecret(t *testing.T) {
	p := application()
	p.Secrets = []string{"old-secret", "right-secret"}
	authority, hc := newAuthority(t, entra.Config{Principals: []entra.Principal{p}})

	token, err := signIn(t, secretCredential(t, hc, tenant, client, "right-secret"))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := authority.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	claims.Expires = time.Time{}
	want := entra.Claims{TenantID: tenant, ObjectID: object, AppID: client, Audience: "https://vault.azure.net"}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestClientSecretRefused(t *testing.T) {
	p := application()
	p.Secrets = []string{"right-secret"}
	_, hc := newAuthority(t, entra.Config{Principals: []entra.Principal{p}})
	const other = "99999999-9999-9999-9999-999999999999"
	for name, tc := range map[string]struct {
		tenant, client, secret string
		status, code           int
	}{
		"WrongSecret":   {tenant, client, "wrong", http.StatusUnauthorized, 7000215},
		"UnknownClient": {tenant, other, "right-secret", http.StatusBadRequest, 700016},
		"UnknownTenant": {other, client, "right-secret", http.StatusBadRequest, 90002},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := signIn(t, secretCredential(t, hc, tc.tenant, tc.client, tc.secret))
			expectRefusal(t, err, tc.status, tc.code)
		})
	}
}

func TestRotatedSecret(t *testing.T) {
	p := application()
	p.Secrets = []string{"first"}
	authority, hc := newAuthority(t, entra.Config{Principals: []entra.Principal{p}})
	p.Secrets = []string{"second"}
	if err := authority.SetPrincipals([]entra.Principal{p}); err != nil {
		t.Fatal(err)
	}
	_, err := signIn(t, secretCredential(t, hc, tenant, client, "first"))
	expectRefusal(t, err, http.StatusUnauthorized, 7000215)
	if _, err := signIn(t, secretCredential(t, hc, tenant, client, "second")); err != nil {
		t.Error(err)
	}
}

func TestClientCertificate(t *testing.T) {
	known, unknown := newCertificate(t), newCertificate(t)
	p := application()
	p.Certificates = []*x509.Certificate{newCertificate(t).cert, known.cert}
	_, hc := newAuthority(t, entra.Config{Principals: []entra.Principal{p}})

	for _, chain := range []bool{false, true} {
		if _, err := signIn(t, certificateCredential(t, hc, known, chain)); err != nil {
			t.Errorf("registered certificate, chain sent %v: %v", chain, err)
		}
	}
	_, err := signIn(t, certificateCredential(t, hc, unknown, false))
	expectRefusal(t, err, http.StatusUnauthorized, 700027)
}

// TestCertificateAssertionRefused forges what MSAL would never send.
func TestCertificateAssertionRefused(t *testing.T) {
	known := newCertificate(t)
	p := application()
	p.Certificates = []*x509.Certificate{known.cert}
	_, hc := newAuthority(t, entra.Config{Principals: []entra.Principal{p}})
	const endpoint = "https://login.microsoftonline.com/" + tenant + "/oauth2/v2.0/token"
	claims := func(subject, audience string) jwt.RegisteredClaims {
		return jwt.RegisteredClaims{Issuer: client, Subject: subject, Audience: jwt.ClaimStrings{audience}, ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Minute))}
	}
	for name, tc := range map[string]struct {
		method jwt.SigningMethod
		key    crypto.Signer
		claims jwt.RegisteredClaims
		code   string // empty: accepted
	}{
		"RS256": {jwt.SigningMethodRS256, known.key, claims(client, endpoint), ""},
		// The right thumbprint over the wrong key is what a thief of the public part has.
		"ForeignKey":    {jwt.SigningMethodPS256, rsaKey(t), claims(client, endpoint), "AADSTS700027"},
		"OtherSubject":  {jwt.SigningMethodPS256, known.key, claims("else", endpoint), "AADSTS700021"},
		"OtherAudience": {jwt.SigningMethodPS256, known.key, claims(client, "https://evil.example/"+tenant), "AADSTS700023"},
		"OtherTenant":   {jwt.SigningMethodPS256, known.key, claims(client, "https://login.microsoftonline.com/else/v2.0"), "AADSTS700023"},
	} {
		t.Run(name, func(t *testing.T) {
			token := jwt.NewWithClaims(tc.method, tc.claims)
			sum := sha1.Sum(known.cert.Raw)
			token.Header["x5t"] = base64.RawURLEncoding.EncodeToString(sum[:])
			raw, err := token.SignedString(tc.key)
			if err != nil {
				t.Fatal(err)
			}
			status, body := post(t, hc, endpoint, url.Values{
				"grant_type": {"client_credentials"}, "client_id": {client}, "scope": {scope},
				"client_assertion": {raw}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			})
			want, text := http.StatusUnauthorized, tc.code
			if tc.code == "" {
				want, text = http.StatusOK, "access_token"
			}
			if status != want || !strings.Contains(body, text) {
				t.Errorf("got %d %s, want %d with %s", status, body, want, text)
			}
		})
	}
}

func TestFederated(t *testing.T) {
	const issuer, subject = "https://issuer.example", "system:serviceaccount:akv2k8s:controller"
	rsaSigner, ecSigner := rsaKey(t), ecKey(t)
	keys := filepath.Join(t.TempDir(), "jwks.json")
	writeJWKS(t, keys, rsaJWK("rsa", rsaSigner), ecJWK(t, "ec", ecSigner), map[string]string{"kty": "OKP", "kid": "other"})
	p := application()
	p.Federated = []entra.Federated{{Issuer: issuer, Subject: subject, JWKSFile: keys}}
	_, hc := newAuthority(t, entra.Config{Principals: []entra.Principal{p}})
	right := jwt.RegisteredClaims{
		Issuer: issuer, Subject: subject, Audience: jwt.ClaimStrings{entra.DefaultAudience},
		ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}
	change := func(f func(c *jwt.RegisteredClaims)) jwt.RegisteredClaims { c := right; f(&c); return c }

	for name, tc := range map[string]struct {
		method jwt.SigningMethod
		kid    string
		key    crypto.Signer
		claims jwt.RegisteredClaims
		code   int // zero: accepted
	}{
		"RSA":           {jwt.SigningMethodRS256, "rsa", rsaSigner, right, 0},
		"EC":            {jwt.SigningMethodES256, "ec", ecSigner, right, 0},
		"OtherIssuer":   {jwt.SigningMethodRS256, "rsa", rsaSigner, change(func(c *jwt.RegisteredClaims) { c.Issuer = "https://evil.example" }), 700211},
		"OtherAudience": {jwt.SigningMethodRS256, "rsa", rsaSigner, change(func(c *jwt.RegisteredClaims) { c.Audience = jwt.ClaimStrings{"else"} }), 700212},
		"OtherSubject":  {jwt.SigningMethodRS256, "rsa", rsaSigner, change(func(c *jwt.RegisteredClaims) { c.Subject = "system:serviceaccount:team-b:evil" }), 700213},
		"Expired":       {jwt.SigningMethodRS256, "rsa", rsaSigner, change(func(c *jwt.RegisteredClaims) { c.ExpiresAt = jwt.NewNumericDate(time.Now().Add(-time.Hour)) }), 700024},
		"NeverExpires":  {jwt.SigningMethodRS256, "rsa", rsaSigner, change(func(c *jwt.RegisteredClaims) { c.ExpiresAt = nil }), 50027},
		"ForeignKey":    {jwt.SigningMethodRS256, "rsa", rsaKey(t), right, 50013},
		"UnknownKey":    {jwt.SigningMethodRS256, "new", rsaSigner, right, 50013},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := signIn(t, assertionCredential(t, hc, sign(t, tc.method, tc.kid, tc.key, tc.claims)))
			if tc.code == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			expectCode(t, err, tc.code)
		})
	}
	t.Run("NotAJWT", func(t *testing.T) {
		_, err := signIn(t, assertionCredential(t, hc, "not-a-jwt"))
		expectCode(t, err, 50027)
	})
}

func TestFederatedNeedsOneCredentialToMatchAll(t *testing.T) {
	key := rsaKey(t)
	keys := filepath.Join(t.TempDir(), "jwks.json")
	writeJWKS(t, keys, rsaJWK("k", key))
	p := application()
	p.Federated = []entra.Federated{
		{Issuer: "https://one.example", Subject: "a", JWKSFile: keys},
		{Issuer: "https://two.example", Subject: "b", JWKSFile: keys},
	}
	_, hc := newAuthority(t, entra.Config{Principals: []entra.Principal{p}})
	mixed := jwt.RegisteredClaims{
		Issuer: "https://one.example", Subject: "b", Audience: jwt.ClaimStrings{entra.DefaultAudience},
		ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}
	_, err := signIn(t, assertionCredential(t, hc, sign(t, jwt.SigningMethodRS256, "k", key, mixed)))
	expectCode(t, err, 70021)
}

// TestKeysOfACluster reads the keys as a cluster serves them: over TLS with its
// own CA, for bearers of a token, and again when a new key signs.
func TestKeysOfACluster(t *testing.T) {
	first, second := rsaKey(t), rsaKey(t)
	served := []map[string]string{rsaJWK("first", first)}
	fetches := 0
	cluster := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetches++
		if r.URL.Path != "/openid/v1/jwks" || r.Header.Get("Authorization") != "Bearer cluster-token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": served})
	}))
	t.Cleanup(cluster.Close)
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	writeFile(t, ca, pemCertificate(cluster.Certificate()))
	writeFile(t, token, []byte("cluster-token\n"))

	p := application()
	p.Federated = []entra.Federated{{
		Issuer: "https://cluster.example", Subject: "s",
		JWKSURL: cluster.URL + "/openid/v1/jwks", JWKSCAFile: ca, JWKSTokenFile: token,
	}}
	now := time.Now()
	_, hc := newAuthority(t, entra.Config{Principals: []entra.Principal{p}, Now: func() time.Time { return now }})
	claims := jwt.RegisteredClaims{
		Issuer: "https://cluster.example", Subject: "s", Audience: jwt.ClaimStrings{entra.DefaultAudience},
		ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour)),
	}
	attempt := func(kid string, key crypto.Signer) error {
		_, err := signIn(t, assertionCredential(t, hc, sign(t, jwt.SigningMethodRS256, kid, key, claims)))
		return err
	}

	if err := attempt("first", first); err != nil {
		t.Fatal(err)
	}
	served = append(served, rsaJWK("second", second))
	expectCode(t, attempt("second", second), 50013) // within the interval nobody can make us fetch
	if fetches != 1 {
		t.Errorf("%d fetches of the keys, want 1", fetches)
	}
	now = now.Add(time.Minute)
	if err := attempt("second", second); err != nil {
		t.Errorf("a rotated key is not accepted: %v", err)
	}
	if fetches != 2 {
		t.Errorf("%d fetches of the keys, want 2", fetches)
	}
	writeFile(t, token, []byte("expired"))
	now = now.Add(time.Minute)
	expectCode(t, attempt("third", second), 50166)
	if err := attempt("first", first); err != nil {
		t.Errorf("known keys were forgotten when the endpoint failed: %v", err)
	}
}

func TestWorkloadIdentity(t *testing.T) {
	key := rsaKey(t)
	dir := t.TempDir()
	keys, tokenFile := filepath.Join(dir, "jwks.json"), filepath.Join(dir, "token")
	writeJWKS(t, keys, rsaJWK("k", key))
	p := application()
	p.Federated = []entra.Federated{{Issuer: "https://cluster.example", Subject: "s", JWKSFile: keys}}
	_, hc := newAuthority(t, entra.Config{Principals: []entra.Principal{p}})
	writeFile(t, tokenFile, []byte(sign(t, jwt.SigningMethodRS256, "k", key, jwt.RegisteredClaims{
		Issuer: "https://cluster.example", Subject: "s", Audience: jwt.ClaimStrings{entra.DefaultAudience},
		ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	})))
	cred, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
		ClientOptions: options(hc), TenantID: tenant, ClientID: client, TokenFilePath: tokenFile,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signIn(t, cred); err != nil {
		t.Error(err)
	}
}

func TestManagedIdentity(t *testing.T) {
	const resource = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/kubelet"
	user := application()
	user.ManagedIdentity, user.ResourceID = true, resource
	system := entra.Principal{Name: "system", TenantID: tenant, ClientID: "44444444-4444-4444-4444-444444444444", ObjectID: "55555555-5555-5555-5555-555555555555", ManagedIdentity: true}
	plain := entra.Principal{Name: "plain", TenantID: tenant, ClientID: "66666666-6666-6666-6666-666666666666", ObjectID: "77777777-7777-7777-7777-777777777777"}
	authority, hc := newAuthority(t, entra.Config{Principals: []entra.Principal{plain, user, system}})

	for name, tc := range map[string]struct {
		id   azidentity.ManagedIDKind
		want string // object id; empty: refused
	}{
		"Default":         {nil, system.ObjectID},
		"ByClientID":      {azidentity.ClientID(client), object},
		"ByObjectID":      {azidentity.ObjectID(object), object},
		"ByResourceID":    {azidentity.ResourceID(resource), object},
		"NotManaged":      {azidentity.ClientID(plain.ClientID), ""},
		"UnknownIdentity": {azidentity.ClientID("99999999-9999-9999-9999-999999999999"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: options(hc), ID: tc.id})
			if err != nil {
				t.Fatal(err)
			}
			token, err := signIn(t, cred)
			if tc.want == "" {
				var failed *azidentity.AuthenticationFailedError
				if !errors.As(err, &failed) || failed.RawResponse.StatusCode != http.StatusBadRequest {
					t.Errorf("sign-in ended with %v, want a refusal with status 400", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			claims, err := authority.Verify(token)
			if err != nil || claims.ObjectID != tc.want {
				t.Errorf("token of %q, %v; want %q", claims.ObjectID, err, tc.want)
			}
		})
	}
}

type certificate struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newCertificate(t *testing.T) certificate {
	t.Helper()
	key := rsaKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "app"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate{cert, key}
}

func options(hc *http.Client) azcore.ClientOptions {
	return azcore.ClientOptions{Transport: hc, Retry: policy.RetryOptions{MaxRetries: -1}}
}

func secretCredential(t *testing.T, hc *http.Client, tenant, client, secret string) azcore.TokenCredential {
	t.Helper()
	cred, err := azidentity.NewClientSecretCredential(tenant, client, secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: options(hc)})
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

func certificateCredential(t *testing.T, hc *http.Client, c certificate, chain bool) azcore.TokenCredential {
	t.Helper()
	cred, err := azidentity.NewClientCertificateCredential(tenant, client, []*x509.Certificate{c.cert}, c.key,
		&azidentity.ClientCertificateCredentialOptions{ClientOptions: options(hc), SendCertificateChain: chain})
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

func assertionCredential(t *testing.T, hc *http.Client, assertion string) azcore.TokenCredential {
	t.Helper()
	cred, err := azidentity.NewClientAssertionCredential(tenant, client,
		func(context.Context) (string, error) { return assertion, nil },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: options(hc)})
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

func sign(t *testing.T, method jwt.SigningMethod, kid string, key crypto.Signer, claims jwt.RegisteredClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = kid
	raw, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func signIn(t *testing.T, cred azcore.TokenCredential) (string, error) {
	t.Helper()
	token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}, EnableCAE: true})
	return token.Token, err
}

func expectCode(t *testing.T, err error, code int) {
	t.Helper()
	expectRefusal(t, err, 0, code)
}

// expectRefusal reads what azidentity kept of the answer; zero means any.
func expectRefusal(t *testing.T, err error, status, code int) {
	t.Helper()
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) || failed.RawResponse == nil {
		t.Fatalf("sign-in ended with %v, want a refusal", err)
	}
	if status != 0 && failed.RawResponse.StatusCode != status {
		t.Errorf("status %d, want %d", failed.RawResponse.StatusCode, status)
	}
	raw, err := io.ReadAll(failed.RawResponse.Body)
	if err != nil {
		t.Fatal(err)
	}
	//nolint:tagliatelle // OAuth's names
	var body struct {
		Codes       []int  `json:"error_codes"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&body); err != nil || body.Error == "" || body.Description == "" {
		t.Fatalf("the refusal is not an OAuth error: %q", raw)
	}
	if code != 0 && (len(body.Codes) != 1 || body.Codes[0] != code) {
		t.Errorf("codes %v, want %d (%s)", body.Codes, code, body.Description)
	}
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
