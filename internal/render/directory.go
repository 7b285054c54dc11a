// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// DirectoryReference is what to read for a placeholder that takes all parts of an
// object, each as a file. It fails where no object whatever has parts, with
// ErrDirectory, and where the spec does not say how to read it: only another
// placeholder or another spec changes that.
func DirectoryReference(spec v2beta1.AzureKeyVaultSecretSpec) (vault.Reference, error) {
	c, err := directory(spec)
	if err != nil {
		return vault.Reference{}, err
	}
	return reference(spec.Vault, c.privateKey), nil
}

// Directory renders the parts of the object, which must be the one that
// DirectoryReference names, by the names of their files.
func (p Parts) Directory() (map[string]secret.Value, error) {
	c, err := directory(p.spec)
	if err != nil {
		return nil, err
	}
	data, err := p.all(c)
	if err == nil {
		err = acceptable(c.to.kept(), data)
	}
	if err != nil {
		return nil, inPlaceholder(err)
	}
	return data, nil
}

func (p Parts) all(c choice) (map[string]secret.Value, error) {
	if c.object == v2beta1.ObjectMultiKeyValue {
		return p.entries()
	}
	obj, err := p.transformed()
	if err != nil {
		return nil, err
	}
	return c.render(c.to, obj)
}

// directory is the Secret whose data are the files: a certificate's is the one that
// holds its pair, entries have always been keys, and a plain secret has parts if its
// output is of a type that takes it apart.
func directory(spec v2beta1.AzureKeyVaultSecretSpec) (choice, error) {
	to := asked(spec, "")
	to.kind = Secret
	switch out := spec.Output.Secret; {
	case spec.Vault.Object.Type == v2beta1.ObjectCertificate:
		to.secretType = corev1.SecretTypeTLS
	case spec.Vault.Object.Type == v2beta1.ObjectSecret && out != nil:
		to.secretType, to.addAuth = corev1.SecretType(out.Type), out.AddAuth
	}
	c, err := fit(spec.Vault.Object.Type, to)
	if c.secretType == anyType && c.object != v2beta1.ObjectMultiKeyValue {
		return choice{}, detail{fmt.Sprintf("%v, of type %s: ask for a file of it with ;file", ErrDirectory, c.object), ErrDirectory}
	}
	return c, err
}
