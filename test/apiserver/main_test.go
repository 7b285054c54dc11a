// SPDX-License-Identifier: Apache-2.0

// Package apiserver_test asks a real API server what only that knows: validation
// in the CRD, the four served versions, ownership under server-side apply, and
// whether the Controller gets by with the rights that the chart gives it.
//
// It needs KUBEBUILDER_ASSETS, the directory that `make cluster-envtest` prints.
// Without it the tests are skipped with a word, and fail where CI is set.
package apiserver_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/cluster"
)

var update = flag.Bool("update", false, "rewrite testdata")

const (
	crdFile   = "../../charts/akv2k8s/files/azurekeyvaultsecrets.yaml"
	chartFile = "../chart/testdata/default.yaml" // the chart as it is rendered by default
	chartNS   = "akv2k8s-system"                 // its namespace there
	account   = "system:serviceaccount:akv2k8s-system:akv2k8s-controller"
)

// admin may do everything; it is the person in these stories.
var (
	adminConfig *rest.Config
	admin       client.Client
	kubeconfig  []byte // admin's, for a process
	certDir     string // of the API server; the key that it signs accounts' tokens with among them
	scratch     string // a directory for all tests
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		fmt.Fprintln(os.Stderr, "SKIP: no API server: set KUBEBUILDER_ASSETS to what `make cluster-envtest` prints, or run `make apiserver`")
		if os.Getenv("CI") != "" {
			os.Exit(1)
		}
		return
	}
	os.Exit(runWithServer(m))
}

func runWithServer(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "akv2k8s-apiserver-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	ctrl.SetLogger(logr.FromSlogHandler(slog.DiscardHandler))
	server := &envtest.Environment{CRDInstallOptions: envtest.CRDInstallOptions{Paths: []string{crdFile}}}
	// Some clusters check that who makes an owner reference that blocks may do so.
	server.ControlPlane.GetAPIServer().Configure().Append("enable-admission-plugins", "OwnerReferencesPermissionEnforcement")
	if err := keepAudit(server); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cfg, err := server.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the API server:", err)
		return 1
	}
	defer func() {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the API server:", err)
		}
	}()
	adminConfig, kubeconfig, certDir = cfg, server.KubeConfig, server.ControlPlane.GetAPIServer().CertDir
	if admin, err = client.New(cfg, client.Options{Scheme: cluster.Scheme()}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := installRights(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "installing the chart's rights:", err)
		return 1
	}
	return m.Run()
}

// auditLog is the API server's, of those who want to get into pods.
func auditLog() string { return filepath.Join(scratch, "audit.log") }

func keepAudit(server *envtest.Environment) error {
	policy := filepath.Join(scratch, "audit-policy.yaml")
	server.ControlPlane.GetAPIServer().Configure().Append("audit-policy-file", policy).Append("audit-log-path", auditLog())
	return os.WriteFile(policy, []byte(`{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
		{"level": "Metadata", "resources": [{"group": "", "resources": ["pods/exec", "pods/attach", "pods/ephemeralcontainers"]}]}, {"level": "None"}]}`), 0o600)
}

// installRights gives the chart's processes the chart's roles, and nothing more.
func installRights(ctx context.Context) error {
	if err := admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: chartNS}}); err != nil {
		return err
	}
	text, err := os.ReadFile(chartFile)
	if err != nil {
		return err
	}
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		u := &unstructured.Unstructured{}
		if err := decoder.Decode(u); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if u.GroupVersionKind().Group != "rbac.authorization.k8s.io" {
			continue
		}
		if err := admin.Create(ctx, u); err != nil {
			return err
		}
	}
}

// namespace makes one for this test alone.
func namespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "story-"}}
	if err := admin.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// requests counts those of a Controller to the API server.
type requests struct {
	writes  atomic.Int64 // whatever changes anything
	reads   atomic.Int64 // whatever asks and is no watch
	secrets atomic.Int64 // lists and watches of Secrets that do not keep to our label
}

func (n *requests) count(r *http.Request) {
	query := r.URL.Query()
	switch {
	case strings.HasSuffix(r.URL.Path, "/leases"):
	case r.Method != http.MethodGet:
		n.writes.Add(1)
	case query.Get("watch") == "":
		n.reads.Add(1)
	}
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/secrets") &&
		query.Get("labelSelector") != v2beta1.OutputLabel+"="+v2beta1.OutputLabelValue {
		n.secrets.Add(1)
	}
}

// asController is a configuration with the Controller's rights whose requests are
// counted.
func asController(n *requests) *rest.Config {
	cfg := rest.CopyConfig(adminConfig)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: account, Groups: []string{"system:serviceaccounts", "system:authenticated"}}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			n.count(r)
			return next.RoundTrip(r)
		})
	})
	return cfg
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// eventually waits for what must come; the time is generous, for a busy machine.
func eventually(t *testing.T, what string, reached func() error) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := reached()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
