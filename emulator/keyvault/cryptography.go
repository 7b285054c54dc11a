// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"   // RSA-OAEP of the service uses it
	_ "crypto/sha256" // registers itself for crypto.Hash
	_ "crypto/sha512" // registers itself for crypto.Hash
	"errors"
	"math/big"
	"net/http"
	"slices"
	"strings"
)

var (
	errAlgorithm = errors.New("key and algorithm do not fit")
	errCrypto    = errors.New("the operation failed")
)

// cryptoBody is the body of all operations with a key.
type cryptoBody struct {
	Algorithm string `json:"alg"`
	Value     string `json:"value"` // data, or the signature to verify
	Digest    string `json:"digest"`
}

// cryptography is each operation by the name that key_ops uses.
var cryptography = map[string]func(*material, string, []byte, []byte) (any, error){
	"encrypt":   func(m *material, alg string, value, _ []byte) (any, error) { return encoded(m.seal(alg, value)) },
	"wrapKey":   func(m *material, alg string, value, _ []byte) (any, error) { return encoded(m.seal(alg, value)) },
	"decrypt":   func(m *material, alg string, value, _ []byte) (any, error) { return encoded(m.open(alg, value)) },
	"unwrapKey": func(m *material, alg string, value, _ []byte) (any, error) { return encoded(m.open(alg, value)) },
	"sign":      func(m *material, alg string, value, _ []byte) (any, error) { return encoded(m.sign(alg, value)) },
	"verify": func(m *material, alg string, value, digest []byte) (any, error) {
		return m.verify(alg, digest, value)
	},
}

func encoded(raw []byte, err error) (any, error) { return encode64(raw), err }

func useKey(c *call) (*reply, *failure) {
	operation := strings.TrimPrefix(c.route.operation, "keys/")
	var in cryptoBody
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	value, err := decode64(in.Value)
	digest, digestErr := decode64(in.Digest)
	if err != nil || digestErr != nil {
		return nil, badParameter("Property value is not base64url.")
	}
	o, ver, bad := c.vault.version(keys, c.name, c.version)
	switch {
	case bad != nil:
		return nil, bad
	case !ver.attributes.Enabled:
		return nil, disabled(keys, operation)
	case !slices.Contains(ver.operations, operation):
		return nil, &failure{
			status: http.StatusForbidden, code: "Forbidden", inner: "KeyOperationForbidden",
			message: "Operation " + operation + " is not permitted on this key.",
		}
	}
	id := c.vault.id(keys, o.name, ver.id)
	result, err := cryptography[operation](ver.material, in.Algorithm, value, digest)
	switch {
	case errors.Is(err, errAlgorithm):
		return nil, badParameter("Key and algorithm are incompatible. Key %s is of type '%s'.", id, ver.material.kind())
	case err != nil:
		return nil, badParameter("The parameter is incorrect.")
	case operation == "verify":
		return ok(map[string]any{"value": result}), nil
	}
	return ok(map[string]any{"kid": id, "value": result}), nil
}

// oaep are the hashes of the RSA-OAEP algorithms.
var oaep = map[string]crypto.Hash{"RSA-OAEP": crypto.SHA1, "RSA-OAEP-256": crypto.SHA256}

func (m *material) seal(alg string, plain []byte) ([]byte, error) {
	hash, isOAEP := oaep[alg]
	switch {
	case m.rsa == nil:
		return nil, errAlgorithm
	case isOAEP:
		return rsa.EncryptOAEP(hash.New(), rand.Reader, &m.rsa.PublicKey, plain, nil)
	case alg == "RSA1_5":
		return rsa.EncryptPKCS1v15(rand.Reader, &m.rsa.PublicKey, plain) //nolint:staticcheck // the service has it
	}
	return nil, errAlgorithm
}

func (m *material) open(alg string, sealed []byte) ([]byte, error) {
	hash, isOAEP := oaep[alg]
	switch {
	case m.rsa == nil:
		return nil, errAlgorithm
	case isOAEP:
		return rsa.DecryptOAEP(hash.New(), nil, m.rsa, sealed, nil)
	case alg == "RSA1_5":
		return rsa.DecryptPKCS1v15(nil, m.rsa, sealed) //nolint:staticcheck // the service has it
	}
	return nil, errAlgorithm
}

var (
	hashes   = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
	esCurves = map[string]string{"ES256": curveP256, "ES256K": curveP256K, "ES384": curveP384, "ES512": curveP521}
)

// hashOf checks that an algorithm fits the key and the digest fits the algorithm.
func (m *material) hashOf(alg string, digest []byte) (crypto.Hash, error) {
	if len(alg) < 5 {
		return 0, errAlgorithm
	}
	hash := hashes[alg[2:5]]
	fits := esCurves[alg] != "" && esCurves[alg] == m.curve()
	if m.rsa != nil {
		fits = len(alg) == 5 && (alg[:2] == "RS" || alg[:2] == "PS")
	}
	switch {
	case hash == 0 || !fits:
		return 0, errAlgorithm
	case len(digest) != hash.Size():
		return 0, errCrypto
	}
	return hash, nil
}

func (m *material) sign(alg string, digest []byte) ([]byte, error) {
	hash, err := m.hashOf(alg, digest)
	switch {
	case err != nil:
		return nil, err
	case m.k1 != nil:
		return m.k1.sign(digest), nil
	case m.ec != nil:
		r, s, err := ecdsa.Sign(rand.Reader, m.ec, digest)
		if err != nil {
			return nil, errCrypto
		}
		size := (m.bits() + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), nil
	case alg[:2] == "PS":
		return rsa.SignPSS(rand.Reader, m.rsa, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	}
	return rsa.SignPKCS1v15(nil, m.rsa, hash, digest)
}

func (m *material) verify(alg string, digest, signature []byte) (bool, error) {
	hash, err := m.hashOf(alg, digest)
	switch {
	case err != nil:
		return false, err
	case m.k1 != nil:
		return m.k1.verify(digest, signature), nil
	case m.ec != nil:
		half := len(signature) / 2
		r, s := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
		return ecdsa.Verify(&m.ec.PublicKey, digest, r, s), nil
	case alg[:2] == "PS":
		return rsa.VerifyPSS(&m.rsa.PublicKey, hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil, nil
	}
	return rsa.VerifyPKCS1v15(&m.rsa.PublicKey, hash, digest, signature) == nil, nil
}
