// SPDX-License-Identifier: Apache-2.0

package certs_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/akv2k8s/akv2k8s/emulator/keyvault/pfx"
	"github.com/akv2k8s/akv2k8s/internal/certs"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// A chain is a leaf's key and the certificates leaf, intermediate, root.
type chain struct {
	key          crypto.Signer
	certificates []*x509.Certificate
}

func (c chain) leaf() *x509.Certificate { return c.certificates[0] }
func (c chain) root() *x509.Certificate { return c.certificates[2] }

var keys = map[string]func() (crypto.Signer, error){
	"RSA2048": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	"P256":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	"P384":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
	"P521":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
	"Ed25519": func() (crypto.Signer, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	},
}

// chains are made once: RSA keys take their time.
var chains = func() map[string]func() chain {
	out := map[string]func() chain{}
	for name, generate := range keys {
		out[name] = sync.OnceValue(func() chain { return newChain(generate) })
	}
	return out
}()

func newChain(generate func() (crypto.Signer, error)) chain {
	c := chain{}
	parent, parentKey := (*x509.Certificate)(nil), crypto.Signer(nil)
	for i, name := range []string{"root", "intermediate", "leaf"} {
		key := must(generate())
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name + ".example"},
			NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), BasicConstraintsValid: true, IsCA: name != "leaf",
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}
		if parent == nil {
			parent, parentKey = template, key
		}
		der := must(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey))
		parent, parentKey = must(x509.ParseCertificate(der)), key
		c.certificates = append([]*x509.Certificate{parent}, c.certificates...)
		c.key = key
	}
	return c
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pemOf(list ...*x509.Certificate) string {
	var out strings.Builder
	for _, c := range list {
		out.WriteString(block("CERTIFICATE", c.Raw))
	}
	return out.String()
}

func pkcs8(key crypto.Signer) string {
	return block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key)))
}

func base64PFX(encoder *pkcs12.Encoder, key any, list ...*x509.Certificate) string {
	return base64.StdEncoding.EncodeToString(must(encoder.Encode(key, list[0], list[1:], "")))
}

func reversed(list []*x509.Certificate) []*x509.Certificate {
	return []*x509.Certificate{list[2], list[1], list[0]}
}

func value(text string) secret.Value { return secret.New([]byte(text)) }

// forms are the ways in which a vault gives a chain.
var forms = map[string]func(chain) string{
	"PFX3DES":          func(c chain) string { return base64PFX(pkcs12.LegacyDES, c.key, c.certificates...) },
	"PFX3DESRootFirst": func(c chain) string { return base64PFX(pkcs12.LegacyDES, c.key, reversed(c.certificates)...) },
	"PFXRC2":           func(c chain) string { return base64PFX(pkcs12.LegacyRC2, c.key, c.certificates...) },
	"PFXAES":           func(c chain) string { return base64PFX(pkcs12.Modern2023, c.key, c.certificates...) },
	"PFXAESRootFirst":  func(c chain) string { return base64PFX(pkcs12.Modern2023, c.key, reversed(c.certificates)...) },
	"PFXBrokenLines": func(c chain) string {
		text := base64PFX(pkcs12.Modern2023, c.key, c.certificates...)
		return text[:76] + "\r\n" + text[76:] + "\r\n"
	},
	"PEM":          func(c chain) string { return pkcs8(c.key) + pemOf(c.certificates...) },
	"PEMKeyLast":   func(c chain) string { return pemOf(c.certificates...) + pkcs8(c.key) },
	"PEMRootFirst": func(c chain) string { return pkcs8(c.key) + pemOf(reversed(c.certificates)...) },
	"PEMShuffled": func(c chain) string {
		return pkcs8(c.key) + pemOf(c.certificates[1], c.certificates[2], c.certificates[0])
	},
	"PEMWithText": func(c chain) string {
		return "Bag Attributes\n    localKeyID: 01\n" + pkcs8(c.key) + "subject=CN = leaf\n" + pemOf(c.certificates...)
	},
	"PEMWindows": func(c chain) string {
		return strings.ReplaceAll(pkcs8(c.key)+pemOf(c.certificates...), "\n", "\r\n")
	},
}

func TestParseGivesAServersPair(t *testing.T) {
	t.Parallel()
	for keyName, chainOf := range chains {
		for formName, form := range forms {
			t.Run(keyName+formName, func(t *testing.T) {
				t.Parallel()
				c := chainOf()
				bundle, err := certs.Parse(value(form(c)))
				if err != nil {
					t.Fatal(err)
				}
				crt, err := bundle.ServerFirst()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(pemOf(c.certificates...), string(crt)); diff != "" {
					t.Errorf("chain (-want +got):\n%s", diff)
				}
				key, err := bundle.PrivateKey()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tls.X509KeyPair(crt, key.Reveal()); err != nil {
					t.Errorf("a server cannot use the pair: %v", err)
				}
			})
		}
	}
}

