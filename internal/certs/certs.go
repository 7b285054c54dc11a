// SPDX-License-Identifier: Apache-2.0

// Package certs takes apart what Key Vault gives for a certificate with its
// private key, finds the leaf, orders the chain (chain.go) where that is asked
// for, and writes PEM.
//
// It trusts no content type and no order to mean anything: a vault emits PFX root
// first, PEM leaf first, and an imported chain as it was uploaded; old users keep
// a PFX in a plain secret. The leaf is the certificate whose public key belongs to
// the private key.
package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// The ways a value can fail to be a certificate with its key. Their texts hold
// nothing of the value.
var (
	ErrFormat = errors.New("the value is neither PEM nor a base64-encoded PFX without password")
	ErrNoKey  = errors.New("there is no private key: the certificate's key is not exportable")
	ErrKey    = errors.New("the private key is of a kind that is not supported")
	ErrNoCert = errors.New("there is no certificate")
	ErrNoLeaf = errors.New("no certificate belongs to the private key")
	ErrChain  = errors.New("the certificates make no chain")
)

// Bundle is a private key and the certificates that came with it, in the order
// in which they came.
type Bundle struct {
	key          crypto.Signer // RSA, ECDSA on a NIST curve or Ed25519
	certificates []*x509.Certificate
	file         []byte
}

// Parse reads a PEM text or the base64 text of a PFX without password.
func Parse(v secret.Value) (Bundle, error) {
	text := bytes.TrimSpace(v.Reveal())
	if bytes.Contains(text, []byte("-----BEGIN ")) {
		return parsePEM(v.Reveal())
	}
	pfx := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(pfx, text)
	if err != nil || n == 0 {
		return Bundle{}, ErrFormat
	}
	return parsePFX(pfx[:n])
}

// keyMissing is the text of the library's error for a store with certificates
// alone; it has no other way to tell it from a broken store.
const keyMissing = "pkcs12: private key missing"

// parsePFX knows a store with a key and certificates, and one with certificates
// alone, which is what a vault gives for a key that must not leave.
func parsePFX(pfx []byte) (Bundle, error) {
	if overworks(pfx) {
		return Bundle{}, ErrFormat
	}
	key, leaf, others, err := pkcs12.DecodeChain(pfx, "")
	switch {
	case err != nil && err.Error() == keyMissing:
		return Bundle{}, ErrNoKey
	case err != nil:
		return Bundle{}, ErrFormat
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return Bundle{}, ErrKey
	}
	return newBundle(pfx, signer, append([]*x509.Certificate{leaf}, others...))
}

// parsePEM passes over what is neither a certificate nor a key: files begin with
// the parameters of a curve, say. The first key is the key.
func parsePEM(text []byte) (Bundle, error) {
	var key crypto.Signer
	var certificates []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return Bundle{}, ErrFormat
			}
			certificates = append(certificates, c)
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			k, err := parseKey(block.Bytes)
			if err != nil {
				return Bundle{}, err
			}
			if key == nil {
				key = k
			}
		}
	}
	if key == nil {
		return Bundle{}, ErrNoKey
	}
	return newBundle(text, key, certificates)
}

// parseKey goes by the bytes: the block's label is wrong often enough.
func parseKey(der []byte) (crypto.Signer, error) {
	if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if s, ok := k.(crypto.Signer); ok {
			return s, nil
		}
		return nil, ErrKey
	}
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k, nil
	}
	return nil, ErrKey
}

func newBundle(file []byte, key crypto.Signer, certificates []*x509.Certificate) (Bundle, error) {
	if len(certificates) == 0 {
		return Bundle{}, ErrNoCert
	}
	return Bundle{key: key, certificates: certificates, file: file}, nil
}

// File is the bundle as a file holds it: the bytes of the PFX, or the PEM text
// just as it was.
func (b Bundle) File() secret.Value { return secret.New(b.file) }

// AsGiven returns the certificates as PEM, in the order in which they came.
func (b Bundle) AsGiven() ([]byte, error) {
	if !slices.ContainsFunc(b.certificates, b.isLeaf) {
		return nil, ErrNoLeaf
	}
	return textOf(b.certificates), nil
}

// ServerFirst returns the chain as PEM: the certificate of the private key, then
// issuer by issuer. Every certificate is in it once; where that cannot be, the
// error is a ChainError.
func (b Bundle) ServerFirst() ([]byte, error) {
	ordered, err := b.chain()
	if err != nil {
		return nil, err
	}
	return textOf(ordered), nil
}

func (b Bundle) isLeaf(c *x509.Certificate) bool { return sameKey(c.PublicKey, b.key.Public()) }

// PrivateKey returns the key as PEM, in the form in which TLS servers of every
// age read it: PKCS#1 for RSA, SEC 1 for ECDSA, PKCS#8 for Ed25519.
func (b Bundle) PrivateKey() (secret.Value, error) {
	block := &pem.Block{}
	var err error
	switch k := b.key.(type) {
	case *rsa.PrivateKey:
		block.Type, block.Bytes = "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k)
	case *ecdsa.PrivateKey:
		block.Type = "EC PRIVATE KEY"
		block.Bytes, err = x509.MarshalECPrivateKey(k)
	case ed25519.PrivateKey:
		block.Type = "PRIVATE KEY"
		block.Bytes, err = x509.MarshalPKCS8PrivateKey(k)
	default:
		err = ErrKey
	}
	if err != nil {
		return secret.Value{}, ErrKey
	}
	return secret.New(pem.EncodeToMemory(block)), nil
}

// PublicPEM returns one certificate as PEM.
func PublicPEM(der []byte) ([]byte, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, ErrNoCert
	}
	return textOf([]*x509.Certificate{c}), nil
}

func textOf(list []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range list {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return out.Bytes()
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// Format implements fmt.Formatter: a Bundle holds a private key and prints as
// nothing under every verb, and one for numbers would print an Ed25519 key.
func (Bundle) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, secret.Redacted) }
