// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"crypto/rand"
	"errors"
	"math/big"
)

// secp256k1, which Key Vault calls P-256K and the standard library lacks. The arithmetic is the textbook's, affine
// and not constant in time: good enough for a key that protects nothing, and not for any other.
var (
	koblitzP, _  = new(big.Int).SetString("fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f", 16)
	koblitzN, _  = new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
	koblitzGX, _ = new(big.Int).SetString("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798", 16)
	koblitzGY, _ = new(big.Int).SetString("483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8", 16)
)

// koblitzKey is a private key d and its point.
type koblitzKey struct{ d, x, y *big.Int }

// point is affine; a nil x is the point at infinity.
type point struct{ x, y *big.Int }

func newKoblitzKey() *koblitzKey {
	d := randomScalar()
	p := multiply(point{koblitzGX, koblitzGY}, d)
	return &koblitzKey{d: d, x: p.x, y: p.y}
}

func parseKoblitzKey(raw []byte) (*koblitzKey, error) {
	d := new(big.Int).SetBytes(raw)
	if d.Sign() == 0 || d.Cmp(koblitzN) >= 0 {
		return nil, errors.New("the private key is out of range")
	}
	p := multiply(point{koblitzGX, koblitzGY}, d)
	return &koblitzKey{d: d, x: p.x, y: p.y}, nil
}

func randomScalar() *big.Int {
	for {
		d, err := rand.Int(rand.Reader, koblitzN)
		if err == nil && d.Sign() > 0 {
			return d
		}
	}
}

func add(a, b point) point {
	switch {
	case a.x == nil:
		return b
	case b.x == nil:
		return a
	}
	slope := new(big.Int)
	if a.x.Cmp(b.x) == 0 {
		if sum := new(big.Int).Add(a.y, b.y); sum.Mod(sum, koblitzP).Sign() == 0 {
			return point{}
		}
		slope.Mul(big.NewInt(3), slope.Mul(a.x, a.x))
		slope.Mul(slope, inverse(new(big.Int).Lsh(a.y, 1), koblitzP))
	} else {
		slope.Mul(new(big.Int).Sub(b.y, a.y), inverse(new(big.Int).Sub(b.x, a.x), koblitzP))
	}
	x := new(big.Int).Mul(slope, slope)
	x.Sub(x, a.x).Sub(x, b.x).Mod(x, koblitzP)
	y := new(big.Int).Sub(a.x, x)
	y.Mul(y, slope).Sub(y, a.y).Mod(y, koblitzP)
	return point{x, y}
}

func inverse(a, modulus *big.Int) *big.Int {
	return new(big.Int).ModInverse(new(big.Int).Mod(a, modulus), modulus)
}

func multiply(p point, k *big.Int) point {
	var sum point
	for i := k.BitLen() - 1; i >= 0; i-- {
		sum = add(sum, sum)
		if k.Bit(i) == 1 {
			sum = add(sum, p)
		}
	}
	return sum
}

// sign returns r and s, 32 bytes each, for a digest of 32 bytes.
func (k *koblitzKey) sign(digest []byte) []byte {
	for {
		nonce := randomScalar()
		r := new(big.Int).Mod(multiply(point{koblitzGX, koblitzGY}, nonce).x, koblitzN)
		s := new(big.Int).Mul(r, k.d)
		s.Add(s, new(big.Int).SetBytes(digest)).Mul(s, inverse(nonce, koblitzN)).Mod(s, koblitzN)
		if r.Sign() != 0 && s.Sign() != 0 {
			return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	}
}

func (k *koblitzKey) verify(digest, signature []byte) bool {
	if len(signature) != 64 {
		return false
	}
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if r.Sign() == 0 || s.Sign() == 0 || r.Cmp(koblitzN) >= 0 || s.Cmp(koblitzN) >= 0 {
		return false
	}
	w := inverse(s, koblitzN)
	u1 := new(big.Int).Mul(new(big.Int).SetBytes(digest), w)
	u2 := new(big.Int).Mul(r, w)
	sum := add(multiply(point{koblitzGX, koblitzGY}, u1.Mod(u1, koblitzN)), multiply(point{k.x, k.y}, u2.Mod(u2, koblitzN)))
	return sum.x != nil && new(big.Int).Mod(sum.x, koblitzN).Cmp(r) == 0
}