func TestPrivateKeyIsInTheFormThatOldServersRead(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"RSA2048": "RSA PRIVATE KEY", "P256": "EC PRIVATE KEY", "P521": "EC PRIVATE KEY", "Ed25519": "PRIVATE KEY"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := chains[name]()
			key, err := must(certs.Parse(value(pkcs8(c.key) + pemOf(c.leaf())))).PrivateKey()
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := pem.Decode(key.Reveal()); got.Type != want {
				t.Errorf("a block %q, want %q", got.Type, want)
			}
		})
	}
}

func TestParseAcceptsOldKeyBlocks(t *testing.T) {
	t.Parallel()
	rsaChain, ecChain := chains["RSA2048"](), chains["P256"]()
	rsaKey, ecKey := rsaChain.key.(*rsa.PrivateKey), ecChain.key.(*ecdsa.PrivateKey)
	ecParameters := block("EC PARAMETERS", []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07})
	for name, tc := range map[string]struct {
		chain chain
		key   string
	}{
		"PKCS1":            {rsaChain, block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))},
		"SEC1":             {ecChain, block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(ecKey)))},
		"SEC1WithCurve":    {ecChain, ecParameters + block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(ecKey)))},
		"WronglyLabelled":  {ecChain, block("RSA PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ecKey)))},
		"WronglyLabelled2": {rsaChain, block("PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bundle, err := certs.Parse(value(tc.key + pemOf(tc.chain.leaf())))
			if err != nil {
				t.Fatal(err)
			}
			if crt, err := bundle.ServerFirst(); err != nil || string(crt) != pemOf(tc.chain.leaf()) {
				t.Errorf("chain %q, error %v", crt, err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	c := chains["P256"]()
	withPassword := base64.StdEncoding.EncodeToString(must(pkcs12.Modern2023.Encode(c.key, c.leaf(), nil, "hunter2")))
	trustStore := base64.StdEncoding.EncodeToString(must(pkcs12.Modern2023.EncodeTrustStore(c.certificates, "")))
	for name, tc := range map[string]struct {
		text string
		want error
	}{
		"Empty":                {"", certs.ErrFormat},
		"Words":                {"correct horse battery staple", certs.ErrFormat},
		"Base64OfNothing":      {"AAAA", certs.ErrFormat},
		"PFXWithPassword":      {withPassword, certs.ErrFormat},
		"PFXCut":               {base64PFX(pkcs12.Modern2023, c.key, c.leaf())[:400], certs.ErrFormat},
		"PFXNotExportable3DES": {keyless(t, pfx.TripleDES, c), certs.ErrNoKey},
		"PFXNotExportableAES":  {keyless(t, pfx.AES256, c), certs.ErrNoKey},
		"PFXTrustStore":        {trustStore, certs.ErrNoKey},
		"PFXOverworks3DES":     {base64PFX(pkcs12.LegacyDES.WithIterations(1_000_001), c.key, c.leaf()), certs.ErrFormat},
		"PFXOverworksAES":      {base64PFX(pkcs12.Modern2023.WithIterations(1_000_001), c.key, c.leaf()), certs.ErrFormat},
		"PEMNotExportable":     {pemOf(c.certificates...), certs.ErrNoKey},
		"PEMKeyAlone":          {pkcs8(c.key), certs.ErrNoCert},
		"PEMOfNothing":         {block("NOTHING", []byte("x")), certs.ErrNoKey},
		"PEMBrokenKey":         {block("PRIVATE KEY", []byte("x")) + pemOf(c.leaf()), certs.ErrKey},
		"PEMBrokenCert":        {pkcs8(c.key) + block("CERTIFICATE", []byte("x")), certs.ErrFormat},
		"PEMEncryptedKey":      {block("ENCRYPTED PRIVATE KEY", []byte("x")) + pemOf(c.leaf()), certs.ErrNoKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := certs.Parse(value(tc.text)); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
}

// keyless is a PFX as a vault gives it for a key that must not leave.
func keyless(t *testing.T, algorithm pfx.Algorithm, c chain) string {
	t.Helper()
	raw, err := pfx.Encode(nil, c.leaf(), c.certificates, algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

func TestPublicPEM(t *testing.T) {
	t.Parallel()
	c := chains["P256"]()
	if got, err := certs.PublicPEM(c.leaf().Raw); err != nil || string(got) != pemOf(c.leaf()) {
		t.Errorf("PublicPEM() = %q, %v", got, err)
	}
	if _, err := certs.PublicPEM([]byte("x")); !errors.Is(err, certs.ErrNoCert) {
		t.Errorf("error %v, want %v", err, certs.ErrNoCert)
	}
}

func TestBundlePrintsAsNothing(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"RSA2048", "P256", "Ed25519"} {
		c := chains[name]()
		bundle := must(certs.Parse(value(pkcs8(c.key) + pemOf(c.leaf()))))
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
			if text := fmt.Sprintf(format, bundle); text != secret.Redacted {
				t.Errorf("%s: %s prints something", name, format)
			}
			if text := fmt.Sprintf(format, struct{ B any }{bundle}); !strings.Contains(text, secret.Redacted) {
				t.Errorf("%s: %s prints something from within", name, format)
			}
		}
	}
}
