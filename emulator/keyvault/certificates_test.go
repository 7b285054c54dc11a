// SPDX-License-Identifier: Apache-2.0

package keyvault_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/akv2k8s/akv2k8s/emulator/keyvault"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// opened is what stands in the value of a certificate's secret.
type opened struct {
	key   crypto.PrivateKey
	certs []*x509.Certificate
}

func (o opened) names() []string {
	var out []string
	for _, c := range o.certs {
		out = append(out, c.Subject.CommonName)
	}
	return out
}

func openValue(t *testing.T, contentType, value string) opened {
	t.Helper()
	if contentType == keyvault.ContentTypePEM {
		return openPEM(t, value)
	}
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		t.Fatal(err)
	}
	key, first, rest, err := pkcs12.DecodeChain(raw, "")
	if err != nil {
		t.Fatal(err)
	}
	return opened{key, append([]*x509.Certificate{first}, rest...)}
}

func openPEM(t *testing.T, value string) opened {
	t.Helper()
	var out opened
	for block, rest := pem.Decode([]byte(value)); block != nil; block, rest = pem.Decode(rest) {
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			if out.certs != nil {
				t.Error("the key does not stand first")
			}
			out.key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "CERTIFICATE":
			var cert *x509.Certificate
			cert, err = x509.ParseCertificate(block.Bytes)
			out.certs = append(out.certs, cert)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func matches(t *testing.T, key crypto.PrivateKey, leaf *x509.Certificate) bool {
	t.Helper()
	signer, is := key.(crypto.Signer)
	if !is {
		t.Fatalf("the key is a %T", key)
	}
	return signer.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(leaf.PublicKey)
}

const certificateSeed = `
  - name: certs
    permissions: [{ principal: admin, roles: [Key Vault Administrator] }]
    certificates:
      - { name: rsa, subject: "CN=example.com,O=\"Example, Inc.\",C=NO", dnsNames: [example.com], chain: 3 }
      - { name: ec, keyType: EC, curve: P-384, chain: 3, contentType: application/x-pem-file }
      - { name: aes, keyType: EC, pfx: aes256-sha256 }
      - { name: root-first-pem, keyType: EC, chain: 2, order: root-first, contentType: application/x-pem-file }
      - { name: leaf-first-pfx, keyType: EC, chain: 2, order: leaf-first }
      - { name: locked, keyType: EC, chain: 2, exportable: false }
      - { name: locked-pem, keyType: EC, exportable: false, contentType: application/x-pem-file }
      - { name: off, keyType: EC, enabled: false }
`

func TestCertificateSecrets(t *testing.T) {
	t.Parallel()
	s := start(t, certificateSeed)
	for name, tc := range map[string]struct {
		object, contentType string
		want                []string
	}{
		"RSAInServiceOrder": {"rsa", keyvault.ContentTypePFX, []string{"rsa Root CA", "rsa Intermediate CA 1", "example.com"}},
		"ECInServiceOrder":  {"ec", keyvault.ContentTypePEM, []string{"ec", "ec Intermediate CA 1", "ec Root CA"}},
		"AES":               {"aes", keyvault.ContentTypePFX, []string{"aes"}},
		"RootFirst":         {"root-first-pem", keyvault.ContentTypePEM, []string{"root-first-pem Root CA", "root-first-pem"}},
		"LeafFirst":         {"leaf-first-pfx", keyvault.ContentTypePFX, []string{"leaf-first-pfx", "leaf-first-pfx Root CA"}},
		"LockedPEM":         {"locked-pem", keyvault.ContentTypePEM, []string{"locked-pem"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cert := must(t, s, "GET certs:/certificates/"+tc.object, "")
			path := func(id string) string { return "GET certs:" + strings.TrimPrefix(id, "https://certs.vault.azure.net") }
			secret := must(t, s, path(cert.str("sid")), "")
			if secret.str("contentType") != tc.contentType || secret.body["managed"] != true || secret.str("kid") != cert.str("kid") {
				t.Errorf("got %v", secret.header)
			}
			got := openValue(t, tc.contentType, secret.str("value"))
			if diff := cmp.Diff(tc.want, got.names()); diff != "" {
				t.Error(diff)
			}
			der, err := base64.StdEncoding.DecodeString(cert.str("cer"))
			if err != nil {
				t.Fatal(err)
			}
			at := slices.IndexFunc(got.certs, func(c *x509.Certificate) bool { return string(c.Raw) == string(der) })
			if at < 0 {
				t.Fatal("the certificate's own bytes are not in its secret")
			}
			if locked := strings.HasPrefix(tc.object, "locked"); locked != (got.key == nil) {
				t.Errorf("key present: %v", got.key != nil)
			} else if !locked && !matches(t, got.key, got.certs[at]) {
				t.Error("the key is not the leaf's")
			}
			must(t, s, path(cert.str("kid")), "")
		})
	}
}

// A PFX without a key cannot be opened as one with a key, and holds none.
func TestNonExportablePFXHasNoKey(t *testing.T) {
	t.Parallel()
	s := start(t, certificateSeed)
	raw, err := base64.StdEncoding.DecodeString(must(t, s, "GET certs:/secrets/locked", "").str("value"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := pkcs12.DecodeChain(raw, ""); err == nil || errors.Is(err, pkcs12.ErrIncorrectPassword) {
		t.Errorf("got %v", err)
	}
}

func TestGeneratedChainVerifies(t *testing.T) {
	t.Parallel()
	s := start(t, certificateSeed)
	for _, name := range []string{"rsa", "ec"} {
		state, err := s.Certificate("certs", name)
		if err != nil {
			t.Fatal(err)
		}
		certs := openPEM(t, state.ChainPEM).certs
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(certs[2])
		between.AddCert(certs[1])
		if _, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	leaf := openPEM(t, mustState(t, s, "rsa").LeafPEM).certs[0]
	if leaf.Subject.String() != `CN=example.com,O=Example\, Inc.,C=NO` || leaf.DNSNames[0] != "example.com" {
		t.Errorf("got %s %v", leaf.Subject, leaf.DNSNames)
	}
}

func mustState(t *testing.T, s *keyvault.Server, name string) keyvault.CertificateState {
	t.Helper()
	state, err := s.Certificate("certs", name)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func TestOutContentType(t *testing.T) {
	t.Parallel()
	s := start(t, certificateSeed)
	got := must(t, s, "GET certs:/secrets/rsa?api-version=2025-07-01&outContentType=application/x-pem-file", "")
	if names := openPEM(t, got.str("value")).names(); got.str("contentType") != keyvault.ContentTypePEM || len(names) != 3 {
		t.Errorf("got %s, %v", got.str("contentType"), names)
	}
}

func TestRotateKeepsWhatWasAsked(t *testing.T) {
	t.Parallel()
	s := start(t, certificateSeed)
	before := mustState(t, s, "rsa")
	id, err := s.RotateCertificate("certs", "rsa")
	if err != nil {
		t.Fatal(err)
	}
	after := mustState(t, s, "rsa")
	if after.Version != id || after.Version == before.Version || after.KeyPEM == before.KeyPEM {
		t.Error("the newest version is not a new one with a new key")
	}
	if after.Subject != before.Subject || strings.Count(after.ChainPEM, "BEGIN") != 3 {
		t.Errorf("subject %s, chain of %d", after.Subject, strings.Count(after.ChainPEM, "BEGIN"))
	}
	if got := must(t, s, "GET certs:/secrets/rsa", ""); got.str("previousVersion") != before.Version {
		t.Errorf("previousVersion is %q", got.str("previousVersion"))
	}
	if got := must(t, s, "GET certs:/secrets/rsa/"+before.Version, ""); got.str("value") != before.SecretValue {
		t.Error("the version before has changed")
	}
}

func TestDisabledCertificateDisablesItsSecret(t *testing.T) {
	t.Parallel()
	s := start(t, certificateSeed)
	if got := ask(t, s, admin, "GET certs:/secrets/off", ""); got.code() != "Forbidden/SecretDisabled" {
		t.Errorf("got %s", got.text)
	}
	must(t, s, "PATCH certs:/certificates/off", `{"attributes":{"enabled":true}}`)
	must(t, s, "GET certs:/secrets/off", "")
}

func TestManagedSecretsAreLeftAlone(t *testing.T) {
	t.Parallel()
	s := start(t, certificateSeed)
	for _, what := range []string{
		"DELETE certs:/secrets/aes", "DELETE certs:/keys/aes", "PUT certs:/secrets/aes", "PATCH certs:/secrets/aes", "POST certs:/secrets/aes/backup",
	} {
		if got := ask(t, s, admin, what, `{"value":"x"}`); !strings.HasSuffix(got.code(), "ManagedByKeyVault") {
			t.Errorf("%s: %s", what, got.text)
		}
	}
	must(t, s, "DELETE certs:/certificates/aes", "")
	for _, what := range []string{"GET certs:/secrets/aes", "GET certs:/keys/aes", "GET certs:/certificates/aes"} {
		if got := ask(t, s, admin, what, ""); got.status != 404 {
			t.Errorf("%s: %s", what, got.text)
		}
	}
	must(t, s, "POST certs:/deletedcertificates/aes/recover", "")
	must(t, s, "GET certs:/secrets/aes", "")
}

func TestCreateIsPendingFirst(t *testing.T) {
	t.Parallel()
	s := start(t)
	got := must(t, s, "POST /certificates/c/create", `{"policy":{"issuer":{"name":"self"},"x509_props":{"subject":"CN=c"},"key_props":{"kty":"EC","crv":"P-256"}}}`)
	if got.status != 202 || got.str("status") != "inProgress" || got.header.Get("Retry-After") != "10" ||
		!strings.HasPrefix(got.header.Get("Location"), "https://my-kv.vault.azure.net/certificates/c/pending?api-version=") {
		t.Errorf("got %d %s %v", got.status, got.text, got.header)
	}
	if got := must(t, s, "GET /certificates/c/pending", ""); got.str("status") != "completed" || got.str("target") == "" {
		t.Errorf("got %s", got.text)
	}
	must(t, s, "GET /certificates/c", "")
}

func TestCreateRefusals(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, tc := range map[string]struct {
		body   string
		status int
	}{
		"NoPolicy":    {`{}`, 400},
		"NoIssuer":    {`{"policy":{"x509_props":{"subject":"CN=c"}}}`, 400},
		"NoSubject":   {`{"policy":{"issuer":{"name":"Self"}}}`, 400},
		"BadSubject":  {`{"policy":{"issuer":{"name":"Self"},"key_props":{"kty":"EC"},"x509_props":{"subject":"c"}}}`, 400},
		"NoSuchOne":   {`{"policy":{"issuer":{"name":"DigiCert"},"key_props":{"kty":"EC"},"x509_props":{"subject":"CN=c"}}}`, 400},
		"ContentType": {`{"policy":{"issuer":{"name":"Self"},"key_props":{"kty":"EC"},"x509_props":{"subject":"CN=c"},"secret_props":{"contentType":"text/plain"}}}`, 400},
		"P256K":       {`{"policy":{"issuer":{"name":"Self"},"key_props":{"kty":"EC","crv":"P-256K"},"x509_props":{"subject":"CN=c"}}}`, 501},
		"NameTaken":   {`{"policy":{"issuer":{"name":"Self"},"key_props":{"kty":"EC"},"x509_props":{"subject":"CN=c"}}}`, 409},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := "c-" + strings.ToLower(name)
			if name == "NameTaken" {
				object = "plain"
			}
			if got := ask(t, s, admin, "POST /certificates/"+object+"/create", tc.body); got.status != tc.status {
				t.Errorf("got %d %s", got.status, got.text)
			}
		})
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	source := start(t, certificateSeed)
	leafFirst := mustState(t, source, "leaf-first-pfx")
	rootFirst := mustState(t, source, "root-first-pem")
	rsaPFX := mustState(t, source, "rsa")
	for name, tc := range map[string]struct {
		value, contentType string
		want               []string
	}{
		"PFX":          {leafFirst.SecretValue, keyvault.ContentTypePFX, []string{"leaf-first-pfx", "leaf-first-pfx Root CA"}},
		"RootFirstPFX": {rsaPFX.SecretValue, keyvault.ContentTypePFX, []string{"rsa Root CA", "rsa Intermediate CA 1", "example.com"}},
		"PEM":          {rootFirst.SecretValue, keyvault.ContentTypePEM, []string{"root-first-pem Root CA", "root-first-pem"}},
		"PEMToPFX":     {rootFirst.SecretValue, keyvault.ContentTypePFX, []string{"root-first-pem Root CA", "root-first-pem"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			got := must(t, s, "POST /certificates/c/import", encode(t, map[string]any{
				"value": tc.value, "policy": map[string]any{"secret_props": map[string]any{"contentType": tc.contentType}},
			}))
			secret := must(t, s, "GET /secrets/c", "")
			value := openValue(t, tc.contentType, secret.str("value"))
			if diff := cmp.Diff(tc.want, value.names()); diff != "" {
				t.Error(diff)
			}
			der, err := base64.StdEncoding.DecodeString(got.str("cer"))
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if !matches(t, value.key, leaf) {
				t.Error("cer is not the certificate of the key")
			}
		})
	}
}

func TestImportWithPassword(t *testing.T) {
	t.Parallel()
	s := start(t, certificateSeed)
	known := mustState(t, s, "aes")
	state := openPEM(t, known.KeyPEM+known.LeafPEM)
	raw, err := pkcs12.Modern2023.Encode(state.key, state.certs[0], nil, "secret")
	if err != nil {
		t.Fatal(err)
	}
	value := base64.StdEncoding.EncodeToString(raw)
	if got := ask(t, s, admin, "POST /certificates/c/import", encode(t, map[string]any{"value": value, "pwd": "wrong"})); got.status != 400 {
		t.Errorf("got %s", got.text)
	}
	must(t, s, "POST /certificates/c/import", encode(t, map[string]any{"value": value, "pwd": "secret"}))
	if got := openValue(t, keyvault.ContentTypePFX, must(t, s, "GET /secrets/c", "").str("value")); got.key == nil {
		t.Error("the value that comes back has no key or a password")
	}
}

func encode(t *testing.T, value any) string {
	t.Helper()
	out, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestAdminErrors(t *testing.T) {
	t.Parallel()
	s := start(t)
	if _, err := s.RotateCertificate("my-kv", "none"); !errors.Is(err, keyvault.ErrNoObject) {
		t.Errorf("got %v", err)
	}
	if _, err := s.SetSecret("none", seed.Secret{Meta: seed.Meta{Name: "a"}}); !errors.Is(err, keyvault.ErrNoVault) {
		t.Errorf("got %v", err)
	}
	if err := s.SetEnabled("my-kv", "passwords", "plain", true); !errors.Is(err, keyvault.ErrNoObject) {
		t.Errorf("got %v", err)
	}
	if err := s.SetPermissions("my-kv", []seed.Permission{{Principal: "nobody", Roles: []string{"Key Vault Reader"}}}); err == nil {
		t.Error("permissions for nobody are accepted")
	}
	if err := s.SetEnabled("my-kv", "secrets", "off", true); err != nil {
		t.Error(err)
	}
	must(t, s, "GET /secrets/off", "")
}

func TestWrongKeyIsNotImported(t *testing.T) {
	t.Parallel()
	s := start(t, certificateSeed)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})) + mustState(t, s, "rsa").LeafPEM
	if got := ask(t, s, admin, "POST /certificates/c/import", encode(t, map[string]any{"value": text})); got.status != 400 {
		t.Errorf("got %s", got.text)
	}
}
