// SPDX-License-Identifier: Apache-2.0

package servingcert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// The keys of the authority's Secret. The first two are named as everywhere.
const (
	keyCert     = "tls.crt"      // the authority
	keyKey      = "tls.key"      // its private key
	keyPrevious = "previous.crt" // the authority before, until it ends
	keyCross    = "cross.crt"    // this authority's key, certified by the one before
)

// begin lets a clock that is behind ours accept what was made just now, by an
// hour at most.
func begin(now time.Time, life time.Duration) time.Time {
	return now.Add(-min(time.Hour, life/10))
}

// ErrDamaged is an authority that cannot be read. It is never replaced on its
// own: every running injected pod trusts it.
var ErrDamaged = errors.New("the Secret of the certificate authority holds something else; " +
	"empty its data to begin anew, and restart injected pods after that")

// authority signs the serving certificates.
//
// When it nears its end, a new one follows. Whoever trusts only the old one (a
// pod that was injected before) is shown the new key certified by the old one:
//
//	leaf ◄── new authority, self-signed            for who trusts the new one
//	leaf ◄── new authority, signed by the old one  for who trusts the old one
//
// The old one's private key is not kept.
type authority struct {
	cert     *x509.Certificate
	key      *ecdsa.PrivateKey
	previous *x509.Certificate // nil, or the authority before
	cross    *x509.Certificate // nil, or cert's key signed by previous
}

// Format keeps the key out of every kind of printing.
func (authority) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, secret.Redacted) }

// newAuthority may sign for names of one domain only, so that the key of this
// authority is worth nothing elsewhere in the cluster.
func newAuthority(domain string, now time.Time, life time.Duration) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, fmt.Errorf("making the key of an authority: %w", err)
	}
	template, err := authorityTemplate(domain, now, now.Add(life))
	if err != nil {
		return authority{}, err
	}
	cert, err := sign(template, template, key.Public(), key)
	return authority{cert: cert, key: key}, err
}

func authorityTemplate(domain string, now, end time.Time) (*x509.Certificate, error) {
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		// A name of its own for each authority, so that nobody takes one for another.
		Subject:                     pkix.Name{CommonName: "akv2k8s authority " + serial.Text(16)[:8]},
		NotBefore:                   begin(now, end.Sub(now)),
		NotAfter:                    end,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLen:                  1, // room for the next authority below it
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{domain},
	}, nil
}

// next makes the authority that follows. What has ended is not carried along.
func (a authority) next(domain string, now time.Time, life time.Duration) (authority, error) {
	b, err := newAuthority(domain, now, life)
	if err != nil || !now.Before(a.cert.NotAfter) {
		return b, err
	}
	template, err := authorityTemplate(domain, now, a.cert.NotAfter)
	if err != nil {
		return authority{}, err
	}
	template.Subject, template.SubjectKeyId = b.cert.Subject, b.cert.SubjectKeyId
	template.MaxPathLen, template.MaxPathLenZero = 0, true
	b.previous = a.cert
	b.cross, err = sign(template, a.cert, b.key.Public(), a.key)
	return b, err
}

// due says that two thirds of the certificate's life are over. For an authority
// that leaves a third of its life to restart the pods that trust it.
func due(c *x509.Certificate, now time.Time) bool {
	life := c.NotAfter.Sub(c.NotBefore)
	return now.After(c.NotBefore.Add(life / 3 * 2))
}

// bundle is whom to trust.
func (a authority) bundle(now time.Time) []byte {
	if a.previous != nil && now.Before(a.previous.NotAfter) {
		return append(encodeCert(a.cert), encodeCert(a.previous)...)
	}
	return encodeCert(a.cert)
}

// issue makes a serving certificate, with what others need to verify it.
func (a authority) issue(name string, now time.Time, life time.Duration) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making the key of a serving certificate: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return tls.Certificate{}, err
	}
	end := now.Add(life)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	leaf, err := sign(&x509.Certificate{
		SerialNumber: serial,
		NotBefore:    begin(now, life),
		NotAfter:     end,
		DNSNames:     []string{name},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	chain := [][]byte{leaf.Raw}
	if a.cross != nil && now.Before(a.cross.NotAfter) {
		chain = append(chain, a.cross.Raw)
	}
	return tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// good says that a serving certificate needs no replacement: it is for this name,
// by this authority and not due.
func (a authority) good(leaf *x509.Certificate, name string, now time.Time) bool {
	return leaf != nil && leaf.VerifyHostname(name) == nil && leaf.CheckSignatureFrom(a.cert) == nil && !due(leaf, now)
}

func (a authority) encode() (map[string][]byte, error) {
	key, err := encodeKey(a.key)
	if err != nil {
		return nil, err
	}
	data := map[string][]byte{keyCert: encodeCert(a.cert), keyKey: key}
	if a.previous != nil {
		data[keyPrevious], data[keyCross] = encodeCert(a.previous), encodeCert(a.cross)
	}
	return data, nil
}

// decode reads what encode wrote. Its only error is ErrDamaged: a parser's words
// could quote the key.
func decode(data map[string][]byte) (authority, error) {
	pair, err := tls.X509KeyPair(data[keyCert], data[keyKey])
	if err != nil {
		return authority{}, ErrDamaged
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || pair.Leaf == nil || !pair.Leaf.IsCA {
		return authority{}, ErrDamaged
	}
	a := authority{cert: pair.Leaf, key: key}
	if len(data[keyPrevious]) == 0 {
		return a, nil
	}
	a.previous, a.cross = decodeCert(data[keyPrevious]), decodeCert(data[keyCross])
	if a.previous == nil || a.cross == nil || !bytes.Equal(a.cross.RawSubjectPublicKeyInfo, a.cert.RawSubjectPublicKeyInfo) {
		return authority{}, ErrDamaged
	}
	return a, nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate just signed: %w", err)
	}
	return cert, nil
}

// serialNumber is random and of a fixed length: 127 bits, the highest one set.
func serialNumber() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	return n.SetBit(n, 126, 1), nil
}

func encodeCert(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func encodeChain(c tls.Certificate) []byte {
	var out []byte
	for _, der := range c.Certificate {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

func encodeKey(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, errors.New("encoding a private key") // without the cause, which knows the key
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func decodeCert(text []byte) *x509.Certificate {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return c
}
