// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"encoding/json"
	"fmt"
)

// Vault is the emulator's back door: it changes what the vaults hold and tells
// what they hold. It goes through the API server, so that it works on every
// cluster.
type Vault struct{ c *Cluster }

// Vault returns the emulator's back door.
func (c *Cluster) Vault() Vault { return Vault{c} }

// Certificate is what a vault holds under a certificate's name.
type Certificate struct {
	Version    string `json:"version"`
	Thumbprint string `json:"thumbprint"`
	LeafPEM    string `json:"leafPem"`
	ChainPEM   string `json:"chainPem"`
	KeyPEM     string `json:"keyPem"` // PKCS#8
	// SecretValue is what the vault hands out for it: PFX in base64, or PEM.
	SecretValue string `json:"secretValue"`
}

// Certificate reads the current version of a certificate.
func (v Vault) Certificate(ctx context.Context, vault, name string) (Certificate, error) {
	var out Certificate
	text, err := v.c.Kubectl(ctx, "", "get", "--raw", v.path("vaults/%s/certificates/%s", vault, name))
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal([]byte(text), &out)
}

// Rotate makes a new version of a certificate, with a new key.
func (v Vault) Rotate(ctx context.Context, vault, name string) error {
	_, err := v.c.Kubectl(ctx, "{}", "create", "--raw", v.path("vaults/%s/certificates/%s/rotate", vault, name), "-f", "-")
	return err
}

// SetSecret adds a version to a secret.
func (v Vault) SetSecret(ctx context.Context, vault, name string, secret Secret) error {
	return v.write(ctx, "replace", v.path("vaults/%s/secrets/%s", vault, name), secret)
}

// Secret is a secret as SetSecret takes it.
type Secret struct {
	Value   string `json:"value"`
	Enabled *bool  `json:"enabled,omitempty"` // true when absent
}

// CertificateSpec says which certificate to make; see docs/emulator.md.
type CertificateSpec struct {
	Subject     string `json:"subject,omitempty"`
	Chain       int    `json:"chain,omitempty"`
	KeyType     string `json:"keyType,omitempty"`
	Curve       string `json:"curve,omitempty"`
	ContentType string `json:"contentType,omitempty"`
	Order       string `json:"order,omitempty"`
	PFX         string `json:"pfx,omitempty"`
	Exportable  *bool  `json:"exportable,omitempty"` // true when absent
}

// MakeCertificate makes a certificate, or a version of one.
func (v Vault) MakeCertificate(ctx context.Context, vault, name string, spec CertificateSpec) error {
	return v.write(ctx, "replace", v.path("vaults/%s/certificates/%s", vault, name), spec)
}

// Delete deletes an object, softly: Recover brings it back.
func (v Vault) Delete(ctx context.Context, vault, kind, name string) error {
	_, err := v.c.Kubectl(ctx, "", "delete", "--raw", v.path("vaults/%s/%s/%s", vault, kind, name))
	return err
}

// Recover brings a deleted object back.
func (v Vault) Recover(ctx context.Context, vault, kind, name string) error {
	return v.write(ctx, "create", v.path("vaults/%s/deleted/%s/%s/recover", vault, kind, name), struct{}{})
}

// Fault is one way in which a vault misbehaves towards some objects.
type Fault struct {
	Kind       string   `json:"kind"`
	Status     int      `json:"status,omitempty"`
	RetryAfter int      `json:"retryAfter,omitempty"` // seconds
	Latency    string   `json:"latency,omitempty"`    // such as 10ms
	Operations []string `json:"operations,omitempty"` // as the counters name them; none is all
	Objects    []string `json:"objects,omitempty"`    // KIND/NAME; none is all
}

// Misbehave replaces the faults of a vault.
func (v Vault) Misbehave(ctx context.Context, vault string, faults []Fault) error {
	return v.write(ctx, "replace", v.path("vaults/%s/faults", vault), map[string]any{"faults": faults})
}

// MisbehaveSignIns replaces the faults of the login hosts and the metadata service.
func (v Vault) MisbehaveSignIns(ctx context.Context, faults []Fault) error {
	return v.write(ctx, "replace", v.path("sign-in/faults"), map[string]any{"faults": faults})
}

// RevokeTokens makes every access token that was issued so far invalid.
func (v Vault) RevokeTokens(ctx context.Context) error {
	return v.write(ctx, "create", v.path("tokens/revoke"), struct{}{})
}

// SignIns counts sign-ins by path and status.
func (v Vault) SignIns(ctx context.Context) (map[string]int, error) {
	text, err := v.c.Kubectl(ctx, "", "get", "--raw", v.path("counters"))
	if err != nil {
		return nil, err
	}
	var out struct {
		SignIns map[string]int `json:"signIns"`
	}
	return out.SignIns, json.Unmarshal([]byte(text), &out)
}

func (v Vault) write(ctx context.Context, verb, path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	_, err = v.c.Kubectl(ctx, string(text), verb, "--raw", path, "-f", "-")
	return err
}

func (v Vault) path(format string, args ...any) string {
	return fmt.Sprintf("/api/v1/namespaces/%s/services/http:%s:8081/proxy/v1/", EmulatorNamespace, emulator) + fmt.Sprintf(format, args...)
}
