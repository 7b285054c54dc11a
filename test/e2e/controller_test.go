// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

var controllerStories = []tale{
	{"SecretBecomesOpaque", secretBecomesOpaque},
	{"RSACertificateBecomesTLS", func(s *story) { certificateBecomesTLS(s, certificateKinds["rsa-pfx"]) }},
	{"RSACertificateInNewPFXBecomesTLS", func(s *story) { certificateBecomesTLS(s, certificateKinds["rsa-pfx-aes"]) }},
	{"ECCertificateBecomesTLS", func(s *story) { certificateBecomesTLS(s, certificateKinds["ec-pem"]) }},
	{"EveryVersionIsServed", everyVersionIsServed},
	{"DriftIsRepaired", driftIsRepaired},
	{"DeletionRemovesTheOutput", deletionRemovesTheOutput},
	{"WithoutOutputNothingIsWritten", withoutOutputNothingIsWritten},
	{"SteadyStateWritesNothing", steadyStateWritesNothing},
}

// certificateKinds are the kinds that differ on the way.
var certificateKinds = map[string]harness.CertificateSpec{
	"rsa-pfx":     {Subject: "CN=app.example", Chain: 3},
	"rsa-pfx-aes": {Subject: "CN=app.example", Chain: 3, PFX: "aes256-sha256", Order: "root-first"},
	"ec-pem":      {Subject: "CN=app.example", Chain: 3, KeyType: "EC", Curve: "P-256", ContentType: "application/x-pem-file"},
}

// privatePEM is the key as the product gives it: PKCS #1 for RSA, SEC 1 for EC. It
// is worked out here from what the vault holds, not by the product's code.
func privatePEM(held harness.Certificate) (string, error) {
	block, _ := pem.Decode([]byte(held.KeyPEM))
	if block == nil {
		return "", errors.New("the vault shows no private key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return "", errors.New("the vault shows no PKCS #8 key")
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})), nil
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(k)
		return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), err
	default:
		return "", errors.New("the vault's key is neither RSA nor EC")
	}
}

func secretBecomesOpaque(s *story) {
	s.reach = inSecret
	first := s.secret("it")
	s.akvs("it", "secret", "it", opaque("out"))
	out := s.becomes("out", "value", first)
	if out.Type != "Opaque" || len(out.Data) != 1 {
		s.Errorf("type %s with %d keys; want Opaque with one", out.Type, len(out.Data))
	}
	s.oneClear(s.says(v2beta1.ReasonSynced), "out")
	if row := s.kubectl("get", "akvs", "it", "--no-headers"); !strings.Contains(row, vaultName) || !strings.Contains(row, "True") {
		s.Errorf("kubectl get akvs shows %q", row)
	}
	before := s.kubectl("get", "akvs", "it", "-o", "jsonpath={.status.secretHash}")
	s.becomes("out", "value", s.secret("it"))
	s.wait(`jsonpath={.status.conditions[?(@.type=="Ready")].status}=True`, "akvs/it")
	s.eventually("the hash should change with the value", func() error {
		if s.kubectl("get", "akvs", "it", "-o", "jsonpath={.status.secretHash}") == before {
			return errors.New("it is the same")
		}
		return nil
	})
}

func certificateBecomesTLS(s *story, spec harness.CertificateSpec) {
	s.reach = inSecret
	held := s.certificate("it", spec)
	s.akvs("it", "certificate", "it", tlsOutput("out"))
	s.isTLSPair(held)
	s.says(v2beta1.ReasonSynced)
	s.isTLSPair(s.rotate("it"))
}

