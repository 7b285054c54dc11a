// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/akv2k8s/akv2k8s/emulator/proxy"
)

func TestMatch(t *testing.T) {
	for name, tc := range map[string]struct {
		pattern, host string
		want          bool
	}{
		"Exact":         {"login.microsoftonline.com", "login.microsoftonline.com", true},
		"Case":          {"login.microsoftonline.com", "LOGIN.microsoftonline.COM", true},
		"OneLabel":      {"*.vault.azure.net", "my-kv.vault.azure.net", true},
		"TwoLabels":     {"*.vault.azure.net", "a.b.vault.azure.net", false},
		"NoLabel":       {"*.vault.azure.net", "vault.azure.net", false},
		"EmptyLabel":    {"*.vault.azure.net", ".vault.azure.net", false},
		"SuffixNotDot":  {"*.vault.azure.net", "evilvault.azure.net", false},
		"LongerDomain":  {"*.vault.azure.net", "my-kv.vault.azure.net.evil.example", false},
		"NotTheSame":    {"login.microsoftonline.com", "evil.login.microsoftonline.com", false},
		"PrefixOfExact": {"login.microsoftonline.com", "login.microsoftonline.co", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := proxy.Match(tc.pattern, tc.host); got != tc.want {
				t.Errorf("Match(%q, %q) = %v, want %v", tc.pattern, tc.host, got, tc.want)
			}
		})
	}
}

func TestConnect(t *testing.T) {
	addr := serve(t, proxy.Config{
		Hosts:  []string{"*.vault.azure.net"},
		Dial:   echo,
		Exists: func(host string) bool { return host == "my-kv.vault.azure.net" },
	})
	for name, tc := range map[string]struct {
		target string
		status int
		reason string // in Proxy-Status
	}{
		"Known":      {"my-kv.vault.azure.net:443", http.StatusOK, ""},
		"Case":       {"MY-KV.vault.azure.net:443", http.StatusOK, ""},
		"NoSuchName": {"other.vault.azure.net:443", http.StatusBadGateway, "error=dns_error"},
		"Foreign":    {"example.com:443", http.StatusForbidden, ""},
		"OtherPort":  {"my-kv.vault.azure.net:22", http.StatusForbidden, ""},
		"NoPort":     {"my-kv.vault.azure.net", http.StatusForbidden, ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn, reader := dial(t, addr)
			status, reason := connect(t, conn, reader, tc.target)
			if status != tc.status || (tc.reason == "") != (reason == "") || !strings.Contains(reason, tc.reason) {
				t.Errorf("got %d, Proxy-Status %q; want %d, %q", status, reason, tc.status, tc.reason)
			}
			if tc.status != http.StatusOK {
				return
			}
			if _, err := io.WriteString(conn, "there\n"); err != nil {
				t.Fatal(err)
			}
			if back, err := reader.ReadString('\n'); err != nil || back != "there\n" {
				t.Errorf("through the tunnel came %q, %v", back, err)
			}
		})
	}
}

func TestConnectWithoutBackend(t *testing.T) {
	addr := serve(t, proxy.Config{
		Hosts: []string{"*.vault.azure.net"},
		Dial:  func(context.Context) (net.Conn, error) { return nil, errors.New("boom") },
	})
	conn, reader := dial(t, addr)
	if status, reason := connect(t, conn, reader, "my-kv.vault.azure.net:443"); status != http.StatusBadGateway || reason != "" {
		t.Errorf("got %d, Proxy-Status %q; want 502 and none", status, reason)
	}
}

func TestCutEndsTheTunnelsOfOneHost(t *testing.T) {
	p := proxy.New(proxy.Config{Hosts: []string{"*.vault.azure.net"}, Dial: echo})
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	gone, fromGone := dial(t, server.Listener.Addr().String())
	stays, fromStays := dial(t, server.Listener.Addr().String())
	connect(t, gone, fromGone, "MY-KV.vault.azure.net:443")
	connect(t, stays, fromStays, "other.vault.azure.net:443")
	p.Cut("my-kv.vault.azure.net")
	if b, err := fromGone.ReadByte(); err == nil {
		t.Errorf("the tunnel that was cut delivers %q", b)
	}
	if _, err := io.WriteString(stays, "there\n"); err != nil {
		t.Fatal(err)
	}
	if back, err := fromStays.ReadString('\n'); err != nil || back != "there\n" {
		t.Errorf("through the other tunnel came %q, %v", back, err)
	}
	again, fromAgain := dial(t, server.Listener.Addr().String())
	if status, _ := connect(t, again, fromAgain, "my-kv.vault.azure.net:443"); status != http.StatusOK {
		t.Errorf("after the cut: %d", status)
	}
}

func TestPlain(t *testing.T) {
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.String()) })
	handler := proxy.New(proxy.Config{Plain: map[string]http.Handler{"169.254.169.254": service}})
	for name, tc := range map[string]struct {
		target string
		status int
		body   string
	}{
		"Known":   {"http://169.254.169.254/metadata?x=1", http.StatusOK, "/metadata?x=1"},
		"Foreign": {"http://example.com/", http.StatusForbidden, ""},
		"HTTPS":   {"https://169.254.169.254/", http.StatusForbidden, ""},
		"Direct":  {"/metadata", http.StatusBadRequest, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, tc.target, nil))
			if w.Code != tc.status || tc.body != "" && w.Body.String() != tc.body {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, tc.status, tc.body)
			}
		})
	}
}

// echo is a backend that sends back what it gets.
func echo(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() { defer func() { _ = ours.Close() }(); _, _ = io.Copy(ours, ours) }()
	return theirs, nil
}

func serve(t *testing.T, cfg proxy.Config) string {
	t.Helper()
	server := httptest.NewServer(proxy.New(cfg))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, bufio.NewReader(conn)
}

// connect asks for a tunnel and returns the status and the Proxy-Status header.
func connect(t *testing.T, conn net.Conn, reader *bufio.Reader, target string) (int, string) {
	t.Helper()
	if _, err := io.WriteString(conn, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode, resp.Header.Get("Proxy-Status")
}
