// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/emulator/emulatortest"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// tenant is the one of principals that a seed gives none.
const tenant = seed.DefaultTenant

// A replica is the program itself, as the chart runs it.
type replica struct {
	cmd    *exec.Cmd
	url    string
	stderr *output
}

// An output may be read while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// binary is the program, compiled once.
var binary = sync.OnceValues(func() (string, error) {
	file := filepath.Join(scratch, "azure-keyvault-controller")
	out, err := exec.CommandContext(context.Background(), "go", "build", "-o", file, "../../cmd/azure-keyvault-controller").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return file, nil
})

// start runs one that reaches Azure, or what plays it, through the proxy alone.
func start(t *testing.T, proxy string, env []string, args ...string) *replica {
	t.Helper()
	file, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	r := &replica{url: "http://127.0.0.1:" + port, stderr: &output{}}
	r.cmd = exec.CommandContext(t.Context(), file, append([]string{"--kubeconfig=" + asProcess(t), "--http-port=" + port, "--log-level=debug"}, args...)...)
	r.cmd.Env = append([]string{"HTTPS_PROXY=" + proxy, "HTTP_PROXY=" + proxy, "NO_PROXY=127.0.0.1,localhost"}, env...)
	r.cmd.Stderr = r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
		if strings.Contains(r.stderr.String(), canary) {
			t.Error("the log holds a secret")
		}
		if t.Failed() {
			t.Logf("%s\n%s", r.url, r.stderr)
		}
	})
	return r
}

// stop asks it to end, as a kubelet does, and wants it to do so in order.
func (r *replica) stop(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v\n%s", err, r.stderr)
	}
}

