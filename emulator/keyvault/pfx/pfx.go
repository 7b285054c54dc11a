// SPDX-License-Identifier: Apache-2.0

// Package pfx writes PKCS#12 files the way Key Vault hands them out: an empty password, the certificates in any
// order with the local key id on the leaf wherever it stands, and no key at all where the key may not leave.
// The PKCS#12 library of the product always calls the first certificate the leaf, which is exactly what a client
// of the service must not rely on; hence this writer. Reading is left to that library.
package pfx

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"hash"
)

// Algorithm is the set of algorithms that protects a file.
type Algorithm int

// TripleDES is pbeWithSHA1And3-KeyTripleDES-CBC with a SHA-1 MAC, AES256 is PBES2 with AES-256-CBC and a SHA-256 MAC.
const (
	TripleDES Algorithm = iota + 1
	AES256
)

// iterations is what the service uses for both MAC and encryption.
const iterations = 2000

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidShroudedKey   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidCertBag       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidX509          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}
	oidLocalKeyID    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 21}
	oidTripleDES     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 3}
	oidPBES2         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256    = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	oidSHA1          = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
)

type (
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}
	safeBag struct {
		ID         asn1.ObjectIdentifier
		Value      asn1.RawValue
		Attributes []attribute `asn1:"set,omitempty"`
	}
	attribute struct {
		ID    asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	certBag struct {
		ID   asn1.ObjectIdentifier
		Data asn1.RawValue
	}
	encryptedPrivateKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	encryptedData struct {
		Version int
		Content encryptedContent
	}
	encryptedContent struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Data      asn1.RawValue
	}
	macData struct {
		Mac        digestInfo
		Salt       []byte
		Iterations int
	}
	digestInfo struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	file struct {
		Version  int
		AuthSafe contentInfo
		Mac      macData
	}
	pbeParams struct {
		Salt       []byte
		Iterations int
	}
	pbes2Params struct {
		KDF    pkix.AlgorithmIdentifier
		Cipher pkix.AlgorithmIdentifier
	}
	pbkdf2Params struct {
		Salt       []byte
		Iterations int
		PRF        pkix.AlgorithmIdentifier
	}
)

// Encode writes the certificates in the order given and, unless it is nil, the key that belongs to leaf.
func Encode(key crypto.PrivateKey, leaf *x509.Certificate, certs []*x509.Certificate, alg Algorithm) ([]byte, error) {
	b := &builder{alg: alg}
	keyID := sha1.Sum(leaf.Raw)
	var safes []contentInfo
	if key != nil {
		safes = append(safes, b.data(b.der([]safeBag{b.keyBag(key, keyID[:])})))
	}
	bags := make([]safeBag, 0, len(certs))
	for _, cert := range certs {
		bag := b.certBag(cert)
		if key != nil && bytes.Equal(cert.Raw, leaf.Raw) {
			bag.Attributes = b.localKeyID(keyID[:])
		}
		bags = append(bags, bag)
	}
	safes = append(safes, b.encrypted(b.der(bags)))
	content := b.der(safes)
	out := b.der(file{Version: 3, AuthSafe: b.data(content), Mac: b.mac(content)})
	if b.err != nil {
		return nil, fmt.Errorf("writing a PKCS#12 file: %w", b.err)
	}
	return out, nil
}

// builder keeps the first error, so that the structure above reads without branches.
type builder struct {
	alg Algorithm
	err error
}

func (b *builder) der(value any) []byte {
	out, err := asn1.Marshal(value)
	b.keep(err)
	return out
}

func (b *builder) keep(err error) {
	if b.err == nil {
		b.err = err
	}
}

func explicit(content []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: content}
}

func (b *builder) data(content []byte) contentInfo {
	return contentInfo{Type: oidData, Content: explicit(b.der(content))}
}

func (b *builder) encrypted(content []byte) contentInfo {
	algorithm, sealed := b.seal(content)
	return contentInfo{Type: oidEncryptedData, Content: explicit(b.der(encryptedData{Content: encryptedContent{
		Type: oidData, Algorithm: algorithm,
		Data: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, Bytes: sealed},
	}}))}
}

func (b *builder) keyBag(key crypto.PrivateKey, id []byte) safeBag {
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	b.keep(err)
	algorithm, sealed := b.seal(plain)
	return safeBag{
		ID: oidShroudedKey, Value: explicit(b.der(encryptedPrivateKey{algorithm, sealed})),
		Attributes: b.localKeyID(id),
	}
}

