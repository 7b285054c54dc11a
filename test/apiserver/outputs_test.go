// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// kept is what an output should hold; empty, there should be none.
type kept struct {
	secretType corev1.SecretType
	data       map[string]string
}

// shelf is one of everything that a vault may hold.
type shelf struct{ pfx, crt, key string }

const (
	login    = "user:" + canary + ":more"
	config   = `{"auths":{"r.example":{"username":"u","password":"c4n4ry"}}}`
	withAuth = `{"auths":{"r.example":{"auth":"dTpjNG40cnk=","username":"u","password":"c4n4ry"}}}`
	oldStyle = `{"r.example":{"auth":"dTpjNG40cnk="}}`
	noText   = "\xff\x00" + canary
)

// Every kind of object as every type of output, under each of the four versions.
func TestEveryOutputUnderEveryVersion(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, never)
			have := s.fill(t)
			rows := have.outputs()
			for name, row := range rows {
				s.written(t, version, strings.ToLower(name), row.spec(strings.ToLower(name)))
			}
			for name, row := range rows {
				t.Run(name, func(t *testing.T) { s.holdsBoth(t, strings.ToLower(name), row) })
			}
		})
	}
}

// A row is an object and its outputs, and what they should hold.
type row struct {
	object    string // in YAML's flow style, as the rest
	secret    string
	configMap string
	more      string
	want      kept
	wantMap   map[string]string
}

func (r row) spec(name string) string {
	text := "vault: {name: my-kv, object: {" + r.object + "}}\noutput:\n"
	if r.secret != "" {
		text += "  secret: {name: " + name + ", " + r.secret + "}\n"
	}
	if r.configMap != "" {
		text += "  configMap: {name: " + name + ", " + r.configMap + "}\n"
	}
	return text + "  " + r.more
}

