// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// works says what every combination of object and type gives under the dataKey
// "k": its keys, or an error. What is not in it is as "".
var works = map[v2beta1.ObjectType]map[string]any{
	v2beta1.ObjectSecret: {
		"":                               []string{"k"},
		"kubernetes.io/tls":              []string{"tls.crt", "tls.key"},
		"kubernetes.io/basic-auth":       []string{"password", "username"},
		"kubernetes.io/dockerconfigjson": []string{".dockerconfigjson"},
		"kubernetes.io/dockercfg":        []string{".dockercfg"},
		"kubernetes.io/ssh-auth":         []string{"ssh-privatekey"},
	},
	v2beta1.ObjectCertificate: {
		"":                               []string{"k"},
		"kubernetes.io/tls":              []string{"tls.crt", "tls.key"},
		"kubernetes.io/basic-auth":       render.ErrRequired,
		"kubernetes.io/dockerconfigjson": render.ErrRequired,
		"kubernetes.io/dockercfg":        render.ErrRequired,
		"kubernetes.io/ssh-auth":         render.ErrRequired,
	},
	v2beta1.ObjectKey: {
		"":                               []string{"k"},
		"kubernetes.io/tls":              render.ErrRequired,
		"kubernetes.io/basic-auth":       render.ErrRequired,
		"kubernetes.io/dockerconfigjson": render.ErrRequired,
		"kubernetes.io/dockercfg":        render.ErrRequired,
		"kubernetes.io/ssh-auth":         render.ErrRequired,
	},
	v2beta1.ObjectMultiKeyValue: {"": nil},
}

var secretTypes = []string{
	"", "Opaque", "example.com/x", "kubernetes.io/tls", "kubernetes.io/basic-auth", "kubernetes.io/dockerconfigjson",
	"kubernetes.io/dockercfg", "kubernetes.io/ssh-auth", "kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token",
}

// answer is an object that the combination can be rendered from.
func answer(o v2beta1.ObjectType, secretType string) vault.Object {
	text := map[string]string{
		"kubernetes.io/tls": kept().pfx, "kubernetes.io/basic-auth": "u:p", "kubernetes.io/ssh-auth": "key",
		"kubernetes.io/dockerconfigjson": `{"auths":{}}`, "kubernetes.io/dockercfg": "{}",
	}[secretType]
	switch o {
	case v2beta1.ObjectSecret, v2beta1.ObjectKey:
	case v2beta1.ObjectCertificate:
		text = kept().pfx
	case v2beta1.ObjectMultiKeyValue:
		text = `{"username":"u","tls.crt":"","tls.key":"",".dockercfg":"{}",".dockerconfigjson":"{}","ssh-privatekey":"x"}`
	}
	obj := object(text)
	obj.Key, obj.Certificate = vaultKeys["rsa"], kept().server.Raw
	return obj
}

// Every combination either has a reference, a shape and data that agree, or one
// and the same refusal.
func TestCombinations(t *testing.T) {
	t.Parallel()
	for o, rows := range works {
		for _, secretType := range secretTypes {
			for _, f := range []v2beta1.KeyFormat{"", v2beta1.FormatPEM, v2beta1.FormatJWK, v2beta1.FormatModulus} {
				t.Run(fmt.Sprintf("%s/%s/%s", o, secretType, f), func(t *testing.T) {
					t.Parallel()
					want, ok := rows[secretType]
					if !ok {
						want = rows[""]
					}
					if secretType == "kubernetes.io/service-account-token" || secretType == "bootstrap.kubernetes.io/token" {
						want = render.ErrReserved
					}
					s := spec(o, secretType, "k", format(f), content(v2beta1.ContentJSON))
					privateKey := o == v2beta1.ObjectCertificate && (secretType == "kubernetes.io/tls" || secretType == "Opaque")
					agree(t, s, render.Secret, answer(o, secretType), want, privateKey)
				})
			}
		}
		t.Run(fmt.Sprintf("%s/ConfigMap", o), func(t *testing.T) {
			t.Parallel()
			agree(t, spec(o, "", "", content(v2beta1.ContentJSON), toConfigMap("k")), render.ConfigMap, answer(o, ""), rows[""], false)
		})
	}
}

