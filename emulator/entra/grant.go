// SPDX-License-Identifier: Apache-2.0

package entra

import (
	"context"
	"crypto"
	"crypto/sha1" // x5t is defined as a SHA-1 thumbprint
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// maxAssertionSkew is the clock difference that Entra forgives.
const maxAssertionSkew = 5 * time.Minute

// tokenRequest is one POST to a tenant's token endpoint.
type tokenRequest struct {
	host   string
	tenant string
	form   url.Values
}

// grant answers a client-credentials request, or returns an *aadError.
func (a *Authority) grant(ctx context.Context, req tokenRequest) (Token, error) {
	client := req.form.Get("client_id")
	switch grant := req.form.Get("grant_type"); {
	case !a.hasTenant(req.tenant):
		return Token{}, unknownTenant(req.tenant)
	case grant == "":
		return Token{}, missingParameter("grant_type")
	case grant != "client_credentials":
		return Token{}, unsupportedGrant(grant)
	case client == "":
		return Token{}, missingParameter("client_id")
	}
	p, ok := a.Application(req.tenant, client)
	if !ok {
		return Token{}, unknownApplication(client, req.tenant)
	}
	if err := a.authenticate(ctx, p, req); err != nil {
		return Token{}, err
	}
	resource, err := requestedResource(req.form)
	if err != nil {
		return Token{}, err
	}
	token, err := a.Issue(p, resource)
	if errors.Is(err, ErrBadResource) {
		return Token{}, unknownResource(resource, req.tenant)
	}
	return token, err
}

// requestedResource finds the resource among the scopes; SDKs add openid,
// offline_access and profile to it.
func requestedResource(form url.Values) (string, error) {
	scope := form.Get("scope")
	if scope == "" {
		return "", missingParameter("scope")
	}
	for part := range strings.FieldsSeq(scope) {
		if resource, ok := strings.CutSuffix(part, "/.default"); ok {
			return resource, nil
		}
	}
	return "", badScope(scope)
}

func (a *Authority) authenticate(ctx context.Context, p Principal, req tokenRequest) error {
	assertion, secret := req.form.Get("client_assertion"), req.form.Get("client_secret")
	switch {
	case assertion != "" && req.form.Get("client_assertion_type") != jwtBearer:
		return missingParameter("client_assertion_type")
	case assertion != "":
		return a.checkAssertion(ctx, p, req, assertion)
	case secret == "":
		return noCredential()
	case !slices.ContainsFunc(p.Secrets, func(s string) bool { return equal(s, secret) }):
		return wrongSecret(p.ClientID)
	}
	return nil
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// checkAssertion tells the two kinds apart: an application that signs for itself
// names itself as issuer, a federated token names a foreign one.
func (a *Authority) checkAssertion(ctx context.Context, p Principal, req tokenRequest, raw string) error {
	var claims jwt.RegisteredClaims
	token, _, err := jwt.NewParser().ParseUnverified(raw, &claims)
	if err != nil {
		return malformedAssertion()
	}
	if err := a.checkTimes(claims); err != nil {
		return err
	}
	if strings.EqualFold(claims.Issuer, p.ClientID) || thumbprint(token) != "" {
		return a.checkCertificate(p, req, raw, token, claims)
	}
	return a.checkFederated(ctx, p, raw, token, claims)
}

func (a *Authority) checkTimes(c jwt.RegisteredClaims) error {
	if c.ExpiresAt == nil {
		return malformedAssertion()
	}
	now, from := a.now(), c.ExpiresAt.Time
	if c.NotBefore != nil {
		from = c.NotBefore.Time
	}
	tooEarly := c.NotBefore != nil && now.Add(maxAssertionSkew).Before(from)
	if tooEarly || !now.Add(-maxAssertionSkew).Before(c.ExpiresAt.Time) {
		return assertionTimes(now, from, c.ExpiresAt.Time)
	}
	return nil
}

func (a *Authority) checkCertificate(p Principal, req tokenRequest, raw string, token *jwt.Token, claims jwt.RegisteredClaims) error {
	cert := findCertificate(p.Certificates, token)
	switch {
	case cert == nil:
		return unknownCertificate(thumbprint(token), p.ClientID)
	case !strings.EqualFold(claims.Issuer, p.ClientID) || !strings.EqualFold(claims.Subject, p.ClientID):
		return badAssertionSubject()
	case !slices.ContainsFunc(claims.Audience, func(aud string) bool { return isOurAudience(aud, req) }):
		return badAssertionAudience()
	case verifySignature(raw, []string{"PS256", "RS256"}, cert.PublicKey) != nil:
		return badAssertionSignature()
	}
	return nil
}

// isOurAudience accepts the token endpoint or the issuer of the tenant, on any of
// our host names.
func isOurAudience(aud string, req tokenRequest) bool {
	u, err := url.Parse(aud)
	if err != nil || u.Scheme != "https" || !strings.EqualFold(u.Host, req.host) && !isAuthorityHost(u.Hostname()) {
		return false
	}
	path := strings.Trim(strings.ToLower(u.Path), "/")
	tenant := strings.ToLower(req.tenant)
	return slices.Contains([]string{tenant, tenant + "/v2.0", tenant + "/oauth2/token", tenant + "/oauth2/v2.0/token"}, path)
}

// thumbprint returns the header that names the signing certificate, if any.
func thumbprint(token *jwt.Token) string {
	for _, name := range []string{"x5t#S256", "x5t"} {
		if s, ok := token.Header[name].(string); ok && s != "" {
			return s
		}
	}
	return ""
}

func findCertificate(certs []*x509.Certificate, token *jwt.Token) *x509.Certificate {
	want := decodeThumbprint(thumbprint(token))
	for _, c := range certs {
		long, short := sha256.Sum256(c.Raw), sha1.Sum(c.Raw)
		if slices.Equal(want, long[:]) || slices.Equal(want, short[:]) {
			return c
		}
	}
	return nil
}

// decodeThumbprint accepts both base64 alphabets, padded or not, because SDKs
// disagree.
func decodeThumbprint(s string) []byte {
	s = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(s, "="))
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	return raw
}

func (a *Authority) checkFederated(ctx context.Context, p Principal, raw string, token *jwt.Token, claims jwt.RegisteredClaims) error {
	f, err := matchFederated(p.Federated, claims)
	if err != nil {
		return err
	}
	id, _ := token.Header["kid"].(string)
	key, err := a.keys.Key(ctx, f, id)
	switch {
	case errors.Is(err, errUnknownKeyID):
		return federatedSignature()
	case err != nil:
		return externalKeysUnavailable()
	case verifySignature(raw, []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"}, key) != nil:
		return federatedSignature()
	}
	return nil
}

// matchFederated demands that one credential matches all three claims, and says
// as precisely as Entra does which one fits none.
func matchFederated(credentials []Federated, c jwt.RegisteredClaims) (Federated, error) {
	issuer := func(f Federated) bool { return f.Issuer == c.Issuer }
	subject := func(f Federated) bool { return f.Subject == c.Subject }
	audience := func(f Federated) bool { return slices.Contains(c.Audience, f.Audience) }
	i := slices.IndexFunc(credentials, func(f Federated) bool { return issuer(f) && subject(f) && audience(f) })
	switch {
	case len(credentials) == 0:
		return Federated{}, noFederatedCredential()
	case i >= 0:
		return credentials[i], nil
	case !slices.ContainsFunc(credentials, issuer):
		return Federated{}, noFederatedIssuer(c.Issuer)
	case !slices.ContainsFunc(credentials, subject):
		return Federated{}, noFederatedSubject(c.Subject)
	case !slices.ContainsFunc(credentials, audience):
		return Federated{}, noFederatedAudience(strings.Join(c.Audience, ","))
	}
	return Federated{}, noFederatedMatch(c.Issuer, c.Subject, strings.Join(c.Audience, ","))
}

// verifySignature checks the signature alone; claims were judged by our clock.
func verifySignature(raw string, methods []string, key crypto.PublicKey) error {
	parser := jwt.NewParser(jwt.WithValidMethods(methods), jwt.WithoutClaimsValidation())
	_, err := parser.Parse(raw, func(*jwt.Token) (any, error) { return key, nil })
	return err
}
