// SPDX-License-Identifier: Apache-2.0

// Package seed reads the file that says what an emulator starts with: vaults, their objects, the principals that
// may sign in and what each may do. It knows the file only; nothing here creates a key or answers a request.
//
// Start at Parse (bytes) or Load (a file). Both report every problem they find, each with the place it was found at,
// and never quote a value of the file.
package seed

import "time"

// DefaultTenant is the tenant of principals and vaults that name none.
const DefaultTenant = "72f988bf-0000-4000-8000-00000000e111"

// Seed is the whole file.
type Seed struct {
	Tenant     string      `json:"tenant,omitempty"     yaml:"tenant"`
	Principals []Principal `json:"principals,omitempty" yaml:"principals"`
	Vaults     []Vault     `json:"vaults,omitempty"     yaml:"vaults"`
	// EventGrid is where the events of all vaults go that name no place of their own.
	EventGrid *EventGrid `json:"eventGrid,omitempty" yaml:"eventGrid"`
	// SignIn concerns the login hosts and the instance metadata service.
	SignIn SignIn `json:"signIn,omitzero" yaml:"signIn"`
}

// SignIn says how the login hosts and the instance metadata service misbehave.
type SignIn struct {
	Faults []Fault `json:"faults,omitempty" yaml:"faults"`
}

// Principal is an identity that may sign in, and the ways in which it proves who it is.
type Principal struct {
	Name     string `json:"name"               yaml:"name"`
	Tenant   string `json:"tenant,omitempty"   yaml:"tenant"`
	ClientID string `json:"clientId,omitempty" yaml:"clientId"`
	// ObjectID is derived from tenant and client id when absent.
	ObjectID string `json:"objectId,omitempty" yaml:"objectId"`
	// Secrets are its client secrets.
	Secrets []string `json:"secrets,omitempty" yaml:"secrets"`
	// Certificates are PEM texts, or names of PEM files beside the seed file.
	Certificates []string    `json:"certificates,omitempty" yaml:"certificates"`
	Federated    []Federated `json:"federated,omitempty"    yaml:"federated"`
	// ManagedIdentity makes it available from the instance metadata service.
	ManagedIdentity bool   `json:"managedIdentity,omitempty" yaml:"managedIdentity"`
	ResourceID      string `json:"resourceId,omitempty"      yaml:"resourceId"`
}

// Federated trusts tokens of another issuer, as a federated identity credential does.
type Federated struct {
	Issuer  string `json:"issuer"  yaml:"issuer"`
	Subject string `json:"subject" yaml:"subject"`
	// Audience is api://AzureADTokenExchange when absent.
	Audience string `json:"audience,omitempty" yaml:"audience"`
	// JWKSFile or JWKSURL says where the issuer's keys are. The URL may need a CA and a bearer token, as a cluster's
	// /openid/v1/jwks does. The files are read when the keys are needed.
	JWKSFile      string `json:"jwksFile,omitempty"      yaml:"jwksFile"`
	JWKSURL       string `json:"jwksUrl,omitempty"       yaml:"jwksUrl"`
	JWKSCAFile    string `json:"jwksCaFile,omitempty"    yaml:"jwksCaFile"`
	JWKSTokenFile string `json:"jwksTokenFile,omitempty" yaml:"jwksTokenFile"`
}

// Access is how a vault decides who may do what.
type Access string

// The two models of Key Vault.
const (
	AccessRBAC   Access = "rbac"
	AccessPolicy Access = "policy"
)

// PFX names the algorithms of the PKCS#12 values that a vault hands out.
type PFX string

// TripleDES is what the service does today; AES256 is what newer tools make.
const (
	TripleDES PFX = "3des-sha1"
	AES256    PFX = "aes256-sha256"
)

// Order is the order of certificates in the value of a certificate's secret.
type Order string

// OrderService is the service's own: root first in a PFX and leaf first in PEM where the vault made the certificate,
// and as imported otherwise.
const (
	OrderService    Order = "service"
	OrderLeafFirst  Order = "leaf-first"
	OrderRootFirst  Order = "root-first"
	OrderAsImported Order = "as-imported"
)

