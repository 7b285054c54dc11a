// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"bytes"
	"cmp"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"testing"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// unhex is for keys that never change, so that goldens do not.
func unhex(text string) []byte { return must(hex.DecodeString(text)) }

// point is the public key of a scalar that is 7.
func point(name string, curve ecdh.Curve, size int) vault.Key {
	scalar := make([]byte, size)
	scalar[size-1] = 7
	raw := must(curve.NewPrivateKey(scalar)).PublicKey().Bytes()[1:]
	return vault.Key{Type: "EC", Curve: name, X: raw[:size], Y: raw[size:]}
}

var vaultKeys = map[string]vault.Key{
	"rsa":  {Type: "RSA", N: bytes.Repeat([]byte{0xc5, 0x3a, 0x91}, 85), E: []byte{1, 0, 1}},
	"p256": point("P-256", ecdh.P256(), 32),
	"p384": point("P-384", ecdh.P384(), 48),
	"p521": point("P-521", ecdh.P521(), 66), // its coordinates begin with a zero
	"p256k": {
		Type: "EC", Curve: "P-256K",
		X: unhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"),
		Y: unhex("483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"),
	},
}

func with(key vault.Key, change func(*vault.Key)) vault.Key {
	change(&key)
	return key
}

func TestKey(t *testing.T) {
	t.Parallel()
	for name, key := range vaultKeys {
		for _, f := range []v2beta1.KeyFormat{"", v2beta1.FormatPEM, v2beta1.FormatJWK, v2beta1.FormatModulus} {
			t.Run(name+string(f), func(t *testing.T) {
				t.Parallel()
				s := spec(v2beta1.ObjectKey, "", "k", format(f))
				got, err := render.Output(s, render.Secret, vault.Object{Key: key})
				want := map[bool]error{
					key.Type == "EC" && (f == "" || f == v2beta1.FormatModulus): render.ErrKeyFormat,
					key.Curve == "P-256K" && f == v2beta1.FormatPEM:             render.ErrCurve,
				}[true]
				if !errors.Is(err, want) {
					t.Fatalf("error %v, want %v", err, want)
				}
				if err != nil {
					return
				}
				text := string(got.Data["k"].Reveal())
				golden(t, "keys/"+name+"."+cmp.Or(string(f), "default")+".golden", text)
				sameText(t, key, f, text)
				inConfigMap := mustRender(t, spec(v2beta1.ObjectKey, "", "", format(f), toConfigMap("c")), render.ConfigMap, vault.Object{Key: key})
				if inConfigMap["c"] != text {
					t.Error("the ConfigMap holds another text")
				}
			})
		}
	}
}

// sameText wants the same text however the vault pads and wherever it keeps a key.
func sameText(t *testing.T, key vault.Key, f v2beta1.KeyFormat, want string) {
	t.Helper()
	zeros := func(b []byte) []byte { return append([]byte{0, 0}, b...) }
	for name, variant := range map[string]vault.Key{
		"HSM": with(key, func(k *vault.Key) { k.Type += "-HSM" }),
		"Padded": with(key, func(k *vault.Key) {
			k.N, k.E, k.X, k.Y = zeros(k.N), zeros(k.E), zeros(k.X), zeros(k.Y)
		}),
		"Bare": with(key, func(k *vault.Key) { k.X, k.Y = bytes.TrimLeft(k.X, "\x00"), bytes.TrimLeft(k.Y, "\x00") }),
	} {
		if got := mustRender(t, spec(v2beta1.ObjectKey, "", "k", format(f)), render.Secret, vault.Object{Key: variant})["k"]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestKeyPEMIsTheKey(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]func(any) bool{
		"rsa": func(k any) bool {
			r, ok := k.(*rsa.PublicKey)
			return ok && r.E == 65537 && bytes.Equal(r.N.Bytes(), vaultKeys["rsa"].N)
		},
		"p521": func(k any) bool { e, ok := k.(*ecdsa.PublicKey); return ok && e.Curve == elliptic.P521() },
	} {
		s := spec(v2beta1.ObjectKey, "", "k", format(v2beta1.FormatPEM))
		block, rest := pem.Decode([]byte(mustRender(t, s, render.Secret, vault.Object{Key: vaultKeys[name]})["k"]))
		if key, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil || !want(key) || len(rest) != 0 || block.Type != "PUBLIC KEY" {
			t.Errorf("%s: another key, or %v", name, err)
		}
	}
}

func TestKeyRefuses(t *testing.T) {
	t.Parallel()
	p256, p256k, r := vaultKeys["p256"], vaultKeys["p256k"], vaultKeys["rsa"]
	bent := func(b []byte) []byte { return append(bytes.Clone(b[:len(b)-1]), b[len(b)-1]^1) }
	for name, key := range map[string]vault.Key{
		"Nothing":      {},
		"Oct":          {Type: "oct-HSM"},
		"NoModulus":    with(r, func(k *vault.Key) { k.N = nil }),
		"ZeroModulus":  with(r, func(k *vault.Key) { k.N = []byte{0, 0} }),
		"NoExponent":   with(r, func(k *vault.Key) { k.E = nil }),
		"OffCurve":     with(p256, func(k *vault.Key) { k.Y = bent(k.Y) }),
		"OffCurveK":    with(p256k, func(k *vault.Key) { k.Y = bent(k.Y) }),
		"TooBigK":      with(p256k, func(k *vault.Key) { k.X = bytes.Repeat([]byte{0xff}, 32) }),
		"OtherCurve":   with(p256, func(k *vault.Key) { k.Curve = "P-384" }),
		"UnknownCurve": with(p256, func(k *vault.Key) { k.Curve = "P-192" }),
		"NoCurve":      with(p256, func(k *vault.Key) { k.Curve = "" }),
		"Long":         with(p256, func(k *vault.Key) { k.X = append([]byte{1}, k.X...) }),
		"NoPoint":      with(p256, func(k *vault.Key) { k.X, k.Y = nil, nil }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec(v2beta1.ObjectKey, "", "k", format(v2beta1.FormatJWK))
			if _, err := render.Output(s, render.Secret, vault.Object{Key: key}); !errors.Is(err, render.ErrKey) {
				t.Errorf("error %v, want %v", err, render.ErrKey)
			}
		})
	}
	huge := with(r, func(k *vault.Key) { k.E = []byte{1, 0, 0, 0, 1} })
	if _, err := render.Output(spec(v2beta1.ObjectKey, "", "k", format(v2beta1.FormatPEM)), render.Secret, vault.Object{Key: huge}); !errors.Is(err, render.ErrKey) {
		t.Errorf("exponent: error %v, want %v", err, render.ErrKey)
	}
}
