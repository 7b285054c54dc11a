// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

// reach says how far a value may come.
type reach int

const (
	inProcess reach = iota // the application's memory and no further
	inSecret               // a Secret as well, and with it etcd
)

// A garden holds every value that was ever planted.
type garden struct {
	mu     sync.Mutex
	plants []plant
}

// A plant is a value: parts of which no twelve bytes in a row may ever be seen.
type plant struct {
	name  string
	reach reach
	parts [][]byte
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// draw plants a random text.
func (g *garden) draw(r reach, length int) string {
	value := make([]byte, length)
	_, _ = rand.Read(value) // never fails
	for i, b := range value {
		value[i] = letters[int(b)%len(letters)]
	}
	g.plant(plant{name: fmt.Sprintf("a text of %d letters", length), reach: r, parts: [][]byte{value}})
	return string(value)
}

func (g *garden) plant(p plant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.plants = append(g.plants, p)
}

func (g *garden) all() []plant {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]plant(nil), g.plants...)
}

// certificate plants a certificate's private key, in every form that the vault or
// the product gives it. What a certificate and its key share (headers, names of
// algorithms, the public half) is no secret and stays out.
func (g *garden) certificate(r reach, held harness.Certificate) error {
	block, _ := pem.Decode([]byte(held.KeyPEM))
	if block == nil {
		return errors.New("the vault shows no private key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	p := plant{name: "key of certificate " + held.Thumbprint, reach: r}
	var secretHalf *big.Int // the first number that only the key's owner knows
	var own []byte          // the key's own format
	switch k := key.(type) {
	case *rsa.PrivateKey:
		own, secretHalf = x509.MarshalPKCS1PrivateKey(k), k.D
		p.parts = append(p.parts, k.D.Bytes(), k.Primes[0].Bytes(), k.Primes[1].Bytes())
	case *ecdsa.PrivateKey:
		raw, err := k.Bytes()
		if err != nil {
			return err
		}
		if own, err = x509.MarshalECPrivateKey(k); err != nil {
			return err
		}
		secretHalf = new(big.Int).SetBytes(raw)
		p.parts = append(p.parts, raw)
	default:
		return errors.New("the vault's key is neither RSA nor EC")
	}
	p.parts = append(p.parts, secretText(block.Bytes, secretHalf.Bytes()), secretText(own, secretHalf.Bytes()))
	p.parts = append(p.parts, secretPFX(held)...)
	g.plant(p)
	return nil
}

// pkcs and nist begin the names of all algorithms and types in a PFX (1.2.840.113549 and
// 2.16.840.1.101.3.4), which every program has that knows them.
var (
	pkcs = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d}
	nist = []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04}
)

// secretPFX is what lies between the names and certificates of a PFX: the
// encrypted key.
func secretPFX(held harness.Certificate) [][]byte {
	pfx, err := base64.StdEncoding.DecodeString(held.SecretValue)
	if err != nil {
		return nil // it is PEM
	}
	public := [][]byte{nist, pkcs}
	for block, rest := pem.Decode([]byte(held.ChainPEM)); block != nil; block, rest = pem.Decode(rest) {
		public = append(public, block.Bytes)
	}
	slices.Reverse(public) // certificates hold names themselves
	parts := [][]byte{pfx}
	for _, each := range public {
		var between [][]byte
		for _, part := range parts {
			between = append(between, bytes.Split(part, each)...)
		}
		parts = between
	}
	const frame = 64 // lengths and the ends of names
	var secret [][]byte
	for _, part := range parts {
		if len(part) > 4*frame {
			secret = append(secret, part[frame:len(part)-frame])
		}
	}
	return secret
}

// secretText is the part of a key's PEM that encodes a number of it.
func secretText(der, number []byte) []byte {
	text := base64.StdEncoding.EncodeToString(der)
	at := strings.Index(string(der), string(number))
	from, to := (at+2)/3*4, (at+len(number))/3*4
	var lines strings.Builder
	for i := from; i < to; i++ {
		if i%64 == 0 && i > from {
			lines.WriteByte('\n')
		}
		lines.WriteByte(text[i])
	}
	return []byte(lines.String())
}

const inJSON = "escaped as in JSON"

// forms are the ways in which a part may have been written down.
func forms(part []byte) map[string][]string {
	text := string(part)
	quoted, _ := json.Marshal(text)
	out := map[string][]string{
		"as it is":            {text},
		inJSON:                {strings.Trim(string(quoted), `"`)},
		"escaped as in a URL": {url.QueryEscape(text), url.PathEscape(text)},
		"in hex":              {hex.EncodeToString(part), strings.ToUpper(hex.EncodeToString(part))},
	}
	// What base64 makes of a part depends on where the part begins. The first and
	// the last characters belong to its neighbours as well and are left out.
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		for offset := range 3 {
			encoded := encoding.EncodeToString(append(make([]byte, offset), part...))
			if offset > 0 {
				encoded = encoded[4:]
			}
			if (offset+len(part))%3 != 0 {
				encoded = encoded[:len(encoded)-4]
			}
			out["in base64"] = append(out["in base64"], encoded)
		}
	}
	return out
}

// Windows of hex are longer: twelve digits are six bytes, which two digests among
// many share by chance.
const window, hexWindow = 12, 16

// A detector finds any part of any plant in one pass.
type detector struct {
	plants  []plant
	short   map[[window]byte]sight
	long    map[[hexWindow]byte]sight
	quickly []uint64 // one bit per hash of the first four bytes: most places end here
}

type sight struct {
	plant int32
	form  string
}

func newDetector(plants []plant) *detector {
	d := &detector{
		plants: plants, short: map[[window]byte]sight{}, long: map[[hexWindow]byte]sight{},
		quickly: make([]uint64, 1<<18),
	}
	for i, p := range plants {
		for _, part := range p.parts {
			for form, texts := range forms(part) {
				for _, text := range texts {
					d.learn(text, sight{int32(i), form})
				}
			}
		}
	}
	return d
}

func (d *detector) learn(text string, s sight) {
	width := window
	if s.form == "in hex" {
		width = hexWindow
	}
	for i := 0; i+width <= len(text); i++ {
		if s.form == inJSON && strings.Count(text[i:i+width], `\`) > 1 {
			continue // two bytes written as twelve, such as \u0026\u0026 of any "&&", tell nothing
		}
		h := hash(text[i:])
		d.quickly[h/64] |= 1 << (h % 64)
		if width == window {
			d.short[[window]byte([]byte(text[i:i+width]))] = s
		} else {
			d.long[[hexWindow]byte([]byte(text[i:i+width]))] = s
		}
	}
}

// hash spreads four bytes over 24 bits (Knuth's multiplicative method).
func hash[T ~string | ~[]byte](text T) uint32 {
	word := uint32(text[0]) | uint32(text[1])<<8 | uint32(text[2])<<16 | uint32(text[3])<<24
	return word * 2654435761 >> 8
}

// in says what is found in data, and how it is written there; empty is nothing.
func (d *detector) in(data []byte) string {
	for i := 0; i+window <= len(data); i++ {
		h := hash(data[i : i+4])
		if d.quickly[h/64]&(1<<(h%64)) == 0 {
			continue
		}
		s, found := d.short[[window]byte(data[i:i+window])]
		if !found && i+hexWindow <= len(data) {
			s, found = d.long[[hexWindow]byte(data[i:i+hexWindow])]
		}
		if found {
			return fmt.Sprintf("%s, %s, at byte %d", d.plants[s.plant].name, s.form, i)
		}
	}
	return ""
}
