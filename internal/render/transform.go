// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/base64"
	"slices"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// transformed is the object with the spec's transforms done, in their order.
// They are about plain secrets; manifests that carry them on other types of
// object exist and have always meant nothing by it.
func transformed(spec v2beta1.AzureKeyVaultSecretSpec, obj vault.Object) (vault.Object, error) {
	if spec.Vault.Object.Type != v2beta1.ObjectSecret {
		return obj, nil
	}
	for _, t := range slices.Concat(spec.Output.Transform, spec.Output.Transforms) {
		value, err := transform(t, obj.Value)
		if err != nil {
			return vault.Object{}, err
		}
		obj.Value = value
	}
	return obj, nil
}

func transform(t v2beta1.Transform, v secret.Value) (secret.Value, error) {
	switch t {
	case "trim":
		return secret.New(bytes.TrimSpace(v.Reveal())), nil
	case "base64encode":
		return secret.New(base64.StdEncoding.AppendEncode(nil, v.Reveal())), nil
	case "base64decode":
		decoded, err := base64.StdEncoding.AppendDecode(nil, v.Reveal())
		if err != nil {
			return secret.Value{}, ErrTransform // the decoder's error quotes what it read
		}
		return secret.New(decoded), nil
	default:
		return secret.Value{}, ErrTransform
	}
}
