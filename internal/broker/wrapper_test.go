// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/envexec"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// wrap starts the wrapper as admission would in a container of the stage's pod.
// It returns the exit status, the environment of the program, if it started, and
// all that was said.
func (s *stage) wrap(t *testing.T, name, container string, environ ...string) (int, []string, string) {
	t.Helper()
	server := httptest.NewUnstartedServer(s.handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	dir := t.TempDir()
	tokenFile, message := filepath.Join(dir, "token"), filepath.Join(dir, "message")
	for file, text := range map[string]string{tokenFile: token(name), message: ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var started []string
	var stderr bytes.Buffer
	status := envexec.Run(envexec.World{
		Args: []string{brokerapi.Binary, "/bin/sh"},
		Environ: slices.Concat([]string{
			brokerapi.EnvContainer + "=" + container,
			brokerapi.EnvBroker + "=" + server.Listener.Addr().String(),
			brokerapi.EnvServerName + "=example.com",
			brokerapi.EnvCABundle + "=" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
			brokerapi.EnvRetries + "=0", brokerapi.EnvLogLevel + "=debug",
		}, environ),
		Stderr: &stderr, TokenFile: tokenFile, TerminationLog: message, FilesDir: s.files,
		Dial: (&net.Dialer{}).DialContext,
		Exec: func(_ string, _, environ []string) error { started = environ; return os.ErrPermission },
	})
	word, err := os.ReadFile(message)
	if err != nil {
		t.Fatal(err)
	}
	said := stderr.String() + string(word)
	if strings.Contains(said, canary) {
		t.Errorf("a value in %s", said)
	}
	return status, started, said
}

func TestWrapperAndBroker(t *testing.T) {
	s := newStage(t)
	_, environ, said := s.wrap(t, "good", "init", "PASSWORD=db@azurekeyvault", "PLAIN=x")
	if !slices.Equal(environ, []string{"PASSWORD=" + canary + "=db", "PLAIN=x"}) {
		t.Errorf("%d variables, %s", len(environ), said)
	}
}

// Files arrive as the broker has rendered them, a pair as one that a server can use.
func TestWrapperAndBrokerFiles(t *testing.T) {
	s := newStage(t)
	dir, err := os.MkdirTemp("/dev/shm", "broker-") //nolint:usetesting // files go into memory alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s.files = dir
	_, environ, said := s.wrap(t, "good", "files", "PASSWORD=db@azurekeyvault;file", "ENTRIES=many@azurekeyvault;directory", "PAIR=tls@azurekeyvault;directory")
	if !slices.Equal(environ, []string{"PASSWORD=" + dir + "/db/value", "ENTRIES=" + dir + "/many", "PAIR=" + dir + "/tls"}) {
		t.Fatalf("%q, %s", environ, said)
	}
	if text, err := os.ReadFile(dir + "/db/value"); err != nil || string(text) != canary+"=db" {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if text, err := os.ReadFile(dir + "/many/host"); err != nil || string(text) != canary {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, err := tls.LoadX509KeyPair(dir+"/tls/tls.crt", dir+"/tls/tls.key"); err != nil {
		t.Error(err)
	}
}

// Each refusal reaches the person as one sentence.
func TestWrapperRepeatsTheBroker(t *testing.T) {
	cases := map[string]struct {
		token, container string
		prepare          func(*stage)
		says             string
	}{
		"Unauthenticated": {"bad", "init", nil, "the token is not a valid one of a pod for the broker"},
		"Limited":         {"good", "init", func(s *stage) { s.broker.HoldPods() }, "the broker does not answer this request just now: too many requests come from this pod"},
		"Denied":          {"good", "nosuch", nil, "the broker refuses this container: the pod has no such container or init container"},
		"BadContainer":    {"good", "no such", nil, "the request is not"},
		"NoSecret":        {"good", "foreign", nil, "A (AzureKeyVaultSecretNotFound): there is no AzureKeyVaultSecret theirs in the pod's namespace"},
		"BadQuery":        {"good", "unknown", nil, "B (PlaceholderQueryInvalid): AzureKeyVaultSecret db: "},
		"Forbidden": {
			"good", "init", func(s *stage) { s.vault.Fail(vault.Reference{}, vault.ErrForbidden) },
			"PASSWORD (VaultForbidden): secret db in vault my-kv: the identity may not read this object",
		},
		"NoVault": {
			"good", "init", func(s *stage) { s.vault.Fail(vault.Reference{}, vault.ErrNoVault) },
			"PASSWORD (VaultNotFound): secret db in vault my-kv: there is no vault of this name",
		},
		"Outage": {
			"good", "init", func(s *stage) { s.vault.Fail(vault.Reference{}, vault.ErrUnavailable) },
			"the values could not be read just now; PASSWORD (VaultUnavailable): secret db in vault my-kv: the vault did not answer",
		},
		"NoAPIServer": {"good", "init", func(s *stage) { s.fail["Pod"] = errBoom }, "the Kubernetes API server did not answer the broker"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			if tc.prepare != nil {
				tc.prepare(s)
			}
			status, environ, said := s.wrap(t, tc.token, tc.container, "PASSWORD=db@azurekeyvault")
			if status != envexec.ExitFailed || environ != nil || strings.Count(said, tc.says) != 2 { // log and message
				t.Errorf("status %d, %s", status, said)
			}
		})
	}
}