func (have shelf) outputs() map[string]row {
	opaque := func(key, value string) kept {
		return kept{corev1.SecretTypeOpaque, map[string]string{key: value}}
	}
	pair := kept{corev1.SecretTypeTLS, map[string]string{"tls.crt": have.crt, "tls.key": have.key}}
	entries := map[string]string{"a": canary, "n": "1.50", "b": "true", "nil": ""}
	modulus := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{1}, 256))
	return map[string]row{
		"SecretOpaque":    {object: "name: db, type: secret", secret: "type: Opaque, dataKey: k", want: opaque("k", canary)},
		"SecretNoType":    {object: "name: db, type: secret", secret: "dataKey: k", want: opaque("k", canary)},
		"SecretCustom":    {object: "name: db, type: secret", secret: "type: example.com/x, dataKey: k", want: kept{"example.com/x", map[string]string{"k": canary}}},
		"SecretLogin":     {object: "name: login, type: secret", secret: "type: kubernetes.io/basic-auth", want: kept{corev1.SecretTypeBasicAuth, map[string]string{"username": "user", "password": canary + ":more"}}},
		"SecretDocker":    {object: "name: docker, type: secret", secret: "type: kubernetes.io/dockerconfigjson", want: kept{corev1.SecretTypeDockerConfigJson, map[string]string{".dockerconfigjson": config}}},
		"SecretAddAuth":   {object: "name: docker, type: secret", secret: "type: kubernetes.io/dockerconfigjson, addAuth: true", want: kept{corev1.SecretTypeDockerConfigJson, map[string]string{".dockerconfigjson": withAuth}}},
		"SecretDockercfg": {object: "name: dockercfg, type: secret", secret: "type: kubernetes.io/dockercfg", want: kept{corev1.SecretTypeDockercfg, map[string]string{".dockercfg": oldStyle}}},
		"SecretSSH":       {object: "name: db, type: secret", secret: "type: kubernetes.io/ssh-auth", want: kept{corev1.SecretTypeSSHAuth, map[string]string{"ssh-privatekey": canary}}},
		"SecretTLS":       {object: "name: pfx, type: secret", secret: "type: kubernetes.io/tls", want: pair},
		// Older manifests name a key where the type has its own.
		"SecretTLSDataKey":  {object: "name: pfx, type: secret", secret: "type: kubernetes.io/tls, dataKey: ignored", want: pair},
		"SecretTransform":   {object: "name: encoded, type: secret", secret: "dataKey: k", more: "transform: [trim, base64decode]", want: opaque("k", noText)},
		"SecretTransforms":  {object: "name: encoded, type: secret", secret: "dataKey: k", more: "transforms: [trim]", want: opaque("k", base64.StdEncoding.EncodeToString([]byte(noText)))},
		"SecretMap":         {object: "name: db, type: secret", configMap: "dataKey: k", wantMap: map[string]string{"k": canary}},
		"SecretMapBinary":   {object: "name: encoded, type: secret", configMap: "dataKey: k", more: "transform: [trim, base64decode]", wantMap: map[string]string{"k": noText}},
		"SecretBoth":        {object: "name: db, type: secret", secret: "dataKey: s", configMap: "dataKey: c", want: opaque("s", canary), wantMap: map[string]string{"c": canary}},
		"CertificateTLS":    {object: "name: web, type: certificate", secret: "type: kubernetes.io/tls", want: pair},
		"CertificateOpaque": {object: "name: web, type: certificate", secret: "type: Opaque, dataKey: k", want: opaque("k", decoded(have.pfx))},
		"CertificateNoType": {object: "name: web, type: certificate", secret: "dataKey: k", want: opaque("k", have.crt)},
		"CertificateCustom": {object: "name: web, type: certificate", secret: "type: example.com/x, dataKey: k", want: kept{"example.com/x", map[string]string{"k": have.crt}}},
		"CertificateMap":    {object: "name: web, type: certificate", configMap: "dataKey: k", wantMap: map[string]string{"k": have.crt}},
		"CertificateBoth":   {object: "name: web, type: certificate", secret: "type: kubernetes.io/tls", configMap: "dataKey: c", want: pair, wantMap: map[string]string{"c": have.crt}},
		"KeyRSA":            {object: "name: rsa, type: key", secret: "dataKey: k", want: opaque("k", modulus)},
		"KeyRSACustom":      {object: "name: rsa, type: key", secret: "type: example.com/x, dataKey: k", more: "format: modulus", want: kept{"example.com/x", map[string]string{"k": modulus}}},
		"KeyRSAMap":         {object: "name: rsa, type: key", configMap: "dataKey: k", more: "format: jwk", wantMap: map[string]string{"k": `{"e":"AQAB","kty":"RSA","n":"` + modulus + `"}`}},
		"KeyECPEM":          {object: "name: ec, type: key", secret: "dataKey: k", more: "format: pem", want: opaque("k", ecPEM)},
		"KeyECBoth":         {object: "name: ec, type: key", secret: "dataKey: k", configMap: "dataKey: c", more: "format: jwk", want: opaque("k", ecJWK), wantMap: map[string]string{"c": ecJWK}},
		"EntriesJSON":       {object: "name: json, type: multi-key-value-secret, contentType: application/x-json", secret: "dataKey: ignored", want: kept{corev1.SecretTypeOpaque, entries}},
		"EntriesYAML":       {object: "name: yaml, type: multi-key-value-secret, contentType: application/x-yaml", secret: "type: Opaque", want: kept{corev1.SecretTypeOpaque, entries}},
		"EntriesLogin":      {object: "name: entries-login, type: multi-key-value-secret, contentType: application/x-json", secret: "type: kubernetes.io/basic-auth", want: kept{corev1.SecretTypeBasicAuth, map[string]string{"username": "u", "password": canary}}},
		"EntriesBoth":       {object: "name: json, type: multi-key-value-secret, contentType: application/x-json", secret: "type: example.com/x", configMap: "dataKey: ignored", want: kept{"example.com/x", entries}, wantMap: entries},
	}
}

