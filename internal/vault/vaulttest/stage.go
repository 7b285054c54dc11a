// SPDX-License-Identifier: Apache-2.0

package vaulttest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// NewStage is a Stage over a fake.
func NewStage(t *testing.T) Stage {
	t.Helper()
	r := NewReader("my-kv")
	ref := func(kind vault.Kind, name string) vault.Reference {
		return vault.Reference{Vault: "my-kv", Kind: kind, Name: name}
	}
	return Stage{
		Reader: r, Vault: "my-kv",
		SetSecret: func(name, value, contentType string) string {
			return r.Put(ref(vault.KindSecret, name), vault.Object{Value: secret.New([]byte(value)), ContentType: contentType})
		},
		CreateCertificate: func(name string) string {
			der, bundle := selfSigned(t)
			return r.Put(ref(vault.KindCertificate, name), vault.Object{Certificate: der, Value: secret.New(bundle)})
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
		Break: func(fault Fault, retryAfter time.Duration) {
			r.Fail(vault.Reference{}, map[Fault]error{
				FaultForbidden: vault.ErrForbidden,
				FaultFirewall:  vault.ErrFirewall,
				FaultThrottled: vault.Throttled{RetryAfter: retryAfter},
				FaultServer:    vault.ErrUnavailable,
				FaultReset:     vault.ErrUnavailable,
				FaultSignIn:    vault.ErrSignIn,
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
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now().Add(time.Hour)}
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