// isTLSPair waits for the pair and checks it as a server would use it.
func (s *story) isTLSPair(held harness.Certificate) {
	s.Helper()
	key, err := privatePEM(held)
	s.ok(err)
	out := s.becomes("out", "tls.key", key)
	if out.Type != "kubernetes.io/tls" {
		s.Errorf("type %s", out.Type)
	}
	if string(out.Data["tls.crt"]) != held.ChainPEM {
		s.Error("tls.crt is not the vault's chain, leaf first")
	}
	pair, err := tls.X509KeyPair(out.Data["tls.crt"], out.Data["tls.key"])
	if err != nil {
		s.Fatal("the pair cannot be used")
	}
	if len(pair.Certificate) != 3 {
		s.Fatalf("%d certificates in the chain; want 3", len(pair.Certificate))
	}
	for i := range pair.Certificate[:2] {
		child, err := x509.ParseCertificate(pair.Certificate[i])
		s.ok(err)
		parent, err := x509.ParseCertificate(pair.Certificate[i+1])
		s.ok(err)
		if err := child.CheckSignatureFrom(parent); err != nil {
			s.Errorf("certificate %d is not signed by the next: %v", i, err)
		}
	}
}

func everyVersionIsServed(s *story) {
	s.reach = inSecret
	value := s.secret("it")
	for _, version := range []string{"v1alpha1", "v1", "v2alpha1", "v2beta1"} {
		manifest := s.akvsYAML(version, "secret", "it", opaque(version))
		s.apply(strings.ReplaceAll(manifest, "spv.no/v2beta1", "spv.no/"+version))
	}
	for _, version := range []string{"v1alpha1", "v1", "v2alpha1", "v2beta1"} {
		s.becomes(version, "value", value)
		if row := s.kubectl("get", "azurekeyvaultsecrets."+version+".spv.no", version, "--no-headers"); !strings.Contains(row, s.object("it")) {
			s.Errorf("kubectl get azurekeyvaultsecrets.%s.spv.no shows %q", version, row)
		}
	}
}

func driftIsRepaired(s *story) {
	s.reach = inSecret
	value := s.secret("it")
	s.akvs("it", "secret", "it", opaque("out"))
	s.becomes("out", "value", value)
	s.kubectl("patch", "secret", "out", "--type=merge", "-p", `{"stringData":{"value":"by hand","other":"somebody's own"}}`)
	out := s.becomes("out", "value", value)
	if string(out.Data["other"]) != "somebody's own" {
		s.Error("a key that somebody else added is gone")
	}
	s.kubectl("delete", "secret", "out")
	s.becomes("out", "value", value)
}

func deletionRemovesTheOutput(s *story) {
	s.reach = inSecret
	value := s.secret("it")
	s.akvs("it", "secret", "it", opaque("out"))
	s.becomes("out", "value", value)
	s.kubectl("delete", "akvs", "it")
	s.wait("delete", "secret/out")
}

func withoutOutputNothingIsWritten(s *story) {
	s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.oneClear(s.says(v2beta1.ReasonNoOutput), "Env Injector")
	if secrets := s.kubectl("get", "secrets", "-o", "name"); secrets != "" {
		s.Errorf("there are %q", secrets)
	}
}

// steadyStateWritesNothing waits for another AzureKeyVaultSecret to follow two
// changes, each at least a refresh: meanwhile nothing is written about this one.
func steadyStateWritesNothing(s *story) {
	s.reach = inSecret
	value := s.secret("it")
	s.akvs("it", "secret", "it", opaque("out"))
	s.becomes("out", "value", value)
	s.says(v2beta1.ReasonSynced)
	revisions := func() string {
		return s.kubectl("get", "akvs/it", "secret/out", "-o", `jsonpath={range .items[*]}{.metadata.resourceVersion}{" "}{end}`)
	}
	before := revisions()
	if len(strings.Fields(before)) != 2 {
		s.Fatalf("resource versions %q; want two", before)
	}
	s.akvs("clock", "secret", "clock", opaque("clock"))
	for range 3 {
		s.becomes("clock", "value", s.secret("clock"))
	}
	if after := revisions(); after != before {
		s.Errorf("resource versions went from %s to %s", before, after)
	}
}
