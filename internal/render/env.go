// SPDX-License-Identifier: Apache-2.0

package render

import (
	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// A query says which part of one kind of object a placeholder means.
type query struct {
	object     v2beta1.ObjectType
	text       string // behind the placeholder's '?'; empty is none
	privateKey bool   // whether the vault is asked for the private key
	render     func(vault.Object) (secret.Value, error)
}

// queries are the placeholders that work; every other is ErrQuery. A
// certificate's public part is its own certificate, without issuers: the vault
// gives it without the private key, so nothing more is read than was asked for.
var queries = []query{
	{v2beta1.ObjectSecret, "", false, whole},
	{v2beta1.ObjectCertificate, "", false, publicPEM},
	{v2beta1.ObjectCertificate, "tls.crt", false, publicPEM},
	{v2beta1.ObjectCertificate, "tls.key", true, privatePEM},
}

// EnvReference is what to read for a placeholder with this query.
func EnvReference(spec v2beta1.AzureKeyVaultSecretSpec, text string) (vault.Reference, error) {
	q, err := queryOf(spec.Vault.Object.Type, text)
	if err != nil {
		return vault.Reference{}, err
	}
	return reference(spec.Vault, q.privateKey), nil
}

// Env renders the object that EnvReference names.
func Env(spec v2beta1.AzureKeyVaultSecretSpec, text string, obj vault.Object) (secret.Value, error) {
	q, err := queryOf(spec.Vault.Object.Type, text)
	if err != nil {
		return secret.Value{}, err
	}
	obj, err = transformed(spec, obj)
	if err != nil {
		return secret.Value{}, err
	}
	return q.render(obj)
}

func queryOf(t v2beta1.ObjectType, text string) (query, error) {
	for _, q := range queries {
		if q.object == t && q.text == text {
			return q, nil
		}
	}
	return query{}, ErrQuery
}
