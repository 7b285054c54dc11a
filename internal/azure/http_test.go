// SPDX-License-Identifier: Apache-2.0

package azure_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/akv2k8s/akv2k8s/internal/azure"
)

func TestHTTPClientRefusesBadBundles(t *testing.T) {
	for name, path := range map[string]string{"Absent": "/nonexistent/ca.crt", "NoPEM": writeFile(t, "ca.crt", []byte(canary))} {
		t.Run(name, func(t *testing.T) {
			if _, err := azure.NewHTTPClient(azure.HTTPOptions{CABundle: path}); err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestHTTPClientRefusesABadBundleInText(t *testing.T) {
	if _, err := azure.NewHTTPClient(azure.HTTPOptions{CAs: canary}); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("got %v", err)
	}
}

// A process that carries another one's variables must print nothing because of them.
func TestHTTP1(t *testing.T) {
	for http1, want := range map[bool]string{false: "HTTP/2.0", true: "HTTP/1.1"} {
		var got string
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Proto }))
		server.EnableHTTP2 = true
		server.StartTLS()
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		client, err := azure.NewHTTPClient(azure.HTTPOptions{CAs: string(ca), HTTP1: http1, Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		client.CloseIdleConnections()
		server.Close()
		if got != want {
			t.Errorf("HTTP1 %v: the server sees %s", http1, got)
		}
	}
}

// TestEmbeddedRoots runs itself without any certificate of the system, as in an
// image that holds one binary; a process reads those only once.
func TestEmbeddedRoots(t *testing.T) {
	const child = "AKV2K8S_TEST_CHILD"
	if os.Getenv(child) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEmbeddedRoots$", "-test.v")
		nowhere := filepath.Join(t.TempDir(), "nowhere")
		cmd.Env = append(os.Environ(), child+"=1", "SSL_CERT_FILE="+nowhere, "SSL_CERT_DIR="+nowhere)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("without the system's certificates: %v\n%s", err, out)
		}
		return
	}
	embedded, err := azure.TrustsEmbeddedRoots()
	if err != nil || !embedded {
		t.Errorf("the embedded authorities are not trusted: %v", err)
	}
}

func FuzzCloudConfig(f *testing.F) {
	for _, seed := range []string{
		`{"tenantId":"t","aadClientId":"c","aadClientSecret":"` + canary + `"}`, "tenantId: [" + canary + "]\n", "\xef\xbb\xbf{}",
		`{"aadClientId":{"` + canary + `":1}}`, canary, "a: &a [*a]", `{"useManagedIdentityExtension":"` + canary + `"}`,
	} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content string) {
		path := filepath.Join(dir, "azure.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := azure.ReadCloudConfig(path); err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("the error quotes the file: %v", err)
		}
	})
}
