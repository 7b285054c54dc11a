// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/akv2k8s/akv2k8s/emulator/keyvault/pfx"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// issuer is the authority above a certificate: its certificates, the issuing one first, and the issuing key.
type issuer struct {
	certs []*x509.Certificate
	key   crypto.Signer
}

// newIssuer makes a root and count-1 intermediates, with keys like the leaf's.
func newIssuer(name string, count int, request keyRequest, now time.Time) (*issuer, error) {
	var out *issuer
	for level := range count {
		m, bad := generate(request)
		if bad != nil {
			return nil, errors.New(bad.message)
		}
		title := fmt.Sprintf("%s Intermediate CA %d", name, level)
		if level == 0 {
			title = name + " Root CA"
		}
		template := &x509.Certificate{
			SerialNumber: newSerial(), Subject: pkix.Name{CommonName: title, Organization: []string{"keyvault-emulator"}},
			NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		cert, err := out.sign(template, m.signer().Public(), m.signer())
		if err != nil {
			return nil, err
		}
		next := &issuer{certs: []*x509.Certificate{cert}, key: m.signer()}
		if out != nil {
			next.certs = append(next.certs, out.certs...)
		}
		out = next
	}
	return out, nil
}

// sign issues a certificate; a nil issuer makes it self-signed by self.
func (i *issuer) sign(template *x509.Certificate, public crypto.PublicKey, self crypto.Signer) (*x509.Certificate, error) {
	parent, key := template, self
	if i != nil {
		parent, key = i.certs[0], i.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// issue makes the chain of a certificate, leaf first.
func (p *policy) issue(m *material, from *issuer, now time.Time) ([]*x509.Certificate, error) {
	template, err := p.template(now)
	if err != nil {
		return nil, err
	}
	leaf, err := from.sign(template, m.signer().Public(), m.signer())
	if err != nil {
		return nil, err
	}
	chain := []*x509.Certificate{leaf}
	if from != nil {
		chain = append(chain, from.certs...)
	}
	return chain, nil
}

func newSerial() *big.Int {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails since Go 1.24
	raw[0] &= 0x7f
	return new(big.Int).SetBytes(raw)
}

var keyUsages = map[string]x509.KeyUsage{
	"digitalSignature": x509.KeyUsageDigitalSignature, "nonRepudiation": x509.KeyUsageContentCommitment,
	"keyEncipherment": x509.KeyUsageKeyEncipherment, "dataEncipherment": x509.KeyUsageDataEncipherment,
	"keyAgreement": x509.KeyUsageKeyAgreement, "keyCertSign": x509.KeyUsageCertSign, "cRLSign": x509.KeyUsageCRLSign,
	"encipherOnly": x509.KeyUsageEncipherOnly, "decipherOnly": x509.KeyUsageDecipherOnly,
}

func (p *policy) template(now time.Time) (*x509.Certificate, error) {
	subject, err := parseSubject(p.X509.Subject)
	if err != nil {
		return nil, err
	}
	out := &x509.Certificate{
		SerialNumber: newSerial(), Subject: subject, NotBefore: now.Add(-10 * time.Minute).UTC(),
		NotAfter: now.AddDate(0, p.X509.Months, 0).UTC(), BasicConstraintsValid: true,
		IsCA: p.X509.Constraints != nil && p.X509.Constraints.CA,
	}
	for _, usage := range p.X509.KeyUsages {
		out.KeyUsage |= keyUsages[usage]
	}
	for _, usage := range p.X509.Usages {
		oid, err := parseOID(usage)
		if err != nil {
			return nil, err
		}
		out.UnknownExtKeyUsage = append(out.UnknownExtKeyUsage, oid)
	}
	return out, p.X509.Names.into(out)
}

func (s *subjectAlts) into(out *x509.Certificate) error {
	if s == nil {
		return nil
	}
	out.DNSNames, out.EmailAddresses = s.DNS, s.Emails
	for _, text := range s.IPs {
		ip := net.ParseIP(text)
		if ip == nil {
			return errors.New("an IP address cannot be read")
		}
		out.IPAddresses = append(out.IPAddresses, ip)
	}
	for _, text := range s.URIs {
		parsed, err := url.Parse(text)
		if err != nil {
			return errors.New("a URI cannot be read")
		}
		out.URIs = append(out.URIs, parsed)
	}
	return nil
}

func parseOID(text string) (asn1.ObjectIdentifier, error) {
	var out asn1.ObjectIdentifier
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil, errors.New("an extended key usage is not an object identifier")
		}
		out = append(out, n)
	}
	return out, nil
}

// request makes the certificate signing request that an operation shows.
func (p *policy) request(m *material) ([]byte, error) {
	subject, err := parseSubject(p.X509.Subject)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, m.signer())
}

