// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

func TestCertificateOfThePKI(t *testing.T) {
	dir := t.TempDir()
	if err := pki([]string{"-dir", dir, "-node", "n", "-node-ip", "10.0.0.10"}); err != nil {
		t.Fatal(err)
	}
	if err := certificate([]string{"-dir", dir, "-out", dir, "hook", "hook.proof.svc"}); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(read(t, dir, "ca.crt"))
	for file, host := range map[string]string{
		"hook.crt":           "hook.proof.svc",
		"apiserver.crt":      "kubernetes.default.svc",
		"kubelet-server.crt": "10.0.0.10",
	} {
		if _, err := read(t, dir, file).Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, file := range []string{"admin.kubeconfig", "sa.key", "sa.pub"} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, mode %v", file, err, info.Mode())
		}
	}
}

func read(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
