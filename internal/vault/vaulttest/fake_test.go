// SPDX-License-Identifier: Apache-2.0

package vaulttest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/internal/vault/vaulttest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	vaulttest.RunContract(t, newStage)
}

func TestFailNarrowsAndEnds(t *testing.T) {
	r := vaulttest.NewReader()
	one, two := vault.Reference{Vault: "kv1", Kind: vault.KindSecret, Name: "a"}, vault.Reference{Vault: "kv2", Kind: vault.KindSecret, Name: "a"}
	r.Put(one, vault.Object{})
	r.Put(two, vault.Object{})
	boom := errors.New("boom")
	r.Fail(vault.Reference{Vault: "kv1"}, boom)
	if _, err := r.Read(t.Context(), one); !errors.Is(err, boom) {
		t.Errorf("the broken vault: %v, want boom", err)
	}
	if _, err := r.Read(t.Context(), two); err != nil {
		t.Errorf("the other vault: %v", err)
	}
	r.Fail(vault.Reference{}, nil)
	if _, err := r.Read(t.Context(), one); err != nil {
		t.Errorf("the mended vault: %v", err)
	}
	if diff := cmp.Diff([]vault.Reference{one, two, one}, r.Reads()); diff != "" {
		t.Errorf("reads (-want +got):\n%s", diff)
	}
}

func newStage(t *testing.T) vaulttest.Stage {
	t.Helper()
	r := vaulttest.NewReader("my-kv")
	ref := func(kind vault.Kind, name string) vault.Reference {
		return vault.Reference{Vault: "my-kv", Kind: kind, Name: name}
	}
	return vaulttest.Stage{
		Reader: r, Vault: "my-kv",
		SetSecret: func(name, value, contentType string) string {
			return r.Put(ref(vault.KindSecret, name), vault.Object{Value: secret.New([]byte(value)), ContentType: contentType, Updated: time.Now()})
		},
		CreateCertificate: func(name string) string {
			der, bundle := selfSigned(t)
			return r.Put(ref(vault.KindCertificate, name), vault.Object{Certificate: der, Value: secret.New(bundle), Updated: time.Now()})
		},
		CreateKey: func(name string, ec bool) string {
			key := vault.Key{Type: "RSA", N: bytes.Repeat([]byte{1}, 256), E: []byte{1, 0, 1}}
			if ec {
				key = vault.Key{Type: "EC", Curve: "P-256", X: []byte{1}, Y: []byte{2}}
			}
			return r.Put(ref(vault.KindKey, name), vault.Object{Key: key})
		},
		Disable: r.Disable,
		Delete:  r.Delete,
		Break: func(fault vaulttest.Fault, retryAfter time.Duration) {
			r.Fail(vault.Reference{}, map[vaulttest.Fault]error{
				vaulttest.FaultForbidden: vault.ErrForbidden,
				vaulttest.FaultFirewall:  vault.ErrFirewall,
				vaulttest.FaultThrottled: vault.Throttled{RetryAfter: retryAfter},
				vaulttest.FaultServer:    vault.ErrUnavailable,
				vaulttest.FaultReset:     vault.ErrUnavailable,
				vaulttest.FaultSignIn:    vault.ErrSignIn,
			}[fault])
		},
	}
}

// selfSigned returns a certificate and a PEM bundle of it and its key.
func selfSigned(t *testing.T) ([]byte, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der, append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
}
