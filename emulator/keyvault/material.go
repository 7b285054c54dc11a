// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// material is a key pair: exactly one of rsa, ec and k1 is set.
type material struct {
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	k1  *koblitzKey
	hsm bool
}

// The names of curves in JSON web keys.
const (
	curveP256  = "P-256"
	curveP256K = "P-256K"
	curveP384  = "P-384"
	curveP521  = "P-521"
)

var curves = map[string]elliptic.Curve{curveP256: elliptic.P256(), curveP384: elliptic.P384(), curveP521: elliptic.P521()}

// keyRequest is what is asked of a new key.
type keyRequest struct {
	Type     string `json:"kty"`
	Size     int    `json:"key_size"`
	Curve    string `json:"crv"`
	Exponent int    `json:"public_exponent"`
}

// generate makes a key pair; RSA takes up to seconds.
func generate(in keyRequest) (*material, *failure) {
	base, hsm := strings.CutSuffix(in.Type, "-HSM")
	switch base {
	case "RSA":
		return generateRSA(in, hsm)
	case "EC":
		return generateEC(in.Curve, hsm)
	case "oct":
		return nil, badParameter("Property kty has an invalid value; key type %s is for managed HSM only.", in.Type)
	default:
		return nil, badParameter("Property kty has an invalid value.")
	}
}

func generateRSA(in keyRequest, hsm bool) (*material, *failure) {
	size := in.Size
	if size == 0 {
		size = 2048
	}
	if size != 2048 && size != 3072 && size != 4096 {
		return nil, badParameter("Property key_size has an invalid value; it must be 2048, 3072 or 4096.")
	}
	if in.Exponent != 0 && in.Exponent != 65537 {
		return nil, notEmulated("a public exponent other than 65537")
	}
	key, err := rsa.GenerateKey(rand.Reader, size)
	if err != nil {
		return nil, serverError(500)
	}
	return &material{rsa: key, hsm: hsm}, nil
}

func generateEC(curve string, hsm bool) (*material, *failure) {
	if curve == "" {
		curve = curveP256
	}
	if curve == curveP256K {
		return &material{k1: newKoblitzKey(), hsm: hsm}, nil
	}
	params, known := curves[curve]
	if !known {
		return nil, badParameter("Property crv has an invalid value.")
	}
	key, err := ecdsa.GenerateKey(params, rand.Reader)
	if err != nil {
		return nil, serverError(500)
	}
	return &material{ec: key, hsm: hsm}, nil
}

func (m *material) kind() string {
	base := "EC"
	if m.rsa != nil {
		base = "RSA"
	}
	if m.hsm {
		base += "-HSM"
	}
	return base
}

func (m *material) curve() string {
	switch {
	case m.ec != nil:
		return m.ec.Params().Name
	case m.k1 != nil:
		return curveP256K
	default:
		return ""
	}
}

func (m *material) bits() int {
	switch {
	case m.rsa != nil:
		return m.rsa.N.BitLen()
	case m.ec != nil:
		return m.ec.Params().BitSize
	default:
		return 256
	}
}

// signer is nil for a key that certificates cannot hold.
func (m *material) signer() crypto.Signer {
	switch {
	case m.rsa != nil:
		return m.rsa
	case m.ec != nil:
		return m.ec
	default:
		return nil
	}
}

func materialOf(key crypto.PrivateKey) (*material, error) {
	switch typed := key.(type) {
	case *rsa.PrivateKey:
		return &material{rsa: typed}, nil
	case *ecdsa.PrivateKey:
		return &material{ec: typed}, nil
	default:
		return nil, errors.New("the private key is neither RSA nor EC")
	}
}

// jsonWebKey is the public half as the service sends it, and an imported key as clients send it.
type jsonWebKey struct {
	ID         string   `json:"kid,omitempty"`
	Type       string   `json:"kty"`
	Operations []string `json:"key_ops,omitempty"`
	N          string   `json:"n,omitempty"`
	E          string   `json:"e,omitempty"`
	Curve      string   `json:"crv,omitempty"`
	X          string   `json:"x,omitempty"`
	Y          string   `json:"y,omitempty"`
	D          string   `json:"d,omitempty"`
	P          string   `json:"p,omitempty"`
	Q          string   `json:"q,omitempty"`
}

func (m *material) public(id string, operations []string) jsonWebKey {
	out := jsonWebKey{ID: id, Type: m.kind(), Operations: operations, Curve: m.curve()}
	switch {
	case m.rsa != nil:
		out.N, out.E = encode64(m.rsa.N.Bytes()), encode64(big.NewInt(int64(m.rsa.E)).Bytes())
	case m.ec != nil:
		point, _ := m.ec.PublicKey.Bytes() // fails for curves that we never use
		size := (len(point) - 1) / 2
		out.X, out.Y = encode64(point[1:1+size]), encode64(point[1+size:])
	default:
		out.X, out.Y = encode64(m.k1.x.FillBytes(make([]byte, 32))), encode64(m.k1.y.FillBytes(make([]byte, 32)))
	}
	return out
}

// importJWK reads a private key from a JSON web key.
func importJWK(in jsonWebKey) (*material, error) {
	base, hsm := strings.CutSuffix(in.Type, "-HSM")
	switch base {
	case "RSA":
		return importRSA(in, hsm)
	case "EC":
		return importEC(in, hsm)
	default:
		return nil, errors.New("the key type is neither RSA nor EC")
	}
}

func importRSA(in jsonWebKey, hsm bool) (*material, error) {
	numbers := make([]*big.Int, 0, 5)
	for _, field := range []string{in.N, in.E, in.D, in.P, in.Q} {
		raw, err := decode64(field)
		if err != nil || len(raw) == 0 {
			return nil, errors.New("n, e, d, p and q are all needed")
		}
		numbers = append(numbers, new(big.Int).SetBytes(raw))
	}
	if !numbers[1].IsInt64() || numbers[1].Int64() > 1<<31-1 {
		return nil, errors.New("the public exponent is too large")
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: numbers[0], E: int(numbers[1].Int64())}, D: numbers[2],
		Primes: []*big.Int{numbers[3], numbers[4]},
	}
	key.Precompute()
	if err := key.Validate(); err != nil {
		return nil, fmt.Errorf("checking the key: %w", err)
	}
	return &material{rsa: key, hsm: hsm}, nil
}

func importEC(in jsonWebKey, hsm bool) (*material, error) {
	raw, err := decode64(in.D)
	if err != nil || len(raw) == 0 {
		return nil, errors.New("d is needed")
	}
	if in.Curve == curveP256K {
		key, err := parseKoblitzKey(raw)
		return &material{k1: key, hsm: hsm}, err
	}
	curve, known := curves[in.Curve]
	if !known {
		return nil, errors.New("the curve is unknown")
	}
	key, err := ecdsa.ParseRawPrivateKey(curve, new(big.Int).SetBytes(raw).FillBytes(make([]byte, (curve.Params().BitSize+7)/8)))
	if err != nil {
		return nil, fmt.Errorf("checking the key: %w", err)
	}
	return &material{ec: key, hsm: hsm}, nil
}

func encode64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// decode64 reads base64url with or without padding.
func decode64(text string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
}
