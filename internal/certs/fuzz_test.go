// SPDX-License-Identifier: Apache-2.0

package certs_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/akv2k8s/akv2k8s/internal/certs"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// Whatever comes, Parse neither panics nor puts any of it into its error, and
// what it gives a server can use.
func FuzzParse(f *testing.F) {
	c, stranger := chains["P256"](), chains["Ed25519"]()
	for _, form := range forms {
		f.Add([]byte(form(c)))
	}
	f.Add([]byte(pkcs8(c.key) + pemOf(stranger.certificates...)))
	f.Add([]byte(pkcs8(c.key) + pemOf(c.leaf(), stranger.leaf(), stranger.root(), c.root())))
	f.Add([]byte(base64.StdEncoding.EncodeToString([]byte("-----BEGIN CERTIFICATE-----"))))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		bundle, err := certs.Parse(secret.New(raw))
		if !bytes.Equal(before, raw) {
			t.Fatal("Parse changed its input")
		}
		if err != nil {
			mustBe(t, err, raw, certs.ErrFormat, certs.ErrNoKey, certs.ErrKey, certs.ErrNoCert)
			return
		}
		if _, err := bundle.AsGiven(); err != nil {
			mustBe(t, err, raw, certs.ErrNoLeaf)
		}
		crt, err := bundle.ServerFirst()
		if err != nil {
			mustBe(t, err, raw, certs.ErrNoLeaf, certs.ErrChain)
			return
		}
		key, err := bundle.PrivateKey()
		if err != nil {
			mustBe(t, err, raw, certs.ErrKey)
			return
		}
		if _, err := tls.X509KeyPair(crt, key.Reveal()); err != nil {
			t.Fatalf("a server cannot use the pair: %v", err)
		}
	})
}

// mustBe wants one of our errors with nothing of the input in its text, but for
// subjects, which must print and be short.
func mustBe(t *testing.T, err error, raw []byte, known ...error) {
	t.Helper()
	text := err.Error()
	for _, k := range known {
		switch {
		case !errors.Is(err, k):
		case text == k.Error():
			return
		case !errors.Is(k, certs.ErrChain) || !strings.HasPrefix(text, "no place in the chain for "):
			t.Fatalf("an error of another making: %q", text)
		case len([]rune(text)) > 105 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
			t.Fatalf("an error that cannot be shown: %q", text)
		default:
			return
		}
	}
	for i := 0; i+12 <= len(raw); i++ {
		if strings.Contains(text, string(raw[i:i+12])) {
			t.Fatal("an error holds a part of the input")
		}
	}
	t.Fatalf("an error of another making: %q", text)
}
