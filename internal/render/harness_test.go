// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

type (
	specOf = v2beta1.AzureKeyVaultSecretSpec
	change = func(*specOf)
)

const version = "00000000000000000000000000000001"

// spec has a Secret output.
func spec(object v2beta1.ObjectType, secretType, dataKey string, changes ...change) specOf {
	s := specOf{
		Vault:  v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: "thing", Type: object, Version: version}},
		Output: v2beta1.Output{Secret: &v2beta1.SecretOutput{Name: "out", Type: secretType, DataKey: dataKey}},
	}
	for _, c := range changes {
		c(&s)
	}
	return s
}

// toConfigMap has a ConfigMap output instead.
func toConfigMap(dataKey string) change {
	return func(s *specOf) {
		s.Output.Secret = nil
		s.Output.ConfigMap = &v2beta1.ConfigMapOutput{Name: "out", DataKey: dataKey}
	}
}

func content(t v2beta1.ContentType) change {
	return func(s *specOf) { s.Vault.Object.ContentType = t }
}

func format(f v2beta1.KeyFormat) change { return func(s *specOf) { s.Output.Format = f } }

func transforms(list ...v2beta1.Transform) change {
	return func(s *specOf) { s.Output.Transform = list }
}

func addAuth(s *specOf) { s.Output.Secret.AddAuth = true }

func serverFirst(s *specOf) { s.Output.Secret.ChainOrder = "ensureserverfirst" }

func object(text string) vault.Object { return vault.Object{Value: secret.New([]byte(text))} }

// store is a server's chain as a vault gives it: a PFX with the root first, the
// PEM, and the DER of the server's certificate.
type store struct {
	pfx, pem            string
	raw                 []byte // the PFX
	server, root, other *x509.Certificate
	key                 crypto.Signer
}

var kept = sync.OnceValue(func() store {
	rootKey, key := newKey(), newKey()
	root := certificate("root", "root", rootKey, rootKey)
	server := certificate("server", "root", key, rootKey)
	raw := must(pkcs12.Modern2023.Encode(key, root, []*x509.Certificate{server}, ""))
	keyText := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
	return store{
		pfx: base64.StdEncoding.EncodeToString(raw), raw: raw, key: key,
		pem:    string(keyText) + pemOf(server, root),
		server: server, root: root, other: certificate("stranger", "stranger", rootKey, rootKey),
	}
})

func newKey() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func certificate(name, issuer string, key, issuerKey crypto.Signer) *x509.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Unix(1<<33, 0)}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: issuer}}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), issuerKey))))
}

func pemOf(list ...*x509.Certificate) string {
	var out strings.Builder
	for _, c := range list {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return out.String()
}

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

// mustRender is the data of an output of this kind.
func mustRender(t *testing.T, s specOf, kind render.Kind, obj vault.Object) map[string]string {
	t.Helper()
	payload, err := render.Output(s, kind, obj)
	if err != nil {
		t.Fatal(err)
	}
	if payload.Kind != kind {
		t.Errorf("kind %q, want %q", payload.Kind, kind)
	}
	return revealed(payload.Data)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// inputs are the files of testdata with this ending.
func inputs(tb testing.TB, pattern string) map[string]string {
	tb.Helper()
	out := map[string]string{}
	paths, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no files %s: %v", pattern, err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		out[filepath.Base(path)] = string(raw)
	}
	return out
}