func (r *replica) get(t *testing.T, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

func (r *replica) ready(t *testing.T) {
	t.Helper()
	eventually(t, r.url+" is ready", func() error {
		if status, body := r.get(t, "/readyz"); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
}

// One replica works, the other is ready to; the Lease is handed over at once
// when the first is told to end.
func TestReplicasHandOver(t *testing.T) {
	t.Parallel()
	environment := []string{
		"AUTH_TYPE=environment", "AZURE_TENANT_ID=11111111-1111-1111-1111-111111111111",
		"AZURE_CLIENT_ID=22222222-2222-2222-2222-222222222222", "AZURE_CLIENT_SECRET=" + canary,
	}
	const nowhere = "http://127.0.0.1:1"
	args := []string{
		"--namespace=" + chartNS, "--leader-election-id=akv2k8s-controller",
		"--object-labels=story=replicas", // other stories' resources are not theirs to care for
	}
	first := start(t, nowhere, environment, args...)
	first.ready(t)
	eventually(t, "the first leads", func() error { return leads(t, first) })
	second := start(t, nowhere, environment, args...)
	second.ready(t)
	if status, _ := second.get(t, "/healthz"); status != http.StatusOK {
		t.Errorf("the waiting one is not healthy: %d", status)
	}

	s := &stage{namespace: namespace(t)}
	s.create(t, "by-first")
	s.ready(t, "by-first", "True NoOutput")
	holder := leaseHolder(t)
	if err := leads(t, second); err == nil {
		t.Error("both lead")
	}
	eventually(t, "the first has seen its own status", func() error {
		if got := ownMetrics(t, first); !strings.Contains(got, "NoOutput") || strings.Contains(got, "Unknown") {
			return fmt.Errorf("it counts\n%s", got)
		}
		return nil
	})
	golden(t, "metrics.txt", ownMetrics(t, first))

	first.stop(t)
	s.create(t, "by-second")
	s.ready(t, "by-second", "True NoOutput")
	if now := leaseHolder(t); now == holder || now == "" {
		t.Errorf("the Lease is held by %q, was by %q", now, holder)
	}
	second.stop(t)
	if now := leaseHolder(t); now != "" {
		t.Errorf("the Lease is still held by %q", now)
	}
}

// The program as it is shipped, a vault as it speaks, an API server as it is: the
// article's certificate, its rotation, and what can go wrong in a vault.
func TestTheProgramKeepsASecretEqualToAVault(t *testing.T) {
	t.Parallel()
	in := emulatortest.Start(t, `
principals: [{ name: node, clientId: 22222222-2222-4222-8222-222222222222, secrets: [c4n4ry-client-secret] }]
vaults:
  - name: my-kv
    permissions: [{ principal: node, roles: [Key Vault Secrets User] }]
    secrets: [{ name: db, value: c4n4ry-one }]
    certificates:
      - { name: test-cert, subject: CN=one.example }
      - { name: locked, subject: CN=locked.example, exportable: false }
`)
	s := &stage{namespace: namespace(t)}
	azureJSON := filepath.Join(t.TempDir(), "azure.json")
	text := fmt.Sprintf(`{"tenantId": %q, "aadClientId": "22222222-2222-4222-8222-222222222222", "aadClientSecret": "c4n4ry-client-secret"}`, tenant)
	if err := os.WriteFile(azureJSON, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, in.ProxyURL, []string{"CA_BUNDLE=" + in.CAFile, "RUNTIME_NAMESPACE=" + s.namespace},
		"--cloudconfig="+azureJSON, "--watch-all-namespaces=false", "--leader-elect=false", "--azure-resync-period=1")
	r.ready(t)

	if err := admin.Create(t.Context(), manifest(t, article, "v1alpha1", s.namespace)); err != nil {
		t.Fatal(err)
	}
	const name = "my-first-azure-keyvault-certificate"
	s.follows(t, name, in.Certificate("my-kv", "test-cert").Version)
	s.follows(t, name, in.RotateCertificate("my-kv", "test-cert"))
	out := s.holdsCertificate(t, "one.example")
	if _, err := tls.X509KeyPair(out.Data["tls.crt"], out.Data["tls.key"]); err != nil {
		t.Errorf("no pair: %v", err)
	}

	s.apply(t, "locked", func(spec *v2beta1.AzureKeyVaultSecretSpec) {
		spec.Vault.Object.Type, spec.Output.Secret = v2beta1.ObjectCertificate, &v2beta1.SecretOutput{Name: "locked", Type: "kubernetes.io/tls"}
	})
	s.ready(t, "locked", "False KeyNotExportable")
	s.apply(t, "absent")
	s.ready(t, "absent", "False VaultObjectNotFound")
	s.apply(t, "lost", func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Vault.Name = "no-such-kv" })
	s.ready(t, "lost", "False VaultNotFound")

	s.apply(t, "db")
	before := s.holds(t, "password", "-one")
	in.SetEnabled("my-kv", "secrets", "db", false)
	s.ready(t, "db", "False VaultObjectDisabled")
	in.SetPermissions("my-kv")
	s.ready(t, "db", "False VaultForbidden")
	if after := s.holds(t, "password", "-one"); after.ResourceVersion != before.ResourceVersion {
		t.Error("the output was touched although the vault said no")
	}
	s.saysNoValue(t)
	r.stop(t)
}

// follows waits until the status names a version.
func (s *stage) follows(t *testing.T, name, version string) {
	t.Helper()
	eventually(t, name+" follows to "+version, func() error {
		if got := s.get(t, name).Status; got.ObjectVersion != version {
			return fmt.Errorf("%q, %v", got.ObjectVersion, got.Conditions)
		}
		return nil
	})
}

func (s *stage) create(t *testing.T, name string) {
	t.Helper()
	akvs := &v2beta1.AzureKeyVaultSecret{Spec: v2beta1.AzureKeyVaultSecretSpec{
		Vault: v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: name, Type: v2beta1.ObjectSecret}},
	}}
	akvs.Namespace, akvs.Name, akvs.Labels = s.namespace, name, map[string]string{"story": "replicas"}
	if err := admin.Create(t.Context(), akvs); err != nil {
		t.Fatal(err)
	}
}

// leads goes by what only the working replica counts.
func leads(t *testing.T, r *replica) error {
	t.Helper()
	_, body := r.get(t, "/metrics")
	if !strings.Contains(body, `leader_election_master_status{name="akv2k8s-controller"} 1`) {
		return fmt.Errorf("no leader")
	}
	return nil
}

func leaseHolder(t *testing.T) string {
	t.Helper()
	var lease coordinationv1.Lease
	if err := admin.Get(t.Context(), types.NamespacedName{Namespace: chartNS, Name: "akv2k8s-controller"}, &lease); err != nil {
		t.Fatal(err)
	}
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

var series = regexp.MustCompile(`(?m)^(akv2k8s_[a-z_]+)(\{[^}]*\})? `)

// ownMetrics are the names and labels of what the product itself counts.
func ownMetrics(t *testing.T, r *replica) string {
	t.Helper()
	_, body := r.get(t, "/metrics")
	var out []string
	for _, m := range series.FindAllStringSubmatch(body, -1) {
		out = append(out, m[1]+m[2])
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), "\n") + "\n"
}

// asProcess is a kubeconfig file with the Controller's rights.
func asProcess(t *testing.T) string {
	t.Helper()
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range config.AuthInfos {
		user.Impersonate, user.ImpersonateGroups = account, []string{"system:serviceaccounts", "system:authenticated"}
	}
	text, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func freePort(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("not a TCP address")
	}
	return strconv.Itoa(addr.Port)
}
