// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"crypto/tls"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	k := kept()
	for _, o := range []v2beta1.ObjectType{v2beta1.ObjectCertificate, v2beta1.ObjectSecret} {
		for name, tc := range map[string]struct {
			value  string
			change change
			want   string
		}{
			"PFXAsGiven":     {k.pfx, nil, pemOf(k.root, k.server)},
			"PFXServerFirst": {k.pfx, serverFirst, pemOf(k.server, k.root)},
			"PEMAsGiven":     {k.pem, nil, pemOf(k.server, k.root)},
			"PEMServerFirst": {pemOf(k.root) + k.pem, serverFirst, pemOf(k.server, k.root)},
			"Stranger":       {k.pem + pemOf(k.other), nil, pemOf(k.server, k.root, k.other)},
		} {
			t.Run(string(o)+name, func(t *testing.T) {
				t.Parallel()
				s := spec(o, "kubernetes.io/tls", "")
				if tc.change != nil {
					tc.change(&s)
				}
				data := mustRender(t, s, render.Secret, object(tc.value))
				if diff := cmp.Diff(tc.want, data["tls.crt"]); diff != "" || len(data) != 2 {
					t.Errorf("%d keys; chain (-want +got):\n%s", len(data), diff)
				}
				if _, err := tls.X509KeyPair([]byte(pemOf(k.server)), []byte(data["tls.key"])); err != nil {
					t.Errorf("another key: %v", err)
				}
			})
		}
	}
}

func TestTLSRefuses(t *testing.T) {
	t.Parallel()
	k := kept()
	foreign := k.pem[:len(k.pem)-len(pemOf(k.server, k.root))] + pemOf(k.root, k.other)
	for name, tc := range map[string]struct {
		object v2beta1.ObjectType
		value  string
		change change
		want   error
		text   string
	}{
		"NotExportable":      {v2beta1.ObjectCertificate, pemOf(k.server), nil, render.ErrNotExportable, ""},
		"SecretWithoutKey":   {v2beta1.ObjectSecret, pemOf(k.server), nil, render.ErrCertificate, ""},
		"Nonsense":           {v2beta1.ObjectCertificate, "n0t a certificate", nil, render.ErrCertificate, ""},
		"Empty":              {v2beta1.ObjectSecret, "", nil, render.ErrCertificate, ""},
		"Foreign":            {v2beta1.ObjectSecret, foreign, nil, render.ErrNoLeaf, ""},
		"ForeignServerFirst": {v2beta1.ObjectCertificate, foreign, serverFirst, render.ErrNoLeaf, ""},
		"Stranger": {
			v2beta1.ObjectCertificate, k.pem + pemOf(k.other), serverFirst,
			render.ErrChain, "no place in the chain for CN=stranger",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec(tc.object, "kubernetes.io/tls", "")
			if tc.change != nil {
				tc.change(&s)
			}
			_, err := render.Output(s, render.Secret, object(tc.value))
			if !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			if tc.text == "" {
				tc.text = tc.want.Error()
			}
			if got := render.Explain(err).Text; got != tc.text {
				t.Errorf("explained as %q, want %q", got, tc.text)
			}
		})
	}
}

func TestCertificateUnderDataKey(t *testing.T) {
	t.Parallel()
	k := kept()
	public := vault.Object{Certificate: k.server.Raw}
	for name, tc := range map[string]struct {
		secretType string
		object     vault.Object
		want       string
		err        error
	}{
		"NoType":              {"", public, pemOf(k.server), nil},
		"OtherType":           {"example.com/x", public, pemOf(k.server), nil},
		"NoTypeBroken":        {"", vault.Object{Certificate: []byte("x")}, "", render.ErrCertificate},
		"Opaque":              {"Opaque", object(k.pfx), string(k.raw), nil},
		"OpaquePEM":           {"Opaque", object(k.pem), k.pem, nil},
		"OpaqueNotExportable": {"Opaque", object(pemOf(k.server)), "", render.ErrNotExportable},
		"OpaqueBroken":        {"Opaque", object("AAAA"), "", render.ErrCertificate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec(v2beta1.ObjectCertificate, tc.secretType, "k", transforms("base64encode")) // means nothing here, and never has
			got, err := render.Output(s, render.Secret, tc.object)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err == nil && string(got.Data["k"].Reveal()) != tc.want {
				t.Error("another value than expected")
			}
		})
	}
	s := spec(v2beta1.ObjectCertificate, "", "", toConfigMap("ca.crt"))
	if diff := cmp.Diff(map[string]string{"ca.crt": pemOf(k.server)}, mustRender(t, s, render.ConfigMap, public)); diff != "" {
		t.Errorf("ConfigMap (-want +got):\n%s", diff)
	}
}
