// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"errors"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
)

// ErrSpecs is a text that WriteSpecs did not write.
var ErrSpecs = errors.New("the specs of AzureKeyVaultSecrets cannot be read")

// WriteSpecs writes of these AzureKeyVaultSecrets, by name, what EnvReference,
// DirectoryReference and Open go by, for a process that cannot ask the API server. There
// is nothing secret in it.
func WriteSpecs(secrets map[string]*v2beta1.AzureKeyVaultSecret) string {
	specs := make(map[string]v2beta1.AzureKeyVaultSecretSpec, len(secrets))
	for name, akvs := range secrets {
		specs[name] = essence(akvs.Spec)
	}
	text, _ := json.Marshal(specs) // texts always marshal; the names are sorted
	return string(text)
}

// ReadSpecs reads what WriteSpecs wrote. Its error quotes nothing.
func ReadSpecs(text string) (map[string]*v2beta1.AzureKeyVaultSecret, error) {
	var specs map[string]v2beta1.AzureKeyVaultSecretSpec
	if err := json.Unmarshal([]byte(text), &specs); err != nil {
		return nil, ErrSpecs
	}
	secrets := make(map[string]*v2beta1.AzureKeyVaultSecret, len(specs))
	for name, spec := range specs {
		secrets[name] = &v2beta1.AzureKeyVaultSecret{Spec: spec}
	}
	return secrets, nil
}

// essence leaves out where an output goes and when it is looked after.
func essence(spec v2beta1.AzureKeyVaultSecretSpec) v2beta1.AzureKeyVaultSecretSpec {
	out := spec.Output
	kept := v2beta1.AzureKeyVaultSecretSpec{
		Vault:  v2beta1.Vault{Name: spec.Vault.Name, Object: spec.Vault.Object},
		Output: v2beta1.Output{Format: out.Format, Transform: out.Transform, Transforms: out.Transforms},
	}
	if s := out.Secret; s != nil && (s.ChainOrder != "" || s.Type != "") { // the type says what a directory has
		kept.Output.Secret = &v2beta1.SecretOutput{Type: s.Type, DataKey: s.DataKey, ChainOrder: s.ChainOrder, AddAuth: s.AddAuth}
	}
	return kept
}
