// SPDX-License-Identifier: Apache-2.0

package render

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/certs"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Kind is the kind of an output.
type Kind string

// The kinds of an output.
const (
	Secret    Kind = "Secret"
	ConfigMap Kind = "ConfigMap"
)

// Payload is the type and data of one output.
type Payload struct {
	Kind Kind
	Type corev1.SecretType // empty for a ConfigMap
	Data map[string]secret.Value
}

// Shape is what is known of an output before its object is read.
type Shape struct {
	Type corev1.SecretType // empty for a ConfigMap
	Keys []string
	Open bool // the keys are known only once the object is read
}

// An output says how one kind of object becomes one type of Secret.
type output struct {
	object     v2beta1.ObjectType
	secretType corev1.SecretType
	privateKey bool                                // whether the vault is asked for the private key
	keys       func(v2beta1.SecretOutput) []string // of the data, in order
	render     func(v2beta1.SecretOutput, vault.Object) (map[string]secret.Value, error)
}

// outputs are the combinations that work; every other is ErrUnsupported.
var outputs = []output{
	{v2beta1.ObjectSecret, corev1.SecretTypeOpaque, false, dataKey, value},
	{v2beta1.ObjectCertificate, corev1.SecretTypeTLS, true, tlsKeys, tlsPair},
}

// OutputReference is what to read for a Secret output.
func OutputReference(spec v2beta1.AzureKeyVaultSecretSpec, _ Kind) (vault.Reference, error) {
	o, err := outputOf(spec)
	if err != nil {
		return vault.Reference{}, err
	}
	return reference(spec.Vault, o.privateKey), nil
}

// Output renders the object that OutputReference names.
func Output(spec v2beta1.AzureKeyVaultSecretSpec, kind Kind, obj vault.Object) (Payload, error) {
	o, err := outputOf(spec)
	if err != nil {
		return Payload{}, err
	}
	obj, err = transformed(spec, obj)
	if err != nil {
		return Payload{}, err
	}
	data, err := o.render(*spec.Output.Secret, obj)
	if err != nil {
		return Payload{}, err
	}
	return Payload{Kind: kind, Type: o.secretType, Data: data}, nil
}

// OutputShape is the shape of an output.
func OutputShape(spec v2beta1.AzureKeyVaultSecretSpec, _ Kind) (Shape, error) {
	o, err := outputOf(spec)
	if err != nil {
		return Shape{}, err
	}
	return Shape{Type: o.secretType, Keys: o.keys(*spec.Output.Secret)}, nil
}

func outputOf(spec v2beta1.AzureKeyVaultSecretSpec) (output, error) {
	switch {
	case spec.Output.ConfigMap != nil:
		return output{}, ErrConfigMap
	case spec.Output.Secret == nil:
		return output{}, ErrUnsupported
	}
	want := corev1.SecretType(spec.Output.Secret.Type)
	if want == "" {
		want = corev1.SecretTypeOpaque
	}
	for _, o := range outputs {
		if o.object == spec.Vault.Object.Type && o.secretType == want {
			return o, nil
		}
	}
	return output{}, ErrUnsupported
}

func dataKey(out v2beta1.SecretOutput) []string { return []string{out.DataKey} }

func tlsKeys(v2beta1.SecretOutput) []string {
	return []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey}
}

func value(out v2beta1.SecretOutput, obj vault.Object) (map[string]secret.Value, error) {
	if out.DataKey == "" {
		return nil, ErrDataKey
	}
	return map[string]secret.Value{out.DataKey: obj.Value}, nil
}

func tlsPair(_ v2beta1.SecretOutput, obj vault.Object) (map[string]secret.Value, error) {
	bundle, err := certs.Parse(obj.Value)
	if err != nil {
		return nil, certificateError(err)
	}
	chain, err := bundle.LeafFirst()
	if err != nil {
		return nil, certificateError(err)
	}
	key, err := bundle.PrivateKey()
	if err != nil {
		return nil, certificateError(err)
	}
	return map[string]secret.Value{
		corev1.TLSCertKey:       secret.New(chain),
		corev1.TLSPrivateKeyKey: key,
	}, nil
}
