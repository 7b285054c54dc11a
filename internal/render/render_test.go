// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

func spec(object v2beta1.ObjectType, secretType, dataKey string) v2beta1.AzureKeyVaultSecretSpec {
	return v2beta1.AzureKeyVaultSecretSpec{
		Vault:  v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: "thing", Type: object, Version: "00000000000000000000000000000001"}},
		Output: v2beta1.Output{Secret: &v2beta1.SecretOutput{Name: "out", Type: secretType, DataKey: dataKey}},
	}
}

func object(text string) vault.Object { return vault.Object{Value: secret.New([]byte(text))} }

// pair is a self-signed certificate as a vault gives it: PEM, PFX and DER.
var pair = sync.OnceValues(func() (string, *x509.Certificate) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Unix(1<<33, 0)}
	cert := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))))
	return base64.StdEncoding.EncodeToString(must(pkcs12.Modern2023.Encode(key, cert, nil, ""))), cert
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func revealed(data map[string]secret.Value) map[string]string {
	out := map[string]string{}
	for key, v := range data {
		out[key] = string(v.Reveal())
	}
	return out
}

func TestSecretOpaque(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*v2beta1.AzureKeyVaultSecretSpec)
		value  string
		want   string
		err    error
	}{
		"Plain":        {nil, "p4ss:word\n", "p4ss:word\n", nil},
		"Empty":        {nil, "", "", nil},
		"Bytes":        {nil, "\x00\xff", "\x00\xff", nil},
		"ExplicitType": {func(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output.Secret.Type = "Opaque" }, "v", "v", nil},
		"Trimmed":      {transforms("trim"), " \t v v \r\n", "v v", nil},
		"Encoded":      {transforms("base64encode"), "v", "dg==", nil},
		"Decoded":      {transforms("base64decode"), "dg==", "v", nil},
		"DecodedLines": {transforms("base64decode"), "dg\r\n==\n", "v", nil},
		"InOrder":      {transforms("trim", "base64decode", "trim"), " IHYg \n", "v", nil},
		"OldSpelling":  {func(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output.Transforms = []v2beta1.Transform{"trim"} }, " v ", "v", nil},
		"NotBase64":    {transforms("base64decode"), "no base64", "", render.ErrTransform},
		"Unknown":      {transforms("rot13"), "v", "", render.ErrTransform},
		"NoKey":        {func(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output.Secret.DataKey = "" }, "v", "", render.ErrDataKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec(v2beta1.ObjectSecret, "", "password")
			if tc.change != nil {
				tc.change(&s)
			}
			got, err := render.Secret(s, object(tc.value))
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil {
				return
			}
			if got.Type != corev1.SecretTypeOpaque {
				t.Errorf("type %q", got.Type)
			}
			if diff := cmp.Diff(map[string]string{"password": tc.want}, revealed(got.Data)); diff != "" {
				t.Errorf("data (-want +got):\n%s", diff)
			}
		})
	}
}

func transforms(list ...v2beta1.Transform) func(*v2beta1.AzureKeyVaultSecretSpec) {
	return func(s *v2beta1.AzureKeyVaultSecretSpec) { s.Output.Transform = list }
}

func TestSecretTLS(t *testing.T) {
	t.Parallel()
	pfx, cert := pair()
	s := spec(v2beta1.ObjectCertificate, "kubernetes.io/tls", "")
	s.Output.Transform = []v2beta1.Transform{"base64encode"} // means nothing here, and never has
	got, err := render.Secret(s, object(pfx))
	if err != nil {
		t.Fatal(err)
	}
	data := revealed(got.Data)
	if _, err := tls.X509KeyPair([]byte(data["tls.crt"]), []byte(data["tls.key"])); err != nil || len(data) != 2 {
		t.Errorf("%d keys, no pair: %v", len(data), err)
	}
	for name, tc := range map[string]struct {
		value string
		want  error
	}{
		"NotExportable": {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})), render.ErrNotExportable},
		"Nonsense":      {"n0t a certificate", render.ErrCertificate},
		"Empty":         {"", render.ErrCertificate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := render.Secret(s, object(tc.value)); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
}

