// SPDX-License-Identifier: Apache-2.0

package direct_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/direct"
	"github.com/akv2k8s/akv2k8s/internal/envexec"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/internal/vault/vaulttest"
)

var (
	errBoom = errors.New("boom remote-text")
	db      = vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "db"}
	login   = vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "login"}
)

// container is one that admission has prepared, and what came of it.
type container struct {
	files    string // where they go; in memory
	vault    *vaulttest.Reader
	reader   vault.Reader // in the place of vault
	identity direct.Identity
	connects int
	refuses  error // connecting

	environ []string // of the program; nil was not started
	message string
	log     bytes.Buffer
}

func newContainer() *container {
	r := vaulttest.NewReader("my-kv")
	r.Put(db, vault.Object{Value: secret.New([]byte("hunter2"))})
	r.Put(login, vault.Object{Value: secret.New([]byte("user:pass"))})
	return &container{vault: r}
}

func akvs(name string) *v2beta1.AzureKeyVaultSecret {
	return &v2beta1.AzureKeyVaultSecret{Spec: v2beta1.AzureKeyVaultSecretSpec{
		Vault: v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: name, Type: v2beta1.ObjectSecret}},
	}}
}

// admitted is what admission sets.
func admitted() []string {
	specs := render.WriteSpecs(map[string]*v2beta1.AzureKeyVaultSecret{"db": akvs("db"), "login": akvs("login"), "gone": akvs("gone")})
	return []string{
		brokerapi.EnvContainer + "=app", brokerapi.EnvSecrets + "=" + specs,
		brokerapi.EnvClientID + "=client", brokerapi.EnvTenantID + "=tenant", brokerapi.EnvCloud + "=AzureChinaCloud",
		brokerapi.EnvVaultSuffix + "=vault.example", brokerapi.EnvTrusted + "=PEM", brokerapi.EnvRetryWait + "=0",
	}
}

