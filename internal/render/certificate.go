// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/certs"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// keptPair is for a secret in which somebody keeps a pair. The vault knows nothing
// of keys there, so a missing one is not one that it would not export.
func keptPair(to target, obj vault.Object) (map[string]secret.Value, error) {
	pair, err := tlsPair(to, obj)
	if errors.Is(err, ErrNotExportable) {
		return nil, ErrCertificate
	}
	return pair, err
}

// tlsPair takes the secret that backs a certificate.
func tlsPair(to target, obj vault.Object) (map[string]secret.Value, error) {
	bundle, err := certs.Parse(obj.Value)
	if err != nil {
		return nil, certificateError(err)
	}
	chain, err := chainOf(bundle, to.serverFirst)
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

func chainOf(b certs.Bundle, serverFirst bool) ([]byte, error) {
	if serverFirst {
		return b.ServerFirst()
	}
	return b.AsGiven()
}

// export is the file that the vault exports, with the private key in it.
func export(obj vault.Object) (secret.Value, error) {
	bundle, err := certs.Parse(obj.Value)
	if err != nil {
		return secret.Value{}, certificateError(err)
	}
	return bundle.File(), nil
}

// exportText is the same as the vault keeps it, which is text: PEM, or the base64
// of a PFX. Bytes could not stand in an environment.
func exportText(obj vault.Object) (secret.Value, error) {
	if _, err := certs.Parse(obj.Value); err != nil {
		return secret.Value{}, certificateError(err)
	}
	return obj.Value, nil
}

func publicPEM(obj vault.Object) (secret.Value, error) {
	text, err := certs.PublicPEM(obj.Certificate)
	if err != nil {
		return secret.Value{}, ErrCertificate
	}
	return secret.New(text), nil
}

func privatePEM(obj vault.Object) (secret.Value, error) {
	bundle, err := certs.Parse(obj.Value)
	if err != nil {
		return secret.Value{}, certificateError(err)
	}
	key, err := bundle.PrivateKey()
	if err != nil {
		return secret.Value{}, certificateError(err)
	}
	return key, nil
}

// certificateError keeps the cases apart that people meet, above all a key that
// was never meant to leave.
func certificateError(err error) error {
	switch {
	case errors.Is(err, certs.ErrNoKey):
		return ErrNotExportable
	case errors.Is(err, certs.ErrNoLeaf):
		return ErrNoLeaf
	case errors.Is(err, certs.ErrChain):
		if e, ok := errors.AsType[*certs.ChainError](err); ok {
			return detail{e.Error(), ErrChain}
		}
		return ErrChain
	default:
		return ErrCertificate
	}
}
