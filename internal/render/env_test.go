// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"encoding/pem"
	"errors"
	"testing"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

func TestEnv(t *testing.T) {
	t.Parallel()
	pfx, public := kept().pfx, pemOf(kept().server)
	der := vault.Object{Certificate: kept().server.Raw}
	for name, tc := range map[string]struct {
		object     v2beta1.ObjectType
		query      string
		answer     vault.Object
		privateKey bool
		want       func(string) bool
		err        error
	}{
		"Secret":               {v2beta1.ObjectSecret, "", object("v"), false, is("v"), nil},
		"SecretQuery":          {v2beta1.ObjectSecret, "tls.key", object("v"), false, nil, render.ErrQuery},
		"Certificate":          {v2beta1.ObjectCertificate, "", der, false, is(public), nil},
		"CertificatePublic":    {v2beta1.ObjectCertificate, "tls.crt", der, false, is(public), nil},
		"CertificateKey":       {v2beta1.ObjectCertificate, "tls.key", object(pfx), true, isPEM("EC PRIVATE KEY"), nil},
		"CertificateKeyLocked": {v2beta1.ObjectCertificate, "tls.key", object(public), true, nil, render.ErrNotExportable},
		"CertificateBroken":    {v2beta1.ObjectCertificate, "tls.key", object("x"), true, nil, render.ErrCertificate},
		"CertificateNoDER":     {v2beta1.ObjectCertificate, "", object("x"), false, nil, render.ErrCertificate},
		"CertificateOther":     {v2beta1.ObjectCertificate, "tls.pem", der, false, nil, render.ErrQuery},
		"Key":                  {v2beta1.ObjectKey, "", vault.Object{}, false, nil, render.ErrQuery},
		"MultiKey":             {v2beta1.ObjectMultiKeyValue, "a", object(`{"a":"b"}`), false, nil, render.ErrQuery},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec(tc.object, "", "")
			ref, errRef := render.EnvReference(s, tc.query)
			if errRef == nil && ref.PrivateKey != tc.privateKey {
				t.Errorf("asks for the private key: %v, want %v", ref.PrivateKey, tc.privateKey)
			}
			if errors.Is(tc.err, render.ErrQuery) && !errors.Is(errRef, render.ErrQuery) {
				t.Errorf("reference: error %v, want %v", errRef, render.ErrQuery)
			}
			got, err := render.Env(s, tc.query, tc.answer)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if tc.want != nil && !tc.want(string(got.Reveal())) {
				t.Error("another value than expected")
			}
		})
	}
}

func is(want string) func(string) bool { return func(got string) bool { return got == want } }

func isPEM(kind string) func(string) bool {
	return func(got string) bool {
		block, rest := pem.Decode([]byte(got))
		return block != nil && block.Type == kind && len(rest) == 0
	}
}

func TestEnvTransforms(t *testing.T) {
	t.Parallel()
	s := spec(v2beta1.ObjectSecret, "", "")
	s.Output = v2beta1.Output{Transform: []v2beta1.Transform{"trim", "base64decode"}}
	got, err := render.Env(s, "", object(" dg== \n"))
	if err != nil || string(got.Reveal()) != "v" {
		t.Errorf("Env(): error %v, or another value", err)
	}
	if _, err := render.Env(s, "", object("!")); !errors.Is(err, render.ErrTransform) {
		t.Errorf("error %v, want %v", err, render.ErrTransform)
	}
}
