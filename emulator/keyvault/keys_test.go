// SPDX-License-Identifier: Apache-2.0

package keyvault_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const keySeed = `
  - name: keyring
    permissions: [{ principal: admin, roles: [Key Vault Administrator] }]
    keys:
      - { name: rsa }
      - { name: p256, type: EC }
      - { name: p256k, type: EC, curve: P-256K }
      - { name: p521, type: EC, curve: P-521 }
      - { name: verify-only, type: EC, operations: [verify] }
`

func raw64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func TestSignAndVerify(t *testing.T) {
	t.Parallel()
	s := start(t, keySeed)
	d256, d384, d512 := sha256.Sum256([]byte("x")), sha512.Sum384([]byte("x")), sha512.Sum512([]byte("x"))
	for name, tc := range map[string]struct {
		key, alg string
		digest   []byte
	}{
		"RS256":  {"rsa", "RS256", d256[:]},
		"PS384":  {"rsa", "PS384", d384[:]},
		"RS512":  {"rsa", "RS512", d512[:]},
		"ES256":  {"p256", "ES256", d256[:]},
		"ES256K": {"p256k", "ES256K", d256[:]},
		"ES512":  {"p521", "ES512", d512[:]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signature := must(t, s, "POST keyring:/keys/"+tc.key+"/sign", encode(t, map[string]string{"alg": tc.alg, "value": raw64(tc.digest)})).str("value")
			check := func(digest []byte) any {
				return must(t, s, "POST keyring:/keys/"+tc.key+"/verify", encode(t, map[string]string{
					"alg": tc.alg, "digest": raw64(digest), "value": signature,
				})).body["value"]
			}
			if check(tc.digest) != true {
				t.Error("a good signature does not verify")
			}
			other := append([]byte{tc.digest[0] ^ 1}, tc.digest[1:]...)
			if check(other) != false {
				t.Error("a signature of something else verifies")
			}
		})
	}
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	s := start(t, keySeed)
	for _, alg := range []string{"RSA1_5", "RSA-OAEP", "RSA-OAEP-256"} {
		for seal, open := range map[string]string{"encrypt": "decrypt", "wrapkey": "unwrapkey"} {
			sealed := must(t, s, "POST keyring:/keys/rsa/"+seal, encode(t, map[string]string{"alg": alg, "value": raw64([]byte("x"))})).str("value")
			got := must(t, s, "POST keyring:/keys/rsa/"+open, encode(t, map[string]string{"alg": alg, "value": sealed})).str("value")
			if got != raw64([]byte("x")) {
				t.Errorf("%s %s: got %q", alg, open, got)
			}
		}
	}
}

func TestKeyRefusals(t *testing.T) {
	t.Parallel()
	s := start(t, keySeed)
	for name, tc := range map[string]struct {
		what, body string
		status     int
		code       string
	}{
		"Operation": {"POST keyring:/keys/verify-only/sign", `{"alg":"ES256","value":"AA"}`, 403, "Forbidden/KeyOperationForbidden"},
		"Algorithm": {"POST keyring:/keys/p256/sign", `{"alg":"RS256","value":"AA"}`, 400, "BadParameter"},
		"Digest":    {"POST keyring:/keys/p256/sign", `{"alg":"ES256","value":"AA"}`, 400, "BadParameter"},
		"Garbage":   {"POST keyring:/keys/rsa/decrypt", `{"alg":"RSA-OAEP","value":"AA"}`, 400, "BadParameter"},
		"Symmetric": {"POST keyring:/keys/o/create", `{"kty":"oct"}`, 400, "BadParameter"},
		"Size":      {"POST keyring:/keys/o/create", `{"kty":"RSA","key_size":1024}`, 400, "BadParameter"},
		"Release":   {"POST keyring:/keys/rsa/release", `{"target":"x"}`, 501, "NotImplemented"},
		"BadImport": {"PUT keyring:/keys/o", `{"key":{"kty":"RSA","n":"AA"}}`, 400, "BadParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := ask(t, s, admin, tc.what, tc.body); got.status != tc.status || got.code() != tc.code {
				t.Errorf("got %d %s", got.status, got.text)
			}
		})
	}
}

