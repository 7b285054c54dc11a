// SPDX-License-Identifier: Apache-2.0

// Package render turns a vault object into what a spec asks for: the data of a
// Secret, or one environment value. It also says which read that needs. It
// performs no I/O, and no error of it carries anything of a value.
//
// A new output type starts in outputs (secret.go); a new placeholder query in
// queries (env.go).
package render

import (
	"errors"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/certs"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// The ways rendering fails. Who reads them must change the spec or the object.
var (
	// ErrNotExportable is a private key that may not leave the vault.
	ErrNotExportable = errors.New("the private key is not exportable: " +
		"make the certificate with an exportable key")
	// ErrUnsupported is a combination that there is no output for.
	ErrUnsupported = errors.New("this type of vault object cannot be kept in this type of Secret")
	// ErrConfigMap is an output that there is not yet.
	ErrConfigMap = errors.New("an output to a ConfigMap is not supported")
	// ErrTransform is a value that a transform does not fit.
	ErrTransform = errors.New("a transform does not fit the value: base64decode needs base64")
	// ErrDataKey is an output that needs a key to keep the value under.
	ErrDataKey = errors.New("spec.output.secret.dataKey is required")
	// ErrCertificate is a value that is no certificate with its key.
	ErrCertificate = errors.New("the object is not a certificate with its private key, as PEM or PFX without password")
	// ErrQuery is a placeholder query that fits no part of the object.
	ErrQuery = errors.New("the placeholder's query fits no part of this vault object")
)

// kinds maps what people write to where the vault keeps it.
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

// certificateError keeps the one case apart that people meet: a key that was
// never meant to leave.
func certificateError(err error) error {
	if errors.Is(err, certs.ErrNoKey) {
		return ErrNotExportable
	}
	return ErrCertificate
}
