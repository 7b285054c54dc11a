// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestRunEndsAtOnce(t *testing.T) {
	none := filepath.Join(t.TempDir(), "nosuch")
	env := map[string]string{"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "hunter2"}
	cases := map[string]struct {
		args   []string
		status int
		says   string
	}{
		"Help":          {[]string{"-h"}, 0, "--cert-dir"},
		"Version":       {[]string{"--version"}, 0, "dev"},
		"UnknownFlag":   {[]string{"--nosuch"}, 2, "nosuch"},
		"UnknownValue":  {[]string{"--auth-type=magic"}, 2, "--auth-type"},
		"NoCloudConfig": {[]string{"--cloudconfig=" + none}, 1, "cloud config"},
		"NoCluster":     {[]string{"--auth-type=environment"}, 1, "--kubeconfig"},
		"NoCertificate": {[]string{"--auth-type=environment", "--kubeconfig=" + apiServer(t), "--cert-dir=" + none}, 1, "serving certificate"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var out buffer
			getenv := func(n string) string { return env[n] }
			if got := run(t.Context(), tc.args, getenv, &out, &out); got != tc.status || !strings.Contains(out.String(), tc.says) {
				t.Errorf("run() = %d, %s", got, &out)
			}
			if strings.Contains(out.String(), "hunter2") {
				t.Errorf("a secret in %s", &out)
			}
		})
	}
}

// newCertificate writes a self-signed pair and returns what trusts it.
func newCertificate(t *testing.T, dir string, serial int64) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"broker.test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, content := range map[string][]byte{
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), "tls.crt": certPEM,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return pool
}

func freePort(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// fetch returns 0 while nobody answers.
func fetch(t *testing.T, pool *x509.CertPool, method, url, token, body string) (int, string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "broker.test", MinVersion: tls.VersionTLS13}}
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// await asks until the answer is right; a minute is for a machine that sleeps.
func await(t *testing.T, what string, right func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !right(); {
		if time.Now().After(deadline) {
			t.Fatalf("waiting in vain: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// The whole program, against an API server that knows nothing but its rights.
func TestRunServes(t *testing.T) {
	dir, tlsPort, httpPort := t.TempDir(), freePort(t), freePort(t)
	first := newCertificate(t, dir, 1)
	var log buffer
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan int, 1)
	env := map[string]string{"AZURE_TENANT_ID": "00000000-0000-0000-0000-000000000000", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "hunter2"}
	args := []string{
		"--auth-type=environment", "--kubeconfig=" + apiServer(t), "--cert-dir=" + dir, "--log-level=debug",
		"--tls-port=" + tlsPort, "--http-port=" + httpPort,
	}
	go func() { ended <- run(ctx, args, func(n string) string { return env[n] }, &log, &log) }()

	values, health := "https://127.0.0.1:"+tlsPort+brokerapi.ValuesPath, "http://127.0.0.1:"+httpPort
	defer func() {
		if t.Failed() {
			t.Logf("the broker's log:\n%s", &log)
		}
	}()
	await(t, "readiness", func() bool {
		status, _ := fetch(t, nil, http.MethodGet, health+"/readyz", "", "")
		return status == http.StatusOK
	})
	if status, text := fetch(t, first, http.MethodPost, values, token("good"), `{"container":"idle"}`); status != http.StatusOK || text != "{\"values\":{}}\n" {
		t.Errorf("a container without placeholders: %d %s", status, text)
	}
	if status, text := fetch(t, first, http.MethodPost, values, token("bad"), `{"container":"idle"}`); status != http.StatusUnauthorized {
		t.Errorf("a bad token: %d %s", status, text)
	}
	if status, text := fetch(t, nil, http.MethodGet, health+"/metrics", "", ""); status != http.StatusOK || !strings.Contains(text, `akv2k8s_broker_requests_total{result="answered"} 1`) {
		t.Errorf("/metrics: %d", status)
	}

	second := newCertificate(t, dir, 2)
	await(t, "the new certificate", func() bool {
		status, _ := fetch(t, second, http.MethodPost, values, token("good"), `{"container":"idle"}`)
		return status == http.StatusOK
	})
	if status, _ := fetch(t, first, http.MethodPost, values, token("good"), `{"container":"idle"}`); status != 0 {
		t.Error("the old certificate is still served")
	}

	stop()
	if status := <-ended; status != 0 {
		t.Errorf("run() = %d after a stop: %s", status, &log)
	}
	if strings.Contains(log.String(), "hunter2") {
		t.Errorf("a secret in %s", &log)
	}
}
