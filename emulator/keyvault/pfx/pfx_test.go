// SPDX-License-Identifier: Apache-2.0

package pfx_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/akv2k8s/akv2k8s/emulator/keyvault/pfx"
)

func chain(t *testing.T, key crypto.Signer) []*x509.Certificate {
	t.Helper()
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := sign(t, "root", nil, rootKey.Public(), rootKey)
	return []*x509.Certificate{sign(t, "leaf", root, key.Public(), rootKey), root}
}

func sign(t *testing.T, name string, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: parent == nil, BasicConstraintsValid: true,
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func keys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"RSA": r, "EC": e}
}

var algorithms = map[string]pfx.Algorithm{"TripleDES": pfx.TripleDES, "AES256": pfx.AES256}

func TestEncodeIsReadable(t *testing.T) {
	for keyName, key := range keys(t) {
		leafFirst := chain(t, key)
		rootFirst := slices.Clone(leafFirst)
		slices.Reverse(rootFirst)
		for algName, alg := range algorithms {
			for orderName, certs := range map[string][]*x509.Certificate{"LeafFirst": leafFirst, "RootFirst": rootFirst} {
				t.Run(keyName+algName+orderName, func(t *testing.T) {
					out, err := pfx.Encode(key, leafFirst[0], certs, alg)
					if err != nil {
						t.Fatal(err)
					}
					got, first, rest, err := pkcs12.DecodeChain(out, "")
					if err != nil {
						t.Fatal(err)
					}
					if !key.(interface{ Equal(crypto.PrivateKey) bool }).Equal(got) {
						t.Error("another key came back")
					}
					if !first.Equal(certs[0]) || len(rest) != 1 || !rest[0].Equal(certs[1]) {
						t.Error("the certificates came back in another order")
					}
				})
			}
		}
	}
}

// The leaf is marked as the key's own wherever it stands: OpenSSL goes by the mark, not by the place.
func TestEncodeForOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed; apt-get install openssl")
	}
	key := keys(t)["RSA"]
	certs := chain(t, key)
	slices.Reverse(certs)
	for name, alg := range algorithms {
		t.Run(name, func(t *testing.T) {
			out, err := pfx.Encode(key, certs[1], certs, alg)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "a.pfx")
			if err := os.WriteFile(path, out, 0o600); err != nil {
				t.Fatal(err)
			}
			text, err := exec.CommandContext(t.Context(), openssl, "pkcs12", "-in", path, "-passin", "pass:", "-clcerts", "-nokeys", "-info").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			want := map[pfx.Algorithm]string{pfx.TripleDES: "pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2000", pfx.AES256: "AES-256-CBC, Iteration 2000, PRF hmacWithSHA256"}[alg]
			for _, wanted := range []string{"leaf", want} {
				if !strings.Contains(string(text), wanted) {
					t.Errorf("openssl does not say %q:\n%s", wanted, text)
				}
			}
			if strings.Count(string(text), "BEGIN CERTIFICATE") != 1 {
				t.Errorf("openssl sees not exactly one certificate as the key's own:\n%s", text)
			}
		})
	}
}

func TestEncodeWithoutKey(t *testing.T) {
	certs := chain(t, keys(t)["EC"])
	for name, alg := range algorithms {
		t.Run(name, func(t *testing.T) {
			out, err := pfx.Encode(nil, certs[0], certs, alg)
			if err != nil {
				t.Fatal(err)
			}
			key, _, _, err := pkcs12.DecodeChain(out, "")
			if key != nil || err == nil {
				t.Error("a file without a key gave one", fmt.Sprint(err))
			}
		})
	}
}
