// SPDX-License-Identifier: Apache-2.0

package entra

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	defaultJWKSInterval = 5 * time.Second
	jwksTimeout         = 5 * time.Second
	maxJWKSBytes        = 1 << 20
)

// jwk is a public key of RFC 7517, RSA or EC.
type jwk struct {
	KeyType  string `json:"kty"`
	KeyID    string `json:"kid,omitempty"`
	Use      string `json:"use,omitempty"`
	Modulus  string `json:"n,omitempty"`
	Exponent string `json:"e,omitempty"`
	Curve    string `json:"crv,omitempty"`
	X        string `json:"x,omitempty"`
	Y        string `json:"y,omitempty"`
}

type jwks struct {
	Keys []jwk `json:"keys"`
}

// keySets remembers the keys of the issuers that principals trust.
type keySets struct {
	now      func() time.Time
	interval time.Duration

	mu   sync.Mutex
	sets map[Federated]*keySet // by the four JWKS fields
}

type keySet struct {
	mu      sync.Mutex
	fetched time.Time
	keys    map[string]crypto.PublicKey
}

func newKeySets(now func() time.Time, interval time.Duration) *keySets {
	if interval <= 0 {
		interval = defaultJWKSInterval
	}
	return &keySets{now: now, interval: interval, sets: map[Federated]*keySet{}}
}

// Key returns the issuer's key with this id. An unknown id fetches the set again,
// because issuers rotate, but at most once per interval: a caller who invents ids
// must not turn us into a load generator.
func (s *keySets) Key(ctx context.Context, f Federated, id string) (crypto.PublicKey, error) {
	set := s.set(f)
	set.mu.Lock()
	defer set.mu.Unlock()
	if key, ok := set.keys[id]; ok {
		return key, nil
	}
	if !set.fetched.IsZero() && s.now().Sub(set.fetched) < s.interval {
		return nil, errUnknownKeyID
	}
	set.fetched = s.now()
	keys, err := fetchKeys(ctx, f)
	if err != nil {
		return nil, err
	}
	set.keys = keys
	if key, ok := keys[id]; ok {
		return key, nil
	}
	return nil, errUnknownKeyID
}

func (s *keySets) set(f Federated) *keySet {
	source := Federated{JWKSFile: f.JWKSFile, JWKSURL: f.JWKSURL, JWKSCAFile: f.JWKSCAFile, JWKSTokenFile: f.JWKSTokenFile}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sets[source] == nil {
		s.sets[source] = &keySet{}
	}
	return s.sets[source]
}

func fetchKeys(ctx context.Context, f Federated) (map[string]crypto.PublicKey, error) {
	raw, err := readJWKS(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("reading the keys of issuer %s: %w", f.Issuer, err)
	}
	var doc jwks
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("the keys of issuer %s are not a JWKS: %w", f.Issuer, err)
	}
	keys := map[string]crypto.PublicKey{}
	for _, k := range doc.Keys {
		if key, err := k.publicKey(); err == nil { // kinds we do not speak are somebody else's
			keys[k.KeyID] = key
		}
	}
	return keys, nil
}

func readJWKS(ctx context.Context, f Federated) ([]byte, error) {
	if f.JWKSFile != "" {
		return os.ReadFile(f.JWKSFile)
	}
	ctx, cancel := context.WithTimeout(ctx, jwksTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.JWKSURL, nil)
	if err != nil {
		return nil, err
	}
	if f.JWKSTokenFile != "" {
		token, err := os.ReadFile(f.JWKSTokenFile)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	transport, err := jwksTransport(f.JWKSCAFile)
	if err != nil {
		return nil, err
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the key endpoint answered %s", resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxJWKSBytes))
}

// jwksTransport ignores proxy variables: in a cluster they would point back at
// this emulator.
func jwksTransport(caFile string) (*http.Transport, error) {
	t := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if caFile == "" {
		return t, nil
	}
	bundle, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bundle) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

func (k jwk) publicKey() (crypto.PublicKey, error) {
	switch k.KeyType {
	case "RSA":
		n, err1 := bigint(k.Modulus)
		e, err2 := bigint(k.Exponent)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	case "EC":
		return k.ecKey()
	default:
		return nil, fmt.Errorf("key type %q is not supported", k.KeyType)
	}
}

func (k jwk) ecKey() (crypto.PublicKey, error) {
	curve, ok := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[k.Curve]
	if !ok {
		return nil, fmt.Errorf("curve %q is not supported", k.Curve)
	}
	x, err1 := bigint(k.X)
	y, err2 := bigint(k.Y)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	size := (curve.Params().BitSize + 7) / 8
	if len(x.Bytes()) > size || len(y.Bytes()) > size {
		return nil, errors.New("the point is too large for its curve")
	}
	point := append([]byte{4}, append(x.FillBytes(make([]byte, size)), y.FillBytes(make([]byte, size))...)...)
	return ecdsa.ParseUncompressedPublicKey(curve, point)
}

func bigint(s string) (*big.Int, error) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil || len(raw) == 0 {
		return nil, errors.New("a number of the key is not base64url")
	}
	return new(big.Int).SetBytes(raw), nil
}
