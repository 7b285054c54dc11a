// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/emulator/emulatortest"
	"github.com/akv2k8s/akv2k8s/emulator/entra"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/envexec"
	"github.com/akv2k8s/akv2k8s/internal/render"
)

// The stories' command is main but for two paths, which are fixed in a container.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"azure-keyvault-env-direct": func() {
		token, message := os.Getenv("TOKEN_FILE"), os.Getenv("TERMINATION_LOG")
		w := world() // takes the environment away
		w.TokenFile, w.TerminationLog = token, message
		os.Exit(envexec.Run(w))
	}})
}

const (
	issuer = "https://cluster.example"
	tenant = "00000000-0000-4000-8000-0000000000aa"
	client = "00000000-0000-4000-8000-0000000000c4"
	other  = "00000000-0000-4000-8000-0000000000c5"
)

// TestStories runs each in a container's environment as admission makes it, in front of
// an Azure that trusts the cluster's service account default/app. The variable STRANGER
// is the client id of an identity that trusts another account.
func TestStories(t *testing.T) {
	keys, token := cluster(t)
	azureSide := emulatortest.Start(t, fmt.Sprintf(`
tenant: %s
principals:
- name: pod
  clientId: %s
  federated: [{issuer: %s, subject: "system:serviceaccount:default:app", jwksFile: %s}]
- name: other
  clientId: %s
  federated: [{issuer: %s, subject: "system:serviceaccount:default:other", jwksFile: %s}]
vaults:
- name: my-kv
  permissions: [{principal: pod, roles: [Key Vault Secrets User]}]
  secrets: [{name: db, value: hunter=2}, {name: off, value: hunter3, enabled: false}]
- name: closed-kv
  secrets: [{name: db, value: hunter4}]
`, tenant, client, issuer, keys, other, issuer, keys))
	trusted, err := os.ReadFile(azureSide.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: func(e *testscript.Env) error {
		message := filepath.Join(e.WorkDir, "message")
		for name, value := range map[string]string{
			"TOKEN_FILE": token, "TERMINATION_LOG": message, "HTTPS_PROXY": azureSide.ProxyURL, "STRANGER": other, "PROXY": azureSide.ProxyURL,
			brokerapi.EnvContainer: "app", brokerapi.EnvSecrets: specs(), brokerapi.EnvClientID: client, brokerapi.EnvTenantID: tenant,
			brokerapi.EnvTrusted: string(trusted), brokerapi.EnvRetryWait: "0", brokerapi.EnvLogLevel: "debug",
		} {
			e.Setenv(name, value)
		}
		return os.WriteFile(message, nil, 0o600)
	}})
}

// cluster returns files with the keys of a cluster and with a token that it made.
func cluster(t *testing.T) (string, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.RegisteredClaims{
		Issuer: issuer, Subject: "system:serviceaccount:default:app",
		Audience: jwt.ClaimStrings{entra.DefaultAudience}, ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	})
	token.Header["kid"] = "k"
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	keys := fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"k","n":%q,"e":"AQAB"}]}`, base64.RawURLEncoding.EncodeToString(key.N.Bytes()))
	dir := t.TempDir()
	for name, text := range map[string]string{"keys": keys, "token": signed} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "keys"), filepath.Join(dir, "token")
}

func specs() string {
	secrets := map[string]*v2beta1.AzureKeyVaultSecret{}
	for name, in := range map[string][2]string{"db": {"my-kv", "db"}, "off": {"my-kv", "off"}, "gone": {"my-kv", "gone"}, "closed": {"closed-kv", "db"}} {
		secrets[name] = &v2beta1.AzureKeyVaultSecret{Spec: v2beta1.AzureKeyVaultSecretSpec{
			Vault: v2beta1.Vault{Name: in[0], Object: v2beta1.VaultObject{Name: in[1], Type: v2beta1.ObjectSecret}},
		}}
	}
	return render.WriteSpecs(secrets)
}