func agree(t *testing.T, s specOf, kind render.Kind, obj vault.Object, want any, privateKey bool) {
	t.Helper()
	ref, errRef := render.OutputReference(s, kind)
	shape, errShape := render.OutputShape(s, kind)
	payload, err := render.Output(s, kind, obj)
	if refusal, ok := want.(error); ok {
		for _, e := range []error{errRef, errShape, err} {
			if !errors.Is(e, refusal) {
				t.Errorf("error %v, want %v", e, refusal)
			}
		}
		return
	}
	if err := errors.Join(errRef, errShape, err); err != nil {
		t.Fatal(err)
	}
	wantRef := vault.Reference{Vault: "my-kv", Name: "thing", Version: version, Kind: vault.Kind(s.Vault.Object.Type), PrivateKey: privateKey}
	if s.Vault.Object.Type == v2beta1.ObjectMultiKeyValue {
		wantRef.Kind = vault.KindSecret
	}
	if diff := cmp.Diff(wantRef, ref); diff != "" {
		t.Errorf("reference (-want +got):\n%s", diff)
	}
	wantShape := render.Shape{Open: want == nil}
	wantShape.Keys, _ = want.([]string)
	if kind == render.Secret {
		wantShape.Type = corev1.SecretType(s.Output.Secret.Type)
		if wantShape.Type == "" {
			wantShape.Type = corev1.SecretTypeOpaque
		}
	}
	if diff := cmp.Diff(wantShape, shape); diff != "" {
		t.Errorf("shape (-want +got):\n%s", diff)
	}
	got := slices.Sorted(maps.Keys(payload.Data))
	if payload.Kind != kind || payload.Type != shape.Type || !shape.Open && !slices.Equal(got, shape.Keys) {
		t.Errorf("payload %s %s %v, shape %+v", payload.Kind, payload.Type, got, shape)
	}
}

// What the spec alone gets wrong is said before anything is read.
func TestSpecsThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spec specOf
		kind render.Kind
		want error
		said string
	}{
		"NoSuchOutput":    {spec(v2beta1.ObjectSecret, "", "k"), render.ConfigMap, render.ErrUnsupported, ""},
		"NoOutput":        {spec(v2beta1.ObjectSecret, "", "k", toConfigMap("k")), render.Secret, render.ErrUnsupported, ""},
		"UnknownObject":   {spec("blob", "", "k"), render.Secret, render.ErrUnsupported, ""},
		"UnknownKind":     {spec(v2beta1.ObjectSecret, "", "k"), "Pod", render.ErrUnsupported, ""},
		"NoDataKey":       {spec(v2beta1.ObjectSecret, "", ""), render.Secret, render.ErrDataKey, "spec.output.secret.dataKey is required"},
		"NoDataKeyConfig": {spec(v2beta1.ObjectKey, "", "", toConfigMap("")), render.ConfigMap, render.ErrDataKey, "spec.output.configMap.dataKey is required"},
		"DataKeyDots":     {spec(v2beta1.ObjectSecret, "", ".."), render.Secret, render.ErrDataKeyName, ""},
		"DataKeySlash":    {spec(v2beta1.ObjectSecret, "", "a/b"), render.Secret, render.ErrDataKeyName, ""},
		"NoContentType":   {spec(v2beta1.ObjectMultiKeyValue, "", ""), render.Secret, render.ErrContentType, ""},
		"Required": {
			spec(v2beta1.ObjectCertificate, "kubernetes.io/basic-auth", "k"), render.Secret, render.ErrRequired,
			"a kubernetes.io/basic-auth needs the key username or password",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agree(t, tc.spec, tc.kind, object(""), tc.want, false)
			_, err := render.OutputReference(tc.spec, tc.kind)
			if tc.said == "" {
				tc.said = tc.want.Error()
			}
			if got := render.Explain(err).Text; got != tc.said {
				t.Errorf("explained as %q, want %q", got, tc.said)
			}
		})
	}
}

// A type that demands one key of any name takes it from dataKey.
func TestPublicCertificateUnderARequiredKey(t *testing.T) {
	t.Parallel()
	for secretType, want := range map[string]struct {
		key string
		err error
	}{
		"kubernetes.io/basic-auth":       {"username", nil},
		"kubernetes.io/ssh-auth":         {"ssh-privatekey", nil},
		"kubernetes.io/dockerconfigjson": {".dockerconfigjson", render.ErrDockerConfig},
	} {
		_, err := render.Output(spec(v2beta1.ObjectCertificate, secretType, want.key), render.Secret, answer(v2beta1.ObjectCertificate, ""))
		if !errors.Is(err, want.err) {
			t.Errorf("%s: error %v, want %v", secretType, err, want.err)
		}
	}
}
