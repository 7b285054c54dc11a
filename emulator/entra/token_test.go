// SPDX-License-Identifier: Apache-2.0

package entra_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/akv2k8s/akv2k8s/emulator/entra"
)

const vaultResource = "https://vault.azure.net"

func TestVerifyRefuses(t *testing.T) {
	now := time.Now()
	cfg := entra.Config{Principals: []entra.Principal{application()}, TokenLifetime: time.Minute, Now: func() time.Time { return now }}
	authority, err := entra.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	other, err := entra.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	good, foreign := issue(t, authority), issue(t, other)
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{"tid": tenant}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")

	for name, tc := range map[string]struct {
		raw  string
		want error
	}{
		"Good":         {good, nil},
		"Empty":        {"", entra.ErrMalformed},
		"Garbage":      {"a.b.c", entra.ErrMalformed},
		"NoSignature":  {none, entra.ErrSignature},
		"OtherSigner":  {foreign, entra.ErrSignature},
		"OtherPayload": {parts[0] + "." + strings.Split(foreign, ".")[1] + "." + parts[2], entra.ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := authority.Verify(tc.raw); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}

	now = now.Add(2 * time.Minute)
	if _, err := authority.Verify(good); !errors.Is(err, entra.ErrExpired) {
		t.Errorf("after its life: %v, want %v", err, entra.ErrExpired)
	}
	now = now.Add(-time.Hour)
	if _, err := authority.Verify(good); !errors.Is(err, entra.ErrNotYetValid) {
		t.Errorf("before its life: %v, want %v", err, entra.ErrNotYetValid)
	}
}

func TestRevokeTokens(t *testing.T) {
	authority, err := entra.New(entra.Config{Principals: []entra.Principal{application()}})
	if err != nil {
		t.Fatal(err)
	}
	before := issue(t, authority)
	authority.RevokeTokens()
	if _, err := authority.Verify(before); !errors.Is(err, entra.ErrRevoked) {
		t.Errorf("a token from before: %v, want %v", err, entra.ErrRevoked)
	}
	if _, err := authority.Verify(issue(t, authority)); err != nil {
		t.Errorf("a token from after: %v", err)
	}
}

func TestIssueRefusesUnknownResources(t *testing.T) {
	authority, err := entra.New(entra.Config{Resources: []string{"https://vault.example"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Issue(application(), "https://evil.example"); !errors.Is(err, entra.ErrBadResource) {
		t.Errorf("got %v, want %v", err, entra.ErrBadResource)
	}
	if _, err := authority.Issue(application(), "https://vault.example"); err != nil {
		t.Error(err)
	}
}

func TestTokenEndpointRefuses(t *testing.T) {
	p := application()
	p.Secrets = []string{"s"}
	_, hc := newAuthority(t, entra.Config{Principals: []entra.Principal{p}})
	right := url.Values{"grant_type": {"client_credentials"}, "client_id": {client}, "client_secret": {"s"}, "scope": {scope}}
	for name, tc := range map[string]struct {
		field, value string
		status       int
		code         string
	}{
		"NoGrant":         {"grant_type", "", 400, "AADSTS900144"},
		"PasswordGrant":   {"grant_type", "password", 400, "AADSTS70003"},
		"NoClient":        {"client_id", "", 400, "AADSTS900144"},
		"NoCredential":    {"client_secret", "", 401, "AADSTS7000218"},
		"NoScope":         {"scope", "", 400, "AADSTS900144"},
		"NotDefaultScope": {"scope", "https://vault.azure.net/read", 400, "AADSTS1002012"},
		"UnknownResource": {"scope", "https://evil.example/.default", 400, "AADSTS500011"},
		"NoAssertionType": {"client_assertion", "x.y.z", 400, "AADSTS900144"},
	} {
		t.Run(name, func(t *testing.T) {
			form := maps.Clone(right)
			form[tc.field] = []string{tc.value}
			status, body := post(t, hc, "https://login.microsoftonline.com/"+tenant+"/oauth2/v2.0/token", form)
			if status != tc.status || !strings.Contains(body, tc.code) {
				t.Errorf("got %d %s, want %d with %s", status, body, tc.status, tc.code)
			}
		})
	}
}

func TestNewRefusesHalfPrincipals(t *testing.T) {
	for name, change := range map[string]func(p *entra.Principal){
		"NoTenant": func(p *entra.Principal) { p.TenantID = "" },
		"NoClient": func(p *entra.Principal) { p.ClientID = "" },
		"NoObject": func(p *entra.Principal) { p.ObjectID = "" },
		"NoIssuer": func(p *entra.Principal) { p.Federated = []entra.Federated{{Subject: "s", JWKSFile: "f"}} },
		"NoKeys":   func(p *entra.Principal) { p.Federated = []entra.Federated{{Issuer: "i", Subject: "s"}} },
		"TwoSources": func(p *entra.Principal) {
			p.Federated = []entra.Federated{{Issuer: "i", Subject: "s", JWKSFile: "f", JWKSURL: "u"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := application()
			change(&p)
			if _, err := entra.New(entra.Config{Principals: []entra.Principal{p}}); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func issue(t *testing.T, authority *entra.Authority) string {
	t.Helper()
	token, err := authority.Issue(application(), vaultResource)
	if err != nil {
		t.Fatal(err)
	}
	return token.Raw
}

func pemCertificate(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}