// fill puts one of everything in the vault.
func (s *stage) fill(t *testing.T) shelf {
	t.Helper()
	pfx, der, key := pairOf(t)
	for name, text := range map[string]string{
		"db": canary, "login": login, "docker": config, "dockercfg": oldStyle, "pfx": pfx,
		"encoded":       " " + base64.StdEncoding.EncodeToString([]byte(noText)) + "\n",
		"json":          `{"a":"` + canary + `","n":1.50,"b":true,"nil":null}`,
		"yaml":          "a: " + canary + "\nn: 1.50\nb: true\nnil: null\n",
		"entries-login": `{"username":"u","password":"` + canary + `"}`,
	} {
		s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: name}, vault.Object{Value: secret.New([]byte(text))})
	}
	s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindCertificate, Name: "web"}, vault.Object{Certificate: der, Value: secret.New([]byte(pfx))})
	s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindKey, Name: "rsa"}, vault.Object{Key: vault.Key{Type: "RSA", N: bytes.Repeat([]byte{1}, 256), E: []byte{1, 0, 1}}})
	g := elliptic.P256().Params() // the base point is a public key, of the private key 1
	s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindKey, Name: "ec"}, vault.Object{Key: vault.Key{Type: "EC", Curve: "P-256", X: g.Gx.Bytes(), Y: g.Gy.Bytes()}})
	return shelf{pfx: pfx, crt: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), key: key}
}

// The base point of P-256 as FIPS 186 gives it, and as OpenSSL writes it.
const (
	ecJWK = `{"crv":"P-256","kty":"EC","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}`
	ecPEM = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
`
)

// pairOf is a certificate as a vault keeps it: the PFX in base64, the DER, and the
// key as a Secret should hold it.
func pairOf(t *testing.T) (string, []byte, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "web"}, NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	file, err := pkcs12.Modern2023.Encode(key, cert, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(file), der, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}))
}

func decoded(text string) string {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// holdsBoth looks at data, type, marks and status of one resource.
func (s *stage) holdsBoth(t *testing.T, name string, r row) {
	t.Helper()
	s.ready(t, name, "True Synced")
	akvs := s.get(t, name)
	key := types.NamespacedName{Namespace: s.namespace, Name: name}
	var wantSecret, wantMap string
	if r.want.data != nil {
		wantSecret = name
		out, err := s.secret(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.want, kept{out.Type, texts(out.Data)}, cmp.AllowUnexported(kept{})); diff != "" {
			t.Errorf("Secret (-want +got):\n%s", diff)
		}
		bearsOurMarks(t, out, akvs)
	}
	if r.wantMap != nil {
		wantMap = name
		var out corev1.ConfigMap
		if err := admin.Get(t.Context(), key, &out); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.wantMap, contents(t, &out)); diff != "" {
			t.Errorf("ConfigMap (-want +got):\n%s", diff)
		}
		bearsOurMarks(t, &out, akvs)
	}
	if st := akvs.Status; st.SecretName != wantSecret || st.ConfigMapName != wantMap || (st.SecretHash == "") != (wantSecret == "") || (st.ConfigMapHash == "") != (wantMap == "") {
		t.Errorf("status %+v", st)
	}
	for o, wanted := range map[client.Object]bool{s.secretOf(name): wantSecret != "", s.configMapOf(name): wantMap != ""} {
		if err := admin.Get(t.Context(), key, o); err == nil && !wanted {
			t.Errorf("a %T that was not asked for", o)
		}
	}
}

func texts(data map[string][]byte) map[string]string {
	out := map[string]string{}
	for key, value := range data {
		out[key] = string(value)
	}
	return out
}

// contents are text and bytes of a ConfigMap; bytes are only what is no text.
func contents(t *testing.T, c *corev1.ConfigMap) map[string]string {
	t.Helper()
	out := texts(c.BinaryData)
	for key, value := range out {
		if value != noText {
			t.Errorf("key %s is kept as bytes although it is text", key)
		}
	}
	maps.Copy(out, c.Data)
	return out
}
