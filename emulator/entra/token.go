// SPDX-License-Identifier: Apache-2.0

package entra

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// The ways an access token is refused.
var (
	ErrMalformed    = errors.New("the token is not a JWT of this authority")
	ErrSignature    = errors.New("the token's signature is wrong")
	ErrIssuer       = errors.New("the token has another issuer")
	ErrExpired      = errors.New("the token has expired")
	ErrNotYetValid  = errors.New("the token is not valid yet")
	ErrRevoked      = errors.New("the token was revoked")
	ErrBadResource  = errors.New("no such resource")
	errUnknownKeyID = errors.New("no key with this id")
)

// Claims is who a verified token speaks for and what it is good for.
type Claims struct {
	TenantID string
	ObjectID string
	AppID    string
	Audience string
	Expires  time.Time
}

// Token is an access token as it leaves the authority.
type Token struct {
	Raw     string
	Issued  time.Time
	Expires time.Time
}

// tokenClaims is the version 1.0 access token of Entra, plus the generation that
// RevokeTokens ends.
type tokenClaims struct {
	jwt.RegisteredClaims

	// Audience is one string, as Entra has it, where RegisteredClaims would make an array.
	Audience   string `json:"aud"`
	TenantID   string `json:"tid"`
	ObjectID   string `json:"oid"`
	AppID      string `json:"appid"`
	AppIDACR   string `json:"appidacr"`
	IdentityP  string `json:"idp"`
	IDType     string `json:"idtyp"`
	UniqueID   string `json:"uti"`
	Version    string `json:"ver"`
	Generation int64  `json:"generation"`
}

// Issuer is the iss claim of a tenant's tokens.
func Issuer(tenantID string) string { return "https://sts.windows.net/" + tenantID + "/" }

// Issue signs a token that lets p call resource (an URI such as
// https://vault.azure.net). It fails with ErrBadResource.
func (a *Authority) Issue(p Principal, resource string) (Token, error) {
	if !slices.Contains(a.resources, strings.TrimSuffix(resource, "/")) {
		return Token{}, ErrBadResource
	}
	a.mu.RLock()
	lifetime, generation := a.lifetime, a.generation
	a.mu.RUnlock()

	issued := a.now().Truncate(time.Second)
	expires := issued.Add(lifetime)
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, tokenClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    Issuer(p.TenantID),
			Subject:   p.ObjectID,
			IssuedAt:  jwt.NewNumericDate(issued),
			NotBefore: jwt.NewNumericDate(issued),
			ExpiresAt: jwt.NewNumericDate(expires),
		},
		Audience: resource, TenantID: p.TenantID, ObjectID: p.ObjectID, AppID: p.ClientID, AppIDACR: "1",
		IdentityP: Issuer(p.TenantID), IDType: "app", UniqueID: uuid.NewString(), Version: "1.0",
		Generation: generation,
	})
	token.Header["kid"] = a.keyID
	token.Header["x5t"] = a.keyID
	raw, err := token.SignedString(a.key)
	if err != nil {
		return Token{}, fmt.Errorf("signing a token: %w", err)
	}
	return Token{Raw: raw, Issued: issued, Expires: expires}, nil
}

// RevokeTokens makes every token issued so far fail with ErrRevoked.
func (a *Authority) RevokeTokens() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.generation++
}

// Verify checks a token's signature, issuer, times and revocation, and returns
// its claims; the audience is for the caller to judge. Errors are the sentinels
// of this package.
func (a *Authority) Verify(raw string) (Claims, error) {
	var c tokenClaims
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired(), jwt.WithTimeFunc(a.now))
	_, err := parser.ParseWithClaims(raw, &c, func(t *jwt.Token) (any, error) {
		if t.Header["kid"] != a.keyID {
			return nil, errUnknownKeyID
		}
		return &a.key.PublicKey, nil
	})
	if err != nil {
		return Claims{}, refusal(err)
	}
	a.mu.RLock()
	generation := a.generation
	a.mu.RUnlock()
	switch {
	case c.TenantID == "" || c.Issuer != Issuer(c.TenantID):
		return Claims{}, ErrIssuer
	case c.Generation != generation:
		return Claims{}, ErrRevoked
	case c.Audience == "":
		return Claims{}, ErrMalformed
	}
	return Claims{
		TenantID: c.TenantID, ObjectID: c.ObjectID, AppID: c.AppID,
		Audience: c.Audience, Expires: c.ExpiresAt.Time,
	}, nil
}

func refusal(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, errUnknownKeyID):
		return ErrSignature
	case errors.Is(err, jwt.ErrTokenExpired):
		return ErrExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return ErrNotYetValid
	default:
		return ErrMalformed
	}
}

func keyID(key *rsa.PublicKey) string {
	sum := sha256.Sum256(x509.MarshalPKCS1PublicKey(key))
	return base64.RawURLEncoding.EncodeToString(sum[:20])
}
