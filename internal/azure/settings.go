// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"sigs.k8s.io/yaml"
	"software.sslmate.com/src/go-pkcs12"
)

// settings is a way to sign in, read to the end: the certificate is its bytes and
// not its path, so that comparing two settings tells whether anything rotated. It
// holds secrets and is never printed.
type settings struct {
	origin string // says whose fields an error is about
	cloud  string

	managed  bool
	identity string // client id or resource id; empty is the default identity

	tenant, client string
	secret         string
	certificate    string // content: PFX, or PEM with its key
	password       string
}

// cloudConfig is the part of a node's azure.json that says how to sign in.
type cloudConfig struct {
	Cloud                  string `json:"cloud"`
	TenantID               string `json:"tenantId"`
	ClientID               string `json:"aadClientId"`
	ClientSecret           string `json:"aadClientSecret"`
	CertPath               string `json:"aadClientCertPath"`
	CertPassword           string `json:"aadClientCertPassword"`
	UseManagedIdentity     bool   `json:"useManagedIdentityExtension"`
	UserAssignedIdentityID string `json:"userAssignedIdentityID"` //nolint:tagliatelle // the file's name for it
}

// managedPlaceholder is what AKS writes as client id and secret when a managed
// identity takes the place of a service principal.
const managedPlaceholder = "msi"

// readCloudConfig reads azure.json, which is JSON or YAML. Its errors name the
// file and the field and never quote the content.
func readCloudConfig(path string) (settings, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return settings{}, fmt.Errorf("reading the cloud config: %w", err)
	}
	origin := "cloud config " + path
	cfg, err := parseCloudConfig(raw)
	if err != nil {
		return settings{}, fmt.Errorf("%s: %w", origin, err)
	}
	s := settings{origin: origin, cloud: cfg.Cloud}
	if cfg.UseManagedIdentity || strings.EqualFold(cfg.ClientID, managedPlaceholder) {
		s.managed, s.identity = true, cfg.UserAssignedIdentityID
		return s, nil
	}
	s.tenant, s.client, s.secret, s.password = cfg.TenantID, cfg.ClientID, cfg.ClientSecret, cfg.CertPassword
	switch {
	case s.tenant == "":
		return settings{}, fmt.Errorf("%s: the field tenantId is missing", origin)
	case s.client == "":
		return settings{}, fmt.Errorf("%s: the field aadClientId is missing; set useManagedIdentityExtension for a managed identity", origin)
	case s.secret != "":
		return s, nil
	case cfg.CertPath == "":
		return settings{}, fmt.Errorf("%s: one of the fields aadClientSecret, aadClientCertPath and useManagedIdentityExtension is needed", origin)
	}
	return s.withCertificate("aadClientCertPath", cfg.CertPath)
}

func parseCloudConfig(raw []byte) (cloudConfig, error) {
	raw = bytes.TrimSpace(bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))) // files edited on Windows start with a BOM
	var cfg cloudConfig
	if len(raw) == 0 {
		return cfg, errors.New("the file is empty")
	}
	// JSON first: YAML refuses the tabs that JSON may be indented with.
	err := json.Unmarshal(raw, &cfg)
	if _, isType := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !isType {
		cfg = cloudConfig{}
		err = yaml.Unmarshal(raw, &cfg)
	}
	if wrongType, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrongType.Field == "" {
			return cloudConfig{}, errors.New("the file does not hold an object")
		}
		return cloudConfig{}, fmt.Errorf("the field %s must be a %s", wrongType.Field, wrongType.Type)
	}
	if err != nil {
		return cloudConfig{}, errors.New("the file is neither JSON nor YAML")
	}
	return cfg, nil
}

// readEnvironment reads AZURE_* variables: a client secret, else a certificate,
// else a managed identity.
func readEnvironment(getenv func(string) string) (settings, error) {
	first := func(names ...string) (string, string) {
		for _, name := range names {
			if v := getenv(name); v != "" {
				return v, name
			}
		}
		return "", names[0]
	}
	s := settings{
		origin: "environment", cloud: getenv(cloudVariable),
		tenant: getenv("AZURE_TENANT_ID"), client: getenv("AZURE_CLIENT_ID"), secret: getenv("AZURE_CLIENT_SECRET"),
	}
	certPath, certVariable := first("AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CERTIFICATE_PATH")
	s.password, _ = first("AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_CERTIFICATE_PASSWORD")
	switch {
	case s.secret == "" && certPath == "" && getenv("AZURE_USERNAME") != "":
		return settings{}, errors.New("environment: signing in with AZURE_USERNAME and AZURE_PASSWORD is not supported; use a service principal or a managed identity")
	case s.secret == "" && certPath == "":
		return settings{origin: s.origin, cloud: s.cloud, managed: true, identity: s.client}, nil
	case s.tenant == "":
		return settings{}, errors.New("environment: the variable AZURE_TENANT_ID is missing")
	case s.client == "":
		return settings{}, errors.New("environment: the variable AZURE_CLIENT_ID is missing")
	case s.secret != "":
		return s, nil
	}
	return s.withCertificate(certVariable, certPath)
}

func (s settings) withCertificate(field, path string) (settings, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return settings{}, fmt.Errorf("%s: reading the certificate that %s names: %w", s.origin, field, err)
	}
	s.certificate = string(raw)
	if _, _, err := s.parseCertificate(); err != nil {
		return settings{}, fmt.Errorf("%s: %s: %w", s.origin, field, err)
	}
	return s, nil
}

var errCertificate = errors.New("the file is neither PEM with a certificate and its unencrypted key nor a PFX that the given password opens")

// parseCertificate goes by the content. The SDK's own parser cannot open a PFX
// with a SHA-256 MAC, which is what OpenSSL 3 writes.
func (s settings) parseCertificate() ([]*x509.Certificate, crypto.PrivateKey, error) {
	raw := []byte(s.certificate)
	if bytes.Contains(raw, []byte("-----BEGIN ")) {
		certs, key, err := azidentity.ParseCertificates(raw, nil)
		if err != nil {
			return nil, nil, errCertificate
		}
		return certs, key, nil
	}
	key, leaf, chain, err := pkcs12.DecodeChain(raw, s.password)
	if err != nil {
		return nil, nil, errCertificate
	}
	return append([]*x509.Certificate{leaf}, chain...), key, nil
}
