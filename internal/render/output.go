// SPDX-License-Identifier: Apache-2.0

package render

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// A target is where an object is kept, and how.
type target struct {
	kind        Kind
	secretType  corev1.SecretType // as it is written; empty for a ConfigMap
	dataKey     string
	serverFirst bool
	addAuth     bool
	format      v2beta1.KeyFormat
	contentType v2beta1.ContentType
}

// An output says how one kind of object becomes one type of Secret, or a
// ConfigMap.
type output struct {
	object     v2beta1.ObjectType
	secretType corev1.SecretType // anyType is every other, none, and a ConfigMap
	privateKey bool              // whether the vault is asked for the private key
	keys       func(target) ([]string, error)
	render     func(target, vault.Object) (map[string]secret.Value, error)
}

const anyType corev1.SecretType = "*"

// outputs are the combinations that work; of two that fit, the first. A
// certificate's Opaque is not what it is without a type: written out, it has
// always meant the whole export with its private key, and left out the public
// certificate.
var outputs = []output{
	{v2beta1.ObjectSecret, corev1.SecretTypeTLS, false, fixed(corev1.TLSCertKey, corev1.TLSPrivateKeyKey), keptPair},
	{v2beta1.ObjectSecret, corev1.SecretTypeBasicAuth, false, fixed(corev1.BasicAuthPasswordKey, corev1.BasicAuthUsernameKey), basicAuth},
	{v2beta1.ObjectSecret, corev1.SecretTypeDockerConfigJson, false, fixed(corev1.DockerConfigJsonKey), dockerConfig},
	{v2beta1.ObjectSecret, corev1.SecretTypeDockercfg, false, fixed(corev1.DockerConfigKey), under(corev1.DockerConfigKey)},
	{v2beta1.ObjectSecret, corev1.SecretTypeSSHAuth, false, fixed(corev1.SSHAuthPrivateKey), under(corev1.SSHAuthPrivateKey)},
	{v2beta1.ObjectSecret, anyType, false, dataKey, one(whole)},
	{v2beta1.ObjectCertificate, corev1.SecretTypeTLS, true, fixed(corev1.TLSCertKey, corev1.TLSPrivateKeyKey), tlsPair},
	{v2beta1.ObjectCertificate, corev1.SecretTypeOpaque, true, dataKey, one(export)},
	{v2beta1.ObjectCertificate, anyType, false, dataKey, one(publicPEM)},
	{v2beta1.ObjectKey, anyType, false, dataKey, keyText},
	{v2beta1.ObjectMultiKeyValue, anyType, false, open, entries},
}

// A choice is the output for a spec, with what the spec alone settles.
type choice struct {
	output

	to   target
	keys []string // nil when they are the object's
}

func choose(spec v2beta1.AzureKeyVaultSecretSpec, kind Kind) (choice, error) {
	to, err := targetOf(spec, kind)
	if err != nil {
		return choice{}, err
	}
	return fit(spec.Vault.Object.Type, to)
}

func fit(object v2beta1.ObjectType, to target) (choice, error) {
	for _, o := range outputs {
		if o.object != object || o.secretType != to.secretType && o.secretType != anyType {
			continue
		}
		keys, err := o.keys(to)
		if err == nil && keys != nil {
			err = complete(to.kept(), keys)
		}
		return choice{o, to, keys}, err
	}
	return choice{}, ErrUnsupported
}

func targetOf(spec v2beta1.AzureKeyVaultSecretSpec, kind Kind) (target, error) {
	to := target{kind: kind, format: spec.Output.Format, contentType: spec.Vault.Object.ContentType}
	switch out := spec.Output; {
	case kind == Secret && out.Secret != nil:
		to.secretType, to.dataKey = corev1.SecretType(out.Secret.Type), out.Secret.DataKey
		to.serverFirst, to.addAuth = out.Secret.ChainOrder != "", out.Secret.AddAuth
	case kind == ConfigMap && out.ConfigMap != nil:
		to.dataKey = out.ConfigMap.DataKey
	default:
		return target{}, ErrUnsupported
	}
	if to.secretType == corev1.SecretTypeServiceAccountToken || to.secretType == corev1.SecretTypeBootstrapToken {
		return target{}, ErrReserved
	}
	return to, nil
}

// kept is the type that the output has in the cluster.
func (t target) kept() corev1.SecretType {
	if t.kind == Secret && t.secretType == "" {
		return corev1.SecretTypeOpaque
	}
	return t.secretType
}

// dataKey is for outputs of one value.
func dataKey(to target) ([]string, error) {
	switch {
	case to.dataKey == "" && to.kind == ConfigMap:
		return nil, detail{"spec.output.configMap.dataKey is required", ErrDataKey}
	case to.dataKey == "":
		return nil, detail{"spec.output.secret.dataKey is required", ErrDataKey}
	case !isKey(to.dataKey):
		return nil, ErrDataKeyName
	}
	return []string{to.dataKey}, nil
}

// isKey goes by what the API server takes.
func isKey(name string) bool { return len(validation.IsConfigMapKey(name)) == 0 }

// open is for outputs whose keys are in the value.
func open(to target) ([]string, error) {
	if readers[to.contentType] == nil {
		return nil, ErrContentType
	}
	return nil, nil
}

// fixed is for outputs whose keys are their type's.
func fixed(keys ...string) func(target) ([]string, error) {
	return func(target) ([]string, error) { return slices.Clone(keys), nil }
}

// one keeps what part gives under dataKey.
func one(part func(vault.Object) (secret.Value, error)) func(target, vault.Object) (map[string]secret.Value, error) {
	return func(to target, obj vault.Object) (map[string]secret.Value, error) {
		v, err := part(obj)
		if err != nil {
			return nil, err
		}
		return map[string]secret.Value{to.dataKey: v}, nil
	}
}

// under keeps the value as it is, under the key of the output's type.
func under(key string) func(target, vault.Object) (map[string]secret.Value, error) {
	return func(_ target, obj vault.Object) (map[string]secret.Value, error) {
		return map[string]secret.Value{key: obj.Value}, nil
	}
}

func whole(obj vault.Object) (secret.Value, error) { return obj.Value, nil }