func (b *builder) certBag(cert *x509.Certificate) safeBag {
	return safeBag{ID: oidCertBag, Value: explicit(b.der(certBag{ID: oidX509, Data: explicit(b.der(cert.Raw))}))}
}

func (b *builder) localKeyID(id []byte) []attribute {
	set := asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true, Bytes: b.der(id)}
	return []attribute{{ID: oidLocalKeyID, Value: set}}
}

func (b *builder) random(n int) []byte {
	out := make([]byte, n)
	_, err := rand.Read(out)
	b.keep(err)
	return out
}

// seal encrypts under the empty password.
func (b *builder) seal(plain []byte) (pkix.AlgorithmIdentifier, []byte) {
	if b.alg == AES256 {
		return b.sealAES(plain)
	}
	salt := b.random(8)
	key, iv := derive(sha1.New, salt, 1, 24), derive(sha1.New, salt, 2, 8)
	block, err := des.NewTripleDESCipher(key)
	b.keep(err)
	parameters := asn1.RawValue{FullBytes: b.der(pbeParams{salt, iterations})}
	return pkix.AlgorithmIdentifier{Algorithm: oidTripleDES, Parameters: parameters}, cbc(block, iv, plain)
}

func (b *builder) sealAES(plain []byte) (pkix.AlgorithmIdentifier, []byte) {
	salt, iv := b.random(16), b.random(aes.BlockSize)
	key, err := pbkdf2.Key(sha256.New, "", salt, iterations, 32)
	b.keep(err)
	block, err := aes.NewCipher(key)
	b.keep(err)
	if b.err != nil {
		return pkix.AlgorithmIdentifier{}, nil
	}
	kdf := pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2, Parameters: asn1.RawValue{FullBytes: b.der(pbkdf2Params{
		Salt: salt, Iterations: iterations,
		PRF: pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256, Parameters: asn1.NullRawValue},
	})}}
	mode := pkix.AlgorithmIdentifier{Algorithm: oidAES256CBC, Parameters: asn1.RawValue{FullBytes: b.der(iv)}}
	parameters := asn1.RawValue{FullBytes: b.der(pbes2Params{KDF: kdf, Cipher: mode})}
	return pkix.AlgorithmIdentifier{Algorithm: oidPBES2, Parameters: parameters}, cbc(block, iv, plain)
}

func (b *builder) mac(content []byte) macData {
	newHash, oid, salt := sha1.New, oidSHA1, b.random(20)
	if b.alg == AES256 {
		newHash, oid, salt = sha256.New, oidSHA256, b.random(32)
	}
	sum := hmac.New(newHash, derive(newHash, salt, 3, newHash().Size()))
	sum.Write(content)
	return macData{
		Mac: digestInfo{
			Algorithm: pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: asn1.NullRawValue}, Digest: sum.Sum(nil),
		},
		Salt: salt, Iterations: iterations,
	}
}

func cbc(block cipher.Block, iv, plain []byte) []byte {
	size := block.BlockSize()
	padding := size - len(plain)%size
	out := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, out)
	return out
}

// derive is the key derivation of RFC 7292, appendix B.2, for the empty password (a BMP string of one zero).
// Purpose 1 makes a key, 2 an IV and 3 a MAC key.
func derive(newHash func() hash.Hash, salt []byte, purpose byte, size int) []byte {
	h := newHash()
	v := h.BlockSize()
	diversifier := bytes.Repeat([]byte{purpose}, v)
	input := append(fill(salt, v), fill([]byte{0, 0}, v)...)
	var out []byte
	for len(out) < size {
		h.Reset()
		h.Write(diversifier)
		h.Write(input)
		a := h.Sum(nil)
		for range iterations - 1 {
			h.Reset()
			h.Write(a)
			a = h.Sum(nil)
		}
		out = append(out, a...)
		addOne(input, fill(a, v)[:v], v)
	}
	return out[:size]
}

// fill repeats pattern up to a multiple of v bytes.
func fill(pattern []byte, v int) []byte {
	size := (len(pattern) + v - 1) / v * v
	return bytes.Repeat(pattern, size/len(pattern)+1)[:size]
}

// addOne adds b+1 to each block of v bytes, as big-endian numbers modulo 2^(8v).
func addOne(input, b []byte, v int) {
	for start := 0; start < len(input); start += v {
		carry := 1
		for i := v - 1; i >= 0; i-- {
			carry += int(input[start+i]) + int(b[i])
			input[start+i] = byte(carry)
			carry >>= 8
		}
	}
}
