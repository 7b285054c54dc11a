// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/akv2k8s/akv2k8s/emulator/pki"
)

// realCluster is an API server that a test installs charts into. It has no
// controllers and no nodes, so nothing starts.
type realCluster struct {
	client.Client
	kubeconfig string
	assets     string
}

func startCluster(t *testing.T) realCluster {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a real API server: `make apiserver` runs it")
	}
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		t.Fatal("needs a real API server: run `make apiserver`, which sets KUBEBUILDER_ASSETS, or go test -short")
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	environment := &envtest.Environment{Scheme: scheme}
	cfg, err := environment.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Error(err)
		}
	})
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, environment.KubeConfig, 0o600); err != nil {
		t.Fatal(err)
	}
	return realCluster{Client: c, kubeconfig: file, assets: assets}
}

// helm runs helm for release akv2k8s in namespace akv2k8s-system.
func (c realCluster) helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := runHelm(t, append(args, "--namespace", "akv2k8s-system", "--kubeconfig", c.kubeconfig)...)
	return string(out), err
}

func (c realCluster) mustHelm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.helm(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// shell runs a command line as a person would paste it.
func (c realCluster) shell(t *testing.T, line string, stdin []byte) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig, "PATH="+c.assets+":"+os.Getenv("PATH"))
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

func (c realCluster) get(t *testing.T, name string, into client.Object) {
	t.Helper()
	key := client.ObjectKey{Name: name}
	if _, cluster := into.(*corev1.Secret); cluster {
		key.Namespace = "akv2k8s-system"
	}
	if err := c.Get(t.Context(), key, into); err != nil {
		t.Fatal(err)
	}
}

// TestLifeOfARelease is the story of one installation: over a foreign CRD, through
// an upgrade that leaves the certificates alone, to an uninstallation that leaves
// people's objects alone, and back.
func TestLifeOfARelease(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	c.shell(t, "kubectl create -f "+filepath.Join(product, "files/azurekeyvaultsecrets.yaml"), nil)

	_, err := c.helm(t, "install", "akv2k8s", product, "--create-namespace")
	if err == nil {
		t.Fatal("helm took over a CRD that was not its own")
	}
	command := regexp.MustCompile(`(?m)^\s*(kubectl patch crd .*)$`).FindStringSubmatch(err.Error())
	if command == nil {
		t.Fatalf("the refusal says no command:\n%v", err)
	}
	c.shell(t, command[1], nil)
	out := c.mustHelm(t, "install", "akv2k8s", product, "--create-namespace")
	if !strings.Contains(out, "akv2k8s 0.1.0 is installed in namespace akv2k8s-system") {
		t.Errorf("the notes are not shown:\n%s", out)
	}

	bundle, data := c.pretendWebhook(t)
	c.mustHelm(t, "upgrade", "akv2k8s", product, "--set", "env_injector.timeoutSeconds=7", "--set", "global.logLevel=debug")
	var hooks admissionv1.MutatingWebhookConfiguration
	c.get(t, "akv2k8s-env-injector", &hooks)
	if *hooks.Webhooks[0].TimeoutSeconds != 7 {
		t.Error("the upgrade did not reach the webhook's configuration")
	}
	if !bytes.Equal(hooks.Webhooks[0].ClientConfig.CABundle, bundle) {
		t.Error("the upgrade reset caBundle")
	}
	for name, want := range data {
		var secret corev1.Secret
		c.get(t, name, &secret)
		if diff := cmp.Diff(want, secret.Data); diff != "" {
			t.Errorf("the upgrade touched Secret %s", name)
		}
	}

	c.mustHelm(t, "uninstall", "akv2k8s")
	var crd apiextensionsv1.CustomResourceDefinition
	c.get(t, crdName, &crd)
	c.mustHelm(t, "install", "akv2k8s", product)
	c.mustHelm(t, "uninstall", "akv2k8s")

	c.get(t, crdName, &crd)
	crd.Labels, crd.Annotations = nil, nil
	if err := c.Update(t.Context(), &crd); err != nil {
		t.Fatal(err)
	}
	c.mustHelm(t, "install", "akv2k8s", product, "--take-ownership", "--set", "crds.adopt=true")
}