// parseSubject reads a distinguished name such as `CN=example.com, O="Example, Inc.", C=NO`.
func parseSubject(text string) (pkix.Name, error) {
	var name pkix.Name
	for _, part := range splitQuoted(text) {
		key, value, found := strings.Cut(part, "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		if !found || value == "" {
			return name, errors.New("the subject is not a list of KEY=value")
		}
		switch strings.ToUpper(strings.TrimSpace(key)) {
		case "CN":
			name.CommonName = value
		case "O":
			name.Organization = append(name.Organization, value)
		case "OU":
			name.OrganizationalUnit = append(name.OrganizationalUnit, value)
		case "L":
			name.Locality = append(name.Locality, value)
		case "ST", "S":
			name.Province = append(name.Province, value)
		case "C":
			name.Country = append(name.Country, value)
		default:
			return name, errors.New("the subject may have CN, O, OU, L, ST and C")
		}
	}
	return name, nil
}

func splitQuoted(text string) []string {
	inQuotes := false
	return strings.FieldsFunc(text, func(r rune) bool {
		if r == '"' {
			inQuotes = !inQuotes
		}
		return r == ',' && !inQuotes
	})
}

// identity is a private key and certificates, as imported.
type identity struct {
	material *material
	chain    []*x509.Certificate // leaf first
	imported []*x509.Certificate // as they came
	pem      bool
}

var errImport = errors.New("not a PFX or PEM with a private key and its certificate")

// parseIdentity reads PEM text or a base64 PFX.
func parseIdentity(text, password string) (*identity, error) {
	if strings.Contains(text, "-----BEGIN") {
		return parsePEM([]byte(text))
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, errImport
	}
	key, first, rest, err := pkcs12.DecodeChain(raw, password)
	if err != nil {
		return nil, errImport
	}
	return newIdentity(key, append([]*x509.Certificate{first}, rest...), false)
}

func parsePEM(text []byte) (*identity, error) {
	var key crypto.PrivateKey
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, errImport
			}
			certs = append(certs, cert)
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			parsed, err := parsePrivateKey(block)
			if err != nil {
				return nil, err
			}
			key = parsed
		}
	}
	return newIdentity(key, certs, true)
}

func parsePrivateKey(block *pem.Block) (crypto.PrivateKey, error) {
	var key crypto.PrivateKey
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, errImport
	}
	return key, nil
}

func newIdentity(key crypto.PrivateKey, certs []*x509.Certificate, isPEM bool) (*identity, error) {
	m, err := materialOf(key)
	if err != nil {
		return nil, errImport
	}
	at := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return samePublicKey(c.PublicKey, m) })
	if at < 0 {
		return nil, errImport
	}
	return &identity{material: m, chain: leafFirst(certs, at), imported: certs, pem: isPEM}, nil
}

func samePublicKey(public crypto.PublicKey, m *material) bool {
	ours, is := m.signer().Public().(interface {
		Equal(other crypto.PublicKey) bool
	})
	return is && ours.Equal(public)
}

// leafFirst puts the leaf first and each issuer after what it issued; strangers keep their order at the end.
func leafFirst(certs []*x509.Certificate, leaf int) []*x509.Certificate {
	out := []*x509.Certificate{certs[leaf]}
	rest := slices.Delete(slices.Clone(certs), leaf, leaf+1)
	for len(rest) > 0 {
		last := out[len(out)-1]
		at := slices.IndexFunc(rest, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, last.RawIssuer) })
		if at < 0 {
			return append(out, rest...)
		}
		out = append(out, rest[at])
		rest = slices.Delete(rest, at, at+1)
	}
	return out
}

// ordered returns a version's certificates in the order in which its secret has them.
func (v *version) ordered(order seed.Order, contentType string) []*x509.Certificate {
	reversed := slices.Clone(v.chain)
	slices.Reverse(reversed)
	switch {
	case order == seed.OrderLeafFirst:
		return v.chain
	case order == seed.OrderRootFirst:
		return reversed
	case v.imported != nil:
		return v.imported
	case contentType == ContentTypePFX:
		return reversed
	default:
		return v.chain
	}
}

// secretValue is the value of the secret behind a version of a certificate.
func (o *object) secretValue(v *version) (string, error) {
	certs := v.ordered(o.spec.Order, o.policy.Secret.ContentType)
	var key crypto.PrivateKey
	if o.policy.exportable() {
		key = v.material.signer()
	}
	if o.policy.Secret.ContentType == ContentTypePEM {
		return encodePEM(key, certs)
	}
	alg := pfx.TripleDES
	if o.spec.PFX == seed.AES256 {
		alg = pfx.AES256
	}
	raw, err := pfx.Encode(key, v.chain[0], certs, alg)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}

// encodePEM writes the key as PKCS#8, unless it is nil, and then the certificates.
func encodePEM(key crypto.PrivateKey, certs []*x509.Certificate) (string, error) {
	var out bytes.Buffer
	if key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return "", fmt.Errorf("encoding a private key: %w", err)
		}
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	for _, cert := range certs {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	return out.String(), nil
}

func pfxToPEM(value string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return "", errImport
	}
	key, first, rest, err := pkcs12.DecodeChain(raw, "")
	if err != nil {
		return "", errImport
	}
	found, err := newIdentity(key, append([]*x509.Certificate{first}, rest...), false)
	if err != nil {
		return "", err
	}
	return encodePEM(key, found.chain)
}
