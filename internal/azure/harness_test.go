// SPDX-License-Identifier: Apache-2.0

package azure_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/akv2k8s/akv2k8s/emulator/entra"
	"github.com/akv2k8s/akv2k8s/emulator/imds"
	"github.com/akv2k8s/akv2k8s/emulator/pki"
	"github.com/akv2k8s/akv2k8s/emulator/proxy"
	"github.com/akv2k8s/akv2k8s/internal/azure"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

const (
	version  = "0123456789abcdef0123456789abcdef"
	password = "the-right-secret"
	// canary stands in every remote text that must not reach anybody.
	canary = "CANARY-remote-text"
)

// azureWorld is sign-in, metadata service and vaults under production names,
// reached through a proxy and verified TLS. What it serves can be changed while a
// test runs.
type azureWorld struct {
	authority *entra.Authority
	app       entra.Principal
	http      *http.Client
	ca        *pki.CA

	mu     sync.Mutex
	login  http.Handler
	vault  http.Handler
	seen   []string // "METHOD host/path", "+token" when authorized
	absent bool     // the proxy says that no vault exists

	noAccount bool // the proxy says that no storage account exists
}

func newWorld(t *testing.T) *azureWorld {
	t.Helper()
	app := entra.Principal{
		Name: "app", TenantID: uuid.NewString(), ClientID: uuid.NewString(), ObjectID: uuid.NewString(), Secrets: []string{password},
		ManagedIdentity: true, ResourceID: "/subscriptions/s/identities/" + uuid.NewString(),
	}
	authority, err := entra.New(entra.Config{Principals: []entra.Principal{app}})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	w := &azureWorld{authority: authority, app: app, ca: ca}
	w.login, w.vault = authority.Handler(), w.answering(http.StatusOK, secretBody("s3cret"), nil)
	w.http = w.start(t)
	return w
}

func (w *azureWorld) start(t *testing.T) *http.Client {
	t.Helper()
	backend := httptest.NewUnstartedServer(http.HandlerFunc(w.serve))
	backend.TLS = w.ca.TLSConfig()
	backend.EnableHTTP2 = true
	backend.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	backend.StartTLS()
	front := httptest.NewServer(proxy.New(proxy.Config{
		Hosts: append(entra.Hosts(), "*.vault.azure.net", "*.vault.azure.cn", "*.vault.example", "*.queue.core.windows.net", "*.azurecr.io"),
		Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", backend.Listener.Addr().String())
		},
		Exists: func(host string) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return (!w.absent || !strings.Contains(host, ".vault.")) && (!w.noAccount || !strings.Contains(host, ".queue."))
		},
		Plain: map[string]http.Handler{imds.Host: imds.Handler(w.authority)},
	}))
	proxyURL, err := url.Parse(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	caFile := writeFile(t, "ca.crt", w.ca.PEM())
	client, err := azure.NewHTTPClient(azure.HTTPOptions{CABundle: caFile, Proxy: http.ProxyURL(proxyURL)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		front.Close()
		backend.CloseClientConnections()
		backend.Close()
	})
	return client
}

func (w *azureWorld) serve(rw http.ResponseWriter, r *http.Request) {
	entry := r.Method + " " + r.Host + r.URL.Path
	if r.Header.Get("Authorization") != "" {
		entry += "+token"
	}
	w.mu.Lock()
	w.seen = append(w.seen, entry)
	handler := w.vault
	if slices.Contains(entra.Hosts(), r.Host) {
		handler = w.login
	}
	w.mu.Unlock()
	handler.ServeHTTP(rw, r)
}

// set changes what is served.
func (w *azureWorld) set(change func(*azureWorld)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

// count counts the requests so far that contain all parts.
func (w *azureWorld) count(parts ...string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, entry := range w.seen {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(entry, part) }) {
			n++
		}
	}
	return n
}

// answering is a vault that demands a valid token and then answers the same to all.
func (w *azureWorld) answering(status int, body string, header map[string]string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if _, err := w.authority.Verify(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")); err != nil {
			w.challenge(rw, fmt.Sprintf(`Bearer authorization="https://login.microsoftonline.com/%s", resource="https://%s"`, w.app.TenantID, suffixOf(r.Host)))
			return
		}
		for name, value := range header {
			rw.Header().Set(name, value)
		}
		rw.Header().Set("X-Ms-Request-Id", "11112222-3333-4444-5555-666677778888")
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, body)
	})
}

func (w *azureWorld) challenge(rw http.ResponseWriter, header string) {
	rw.Header().Set("WWW-Authenticate", header)
	rw.WriteHeader(http.StatusUnauthorized)
	_, _ = io.WriteString(rw, `{"error":{"code":"Unauthorized","message":"`+canary+`"}}`)
}

func suffixOf(host string) string {
	_, suffix, _ := strings.Cut(host, ".")
	return suffix
}

func secretBody(value string) string {
	raw, _ := json.Marshal(map[string]any{
		"value": value, "id": "https://my-kv.vault.azure.net/secrets/greeting/" + version,
		"attributes": map[string]any{"enabled": true, "created": 1700000000, "updated": 1700000001},
	})
	return string(raw)
}

func errorBody(code, inner string) string {
	body := map[string]any{"code": code, "message": canary}
	if inner != "" {
		body["innererror"] = map[string]any{"code": inner}
	}
	raw, _ := json.Marshal(map[string]any{"error": body})
	return string(raw)
}

// credential signs in with the world's application and its secret.
func (w *azureWorld) credential(t *testing.T, log *slog.Logger) *azure.Credential {
	t.Helper()
	return w.environment(t, log, map[string]string{
		"AZURE_TENANT_ID": w.app.TenantID, "AZURE_CLIENT_ID": w.app.ClientID, "AZURE_CLIENT_SECRET": password,
	})
}

func (w *azureWorld) environment(t *testing.T, log *slog.Logger, env map[string]string) *azure.Credential {
	t.Helper()
	cred, err := azure.NewCredential(azure.SignIn{
		Method: azure.MethodEnvironment, Getenv: func(name string) string { return env[name] }, HTTP: w.http, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

func newReader(t *testing.T, cred *azure.Credential, o azure.Options) *azure.Reader {
	t.Helper()
	reader, err := azure.NewReader(cred, o)
	if err != nil {
		t.Fatal(err)
	}
	return reader
}

// greeting is what the tests read.
func greeting() vault.Reference {
	return vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "greeting"}
}

func writeFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// logged is a logger at the lowest level and what it wrote.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newLog() (*slog.Logger, *logged) {
	out := &logged{}
	return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})), out
}