// TestUpgradeOfTheOldChart follows docs/upgrading-from-akv2k8s-1.x.md over the same
// release: accounts, resources and outputs stay, the old webhook goes.
func TestUpgradeOfTheOldChart(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	c.mustHelm(t, "install", "akv2k8s", oldChart(t), "--create-namespace")
	c.shell(t, "kubectl create -f testdata/release-1.x/resources.yaml", nil)
	kept := []client.Object{
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "akv2k8s-system", Name: "akv2k8s-controller"}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "akv2k8s-system", Name: "akv2k8s-envinjector"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"}},
		&apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: crdName}},
	}
	before := c.uids(t, kept)

	upgrade := []string{"upgrade", "akv2k8s", product, "--take-ownership", "--set", "crds.adopt=true"}
	_, err := c.helm(t, upgrade...)
	if err == nil {
		t.Fatal("helm changed the selector of a Deployment, which Kubernetes never lets happen")
	}
	command := regexp.MustCompile(`(?m)^\s*(kubectl delete deployment .*)$`).FindStringSubmatch(err.Error())
	if command == nil {
		t.Fatalf("the refusal says no command:\n%v", err)
	}
	if diff := cmp.Diff(before, c.uids(t, kept)); diff != "" {
		t.Errorf("the refused upgrade changed something (-before +after):\n%s", diff)
	}
	c.shell(t, command[1], nil)
	c.mustHelm(t, upgrade...)

	if diff := cmp.Diff(before, c.uids(t, kept)); diff != "" {
		t.Errorf("not all is the same object as before (-before +after):\n%s", diff)
	}
	c.shell(t, "kubectl get akvs db --namespace default", nil)
	c.shell(t, "! kubectl get mutatingwebhookconfigurations akv2k8s-envinjector", nil)
	c.shell(t, "! kubectl get deployments,services akv2k8s-envinjector --namespace akv2k8s-system", nil)
	c.mustHelm(t, "upgrade", "akv2k8s", product) // the CRD is this release's now
}

func (c realCluster) uids(t *testing.T, list []client.Object) map[string]types.UID {
	t.Helper()
	out := map[string]types.UID{}
	for _, object := range list {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			t.Fatal(err)
		}
		out[object.GetNamespace()+"/"+object.GetName()] = object.GetUID()
	}
	return out
}

// oldChart is a chart that installs what a release of akv2k8s 1.x is made of, with
// its CRD in the folder that helm never upgrades.
func oldChart(t *testing.T) string {
	t.Helper()
	chart := filepath.Join(t.TempDir(), "akv2k8s")
	for file, text := range map[string][]byte{
		"Chart.yaml":             []byte("apiVersion: v2\nname: akv2k8s\nversion: 2.8.4\n"),
		"templates/objects.yaml": read(t, "testdata/release-1.x/objects.yaml"),
		"crds/crd.yaml":          read(t, product, "files/azurekeyvaultsecrets.yaml"),
	} {
		path := filepath.Join(chart, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return chart
}

// pretendWebhook writes what the webhook writes once it runs.
func (c realCluster) pretendWebhook(t *testing.T) ([]byte, map[string]map[string][]byte) {
	t.Helper()
	authority, err := pki.New() // the API server wants a certificate that parses
	if err != nil {
		t.Fatal(err)
	}
	bundle := authority.PEM()
	var hooks admissionv1.MutatingWebhookConfiguration
	c.get(t, "akv2k8s-env-injector", &hooks)
	hooks.Webhooks[0].ClientConfig.CABundle = bundle
	if err := c.Update(t.Context(), &hooks); err != nil {
		t.Fatal(err)
	}
	data := map[string]map[string][]byte{
		"akv2k8s-ca":         {"tls.crt": []byte("a certificate"), "tls.key": []byte("its key")},
		"akv2k8s-broker-tls": {"tls.crt": []byte("another"), "tls.key": []byte("and its key")},
	}
	for name, content := range data {
		var secret corev1.Secret
		c.get(t, name, &secret)
		if len(secret.Data) > 0 {
			t.Errorf("Secret %s is installed with data", name)
		}
		secret.Data = content
		if err := c.Update(t.Context(), &secret); err != nil {
			t.Fatal(err)
		}
	}
	return bundle, data
}

// TestServerAcceptsEveryValueSet asks the API server itself, which also compiles
// the match condition and knows every field.
func TestServerAcceptsEveryValueSet(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	for _, name := range []string{"akv2k8s-system", "keyvault-emulator-system", "akv2k8s"} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := c.Create(t.Context(), namespace); err != nil {
			t.Fatal(err)
		}
	}
	for name, values := range cases(t) {
		t.Run(name, func(t *testing.T) {
			args := []string{"--values", values}
			if name == "metrics" { // ServiceMonitor is the Prometheus operator's
				args = append(args, "--set", "global.metrics.serviceMonitor.enabled=false")
			}
			c.shell(t, "kubectl create --dry-run=server --validate=strict -f -", mustTemplate(t, product, "akv2k8s", args...))
		})
	}
	t.Run("the emulator", func(t *testing.T) {
		out := mustTemplate(t, emulator, "keyvault-emulator", "--values", "testdata/emulator-seed.yaml")
		c.shell(t, "kubectl create --dry-run=server --validate=strict -f -", out)
	})
}

// TestEmulatorKeepsItsCA: clients would lose their trust with each upgrade.
func TestEmulatorKeepsItsCA(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	certificate := func() string {
		var published corev1.ConfigMap
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: "akv2k8s-system", Name: "keyvault-emulator-ca"}, &published); err != nil {
			t.Fatal(err)
		}
		return published.Data["ca.crt"]
	}
	c.mustHelm(t, "install", "keyvault-emulator", emulator, "--create-namespace")
	before := certificate()
	c.mustHelm(t, "upgrade", "keyvault-emulator", emulator, "--set", "logLevel=debug")
	if after := certificate(); after != before || after == "" {
		t.Error("the upgrade made a new CA")
	}
}