func TestDisabledKey(t *testing.T) {
	t.Parallel()
	s := start(t, keySeed)
	must(t, s, "PATCH keyring:/keys/rsa", `{"attributes":{"enabled":false}}`)
	if got := ask(t, s, admin, "GET keyring:/keys/rsa", ""); got.code() != "Forbidden/KeyDisabled" {
		t.Errorf("got %s", got.text)
	}
}

func TestKeysNeverShowTheirPrivateHalf(t *testing.T) {
	t.Parallel()
	s := start(t, keySeed)
	for _, name := range []string{"rsa", "p256", "p256k"} {
		key, _ := must(t, s, "GET keyring:/keys/"+name, "").body["key"].(map[string]any)
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if _, has := key[private]; has {
				t.Errorf("%s shows %q", name, private)
			}
		}
	}
}

// Multiples of the generator of secp256k1 that are printed in its literature: 2G, and (n-1)G = -G.
func TestKoblitzPoints(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, tc := range map[string]struct{ d, x, y string }{
		"Two": {
			"02",
			"c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5",
			"1ae168fea63dc339a3c58419466ceaeef7f632653266d0e1236431a950cfe52a",
		},
		"MinusOne": {
			"fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140",
			"79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
			"b7c52588d95c3b9aa25b0403f1eef75702e84bb7597aabe663b82f6f04ef2777",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := hex.DecodeString(tc.d)
			if err != nil {
				t.Fatal(err)
			}
			got := must(t, s, "PUT /keys/k-"+strings.ToLower(name), encode(t, map[string]any{"key": map[string]any{"kty": "EC", "crv": "P-256K", "d": raw64(d)}}))
			for field, want := range map[string]string{"x": tc.x, "y": tc.y} {
				have, err := base64.RawURLEncoding.DecodeString(got.str("key", field))
				if err != nil || hex.EncodeToString(have) != want {
					t.Errorf("%s: %x", field, have)
				}
			}
		})
	}
}

// OpenSSL knows the curve that the standard library lacks.
func TestKoblitzSignatureForOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed; apt-get install openssl")
	}
	s := start(t, keySeed)
	digest := sha256.Sum256([]byte("x"))
	key := must(t, s, "GET keyring:/keys/p256k", "")
	signature := must(t, s, "POST keyring:/keys/p256k/sign", encode(t, map[string]string{"alg": "ES256K", "value": raw64(digest[:])})).str("value")
	dir := t.TempDir()
	for name, data := range map[string][]byte{"pub.pem": spki(t, key), "digest": digest[:], "sig": derSignature(t, signature)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), openssl, "pkeyutl", "-verify", "-pubin", "-inkey", "pub.pem", "-sigfile", "sig", "-in", "digest")
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

func spki(t *testing.T, key answer) []byte {
	t.Helper()
	point := []byte{4}
	for _, field := range []string{"x", "y"} {
		part, err := base64.RawURLEncoding.DecodeString(key.str("key", field))
		if err != nil {
			t.Fatal(err)
		}
		point = append(point, part...)
	}
	type algorithm struct{ ID, Curve asn1.ObjectIdentifier }
	der, err := asn1.Marshal(struct {
		Algorithm algorithm
		Point     asn1.BitString
	}{
		algorithm{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.ObjectIdentifier{1, 3, 132, 0, 10}},
		asn1.BitString{Bytes: point, BitLength: len(point) * 8},
	})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func derSignature(t *testing.T, signature string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || len(raw) != 64 {
		t.Fatalf("the signature has %d bytes", len(raw))
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestRotationPolicyAndRotate(t *testing.T) {
	t.Parallel()
	var s http.Handler = start(t, keySeed)
	before := must(t, s, "GET keyring:/keys/p256", "").str("key", "kid")
	must(t, s, "PUT keyring:/keys/p256/rotationpolicy", `{"lifetimeActions":[],"attributes":{"expiryTime":"P90D"}}`)
	if got := must(t, s, "GET keyring:/keys/p256/rotationpolicy", ""); got.str("attributes", "expiryTime") != "P90D" {
		t.Errorf("got %s", got.text)
	}
	if after := must(t, s, "POST keyring:/keys/p256/rotate", "").str("key", "kid"); after == before {
		t.Error("rotating made no version")
	}
}
