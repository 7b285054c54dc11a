// SPDX-License-Identifier: Apache-2.0

// Package render turns a vault object into what a spec asks for: the data of a
// Secret or a ConfigMap, or one environment value. It also says which read that
// needs. It performs no I/O, and no error of it carries anything of a value.
//
// A new output type starts in outputs (output.go); a new placeholder query in
// queries (env.go).
package render

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Kind is the kind of an output.
type Kind string

// The two kinds of output.
const (
	Secret    Kind = "Secret"
	ConfigMap Kind = "ConfigMap"
)

// Payload is what one output holds.
type Payload struct {
	Kind Kind
	Type corev1.SecretType // empty for a ConfigMap
	Data map[string]secret.Value
}

// Shape is what is known of an output before its object is read.
type Shape struct {
	Type corev1.SecretType // empty for a ConfigMap
	Keys []string          // of the data, sorted
	Open bool              // the keys are known only once the object is read
}

// OutputReference is what to read for an output of this kind. It fails where no
// object whatever could be rendered: only another spec changes that.
func OutputReference(spec v2beta1.AzureKeyVaultSecretSpec, kind Kind) (vault.Reference, error) {
	c, err := choose(spec, kind)
	if err != nil {
		return vault.Reference{}, err
	}
	return reference(spec.Vault, c.privateKey), nil
}

// OutputShape is the shape of an output of this kind. It fails as OutputReference.
func OutputShape(spec v2beta1.AzureKeyVaultSecretSpec, kind Kind) (Shape, error) {
	c, err := choose(spec, kind)
	if err != nil {
		return Shape{}, err
	}
	return Shape{Type: c.to.kept(), Keys: c.keys, Open: c.keys == nil}, nil
}

// Output renders the object that OutputReference names.
func Output(spec v2beta1.AzureKeyVaultSecretSpec, kind Kind, obj vault.Object) (Payload, error) {
	c, err := choose(spec, kind)
	if err != nil {
		return Payload{}, err
	}
	if obj.Value.Len() > corev1.MaxSecretSize {
		return Payload{}, ErrSize
	}
	obj, err = transformed(spec, obj)
	if err != nil {
		return Payload{}, err
	}
	data, err := c.render(c.to, obj)
	if err != nil {
		return Payload{}, err
	}
	if err := acceptable(c.to.kept(), data); err != nil {
		return Payload{}, err
	}
	return Payload{Kind: kind, Type: c.to.kept(), Data: data}, nil
}

// kindOf maps what people write to where the vault keeps it.
func kindOf(t v2beta1.ObjectType) vault.Kind {
	switch t {
	case v2beta1.ObjectCertificate:
		return vault.KindCertificate
	case v2beta1.ObjectKey:
		return vault.KindKey
	default:
		return vault.KindSecret
	}
}

func reference(v v2beta1.Vault, privateKey bool) vault.Reference {
	return vault.Reference{
		Vault:      v.Name,
		Kind:       kindOf(v.Object.Type),
		Name:       v.Object.Name,
		Version:    v.Object.Version,
		PrivateKey: privateKey,
	}
}
