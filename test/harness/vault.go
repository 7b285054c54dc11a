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

func (v Vault) path(format string, args ...any) string {
	return fmt.Sprintf("/api/v1/namespaces/%s/services/http:%s:8081/proxy/v1/", EmulatorNamespace, emulator) + fmt.Sprintf(format, args...)
}