// Vault is one vault and everything in it.
type Vault struct {
	Name   string `json:"name"             yaml:"name"`
	Tenant string `json:"tenant,omitempty" yaml:"tenant"`
	// DNSSuffix is vault.azure.net when absent.
	DNSSuffix string `json:"dnsSuffix,omitempty" yaml:"dnsSuffix"`
	// Access is rbac when absent.
	Access       Access        `json:"access,omitempty"       yaml:"access"`
	PFX          PFX           `json:"pfx,omitempty"          yaml:"pfx"`
	Permissions  []Permission  `json:"permissions,omitempty"  yaml:"permissions"`
	Secrets      []Secret      `json:"secrets,omitempty"      yaml:"secrets"`
	Certificates []Certificate `json:"certificates,omitempty" yaml:"certificates"`
	Keys         []Key         `json:"keys,omitempty"         yaml:"keys"`
	// Generate adds secrets that nobody wants to write down.
	Generate *Generate `json:"generate,omitempty" yaml:"generate"`
	Faults   []Fault   `json:"faults,omitempty"   yaml:"faults"`
	// EventGrid is where the vault's events go, in place of where those of all go.
	EventGrid *EventGrid `json:"eventGrid,omitempty" yaml:"eventGrid"`
	// Limit bounds the transactions; absent, there is no limit.
	Limit *Limit `json:"limit,omitempty" yaml:"limit"`
	// ClockOffset is how far the vault's clock is ahead (or, when negative, behind).
	ClockOffset Duration `json:"clockOffset,omitempty" yaml:"clockOffset"`
}

// Generate describes Count secrets Prefix0, Prefix1 …, each with its own name for a value.
type Generate struct {
	Prefix string `json:"prefix" yaml:"prefix"`
	Count  int    `json:"count"  yaml:"count"`
}

// What Key Vault grants one vault in one region; see its page on service limits.
const (
	DefaultTransactions = 4000
	DefaultPer          = Duration(10 * time.Second)
)

// Limit is a bucket of Transactions that refills within Per. Zero fields are filled in with the defaults.
type Limit struct {
	Transactions int      `json:"transactions,omitempty" yaml:"transactions"`
	Per          Duration `json:"per,omitempty"          yaml:"per"`
}

// Permission is what one principal may do in a vault: by roles (access: rbac) or by lists (access: policy).
type Permission struct {
	Principal string   `json:"principal"       yaml:"principal"`
	Roles     []string `json:"roles,omitempty" yaml:"roles"`
	// Scopes narrow roles to objects, each "secrets/name", "certificates/name" or "keys/name".
	Scopes       []string `json:"scopes,omitempty"       yaml:"scopes"`
	Secrets      []string `json:"secrets,omitempty"      yaml:"secrets"`
	Certificates []string `json:"certificates,omitempty" yaml:"certificates"`
	Keys         []string `json:"keys,omitempty"         yaml:"keys"`
}

// Meta is what secrets, certificates and keys have in common.
type Meta struct {
	Name string `json:"name,omitempty" yaml:"name"`
	// Version is 32 lower-case hexadecimal digits, drawn at random when absent.
	Version   string            `json:"version,omitempty"   yaml:"version"`
	Enabled   *bool             `json:"enabled,omitempty"   yaml:"enabled"`
	NotBefore *time.Time        `json:"notBefore,omitempty" yaml:"notBefore"`
	Expires   *time.Time        `json:"expires,omitempty"   yaml:"expires"`
	Tags      map[string]string `json:"tags,omitempty"      yaml:"tags"`
}

// Secret is a secret with one version.
type Secret struct {
	Meta        `yaml:",inline"`
	Value       string `json:"value"               yaml:"value"`
	ValueFile   string `json:"valueFile,omitempty" yaml:"valueFile"`
	ContentType string `json:"contentType,omitempty" yaml:"contentType"`
}

