// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Record is what an audit says of one object that was read for a container, and for
// which AzureKeyVaultSecret. It holds names alone.
type Record struct {
	Secret  string `json:"azureKeyVaultSecret"`
	Vault   string `json:"vault"`
	Kind    string `json:"kind"` // secret, certificate, key
	Object  string `json:"object"`
	Version string `json:"version"` // that was read; when none was, that was asked for
	// PrivateKey says that a certificate was read with its key.
	PrivateKey bool   `json:"privateKey,omitempty"`
	Reason     string `json:"reason,omitempty"` // of api/v2beta1, when nothing was read
}

// String is for logs that are text.
func (r Record) String() string {
	s := fmt.Sprintf("%s=%s/%s/%s/%s", r.Secret, r.Vault, r.Kind, r.Object, r.Version)
	if r.PrivateKey {
		s += "+key"
	}
	if r.Reason != "" {
		s += "!" + r.Reason
	}
	return s
}

// Records lists what was read for these needs, each AzureKeyVaultSecret and object
// once, sorted.
func Records(needs []Need, reads map[vault.Reference]Read) []Record {
	records := make([]Record, 0, len(needs))
	for _, n := range needs {
		read, ref := reads[n.Reference], n.Reference
		r := Record{
			Secret: n.secret, Vault: ref.Vault, Kind: string(ref.Kind), Object: ref.Name,
			Version: cmp.Or(read.Object.Version, ref.Version), PrivateKey: ref.PrivateKey,
		}
		if read.Err != nil {
			r.Reason = render.Explain(read.Err).Reason
		}
		records = append(records, r)
	}
	slices.SortFunc(records, func(a, b Record) int { return cmp.Compare(a.String(), b.String()) })
	return slices.Compact(records)
}
