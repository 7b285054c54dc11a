// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// What ordering may cost. Chains have two to five certificates. Comparing each
// with each costs a signature check where the names agree, some 0.1 ms, so that 32
// are a tenth of a second at worst; the search itself ends long before its limit
// unless many authorities of one name signed one another.
const (
	maxOrdered = 32
	maxSteps   = 10_000
	maxRSABits = 16384 // of an issuer; no authority has more, and checking grows with the square
)

// ChainError says which certificates have no place in a chain. It is an ErrChain.
type ChainError struct {
	subjects []string // cleaned and cut, see subject
}

// Is makes a ChainError an ErrChain.
func (*ChainError) Is(target error) bool { return target == ErrChain }

// named is how many subjects an error names: it must fit a condition's message.
const named = 2

// Error names the first certificates by their subjects, which are public.
func (e *ChainError) Error() string {
	shown, more := e.subjects, ""
	if len(shown) > named {
		shown, more = shown[:named], fmt.Sprintf(" and %d more", len(shown)-named)
	}
	return "no place in the chain for " + strings.Join(shown, ", ") + more
}

// chain finds the one line of certificates in which each but the last is issued
// by the next, and which leaves out none. Authorities that signed one another
// make it a search: the first issuer that fits may lead past another.
func (b Bundle) chain() ([]*x509.Certificate, error) {
	list := distinct(b.certificates)
	if len(list) > maxOrdered {
		return nil, ErrChain
	}
	s := search{list: list, issuers: issuersOf(list), used: make([]bool, len(list))}
	for i, c := range list {
		if b.isLeaf(c) && s.from(i) {
			break
		}
	}
	switch len(s.best) {
	case 0:
		return nil, ErrNoLeaf
	case len(list):
		return pick(list, s.best), nil
	default:
		return nil, chainError(list, s.best)
	}
}

// distinct drops what came twice.
func distinct(list []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range list {
		if !slices.ContainsFunc(out, c.Equal) {
			out = append(out, c)
		}
	}
	return out
}

// issuersOf lists for each certificate the indices of those that issued it.
func issuersOf(list []*x509.Certificate) [][]int {
	out := make([][]int, len(list))
	for i, c := range list {
		for j, issuer := range list {
			if i != j && issued(issuer, c) {
				out[i] = append(out[i], j)
			}
		}
	}
	return out
}

// issued goes by name and by signature: cross-signed authorities share a name.
// It asks for no more than that, such as the marks of an authority; whether the
// chain is to be trusted is for the client to say.
func issued(issuer, c *x509.Certificate) bool {
	if !bytes.Equal(issuer.RawSubject, c.RawIssuer) {
		return false
	}
	if k, ok := issuer.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSABits {
		return false
	}
	return issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// A search walks from certificate to issuer and keeps the longest way it found.
type search struct {
	list    []*x509.Certificate
	issuers [][]int
	used    []bool
	path    []int
	best    []int
	steps   int
}

// from says whether a way that leaves out none begins, or goes on, at i.
func (s *search) from(i int) bool {
	s.steps++
	s.used[i], s.path = true, append(s.path, i)
	defer func() { s.used[i], s.path = false, s.path[:len(s.path)-1] }()
	if len(s.path) > len(s.best) {
		s.best = slices.Clone(s.path)
	}
	if len(s.best) == len(s.list) {
		return true
	}
	for _, next := range s.issuers[i] {
		if !s.used[next] && s.steps < maxSteps && s.from(next) {
			return true
		}
	}
	return false
}

func pick(list []*x509.Certificate, indices []int) []*x509.Certificate {
	out := make([]*x509.Certificate, len(indices))
	for i, index := range indices {
		out[i] = list[index]
	}
	return out
}

func chainError(list []*x509.Certificate, fit []int) error {
	e := &ChainError{}
	for i, c := range list {
		if !slices.Contains(fit, i) {
			e.subjects = append(e.subjects, subject(c))
		}
	}
	return e
}

// maxSubject is how much of a subject an error shows: enough for a common name,
// and little enough for two of them in a condition's message.
const maxSubject = 28

// subject is a certificate's subject for people: whoever made the certificate
// chose it, so what does not print, or turns the writing around, is masked.
func subject(c *x509.Certificate) string {
	var out []rune
	for _, r := range c.Subject.String() {
		if len(out) == maxSubject {
			return string(out) + "…"
		}
		if !unicode.IsPrint(r) {
			r = '?'
		}
		out = append(out, r)
	}
	if len(out) == 0 {
		return "a certificate without subject"
	}
	return string(out)
}
