// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// A query says which part of one kind of object a placeholder means: it renders
// as an output does that has the query for its dataKey, and takes what stands
// under that key.
type query struct {
	object     v2beta1.ObjectType
	text       string // behind the placeholder's '?'; empty is none
	privateKey bool   // whether the vault is asked for the private key
	render     func(target, vault.Object) (map[string]secret.Value, error)
}

// What a query says, where it is not a key of a Secret.
const (
	raw      = "raw" // what the vault holds, whatever the spec's output does with it
	anyEntry = "*"   // each name that an entry can have
)

// queries are the placeholders that work; every other is ErrQuery. A
// certificate's public part is its own certificate, without issuers: the vault
// gives it without the private key, so nothing more is read than was asked for.
// Of several values every query is the name of one, also where it is a word that
// means something of other objects.
var queries = []query{
	{v2beta1.ObjectSecret, "", false, one(whole)},
	{v2beta1.ObjectSecret, raw, false, one(whole)},
	{v2beta1.ObjectSecret, corev1.BasicAuthUsernameKey, false, basicAuth},
	{v2beta1.ObjectSecret, corev1.BasicAuthPasswordKey, false, basicAuth},
	{v2beta1.ObjectSecret, corev1.TLSCertKey, false, keptPair},
	{v2beta1.ObjectSecret, corev1.TLSPrivateKeyKey, false, keptPair},
	{v2beta1.ObjectCertificate, "", false, one(publicPEM)},
	{v2beta1.ObjectCertificate, corev1.TLSCertKey, false, one(publicPEM)},
	{v2beta1.ObjectCertificate, corev1.TLSPrivateKeyKey, true, one(privatePEM)},
	{v2beta1.ObjectCertificate, raw, true, one(exportText)},
	{v2beta1.ObjectKey, "", false, keyText},
	{v2beta1.ObjectKey, string(v2beta1.FormatPEM), false, keyAs(v2beta1.FormatPEM)},
	{v2beta1.ObjectKey, string(v2beta1.FormatJWK), false, keyAs(v2beta1.FormatJWK)},
	{v2beta1.ObjectKey, string(v2beta1.FormatModulus), false, keyAs(v2beta1.FormatModulus)},
	{v2beta1.ObjectKey, raw, false, keyAs(v2beta1.FormatJWK)},
	{v2beta1.ObjectMultiKeyValue, anyEntry, false, entries},
}

// Queries lists for people which queries fit an object of this type. The text of
// ErrQuery does so too.
func Queries(t v2beta1.ObjectType) []string {
	var out []string
	for _, q := range queries {
		switch {
		case q.object != t:
		case q.text == "":
			out = append(out, "none")
		case q.text == anyEntry:
			out = append(out, "the names of its entries")
		default:
			out = append(out, q.text)
		}
	}
	return out
}

// EnvReference is what to read for a placeholder with this query. It fails where
// no object whatever has such a part, with ErrQuery, and where the spec does not
// say how to read it: only another placeholder or another spec changes that.
func EnvReference(spec v2beta1.AzureKeyVaultSecretSpec, text string) (vault.Reference, error) {
	q, err := queryOf(spec.Vault.Object, text)
	if err != nil {
		return vault.Reference{}, err
	}
	return reference(spec.Vault, q.privateKey), nil
}

// Parts is one object, of which placeholders take what they ask for. What several
// of them have in common is done once: taking 500 entries apart costs more than
// finding one among them.
type Parts struct {
	spec        v2beta1.AzureKeyVaultSecretSpec
	object      vault.Object // as the vault gave it
	transformed func() (vault.Object, error)
	entries     func() (map[string]secret.Value, error)
}

// Open does nothing yet: an object may turn out not to be what its spec says.
func Open(spec v2beta1.AzureKeyVaultSecretSpec, obj vault.Object) Parts {
	return Parts{
		spec: spec, object: obj,
		transformed: sync.OnceValues(func() (vault.Object, error) { return transformed(spec, obj) }),
		entries:     sync.OnceValues(func() (map[string]secret.Value, error) { return entries(asked(spec, anyEntry), obj) }),
	}
}

// Env renders what a placeholder with this query takes of the object, which must
// be the one that EnvReference names. It fails with ErrNoEntry where the object is
// as it should be and has no such entry.
func (p Parts) Env(text string) (secret.Value, error) {
	q, err := queryOf(p.spec.Vault.Object, text)
	if err != nil {
		return secret.Value{}, err
	}
	data, err := p.render(q, text)
	if err != nil {
		return secret.Value{}, inPlaceholder(err)
	}
	value, ok := data[text]
	if !ok {
		return secret.Value{}, detail{fmt.Sprintf("its value has no entry of the name %s", text), ErrNoEntry}
	}
	return value, nil
}

func (p Parts) render(q query, text string) (map[string]secret.Value, error) {
	switch {
	case q.text == anyEntry:
		return p.entries()
	case text == raw:
		return q.render(asked(p.spec, text), p.object)
	}
	obj, err := p.transformed()
	if err != nil {
		return nil, err
	}
	return q.render(asked(p.spec, text), obj)
}

func queryOf(object v2beta1.VaultObject, text string) (query, error) {
	for _, q := range queries {
		switch {
		case q.object != object.Type:
		case q.text == anyEntry:
			return q, nameable(object, text)
		case q.text == text:
			return q, nil
		}
	}
	return query{}, unfit(object.Type)
}

// nameable says whether an entry can have this name and be found by it.
func nameable(object v2beta1.VaultObject, name string) error {
	switch {
	case name == "":
		return detail{"a multi-key-value-secret has no value of its own: name an entry, as in NAME@azurekeyvault?ENTRY", ErrQuery}
	case !isKey(name):
		return unfit(object.Type)
	}
	_, err := open(target{contentType: object.ContentType})
	return err
}

func unfit(t v2beta1.ObjectType) error {
	return detail{fmt.Sprintf("%v, of type %s; possible are: %s", ErrQuery, t, strings.Join(Queries(t), ", ")), ErrQuery}
}

// asked is a target for the one value that a placeholder takes.
func asked(spec v2beta1.AzureKeyVaultSecretSpec, text string) target {
	to := target{dataKey: text, format: spec.Output.Format, contentType: spec.Vault.Object.ContentType}
	if out := spec.Output.Secret; out != nil {
		to.serverFirst = out.ChainOrder != ""
	}
	return to
}

// sayings are for errors whose own texts speak of an output's fields.
var sayings = []detail{
	{"the value is not of the form username:password", ErrBasicAuth},
	{"an EC key has no modulus: ask for ?pem or ?jwk, or set spec.output.format", ErrKeyFormat},
	{"a key on the curve P-256K has no PEM form here: ask for ?jwk", ErrCurve},
}

func inPlaceholder(err error) error {
	for _, d := range sayings {
		if errors.Is(err, d.err) {
			return d
		}
	}
	return err
}