// Every combination either has a reference, a shape and data that agree, or one
// and the same refusal.
func TestSecretCombinations(t *testing.T) {
	t.Parallel()
	pfx, _ := pair()
	works := map[string]bool{"secret/": true, "secret/Opaque": true, "certificate/kubernetes.io/tls": true}
	for _, o := range []v2beta1.ObjectType{v2beta1.ObjectSecret, v2beta1.ObjectCertificate, v2beta1.ObjectKey, v2beta1.ObjectMultiKeyValue} {
		for _, typ := range []string{"", "Opaque", "kubernetes.io/tls", "kubernetes.io/basic-auth", "kubernetes.io/dockerconfigjson", "example.com/x"} {
			name := fmt.Sprintf("%s/%s", o, typ)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := spec(o, typ, "k")
				ref, errRef := render.SecretReference(s)
				typed, keys, errShape := render.SecretShape(s)
				payload, err := render.Secret(s, object(pfx))
				if !works[name] {
					for _, e := range []error{errRef, errShape, err} {
						if !errors.Is(e, render.ErrUnsupported) {
							t.Errorf("error %v, want %v", e, render.ErrUnsupported)
						}
					}
					return
				}
				if err := errors.Join(errRef, errShape, err); err != nil {
					t.Fatal(err)
				}
				if ref.Vault != "my-kv" || ref.Name != "thing" || ref.Version != s.Vault.Object.Version || string(ref.Kind) != string(o) {
					t.Errorf("reference %+v", ref)
				}
				if want := o == v2beta1.ObjectCertificate; ref.PrivateKey != want {
					t.Errorf("asks for the private key: %v, want %v", ref.PrivateKey, want)
				}
				var got []string
				for key := range payload.Data {
					got = append(got, key)
				}
				slices.Sort(got)
				if diff := cmp.Diff(keys, got); diff != "" || typed != payload.Type {
					t.Errorf("shape %s, payload %s; keys (-shape +payload):\n%s", typed, payload.Type, diff)
				}
			})
		}
	}
}

func TestSecretConfigMapIsRefused(t *testing.T) {
	t.Parallel()
	s := spec(v2beta1.ObjectSecret, "", "k")
	s.Output.ConfigMap = &v2beta1.ConfigMapOutput{Name: "c", DataKey: "k"}
	if _, err := render.SecretReference(s); !errors.Is(err, render.ErrConfigMap) {
		t.Errorf("error %v, want %v", err, render.ErrConfigMap)
	}
}

func TestEnv(t *testing.T) {
	t.Parallel()
	pfx, cert := pair()
	public := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	der := vault.Object{Certificate: cert.Raw}
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

// Whatever a vault holds and however it is asked for, rendering neither panics
// nor lets any of it into an error.
func FuzzSecret(f *testing.F) {
	pfx, _ := pair()
	f.Add([]byte(pfx), "kubernetes.io/tls", "certificate", "base64decode")
	f.Add([]byte("user:pass"), "Opaque", "secret", "trim")
	known := []error{render.ErrNotExportable, render.ErrUnsupported, render.ErrConfigMap, render.ErrTransform, render.ErrDataKey, render.ErrCertificate}
	f.Fuzz(func(t *testing.T, value []byte, secretType, objectType, transform string) {
		s := spec(v2beta1.ObjectType(objectType), secretType, "k")
		s.Output.Transform = []v2beta1.Transform{v2beta1.Transform(transform)}
		_, err := render.Secret(s, vault.Object{Value: secret.New(value)})
		if err != nil && !slices.ContainsFunc(known, func(k error) bool { return err.Error() == k.Error() }) {
			t.Fatalf("an error of another making: %v", err)
		}
	})
}