// Certificate is either imported (File or Data) or generated (everything else).
type Certificate struct {
	Meta `yaml:",inline"`
	// File is a PFX or PEM file beside the seed file; Data is PEM text or a base64 PFX.
	File     string `json:"file,omitempty"     yaml:"file"`
	Data     string `json:"data,omitempty"     yaml:"data"`
	Password string `json:"password,omitempty" yaml:"password"`

	// Subject is a distinguished name, CN=<name> when absent.
	Subject        string   `json:"subject,omitempty"        yaml:"subject"`
	DNSNames       []string `json:"dnsNames,omitempty"       yaml:"dnsNames"`
	ValidityMonths int      `json:"validityMonths,omitempty" yaml:"validityMonths"`
	// Chain is the number of certificates in the chain, the leaf included; 1 is self-signed.
	Chain int `json:"chain,omitempty" yaml:"chain"`

	KeyType string `json:"keyType,omitempty" yaml:"keyType"`
	KeySize int    `json:"keySize,omitempty" yaml:"keySize"`
	Curve   string `json:"curve,omitempty"   yaml:"curve"`
	// Exportable is true when absent.
	Exportable *bool `json:"exportable,omitempty" yaml:"exportable"`
	// ContentType is application/x-pkcs12 (when absent) or application/x-pem-file.
	ContentType string `json:"contentType,omitempty" yaml:"contentType"`
	Order       Order  `json:"order,omitempty"       yaml:"order"`
	PFX         PFX    `json:"pfx,omitempty"         yaml:"pfx"`
}

// Key is a key pair made at the start.
type Key struct {
	Meta `yaml:",inline"`
	// Type is RSA (when absent) or EC.
	Type       string   `json:"type,omitempty"       yaml:"type"`
	Size       int      `json:"size,omitempty"       yaml:"size"`
	Curve      string   `json:"curve,omitempty"      yaml:"curve"`
	Operations []string `json:"operations,omitempty" yaml:"operations"`
}

// FaultKind names one way in which a vault or a sign-in can misbehave.
type FaultKind string

// The faults there are. The last four are a vault's only.
const (
	FaultThrottle FaultKind = "throttle" // 429, with Retry-After when RetryAfter is set
	FaultError    FaultKind = "error"    // Status, 503 when absent
	FaultLatency  FaultKind = "latency"  // waits Latency, then answers
	FaultHang     FaultKind = "hang"     // no answer until the fault is cleared or the client has gone
	FaultReset    FaultKind = "reset"    // the connection is reset
	FaultTruncate FaultKind = "truncate" // the whole Content-Length, half of the body, and the connection ends
	FaultSlow     FaultKind = "slow"     // the body takes Latency to arrive, piece by piece
	FaultFirewall FaultKind = "firewall" // 403 ForbiddenByFirewall
	FaultForbid   FaultKind = "forbid"   // 403 as without permission
	FaultRevoke   FaultKind = "revoke"   // 401 for every token used before the fault was set
	FaultDNS      FaultKind = "dns"      // the proxy finds no such host; open connections to it are cut
)

// FaultKinds lists the kinds that a vault can be given, SignInFaultKinds those of a sign-in.
func FaultKinds() []FaultKind {
	return append(SignInFaultKinds(), FaultFirewall, FaultForbid, FaultRevoke, FaultDNS)
}

// SignInFaultKinds lists the kinds that make sense before there is a vault.
func SignInFaultKinds() []FaultKind {
	return []FaultKind{FaultThrottle, FaultError, FaultLatency, FaultHang, FaultReset, FaultTruncate, FaultSlow}
}

// Fault makes matching requests fail or wait until it is cleared or used up.
type Fault struct {
	Kind       FaultKind `json:"kind"                 yaml:"kind"`
	Status     int       `json:"status,omitempty"     yaml:"status"`
	RetryAfter int       `json:"retryAfter,omitempty" yaml:"retryAfter"` // seconds
	Latency    Duration  `json:"latency,omitempty"    yaml:"latency"`
	// Operations limits it to operations named as the counters name them, such as "secrets/get".
	Operations []string `json:"operations,omitempty" yaml:"operations"`
	// Objects limits it to objects, each as "secrets/name".
	Objects []string `json:"objects,omitempty" yaml:"objects"`
	// Probability is how likely a matching request is to meet it, above 0 and up to 1; 0 is always.
	Probability float64 `json:"probability,omitempty" yaml:"probability"`
	// Count is how many requests it meets before it ends; 0 is no end.
	Count int `json:"count,omitempty" yaml:"count"`
}

// Duration is a time.Duration written as "250ms" or "-2s".
type Duration time.Duration

// UnmarshalText reads the form that time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return errDuration
	}
	*d = Duration(parsed)
	return nil
}

// MarshalText is the reverse of UnmarshalText.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }
