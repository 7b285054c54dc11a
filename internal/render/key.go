// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// keyText writes the public part of a key; the private one never leaves a vault.
func keyText(to target, obj vault.Object) (map[string]secret.Value, error) {
	key, err := normalized(obj.Key)
	if err != nil {
		return nil, err
	}
	var text []byte
	switch to.format {
	case v2beta1.FormatPEM:
		text, err = keyPEM(key)
	case v2beta1.FormatJWK:
		text, err = keyJWK(key)
	case v2beta1.FormatModulus, "":
		text, err = modulus(key)
	default:
		err = ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	return map[string]secret.Value{to.dataKey: secret.New(text)}, nil
}

// keyAs writes it in this format, whichever the spec names.
func keyAs(format v2beta1.KeyFormat) func(target, vault.Object) (map[string]secret.Value, error) {
	return func(to target, obj vault.Object) (map[string]secret.Value, error) {
		to.format = format
		return keyText(to, obj)
	}
}

// The types of a key, as JWK names them. A vault adds -HSM to them for where it
// keeps the private part.
const (
	typeRSA = "RSA"
	typeEC  = "EC"
)

// normalized is the key with the members of its type alone, in the length that
// JWK wants (RFC 7518 section 6), which is not always what comes over the wire.
func normalized(k vault.Key) (vault.Key, error) {
	switch strings.TrimSuffix(k.Type, "-HSM") {
	case typeRSA:
		out := vault.Key{Type: typeRSA, N: bytes.TrimLeft(k.N, "\x00"), E: bytes.TrimLeft(k.E, "\x00")}
		if len(out.N) == 0 || len(out.E) == 0 {
			return vault.Key{}, ErrKey
		}
		return out, nil
	case typeEC:
		size := sizes[k.Curve]
		out := vault.Key{Type: typeEC, Curve: k.Curve, X: padded(k.X, size), Y: padded(k.Y, size)}
		if !onCurve(out) {
			return vault.Key{}, ErrKey
		}
		return out, nil
	default:
		return vault.Key{}, ErrKey
	}
}

// curveK is the curve that the standard library does not have; RFC 8812 calls it
// secp256k1.
const curveK = "P-256K"

// sizes are the bytes of a coordinate.
var sizes = map[string]int{"P-256": 32, curveK: 32, "P-384": 48, "P-521": 66}

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

// padded is nil for what does not fit.
func padded(coordinate []byte, size int) []byte {
	coordinate = bytes.TrimLeft(coordinate, "\x00")
	if len(coordinate) > size {
		return nil
	}
	return append(make([]byte, size-len(coordinate)), coordinate...)
}

func onCurve(k vault.Key) bool {
	switch {
	case k.X == nil || k.Y == nil:
		return false
	case k.Curve == curveK:
		return onCurveK(new(big.Int).SetBytes(k.X), new(big.Int).SetBytes(k.Y))
	default:
		_, err := ecPublicKey(k)
		return err == nil
	}
}

// onCurveK is y² = x³ + 7 modulo 2²⁵⁶ - 2³² - 977.
func onCurveK(x, y *big.Int) bool {
	p := new(big.Int).Lsh(big.NewInt(1), 256)
	p.Sub(p, big.NewInt(1<<32+977))
	if x.Cmp(p) >= 0 || y.Cmp(p) >= 0 {
		return false
	}
	left := new(big.Int).Exp(y, big.NewInt(2), p)
	right := new(big.Int).Exp(x, big.NewInt(3), p)
	right.Add(right, big.NewInt(7)).Mod(right, p)
	return left.Cmp(right) == 0
}

func ecPublicKey(k vault.Key) (*ecdsa.PublicKey, error) {
	curve, ok := curves[k.Curve]
	if !ok {
		return nil, ErrCurve
	}
	point := append(append([]byte{4}, k.X...), k.Y...) // 4 is for both coordinates in full
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, ErrKey
	}
	return key, nil
}

func rsaPublicKey(k vault.Key) (*rsa.PublicKey, error) {
	e := new(big.Int).SetBytes(k.E)
	if e.BitLen() > 31 { // all that crypto/rsa takes; who makes keys takes 65537
		return nil, ErrKey
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(k.N), E: int(e.Int64())}, nil
}

// keyPEM is PKIX, what OpenSSL calls a PUBLIC KEY.
func keyPEM(k vault.Key) ([]byte, error) {
	var key any
	var err error
	if k.Type == typeRSA {
		key, err = rsaPublicKey(k)
	} else {
		key, err = ecPublicKey(k)
	}
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, ErrKey
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// keyJWK has the required members alone, sorted and without space, so that its
// SHA-256 is the key's thumbprint (RFC 7638).
func keyJWK(k vault.Key) ([]byte, error) {
	jwk := struct {
		Curve string `json:"crv,omitempty"`
		E     string `json:"e,omitempty"`
		Type  string `json:"kty"`
		N     string `json:"n,omitempty"`
		X     string `json:"x,omitempty"`
		Y     string `json:"y,omitempty"`
	}{Curve: k.Curve, Type: k.Type, E: base64url(k.E), N: base64url(k.N), X: base64url(k.X), Y: base64url(k.Y)}
	text, err := json.Marshal(jwk)
	if err != nil {
		return nil, ErrKey
	}
	return text, nil
}

func modulus(k vault.Key) ([]byte, error) {
	if k.Type != typeRSA {
		return nil, ErrKeyFormat
	}
	return []byte(base64url(k.N)), nil
}

func base64url(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }
