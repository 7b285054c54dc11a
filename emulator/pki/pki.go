// SPDX-License-Identifier: Apache-2.0

// Package pki is the emulator's own certificate authority. It signs one leaf for
// each host name that a client asks for, so that unmodified clients can verify
// production host names once they trust the CA.
//
// The CA must never be trusted outside tests and development: whoever holds its
// key can speak for any host. Start at LoadOrCreate.
package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The files that LoadOrCreate keeps in its directory.
const (
	CertificateFile = "ca.crt"
	KeyFile         = "ca.key"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 7 * 24 * time.Hour
	// skew tolerates containers whose clock runs behind ours.
	skew = time.Hour
)

// CA signs leaves. It is safe for concurrent use.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

// New makes a CA that lives in memory only.
func New() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating the CA key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "keyvault-emulator CA (development only)"},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(caLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the CA certificate: %w", err)
	}
	return newCA(der, key)
}

// LoadOrCreate reads the CA kept in dir, or makes one and keeps it there. Two
// starts with the same dir therefore serve under the same CA.
func LoadOrCreate(dir string) (*CA, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, CertificateFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return create(dir)
	case err != nil:
		return nil, fmt.Errorf("reading the CA certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, fmt.Errorf("reading the CA key: %w", err)
	}
	return parse(certPEM, keyPEM)
}

func create(dir string) (*CA, error) {
	ca, err := New()
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, fmt.Errorf("encoding the CA key: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { // others must read ca.crt
		return nil, fmt.Errorf("making the CA directory: %w", err)
	}
	// The key goes first: a certificate without its key would end the next start.
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if err := os.WriteFile(filepath.Join(dir, KeyFile), keyPEM, 0o600); err != nil {
		return nil, fmt.Errorf("writing the CA key: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, CertificateFile), ca.PEM(), 0o644); err != nil { // public by nature
		return nil, fmt.Errorf("writing the CA certificate: %w", err)
	}
	return ca, nil
}

func parse(certPEM, keyPEM []byte) (*CA, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s and %s do not form a CA: %w", CertificateFile, KeyFile, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s does not hold an EC key; remove the directory to get a new CA", KeyFile)
	}
	return newCA(pair.Certificate[0], key)
}

func newCA(der []byte, key *ecdsa.PrivateKey) (*CA, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parsing the CA certificate: %w", err)
	}
	return &CA{cert: cert, key: key, leaves: map[string]*tls.Certificate{}}, nil
}

// PEM returns the CA certificate, for a client's bundle.
func (c *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
}

// Pool returns a pool that trusts this CA and nothing else.
func (c *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	return pool
}

// TLSConfig serves a leaf for whatever name the client asks for; a client that
// names none gets a leaf for the address it dialled.
func (c *CA) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.Leaf(serverName(hello))
		},
	}
}

func serverName(hello *tls.ClientHelloInfo) string {
	if hello.ServerName != "" {
		return hello.ServerName
	}
	if hello.Conn != nil {
		if host, _, err := net.SplitHostPort(hello.Conn.LocalAddr().String()); err == nil {
			return host
		}
	}
	return "localhost"
}

// Leaf returns a certificate for host (a DNS name or an IP address), made on
// first use and renewed at two thirds of its life.
func (c *CA) Leaf(host string) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	leaf, ok := c.leaves[host]
	if ok && time.Now().Before(leaf.Leaf.NotAfter.Add(-leafLife/3)) {
		return leaf, nil
	}
	leaf, err := c.sign(host)
	if err != nil {
		return nil, err
	}
	c.leaves[host] = leaf
	return leaf, nil
}

func (c *CA) sign(host string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating a leaf key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(),
		NotBefore:    now.Add(-skew),
		NotAfter:     now.Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, key.Public(), c.key)
	if err != nil {
		return nil, fmt.Errorf("signing a leaf: %w", err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parsing a leaf: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, bytes.Clone(c.cert.Raw)}, PrivateKey: key, Leaf: parsed}, nil
}

func serial() *big.Int {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails since Go 1.24
	raw[0] &= 0x7f
	return new(big.Int).SetBytes(raw)
}
