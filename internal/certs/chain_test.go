// SPDX-License-Identifier: Apache-2.0

package certs_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/akv2k8s/akv2k8s/emulator/keyvault/pfx"
	"github.com/akv2k8s/akv2k8s/internal/certs"
)

// A party has a name and a key; others certify it.
type party struct {
	name string
	key  crypto.Signer
}

func newParty(name string) party {
	return party{name, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
}

var serial atomic.Int64

// certifies makes a certificate of p for q.
func (p party) certifies(q party) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: q.name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
	}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: p.name}}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, parent, q.key.Public(), p.key))))
}

func TestServerFirst(t *testing.T) {
	t.Parallel()
	leaf, middle, a, b, stranger := newParty("leaf"), newParty("middle"), newParty("a"), newParty("b"), newParty("stranger")
	server, issuing := middle.certifies(leaf), a.certifies(middle)
	rootA, rootB, cross, back := a.certifies(a), b.certifies(b), b.certifies(a), a.certifies(b)
	renewed, other := middle.certifies(leaf), stranger.certifies(stranger)
	// One with the name of an authority and another key.
	impostor := stranger.certifies(party{"a", newParty("").key})
	for name, tc := range map[string]struct {
		given []*x509.Certificate
		want  []*x509.Certificate
		err   error
		text  string
	}{
		"Alone":      {given: list(server), want: list(server)},
		"InOrder":    {given: list(server, issuing, rootA), want: list(server, issuing, rootA)},
		"RootFirst":  {given: list(rootA, issuing, server), want: list(server, issuing, rootA)},
		"Shuffled":   {given: list(issuing, server, rootA), want: list(server, issuing, rootA)},
		"NoRoot":     {given: list(issuing, server), want: list(server, issuing)},
		"Twice":      {given: list(server, rootA, issuing, server, rootA), want: list(server, issuing, rootA)},
		"Cross":      {given: list(server, issuing, cross, rootB), want: list(server, issuing, cross, rootB)},
		"CrossBoth":  {given: list(server, issuing, cross, rootA, rootB), want: list(server, issuing, rootA, cross, rootB)},
		"CrossBoth2": {given: list(rootB, rootA, cross, issuing, server), want: list(server, issuing, rootA, cross, rootB)},
		"Circle":     {given: list(server, back, cross, issuing, rootB), want: list(server, issuing, cross, rootB, back)},
		"SelfSigned": {given: list(leaf.certifies(leaf)), want: nil},
		"Stranger": {
			given: list(server, other, issuing, rootA), err: certs.ErrChain,
			text: "no place in the chain for CN=stranger",
		},
		"Gap": {given: list(rootA, server), err: certs.ErrChain, text: "no place in the chain for CN=a"},
		"Impostor": {
			given: list(server, issuing, impostor), err: certs.ErrChain,
			text: "no place in the chain for CN=a",
		},
		"TwoServers": {given: list(server, renewed, issuing), err: certs.ErrChain, text: "no place in the chain for CN=leaf"},
		"Many": {
			given: list(other, impostor, rootB, server), err: certs.ErrChain,
			text: "no place in the chain for CN=stranger, CN=a and 1 more",
		},
		"NoLeaf": {given: list(issuing, rootA), err: certs.ErrNoLeaf, text: certs.ErrNoLeaf.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bundle := must(certs.Parse(value(pkcs8(leaf.key) + pemOf(tc.given...))))
			got, err := bundle.ServerFirst()
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil {
				if err.Error() != tc.text {
					t.Errorf("error %q, want %q", err, tc.text)
				}
				return
			}
			if tc.want == nil {
				tc.want = tc.given
			}
			if diff := cmp.Diff(pemOf(tc.want...), string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func list(certificates ...*x509.Certificate) []*x509.Certificate { return certificates }

// A chain's certificates may come from anywhere: what an error shows of them must
// print, and fit.
func TestChainErrorCanBeShown(t *testing.T) {
	t.Parallel()
	leaf := newParty("leaf")
	for name, tc := range map[string]struct{ subject, want string }{
		"Controls": {"a\x1b[31m\u202eb\nc", "CN=a?[31m?b?c"},
		"Foreign":  {"Übung", "CN=Übung"},
		"Long":     {strings.Repeat("x", 100), "CN=" + strings.Repeat("x", 25) + "…"},
		"None":     {"", "a certificate without subject"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			odd := newParty(tc.subject)
			_, err := must(certs.Parse(value(pkcs8(leaf.key) + pemOf(leaf.certifies(leaf), odd.certifies(odd))))).ServerFirst()
			if want := "no place in the chain for " + tc.want; err == nil || err.Error() != want {
				t.Errorf("error %q, want %q", err, want)
			}
		})
	}
}

// Authorities that all signed one another make the search exponential: it must
// end all the same.
func TestServerFirstEnds(t *testing.T) {
	t.Parallel()
	leaf, ca, dead := newParty("leaf"), newParty("ca"), newParty("dead")
	given := list(ca.certifies(leaf), dead.certifies(dead))
	for range 20 {
		given = append(given, ca.certifies(ca))
	}
	start := time.Now()
	if _, err := must(certs.Parse(value(pkcs8(leaf.key) + pemOf(given...)))).ServerFirst(); !errors.Is(err, certs.ErrChain) {
		t.Errorf("error %v, want %v", err, certs.ErrChain)
	}
	for range 20 {
		given = append(given, ca.certifies(ca))
	}
	if _, err := must(certs.Parse(value(pkcs8(leaf.key) + pemOf(given...)))).ServerFirst(); !errors.Is(err, certs.ErrChain) {
		t.Errorf("error %v, want %v", err, certs.ErrChain)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestAsGivenKeepsTheOrder(t *testing.T) {
	t.Parallel()
	c, stranger := chains["P256"](), chains["P384"]()
	for name, order := range map[string][]*x509.Certificate{
		"ServerFirst": c.certificates,
		"RootFirst":   reversed(c.certificates),
		"Shuffled":    {c.certificates[1], c.certificates[2], c.certificates[0]},
		"Stranger":    {stranger.root(), c.leaf(), c.leaf(), c.root()},
	} {
		for form, text := range map[string]string{
			"PEM":     pemOf(order...) + pkcs8(c.key),
			"PFX3DES": base64PFX(pkcs12.LegacyDES, c.key, order...),
			"PFXRC2":  base64PFX(pkcs12.LegacyRC2, c.key, order...),
			"PFXAES":  base64PFX(pkcs12.Modern2023, c.key, order...),
			// As the vault writes it: the mark of the leaf is wherever the leaf is.
			"PFXVault": base64.StdEncoding.EncodeToString(must(pfx.Encode(c.key, c.leaf(), order, pfx.TripleDES))),
		} {
			t.Run(name+form, func(t *testing.T) {
				t.Parallel()
				got, err := must(certs.Parse(value(text))).AsGiven()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(pemOf(order...), string(got)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
	if _, err := must(certs.Parse(value(pkcs8(c.key) + pemOf(stranger.leaf())))).AsGiven(); !errors.Is(err, certs.ErrNoLeaf) {
		t.Errorf("error %v, want %v", err, certs.ErrNoLeaf)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	c := chains["P256"]()
	raw := must(pkcs12.Modern2023.Encode(c.key, c.leaf(), nil, ""))
	text := "\n" + pkcs8(c.key) + pemOf(c.leaf()) + "\n\n"
	for name, tc := range map[string]struct{ text, want string }{
		"PFX":      {base64.StdEncoding.EncodeToString(raw), string(raw)},
		"PFXLines": {fmt.Sprintf("\r\n%s\r\n", base64.StdEncoding.EncodeToString(raw)), string(raw)},
		"PEM":      {text, text},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := string(must(certs.Parse(value(tc.text))).File().Reveal()); got != tc.want {
				t.Error("another file than was given")
			}
		})
	}
}
