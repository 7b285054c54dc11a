// SPDX-License-Identifier: Apache-2.0

// Package entra emulates the part of Microsoft Entra ID that a daemon meets: the
// discovery documents and the client-credentials grant with a client secret, a
// certificate or a federated assertion. It signs the access tokens that the
// emulated vaults verify.
//
// It has no users, no consent and no refresh tokens, and it must never guard
// anything real. Start at New.
package entra

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Principal is an application or a managed identity that may sign in.
type Principal struct {
	// Name is the seed file's word for it; it never goes over the wire.
	Name     string
	TenantID string
	ClientID string
	// ObjectID is the service principal's, which vaults grant rights to.
	ObjectID     string
	Secrets      []string
	Certificates []*x509.Certificate
	Federated    []Federated
	// ManagedIdentity makes the principal available through IMDS.
	ManagedIdentity bool
	// ResourceID is the ARM id of a user-assigned identity; a managed identity
	// without one is the system-assigned identity.
	ResourceID string
}

// Federated is trust in tokens of another issuer: all three claims must match and
// the signature must verify against the issuer's keys.
type Federated struct {
	Issuer  string
	Subject string
	// Audience defaults to api://AzureADTokenExchange.
	Audience string
	// JWKSFile or JWKSURL says where the issuer's keys are. The URL may need a CA
	// and a bearer token, as a cluster's /openid/v1/jwks does; both files are read
	// at each fetch.
	JWKSFile      string
	JWKSURL       string
	JWKSCAFile    string
	JWKSTokenFile string
}

// DefaultAudience is what Entra suggests for federated credentials.
const DefaultAudience = "api://AzureADTokenExchange"

// DefaultTokenLifetime is how long an access token is valid.
const DefaultTokenLifetime = time.Hour

// defaultResources are the resources that tokens are issued for.
var defaultResources = []string{
	"https://vault.azure.net", "https://vault.azure.cn", "https://vault.usgovcloudapi.net",
	"https://managedhsm.azure.net", "https://storage.azure.com", "https://containerregistry.azure.net", "https://management.azure.com",
	"https://vault.localhost", "https://vault.localhost:8443",
}

// Config is what New needs. The zero value is an authority that knows nobody.
type Config struct {
	Principals []Principal
	// TokenLifetime defaults to DefaultTokenLifetime.
	TokenLifetime time.Duration
	// Resources are issued for in addition to those of the Azure clouds.
	Resources []string
	// Now defaults to time.Now.
	Now func() time.Time
	// JWKSInterval is the least time between two fetches of an issuer's keys that
	// an unknown key id triggers. The default is five seconds.
	JWKSInterval time.Duration
}

// Authority signs and verifies tokens. It is safe for concurrent use.
type Authority struct {
	key       *rsa.PrivateKey
	keyID     string
	now       func() time.Time
	resources []string
	keys      *keySets

	mu         sync.RWMutex
	lifetime   time.Duration
	principals []Principal
	generation int64
}

// New makes an authority with a fresh signing key.
func New(cfg Config) (*Authority, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("generating the token signing key: %w", err)
	}
	a := &Authority{
		key:       key,
		keyID:     keyID(&key.PublicKey),
		now:       cfg.Now,
		lifetime:  cfg.TokenLifetime,
		resources: append(slices.Clone(defaultResources), cfg.Resources...),
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.lifetime <= 0 {
		a.lifetime = DefaultTokenLifetime
	}
	a.keys = newKeySets(a.now, cfg.JWKSInterval)
	if err := a.SetPrincipals(cfg.Principals); err != nil {
		return nil, err
	}
	return a, nil
}

// SetPrincipals replaces everybody who may sign in. Tokens already issued stay valid.
func (a *Authority) SetPrincipals(principals []Principal) error {
	principals = slices.Clone(principals)
	var errs []error
	for i := range principals {
		p := &principals[i]
		p.Federated = slices.Clone(p.Federated)
		errs = append(errs, p.complete())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.principals = principals
	return nil
}

func (p *Principal) complete() error {
	switch {
	case p.TenantID == "":
		return fmt.Errorf("principal %q has no tenant id", p.Name)
	case p.ClientID == "":
		return fmt.Errorf("principal %q has no client id", p.Name)
	case p.ObjectID == "":
		return fmt.Errorf("principal %q has no object id", p.Name)
	}
	for i := range p.Federated {
		f := &p.Federated[i]
		if f.Audience == "" {
			f.Audience = DefaultAudience
		}
		switch {
		case f.Issuer == "" || f.Subject == "":
			return fmt.Errorf("a federated credential of principal %q lacks its issuer or subject", p.Name)
		case (f.JWKSFile == "") == (f.JWKSURL == ""):
			return fmt.Errorf("a federated credential of principal %q needs either a JWKS file or a JWKS URL", p.Name)
		}
	}
	return nil
}

// Principals returns everybody who may sign in.
func (a *Authority) Principals() []Principal {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.Clone(a.principals)
}

// SetTokenLifetime changes how long the tokens issued from now on are valid.
func (a *Authority) SetTokenLifetime(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lifetime = d
}

// Application finds a principal by tenant and client id.
func (a *Authority) Application(tenantID, clientID string) (Principal, bool) {
	return a.find(func(p Principal) bool {
		return strings.EqualFold(p.TenantID, tenantID) && strings.EqualFold(p.ClientID, clientID)
	})
}

func (a *Authority) hasTenant(tenantID string) bool {
	_, ok := a.find(func(p Principal) bool { return strings.EqualFold(p.TenantID, tenantID) })
	return ok
}

func (a *Authority) find(match func(Principal) bool) (Principal, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	i := slices.IndexFunc(a.principals, match)
	if i < 0 {
		return Principal{}, false
	}
	return a.principals[i], true
}
