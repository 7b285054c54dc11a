// SPDX-License-Identifier: Apache-2.0

package azure_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/akv2k8s/akv2k8s/emulator/emulatortest"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
	"github.com/akv2k8s/akv2k8s/internal/azure"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/internal/vault/vaulttest"
)

const contractSeed = `
tenant: 11111111-1111-4111-8111-111111111111
principals:
  - name: reader
    clientId: 22222222-2222-4222-8222-222222222222
    secrets: [the-right-secret]
vaults:
  - name: my-kv
    permissions:
      - principal: reader
        roles: [Key Vault Administrator]
`

func TestReaderKeepsTheContract(t *testing.T) {
	vaulttest.RunContract(t, newStage)
}

func newStage(t *testing.T) vaulttest.Stage {
	t.Helper()
	stage, _ := newStageAndEmulator(t)
	return stage
}

func newStageAndEmulator(t *testing.T) (vaulttest.Stage, *emulatortest.Instance) {
	t.Helper()
	emulator := emulatortest.Start(t, contractSeed)
	owner := newOwner(t, emulator.Client(), environment())
	return vaulttest.Stage{
		Reader: emulatorReader(t, emulator), Vault: "my-kv",
		SetSecret: func(name, value, contentType string) string {
			return emulator.PutSecret("my-kv", seed.Secret{Meta: seed.Meta{Name: name}, Value: value, ContentType: contentType})
		},
		CreateCertificate: func(name string) string {
			return emulator.PutCertificate("my-kv", seed.Certificate{Meta: seed.Meta{Name: name}})
		},
		CreateKey: owner.createKey,
		Disable: func(ref vault.Reference) {
			if ref.Version != "" {
				owner.disableSecret(ref)
				return
			}
			emulator.SetEnabled(ref.Vault, collection(ref.Kind), ref.Name, false)
		},
		Delete: func(ref vault.Reference) { emulator.Delete(ref.Vault, collection(ref.Kind), ref.Name) },
		Break:  func(fault vaulttest.Fault, retryAfter time.Duration) { breakVault(t, emulator, fault, retryAfter) },
	}, emulator
}

// environment signs in the emulator's reader.
func environment() map[string]string {
	return map[string]string{
		"AZURE_TENANT_ID":     "11111111-1111-4111-8111-111111111111",
		"AZURE_CLIENT_ID":     "22222222-2222-4222-8222-222222222222",
		"AZURE_CLIENT_SECRET": password,
	}
}

// emulatorReader reads from the emulator.
func emulatorReader(t *testing.T, emulator *emulatortest.Instance) *azure.Reader {
	t.Helper()
	proxyURL, err := url.Parse(emulator.ProxyURL)
	if err != nil {
		t.Fatal(err)
	}
	client, err := azure.NewHTTPClient(azure.HTTPOptions{CABundle: emulator.CAFile, Proxy: http.ProxyURL(proxyURL)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	env := environment()
	cred, err := azure.NewCredential(azure.SignIn{Method: azure.MethodEnvironment, Getenv: func(name string) string { return env[name] }, HTTP: client})
	if err != nil {
		t.Fatal(err)
	}
	return newReader(t, cred, azure.Options{})
}

func collection(kind vault.Kind) string { return string(kind) + "s" }

func breakVault(t *testing.T, emulator *emulatortest.Instance, fault vaulttest.Fault, retryAfter time.Duration) {
	t.Helper()
	setSecrets := func(secrets ...string) {
		principals := emulator.Emulator.Authority.Principals()
		principals[0].Secrets = secrets
		if err := emulator.Emulator.Authority.SetPrincipals(principals); err != nil {
			t.Fatal(err)
		}
	}
	switch fault {
	case vaulttest.FaultNone:
		emulator.SetFaults("my-kv")
		setSecrets(password)
	case vaulttest.FaultForbidden:
		emulator.SetFaults("my-kv", seed.Fault{Kind: seed.FaultForbid})
	case vaulttest.FaultFirewall:
		emulator.SetFaults("my-kv", seed.Fault{Kind: seed.FaultFirewall})
	case vaulttest.FaultThrottled:
		emulator.SetFaults("my-kv", seed.Fault{Kind: seed.FaultThrottle, RetryAfter: int(retryAfter / time.Second)})
	case vaulttest.FaultServer:
		emulator.SetFaults("my-kv", seed.Fault{Kind: seed.FaultError})
	case vaulttest.FaultReset:
		emulator.SetFaults("my-kv", seed.Fault{Kind: seed.FaultReset})
	case vaulttest.FaultSignIn:
		setSecrets("another-secret")
		emulator.Emulator.Authority.RevokeTokens()
	}
}

// owner arranges over the wire what the emulator offers no shortcut for.
type owner struct {
	t       *testing.T
	keys    *azkeys.Client
	secrets *azsecrets.Client
}

func newOwner(t *testing.T, client *http.Client, env map[string]string) owner {
	t.Helper()
	options := azcore.ClientOptions{Transport: client}
	cred, err := azidentity.NewClientSecretCredential(env["AZURE_TENANT_ID"], env["AZURE_CLIENT_ID"], env["AZURE_CLIENT_SECRET"],
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := azkeys.NewClient("https://my-kv.vault.azure.net", cred, &azkeys.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := azsecrets.NewClient("https://my-kv.vault.azure.net", cred, &azsecrets.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	return owner{t, keys, secrets}
}

func (o owner) createKey(name string, ec bool) string {
	o.t.Helper()
	kind := azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}
	if ec {
		kind = azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC), Curve: to.Ptr(azkeys.CurveNameP256)}
	}
	resp, err := o.keys.CreateKey(o.t.Context(), name, kind, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.Key.KID.Version()
}

func (o owner) disableSecret(ref vault.Reference) {
	o.t.Helper()
	_, err := o.secrets.UpdateSecretProperties(o.t.Context(), ref.Name, ref.Version, azsecrets.UpdateSecretPropertiesParameters{
		SecretAttributes: &azsecrets.SecretAttributes{Enabled: new(false)},
	}, nil)
	if err != nil {
		o.t.Fatal(err)
	}
}
