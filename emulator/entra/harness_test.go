// SPDX-License-Identifier: Apache-2.0

package entra_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"

	"github.com/akv2k8s/akv2k8s/emulator/entra"
	"github.com/akv2k8s/akv2k8s/emulator/imds"
	"github.com/akv2k8s/akv2k8s/emulator/pki"
	"github.com/akv2k8s/akv2k8s/emulator/proxy"
)

const (
	tenant = "11111111-1111-1111-1111-111111111111"
	client = "22222222-2222-2222-2222-222222222222"
	object = "33333333-3333-3333-3333-333333333333"
	scope  = "https://vault.azure.net/.default"
)

// newAuthority returns an authority and an HTTP client that reaches it under
// production names: through the proxy, over verified TLS.
func newAuthority(t *testing.T, cfg entra.Config) (*entra.Authority, *http.Client) {
	t.Helper()
	authority, err := entra.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	backend := httptest.NewUnstartedServer(authority.Handler())
	backend.TLS = ca.TLSConfig()
	backend.EnableHTTP2 = true
	backend.StartTLS()
	front := httptest.NewServer(proxy.New(proxy.Config{
		Hosts: entra.Hosts(),
		Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", backend.Listener.Addr().String())
		},
		Plain: map[string]http.Handler{imds.Host: imds.Handler(authority)},
	}))
	proxyURL, err := url.Parse(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		Proxy:           http.ProxyURL(proxyURL),
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12},
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		front.Close()
		backend.Close()
	})
	return authority, &http.Client{Transport: transport}
}

func application() entra.Principal {
	return entra.Principal{Name: "app", TenantID: tenant, ClientID: client, ObjectID: object}
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func b64(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }

func rsaJWK(id string, key *rsa.PrivateKey) map[string]string {
	return map[string]string{"kty": "RSA", "kid": id, "n": b64(key.N), "e": b64(big.NewInt(int64(key.E)))}
}

func ecJWK(t *testing.T, id string, key *ecdsa.PrivateKey) map[string]string {
	t.Helper()
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	return map[string]string{"kty": "EC", "kid": id, "crv": "P-256", "x": enc(point[1:33]), "y": enc(point[33:])}
}

func writeJWKS(t *testing.T, path string, keys ...map[string]string) {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// post sends a form and returns the answer's status and body.
func post(t *testing.T, hc *http.Client, url string, form url.Values) (int, string) {
	t.Helper()
	resp, err := hc.PostForm(url, form)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}
