// SPDX-License-Identifier: Apache-2.0

package azure_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/golang-jwt/jwt/v5"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/akv2k8s/akv2k8s/emulator/entra"
	"github.com/akv2k8s/akv2k8s/internal/azure"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

func TestCloudConfig(t *testing.T) {
	w := newWorld(t)
	key, der := newCertificate(t)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	w.app.Certificates = []*x509.Certificate{cert}
	if err := w.authority.SetPrincipals([]entra.Principal{w.app}); err != nil {
		t.Fatal(err)
	}
	pfx, err := pkcs12.Modern.Encode(key, cert, nil, "opens it")
	if err != nil {
		t.Fatal(err)
	}
	pfxFile := writeFile(t, "app.pfx", pfx)
	pemFile := writeFile(t, "app.pem", pemBundle(t, key, der))
	principal := map[string]any{"cloud": "AzurePublicCloud", "tenantId": w.app.TenantID, "aadClientId": w.app.ClientID}
	with := func(more map[string]any) string {
		all := maps.Clone(principal)
		maps.Copy(all, more)
		raw, err := json.MarshalIndent(all, "", "\t") // tabs: JSON that is no YAML
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}

	for name, content := range map[string]string{
		"Secret":          with(map[string]any{"aadClientSecret": password, "location": "westeurope", "vmType": "vmss"}),
		"BOM":             "\xef\xbb\xbf" + with(map[string]any{"aadClientSecret": password}),
		"YAML":            fmt.Sprintf("# by hand\ncloud: azurepubliccloud\ntenantId: %s\naadClientId: %s\naadClientSecret: %q\n", w.app.TenantID, w.app.ClientID, password),
		"PFX":             with(map[string]any{"aadClientCertPath": pfxFile, "aadClientCertPassword": "opens it"}),
		"PEM":             with(map[string]any{"aadClientCertPath": pemFile}),
		"ManagedByAKS":    fmt.Sprintf(`{"cloud":"","tenantId":"x","aadClientId":"msi","aadClientSecret":"msi","useManagedIdentityExtension":true,"userAssignedIdentityID":%q}`, w.app.ClientID),
		"ManagedResource": fmt.Sprintf(`{"useManagedIdentityExtension":true,"userAssignedIdentityID":%q}`, w.app.ResourceID),
		"ManagedDefault":  `{"useManagedIdentityExtension":true}`,
		"Placeholder":     `{"aadClientId":"msi","aadClientSecret":"msi"}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, "azure.json", []byte(content))
			cred, err := azure.NewCredential(azure.SignIn{CloudConfig: path, HTTP: w.http})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := newReader(t, cred, azure.Options{}).Read(t.Context(), greeting()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCloudConfigRefused: the sentence names the file and the field and never
// quotes what the file holds.
func TestCloudConfigRefused(t *testing.T) {
	const prefix = `{"tenantId":"t","aadClientId":"c",`
	notACert := writeFile(t, "x.pem", []byte(canary))
	for name, tc := range map[string]struct{ content, says string }{
		"Empty":          {" \n", "empty"},
		"Garbage":        {"\t{" + canary, "neither JSON nor YAML"},
		"List":           {`["` + canary + `"]`, "does not hold an object"},
		"Text":           {canary, "does not hold an object"},
		"WrongType":      {`{"useManagedIdentityExtension":"` + canary + `"}`, "the field useManagedIdentityExtension must be a bool"},
		"WrongTypeYAML":  {"tenantId: [" + canary + "]", "the field tenantId must be a string"},
		"NoTenant":       {`{"aadClientId":"c","aadClientSecret":"` + canary + `"}`, "tenantId is missing"},
		"NoClient":       {`{"tenantId":"t","aadClientSecret":"` + canary + `"}`, "aadClientId is missing"},
		"NoCredential":   {`{"tenantId":"t","aadClientId":"c"}`, "aadClientSecret, aadClientCertPath and useManagedIdentityExtension"},
		"NoCertFile":     {prefix + `"aadClientCertPath":"/nonexistent/app.pem"}`, "aadClientCertPath"},
		"BadCertFile":    {prefix + `"aadClientCertPath":"` + notACert + `","aadClientCertPassword":"` + canary + `"}`, "aadClientCertPath"},
		"UnknownCloud":   {prefix + `"aadClientSecret":"s","cloud":"` + canary + `"}`, "AzurePublicCloud, AzureChinaCloud, AzureUSGovernmentCloud"},
		"OddTenant":      {`{"tenantId":"` + canary + `/..","aadClientId":"c","aadClientSecret":"s"}`, "malformed"},
		"NotEvenAFile":   {"", "reading the cloud config"},
		"HalfOfASecret":  {prefix + `"aadClientSecret":"` + canary, "neither JSON nor YAML"},
		"SecretIsNumber": {prefix + `"aadClientSecret":4711}`, "the field aadClientSecret must be a string"},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, "azure.json", []byte(tc.content))
			if name == "NotEvenAFile" {
				path += ".absent"
			}
			_, err := azure.NewCredential(azure.SignIn{CloudConfig: path})
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("%q lacks %q or the file's name", err, tc.says)
			}
			if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "4711") {
				t.Errorf("%q quotes the file", err)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	w := newWorld(t)
	key, der := newCertificate(t)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	w.app.Certificates = []*x509.Certificate{cert}
	if err := w.authority.SetPrincipals([]entra.Principal{w.app}); err != nil {
		t.Fatal(err)
	}
	pfx, err := pkcs12.LegacyDES.Encode(key, cert, nil, "opens it")
	if err != nil {
		t.Fatal(err)
	}
	pfxFile, pemFile := writeFile(t, "app.pfx", pfx), writeFile(t, "app.pem", pemBundle(t, key, der))
	for name, more := range map[string]map[string]string{
		"Secret":          {"AZURE_CLIENT_SECRET": password},
		"Certificate":     {"AZURE_CLIENT_CERTIFICATE_PATH": pemFile},
		"OlderNames":      {"AZURE_CERTIFICATE_PATH": pfxFile, "AZURE_CERTIFICATE_PASSWORD": "opens it"},
		"ManagedIdentity": {"AZURE_TENANT_ID": ""},
		"NamedCloud":      {"AZURE_CLIENT_SECRET": password, "AZURE_ENVIRONMENT": "AZUREPUBLICCLOUD"},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"AZURE_TENANT_ID": w.app.TenantID, "AZURE_CLIENT_ID": w.app.ClientID}
			maps.Copy(env, more)
			cred := w.environment(t, nil, env)
			if _, err := newReader(t, cred, azure.Options{}).Read(t.Context(), greeting()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEnvironmentRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		method azure.Method
		env    map[string]string
		says   string
	}{
		"NoTenant":      {azure.MethodEnvironment, map[string]string{"AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": canary}, "AZURE_TENANT_ID"},
		"NoClient":      {azure.MethodEnvironment, map[string]string{"AZURE_TENANT_ID": "t", "AZURE_CLIENT_SECRET": canary}, "AZURE_CLIENT_ID"},
		"NoCertificate": {azure.MethodEnvironment, map[string]string{"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CERTIFICATE_PATH": "/nonexistent/x"}, "AZURE_CERTIFICATE_PATH"},
		"Password":      {azure.MethodEnvironment, map[string]string{"AZURE_USERNAME": canary, "AZURE_PASSWORD": canary}, "not supported"},
		"UnknownCloud":  {azure.MethodEnvironment, map[string]string{"AZURE_ENVIRONMENT": canary}, "AzureChinaCloud"},
		"DefaultCloud":  {azure.MethodDefault, map[string]string{"AZURE_ENVIRONMENT": canary}, "AzureChinaCloud"},
		"Method":        {"password", nil, "azureCloudConfig, environment, environment-azidentity"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := azure.NewCredential(azure.SignIn{Method: tc.method, Getenv: func(name string) string { return tc.env[name] }})
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), canary) {
				t.Errorf("%q lacks %q or quotes a value", err, tc.says)
			}
		})
	}
}