// start returns the exit status.
func (c *container) start(t *testing.T, environ ...string) int {
	t.Helper()
	dir := t.TempDir()
	message := filepath.Join(dir, "message")
	if err := os.WriteFile(message, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	status := envexec.Run(envexec.World{
		Args: []string{brokerapi.Binary, "/bin/sh"}, Environ: environ, Stderr: &c.log, TokenFile: "/token", TerminationLog: message,
		FilesDir: c.files,
		Exec:     func(_ string, _, environ []string) error { c.environ = environ; return errBoom },
		Source: direct.Source(func(id direct.Identity, _ *slog.Logger) (vault.Reader, error) {
			c.identity, c.connects = id, c.connects+1
			if c.reader != nil {
				return c.reader, nil
			}
			return c.vault, c.refuses
		}),
	})
	text, err := os.ReadFile(message)
	if err != nil {
		t.Fatal(err)
	}
	c.message = string(text)
	return status
}

// What a directory has is told to the process by admission, as all else is.
func TestFillsFiles(t *testing.T) {
	c := newContainer()
	var err error
	if c.files, err = os.MkdirTemp("/dev/shm", "akv2k8s-"); err != nil { //nolint:usetesting // t.TempDir is on a disk
		t.Skipf("files are written into memory alone, and /dev/shm is not to be had: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(c.files) })
	parts := akvs("login")
	parts.Spec.Output.Secret = &v2beta1.SecretOutput{Name: "out", Type: "kubernetes.io/basic-auth"}
	env := append(admitted(), brokerapi.EnvSecrets+"="+render.WriteSpecs(map[string]*v2beta1.AzureKeyVaultSecret{"login": parts, "db": akvs("db")}))
	c.start(t, append(env, "LOGIN=login@azurekeyvault;directory", "PASSWORD=db@azurekeyvault;file")...)
	if d := gocmp.Diff([]string{"LOGIN=" + c.files + "/login", "PASSWORD=" + c.files + "/db/value"}, c.environ); d != "" {
		t.Errorf("environment: -want +got\n%s%s", d, c.message)
	}
	for name, want := range map[string]string{"login/username": "user", "login/password": "pass", "db/value": "hunter2"} {
		if got, err := os.ReadFile(filepath.Join(c.files, name)); string(got) != want {
			t.Errorf("%s has %d bytes, %v", name, len(got), err)
		}
	}
}

func TestFills(t *testing.T) {
	c := newContainer()
	c.start(t, append(admitted(),
		"PASSWORD=db@azurekeyvault", "URL=p://<login@azurekeyvault?username>:<db@azurekeyvault>@h", "AGAIN=db@azurekeyvault",
		"NONE=absent@azurekeyvault;optional", "DEFAULT=<absent@azurekeyvault;default=d>", "GONE=gone@azurekeyvault;default=g", "PLAIN=p")...)
	want := []string{"PASSWORD=hunter2", "URL=p://user:hunter2@h", "AGAIN=hunter2", "DEFAULT=d", "GONE=g", "PLAIN=p"}
	if d := gocmp.Diff(want, c.environ); d != "" {
		t.Errorf("environment: -want +got\n%s%s", d, c.message)
	}
	identity := direct.Identity{ClientID: "client", TenantID: "tenant", TokenFile: "/token", Cloud: "AzureChinaCloud", VaultSuffix: "vault.example", CABundle: "PEM"}
	if d := gocmp.Diff(identity, c.identity); d != "" {
		t.Errorf("identity: -want +got\n%s", d)
	}
	reads := c.vault.Reads()
	slices.SortFunc(reads, func(a, b vault.Reference) int { return strings.Compare(a.Name, b.Name) })
	if len(reads) != 3 || reads[0] != db {
		t.Errorf("read %v, want each object once", reads)
	}
}

// renewing is a vault that renews each certificate between the reads of its halves.
type renewing struct {
	mu    sync.Mutex
	asked []string // version and half of each read
}

func (r *renewing) Read(_ context.Context, ref vault.Reference) (vault.Object, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, fmt.Sprintf("%q %t", ref.Version, ref.PrivateKey))
	obj := vault.Object{Version: cmp.Or(ref.Version, "old")}
	if ref.PrivateKey {
		obj.Version = "new"
	}
	return obj, nil
}

// A program never starts with halves of two pairs: the older is read again.
func TestReadsOnePair(t *testing.T) {
	c, r := newContainer(), &renewing{}
	c.reader = r
	spec := akvs("cert")
	spec.Spec.Vault.Object.Type = v2beta1.ObjectCertificate
	env := append(admitted(), brokerapi.EnvSecrets+"="+render.WriteSpecs(map[string]*v2beta1.AzureKeyVaultSecret{"cert": spec}))
	c.start(t, append(env, "CRT=cert@azurekeyvault?tls.crt", "KEY=cert@azurekeyvault?tls.key")...)
	slices.Sort(r.asked)
	if d := gocmp.Diff([]string{`"" false`, `"" true`, `"new" false`}, r.asked); d != "" {
		t.Errorf("reads: -want +got\n%s", d)
	}
}

// What may pass is asked for again, what takes a person is not.
func TestFails(t *testing.T) {
	outage := vault.Throttled{}
	cases := map[string]struct {
		fail    error
		environ []string
		reads   int
		says    []string
	}{
		"Forbidden":   {vault.ErrForbidden, nil, 1, []string{"the container cannot have its values", "A (" + v2beta1.ReasonForbidden + ")", "secret db in vault my-kv", vault.ErrForbidden.Error()}},
		"SignIn":      {vault.ErrSignIn, nil, 1, []string{v2beta1.ReasonSignInFailed, vault.ErrSignIn.Error()}},
		"Disabled":    {vault.ErrDisabled, nil, 1, []string{v2beta1.ReasonObjectDisabled}},
		"NotFound":    {vault.ErrNotFound, nil, 1, []string{v2beta1.ReasonObjectNotFound}},
		"Firewall":    {vault.ErrFirewall, nil, 1, []string{v2beta1.ReasonNetworkDenied}},
		"Outage":      {errBoom, nil, 3, []string{"the values could not be read just now", v2beta1.ReasonVaultUnavailable}},
		"Throttled":   {outage, nil, 3, []string{v2beta1.ReasonVaultUnavailable}},
		"OutageOfOne": {vault.ErrForbidden, []string{"B=login@azurekeyvault"}, 2, []string{"A (" + v2beta1.ReasonForbidden + ")"}},
		"NotOptional": {vault.ErrForbidden, []string{"A=db@azurekeyvault;optional"}, 1, []string{"A (" + v2beta1.ReasonForbidden + ")"}},

		"Unknown":   {nil, []string{"A=other@azurekeyvault"}, 0, []string{"A (" + v2beta1.ReasonUnknownSecret + ")", "not among those that the pod was created with"}},
		"Query":     {nil, []string{"A=db@azurekeyvault?tls.pem"}, 0, []string{"A (" + v2beta1.ReasonPlaceholderQuery + ")"}},
		"Malformed": {nil, []string{"A=p://u:hunter2@azurekeyvault?"}, 0, []string{"A (" + v2beta1.ReasonPlaceholderFormat + ")"}},
		"NoSecrets": {nil, []string{brokerapi.EnvSecrets + "="}, 0, []string{brokerapi.EnvSecrets + " is not set"}},
		"BadSpecs":  {nil, []string{brokerapi.EnvSecrets + "={hunter2"}, 0, []string{brokerapi.EnvSecrets + ": " + render.ErrSpecs.Error()}},
		"NoClient":  {nil, []string{brokerapi.EnvClientID + "="}, 0, []string{brokerapi.EnvClientID + " is not set"}},
		"NoTenant":  {nil, []string{brokerapi.EnvTenantID + "="}, 0, []string{brokerapi.EnvTenantID + " is not set"}},
		"BadBudget": {nil, []string{brokerapi.EnvRetries + "=x"}, 0, []string{brokerapi.EnvRetries + " must be a whole number"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := newContainer()
			if tc.fail != nil {
				c.vault.Fail(db, tc.fail)
			}
			env := append(admitted(), brokerapi.EnvRetries+"=2", "A=db@azurekeyvault")
			status := c.start(t, append(env, tc.environ...)...)
			if status != envexec.ExitFailed || c.environ != nil {
				t.Errorf("Run() = %d, started with %q", status, c.environ)
			}
			if n := len(c.vault.Reads()); n != tc.reads {
				t.Errorf("%d reads, want %d", n, tc.reads)
			}
			for _, want := range tc.says {
				if !strings.Contains(c.message, want) {
					t.Errorf("no %q in %q", want, c.message)
				}
			}
			if said := c.message + c.log.String(); strings.Contains(said, "hunter2") || strings.Contains(said, "remote-text") {
				t.Errorf("a value or a remote text in %q", said)
			}
		})
	}
}

// Between two tries the sign-in and what it learned stay.
func TestConnectsOnce(t *testing.T) {
	c := newContainer()
	tries := 0
	c.vault.Before(func(context.Context, vault.Reference) error {
		if tries++; tries < 3 {
			return vault.ErrUnavailable
		}
		return nil
	})
	c.start(t, append(admitted(), "A=db@azurekeyvault")...)
	if d := gocmp.Diff([]string{"A=hunter2"}, c.environ); d != "" || c.connects != 1 {
		t.Errorf("connected %d times; environment: -want +got\n%s", c.connects, d)
	}
}

func TestConnectRefused(t *testing.T) {
	c := newContainer()
	c.refuses = errors.New("the tenant id is malformed")
	if status := c.start(t, append(admitted(), "A=db@azurekeyvault")...); status != envexec.ExitFailed || !strings.Contains(c.message, "signing in to Azure: the tenant id is malformed") {
		t.Errorf("Run() = %d, %q", status, c.message)
	}
}
