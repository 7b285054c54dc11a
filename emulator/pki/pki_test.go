// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/akv2k8s/akv2k8s/emulator/pki"
)

func TestLeafVerifiesForItsHostOnly(t *testing.T) {
	ca := newCA(t)
	for _, host := range []string{"my-kv.vault.azure.net", "login.microsoftonline.com", "127.0.0.1", "::1"} {
		leaf, err := ca.Leaf(host)
		if err != nil {
			t.Fatalf("leaf for %s: %v", host, err)
		}
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: ca.Pool()}); err != nil {
			t.Errorf("leaf for %s does not verify: %v", host, err)
		}
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{DNSName: "elsewhere.example", Roots: ca.Pool()}); err == nil {
			t.Errorf("leaf for %s also speaks for another host", host)
		}
	}
}

func TestLeafIsCached(t *testing.T) {
	ca := newCA(t)
	first, _ := ca.Leaf("my-kv.vault.azure.net")
	second, _ := ca.Leaf("my-kv.vault.azure.net")
	if first != second {
		t.Error("the second leaf for the same host is a new one")
	}
}

func TestLoadOrCreateKeepsTheCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "ca")
	first, err := pki.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := pki.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.PEM(), second.PEM()) {
		t.Error("the second start made another CA")
	}
	info, err := os.Stat(filepath.Join(dir, pki.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, want 0600", info.Mode().Perm())
	}
	leaf, err := second.Leaf("localhost")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaf.Leaf.Verify(x509.VerifyOptions{DNSName: "localhost", Roots: first.Pool()}); err != nil {
		t.Errorf("a leaf of the reloaded CA does not verify: %v", err)
	}
}

func TestLoadOrCreateRefusesDamage(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"NoKey":  func(dir string) error { return os.Remove(filepath.Join(dir, pki.KeyFile)) },
		"BadKey": func(dir string) error { return os.WriteFile(filepath.Join(dir, pki.KeyFile), []byte("?"), 0o600) },
		"BadCertificate": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, pki.CertificateFile), []byte("?"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := pki.LoadOrCreate(dir); err != nil {
				t.Fatal(err)
			}
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := pki.LoadOrCreate(dir); err == nil {
				t.Error("a damaged CA was loaded")
			}
		})
	}
}

func TestTLSConfigAnswersWithoutServerName(t *testing.T) {
	ca := newCA(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", ca.TLSConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// A client that verifies an address sends no server name.
	client := tls.Client(raw, &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1"})
	defer func() { _ = client.Close() }()
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Errorf("handshake by address: %v", err)
	}
}

func newCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}