func TestClouds(t *testing.T) {
	for name, tc := range map[string]struct{ given, name, suffix string }{
		"Default":    {"", "AzurePublicCloud", "vault.azure.net"},
		"Public":     {"AzurePublicCloud", "AzurePublicCloud", "vault.azure.net"},
		"Upper":      {"AZURECHINACLOUD", "AzureChinaCloud", "vault.azure.cn"},
		"Government": {"azureusgovernment", "AzureUSGovernmentCloud", "vault.usgovcloudapi.net"},
	} {
		t.Run(name, func(t *testing.T) {
			cloud, err := azure.ParseCloud(tc.given)
			if err != nil || cloud.Name != tc.name || cloud.VaultSuffix != tc.suffix {
				t.Errorf("got %s, %s, %v", cloud.Name, cloud.VaultSuffix, err)
			}
		})
	}
}

// TestNamedCloud: a flag outranks the variable, and azure.json both.
func TestNamedCloud(t *testing.T) {
	getenv := func(name string) string {
		return map[string]string{"AZURE_ENVIRONMENT": "AzureUSGovernmentCloud"}[name]
	}
	file := writeFile(t, "azure.json", []byte(`{"cloud":"AzureChinaCloud","useManagedIdentityExtension":true}`))
	for name, tc := range map[string]struct {
		cfg  azure.SignIn
		want string
	}{
		"Variable":       {azure.SignIn{Method: azure.MethodEnvironment}, "AzureUSGovernmentCloud"},
		"Flag":           {azure.SignIn{Method: azure.MethodEnvironment, Cloud: "AzurePublicCloud"}, "AzurePublicCloud"},
		"DefaultMethod":  {azure.SignIn{Method: azure.MethodDefault, Cloud: "azurechinacloud"}, "AzureChinaCloud"},
		"CloudConfig":    {azure.SignIn{Method: azure.MethodCloudConfig, CloudConfig: file, Cloud: "AzurePublicCloud"}, "AzureChinaCloud"},
		"UnspecifiedWay": {azure.SignIn{CloudConfig: file}, "AzureChinaCloud"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.cfg.Getenv = getenv
			cred, err := azure.NewCredential(tc.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if got := cred.Cloud().Name; got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestChina(t *testing.T) {
	w := newWorld(t)
	cred := w.environment(t, nil, map[string]string{
		"AZURE_ENVIRONMENT": "AzureChinaCloud", "AZURE_TENANT_ID": w.app.TenantID, "AZURE_CLIENT_ID": w.app.ClientID, "AZURE_CLIENT_SECRET": password,
	})
	if _, err := newReader(t, cred, azure.Options{}).Read(t.Context(), greeting()); err != nil {
		t.Fatal(err)
	}
	if w.count("my-kv.vault.azure.cn/", "+token") != 1 || w.count("POST login.chinacloudapi.cn/") == 0 {
		t.Errorf("requests went elsewhere: %v", w.seen)
	}
}

// TestWorkloadIdentity signs in as the pods of a cluster do, with variables that
// the SDK reads from the process.
func TestWorkloadIdentity(t *testing.T) {
	w := newWorld(t)
	file := w.trust(t, "system:serviceaccount:akv2k8s:broker")
	for name, value := range map[string]string{
		"AZURE_CLIENT_ID": w.app.ClientID, "AZURE_TENANT_ID": w.app.TenantID, "AZURE_CLIENT_SECRET": "", "AZURE_TOKEN_CREDENTIALS": "prod",
		"AZURE_FEDERATED_TOKEN_FILE": file, "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
	} {
		t.Setenv(name, value)
	}
	cred, err := azure.NewCredential(azure.SignIn{Method: azure.MethodDefault, HTTP: w.http})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newReader(t, cred, azure.Options{}).Read(t.Context(), greeting()); err != nil {
		t.Error(err)
	}
}

// trust has the application trust a cluster's broker, and returns the file of a token
// that this cluster made for the subject.
func (w *azureWorld) trust(t *testing.T, subject string) string {
	t.Helper()
	key, _ := newCertificate(t)
	keys := writeFile(t, "jwks.json", []byte(fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"k","n":%q,"e":"AQAB"}]}`, b64(key.N))))
	w.app.Federated = []entra.Federated{{Issuer: "https://cluster.example", Subject: "system:serviceaccount:akv2k8s:broker", JWKSFile: keys}}
	if err := w.authority.SetPrincipals([]entra.Principal{w.app}); err != nil {
		t.Fatal(err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.RegisteredClaims{
		Issuer: "https://cluster.example", Subject: subject,
		Audience: jwt.ClaimStrings{entra.DefaultAudience}, ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	})
	token.Header["kid"] = "k"
	raw, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "token", []byte(raw))
}

// Whose variables surround the process does not matter, and no request more is sent than
// there must be.
func TestFederated(t *testing.T) {
	for name, value := range map[string]string{
		"AZURE_CLIENT_ID": "other", "AZURE_TENANT_ID": "other", "AZURE_FEDERATED_TOKEN_FILE": "/nonexistent",
		"AZURE_AUTHORITY_HOST": "https://login.chinacloudapi.cn/", "AZURE_ENVIRONMENT": "AzureChinaCloud",
	} {
		t.Setenv(name, value)
	}
	for subject, want := range map[string]error{"system:serviceaccount:akv2k8s:broker": nil, "system:serviceaccount:akv2k8s:stranger": vault.ErrSignIn} {
		w := newWorld(t)
		f := azure.Federated{ClientID: w.app.ClientID, TenantID: w.app.TenantID, TokenFile: w.trust(t, subject)}
		cred, err := azure.NewCredential(azure.SignIn{Federated: &f, HTTP: w.http})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newReader(t, cred, azure.Options{}).Read(t.Context(), greeting()); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", subject, err, want)
		}
		if n := w.count("login.chinacloudapi.cn"); n > 0 {
			t.Errorf("%s: the variables are heeded", subject)
		}
		if n := w.count(""); want == nil && n > 4 {
			t.Errorf("%d requests for one secret: %v", n, w.seen)
		}
	}
}

func TestFederatedRefused(t *testing.T) {
	t.Setenv("AZURE_CLIENT_ID", "other")
	for name, f := range map[string]azure.Federated{
		"NoClient": {TenantID: "t", TokenFile: "f"}, "NoTenant": {ClientID: "c", TokenFile: "f"}, "NoFile": {ClientID: "c", TenantID: "t"},
		"OddTenant": {ClientID: "c", TenantID: canary + "/..", TokenFile: "f"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := azure.NewCredential(azure.SignIn{Federated: &f})
			if err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNothingToSignInWith(t *testing.T) {
	w := newWorld(t)
	w.app.ManagedIdentity = false
	if err := w.authority.SetPrincipals([]entra.Principal{w.app}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"} {
		t.Setenv(name, "")
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "prod")
	for _, method := range []azure.Method{azure.MethodDefault, azure.MethodEnvironment} {
		cred, err := azure.NewCredential(azure.SignIn{Method: method, HTTP: w.http})
		if err != nil {
			t.Fatal(err)
		}
		log, out := newLog()
		expect(t, newReader(t, cred, azure.Options{Log: log}), greeting(), vault.ErrSignIn)
		expectOneLine(t, out, "sign-in refused")
	}
}

func TestSignInFails(t *testing.T) {
	answer := func(status int, header, value string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			if header != "" {
				rw.Header().Set(header, value)
			}
			rw.WriteHeader(status)
			_, _ = io.WriteString(rw, canary)
		}
	}
	for name, tc := range map[string]struct {
		secret string
		login  http.Handler
		want   error
		logs   string
	}{
		"WrongSecret": {"wrong", nil, vault.ErrSignIn, `"code":"AADSTS7000215"`},
		"Outage":      {password, answer(http.StatusServiceUnavailable, "", ""), vault.ErrUnavailable, `"status":503`},
		"Throttled":   {password, answer(http.StatusTooManyRequests, "", ""), vault.ErrUnavailable, `"status":429`},
		"Reset":       {password, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), vault.ErrUnavailable, "sign-in did not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if tc.login != nil {
				w.set(func(w *azureWorld) { w.login = tc.login })
			}
			cred := w.environment(t, nil, map[string]string{
				"AZURE_TENANT_ID": w.app.TenantID, "AZURE_CLIENT_ID": w.app.ClientID, "AZURE_CLIENT_SECRET": tc.secret,
			})
			log, out := newLog()
			_, err := newReader(t, cred, azure.Options{Log: log}).Read(t.Context(), greeting())
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			expectOneLine(t, out, tc.logs)
		})
	}
}

// TestRotatedServicePrincipal: the file is read again when a token is needed.
func TestRotatedServicePrincipal(t *testing.T) {
	w := newWorld(t)
	config := func(secret string) []byte {
		return fmt.Appendf(nil, `{"tenantId":%q,"aadClientId":%q,"aadClientSecret":%q}`, w.app.TenantID, w.app.ClientID, secret)
	}
	path := writeFile(t, "azure.json", config("expired-secret"))
	log, out := newLog()
	cred, err := azure.NewCredential(azure.SignIn{CloudConfig: path, HTTP: w.http, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	reader := newReader(t, cred, azure.Options{})
	expect(t, reader, greeting(), vault.ErrSignIn)

	rewrite(t, path, []byte(`{"tenantId":`)) // caught half written: the last good settings stay
	for range 2 {
		expect(t, reader, greeting(), vault.ErrSignIn)
	}
	if n := strings.Count(out.String(), "cannot be read again"); n != 1 {
		t.Errorf("%d complaints about the same fault, want 1:\n%s", n, out)
	}
	rewrite(t, path, config(password))
	if _, err := reader.Read(t.Context(), greeting()); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
	if strings.Contains(out.String(), password) || strings.Contains(out.String(), "expired-secret") {
		t.Errorf("the log holds a secret:\n%s", out)
	}
}

// TestRevokedToken: a vault that refuses an unexpired token gets a fresh one, from
// a service principal and from a managed identity, whose SDKs would go on serving
// the old one from their caches.
func TestRevokedToken(t *testing.T) {
	for name, secret := range map[string]string{"ServicePrincipal": password, "ManagedIdentity": ""} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cred := w.environment(t, nil, map[string]string{
				"AZURE_TENANT_ID": w.app.TenantID, "AZURE_CLIENT_ID": w.app.ClientID, "AZURE_CLIENT_SECRET": secret,
			})
			reader := newReader(t, cred, azure.Options{})
			if _, err := reader.Read(t.Context(), greeting()); err != nil {
				t.Fatal(err)
			}
			w.authority.RevokeTokens()
			if _, err := reader.Read(t.Context(), greeting()); err != nil {
				t.Errorf("after the tokens were revoked: %v", err)
			}
		})
	}
}

// TestStubbornVault: one that refuses every token must not make us sign in at
// each read.
func TestStubbornVault(t *testing.T) {
	w := newWorld(t)
	w.set(func(w *azureWorld) {
		w.vault = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			w.challenge(rw, `Bearer authorization="https://login.microsoftonline.com/`+w.app.TenantID+`", resource="https://vault.azure.net"`)
		})
	})
	reader := newReader(t, w.credential(t, nil), azure.Options{})
	for range 5 {
		expect(t, reader, greeting(), vault.ErrSignIn)
	}
	if n := w.count("POST", "/oauth2/v2.0/token"); n > 2 {
		t.Errorf("%d sign-ins for 5 refused reads, want at most 2", n)
	}
}

func TestCredentialHonoursContext(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.credential(t, nil).GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func newCertificate(t *testing.T) (*rsa.PrivateKey, []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func pemBundle(t *testing.T, key crypto.PrivateKey, der []byte) []byte {
	t.Helper()
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
}

func b64(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }

func rewrite(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
