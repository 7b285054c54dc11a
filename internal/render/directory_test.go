// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Which objects have parts, and with what they are read.
func TestDirectoryReference(t *testing.T) {
	t.Parallel()
	json := content(v2beta1.ContentJSON)
	for name, tc := range map[string]struct {
		spec    specOf
		kind    vault.Kind
		private bool
		err     error
	}{
		"Certificate":         {spec(v2beta1.ObjectCertificate, "", ""), vault.KindCertificate, true, nil},
		"CertificateAsOpaque": {spec(v2beta1.ObjectCertificate, "Opaque", "k"), vault.KindCertificate, true, nil},
		"CertificateNoOutput": {spec(v2beta1.ObjectCertificate, "", "", toConfigMap("k")), vault.KindCertificate, true, nil},
		"Several":             {spec(v2beta1.ObjectMultiKeyValue, "", "", json), vault.KindSecret, false, nil},
		"SeveralAsBasicAuth":  {spec(v2beta1.ObjectMultiKeyValue, "kubernetes.io/basic-auth", "", json), vault.KindSecret, false, nil},
		"SeveralUntyped":      {spec(v2beta1.ObjectMultiKeyValue, "", ""), "", false, render.ErrContentType},
		"SecretAsPair":        {spec(v2beta1.ObjectSecret, "kubernetes.io/tls", ""), vault.KindSecret, false, nil},
		"SecretAsLogin":       {spec(v2beta1.ObjectSecret, "kubernetes.io/basic-auth", ""), vault.KindSecret, false, nil},
		"Secret":              {spec(v2beta1.ObjectSecret, "", "k"), "", false, render.ErrDirectory},
		"SecretNoOutput":      {spec(v2beta1.ObjectSecret, "", "", toConfigMap("k")), "", false, render.ErrDirectory},
		"SecretWithRights":    {spec(v2beta1.ObjectSecret, "kubernetes.io/service-account-token", "k"), "", false, render.ErrDirectory},
		"Key":                 {spec(v2beta1.ObjectKey, "", "k"), "", false, render.ErrDirectory},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := render.DirectoryReference(tc.spec)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			want := vault.Reference{}
			if err == nil {
				want = vault.Reference{Vault: "my-kv", Kind: tc.kind, Name: "thing", Version: version, PrivateKey: tc.private}
			} else if text := render.Explain(err).Text; text != err.Error() {
				t.Errorf("%q is explained as %q", err, text)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// A container's files are the data of the Secret, or neither is made; each can be a file.
func TestDirectoryIsWhatOutputWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		each := rapid.SampledFrom([]struct {
			object     v2beta1.ObjectType
			secretType string // of the output that is compared
			elsewhere  bool   // the spec's own is another
		}{
			{v2beta1.ObjectCertificate, "kubernetes.io/tls", false},
			{v2beta1.ObjectCertificate, "kubernetes.io/tls", true},
			{v2beta1.ObjectMultiKeyValue, "", false},
			{v2beta1.ObjectSecret, "kubernetes.io/tls", false},
			{v2beta1.ObjectSecret, "kubernetes.io/basic-auth", false},
			{v2beta1.ObjectSecret, "kubernetes.io/ssh-auth", false},
			{v2beta1.ObjectSecret, "kubernetes.io/dockerconfigjson", false},
		}).Draw(t, "object")
		changes := drawChanges(t, each.object)
		obj := drawObject(t)
		want, errOut := render.Output(spec(each.object, each.secretType, "k", changes...), render.Secret, obj)
		asked := spec(each.object, each.secretType, "k", changes...)
		if each.elsewhere {
			asked.Output.Secret.Type = "Opaque"
		}
		got, err := render.Open(asked, obj).Directory()
		if render.Explain(err).Reason != render.Explain(errOut).Reason || (err == nil) != (errOut == nil) {
			t.Fatalf("error %v, the output's is %v", err, errOut)
		}
		if d := cmp.Diff(revealed(want.Data), revealed(got)); d != "" {
			t.Fatal(d)
		}
		far, err := render.Open(carried(t, asked), obj).Directory()
		if d := cmp.Diff(revealed(got), revealed(far)); d != "" {
			t.Fatalf("by the spec as it is carried: %v\n%s", err, d)
		}
		for name := range got {
			if !placeholder.IsFileName(name) {
				t.Fatalf("%q can be no file", name)
			}
		}
	})
}
