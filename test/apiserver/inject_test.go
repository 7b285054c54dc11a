// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/cluster"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/servingcert"
	"github.com/akv2k8s/akv2k8s/internal/webhook"
	"github.com/akv2k8s/akv2k8s/internal/webhook/kube"
)

const webhookAccount = "system:serviceaccount:" + chartNS + ":akv2k8s-webhook"

// labelled makes a namespace with these labels.
func labelled(t *testing.T, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "story-", Labels: labels}}
	if err := admin.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// dryRun lets the API server validate and complete a pod without keeping it.
func dryRun(t *testing.T, file, namespace string) (*corev1.Pod, error) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &u.Object); err != nil {
		t.Fatal(err)
	}
	u.SetNamespace(namespace)
	// Every cluster names the account; this API server runs without that plugin.
	if err := unstructured.SetNestedField(u.Object, "default", "spec", "serviceAccountName"); err != nil {
		t.Fatal(err)
	}
	if err := admin.Create(t.Context(), u, client.DryRunAll); err != nil {
		return nil, err
	}
	raw, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := yaml.Unmarshal(raw, pod); err != nil {
		t.Fatal(err)
	}
	return pod, nil
}

// Every golden is a pod that the API server takes, of the QoS class that it had.
func TestInjectedPodsAreValid(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	outs, err := filepath.Glob("../../internal/inject/testdata/*/out.yaml")
	if err != nil || len(outs) == 0 {
		t.Fatal("no goldens", err)
	}
	for _, out := range outs {
		dir := filepath.Dir(out)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			after, err := dryRun(t, out, ns)
			if err != nil {
				t.Fatal(err)
			}
			before, err := dryRun(t, filepath.Join(dir, "in.yaml"), ns)
			if err != nil {
				t.Fatal(err)
			}
			if before.Status.QOSClass != after.Status.QOSClass {
				t.Errorf("QoS class was %s and is %s", before.Status.QOSClass, after.Status.QOSClass)
			}
		})
	}
}

// A pod that passes the restricted pod security standard passes it injected.
func TestInjectedPodsStayRestricted(t *testing.T) {
	t.Parallel()
	ns := labelled(t, map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	for _, name := range []string{"restricted", "image-volume"} {
		if _, err := dryRun(t, "../../internal/inject/testdata/"+name+"/out.yaml", ns); err != nil {
			t.Error(err)
		}
	}
	if _, err := dryRun(t, "../../internal/inject/testdata/article/out.yaml", ns); !apierrors.IsForbidden(err) {
		t.Errorf("the standard is not enforced here: %v", err)
	}
}

// chartObject returns one object of the chart as it is rendered by default.
func chartObject(t *testing.T, kind, name string, into client.Object) {
	t.Helper()
	objectOf(t, chartFile, kind, name, into)
}

// objectOf returns one object of a rendered chart.
func objectOf(t *testing.T, file, kind, name string, into client.Object) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		part, err := reader.Read()
		if errors.Is(err, io.EOF) {
			t.Fatalf("the chart has no %s %s", kind, name)
		}
		if err != nil {
			t.Fatal(err)
		}
		var head metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(part, &head); err != nil {
			t.Fatal(err)
		}
		if head.Kind == kind && head.Name == name {
			if err := yaml.UnmarshalStrict(part, into); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}

// hook is the webhook as cmd builds it, with the chart's rights.
type hook struct {
	source  *kube.Source
	keeper  *servingcert.Keeper
	handler *webhook.Handler
	config  *rest.Config
	private string // image
}

func newHook(t *testing.T) *hook {
	t.Helper()
	cfg := rest.CopyConfig(adminConfig)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: webhookAccount, Groups: []string{"system:serviceaccounts", "system:authenticated"}}
	source, err := kube.New(t.Context(), cfg, client.ObjectKey{Namespace: chartNS, Name: "akv2k8s-broker"})
	if err != nil {
		t.Fatal(err)
	}
	h := &hook{source: source, config: cfg}
	h.keeper = servingcert.NewKeeper(source.Client(), servingcert.Options{
		Namespace: chartNS, AuthorityName: "akv2k8s-ca", BrokerSecret: "akv2k8s-broker-tls", Registration: "akv2k8s-env-injector", Advice: "akv2k8s-env-injector",
		Service: "akv2k8s-env-injector", BrokerService: "akv2k8s-broker",
		AuthorityLife: servingcert.AuthorityLife, LeafLife: servingcert.LeafLife, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	metrics, err := webhook.NewMetrics(prometheus.NewRegistry(), h.keeper.Ends)
	if err != nil {
		t.Fatal(err)
	}
	server, private := privateRegistry(t)
	h.private = private
	h.handler = webhook.NewHandler(webhook.Options{
		Settings: inject.Settings{Image: "registry.example/azure-keyvault-env:1", ServerName: h.keeper.ServerName()},
		CABundle: h.keeper.Bundle,
		Excluded: []string{chartNS, "kube-system"},
		Command:  lookup(server), PullSecrets: source.PullSecrets,
		Source: map[inject.SourceKind]webhook.SourceFunc{
			inject.ConfigMap: func(ctx context.Context, namespace string, s inject.Source) (map[string]string, error) {
				return source.ConfigMap(ctx, namespace, s.Name)
			},
			inject.Secret: func(ctx context.Context, namespace string, s inject.Source) (map[string]string, error) {
				return source.SecretTexts(ctx, namespace, s.Name)
			},
		},
		Direct:  &inject.Settings{Image: "registry.example/azure-keyvault-env-direct:1", Direct: &inject.Direct{TenantID: "tenant"}},
		Account: source.Account, Secret: source.SecretNow,
		Cluster: source, Metrics: metrics, Log: slog.New(slog.DiscardHandler),
	})
	run(t, source.Run)
	return h
}

// install creates what the chart would, and removes it when the test ends.
func install(t *testing.T, o client.Object) {
	t.Helper()
	if err := admin.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin.Delete(context.Background(), o); err != nil {
			t.Error(err)
		}
	})
}

// The webhook from its first breath to a pod, with the chart's rights, the
// chart's registration, and an API server that calls it.
func TestAdmission(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"akv2k8s-ca", "akv2k8s-broker-tls"} {
		s := &corev1.Secret{}
		chartObject(t, "Secret", name, s)
		install(t, s)
	}
	service := &corev1.Service{}
	chartObject(t, "Service", "akv2k8s-broker", service)
	install(t, service)
	registration := &admissionv1.MutatingWebhookConfiguration{}
	chartObject(t, "MutatingWebhookConfiguration", "akv2k8s-env-injector", registration)
	install(t, registration)
	advice := &admissionv1.ValidatingWebhookConfiguration{}
	chartObject(t, "ValidatingWebhookConfiguration", "akv2k8s-env-injector", advice)
	install(t, advice)

	t.Run("Process", func(t *testing.T) { webhookRuns(t, registration) })
	h := newHook(t)
	eventually(t, "the memory is filled", func() error {
		return h.source.Ready(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	})
	if err := errors.Join(h.keeper.Sync(t.Context()), h.keeper.Ready()); err != nil {
		t.Fatal(err)
	}
	t.Run("Certificates", func(t *testing.T) { certificatesAreKept(t, h, registration) })
	t.Run("Rights", func(t *testing.T) { rightsAreFew(t, h) })
	server := answerable(t, h, registration)
	t.Run("Pods", func(t *testing.T) { podsAreJudged(t) })
	t.Run("Direct", func(t *testing.T) { namespacesChoose(t) })
	t.Run("Sources", func(t *testing.T) { sourcesAreRead(t) })
	t.Run("Images", func(t *testing.T) { privateImagesAreLookedUp(t, h.private) })
	t.Run("DryRun", func(t *testing.T) { dryRunsAreHonest(t) })
	t.Run("Reinvocation", othersAddContainers)
	advised(t, server, advice)
	t.Run("Workloads", workloadsAreAdvised)
	server.Close()
	t.Run("Away", func(t *testing.T) { onlyPlaceholdersWait(t) })
	t.Run("AdviceAway", adviceIsNotWaitedFor)
}

func certificatesAreKept(t *testing.T, h *hook, registration *admissionv1.MutatingWebhookConfiguration) {
	t.Helper()
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(registration), registration); err != nil {
		t.Fatal(err)
	}
	for _, w := range registration.Webhooks {
		if got := w.ClientConfig.CABundle; h.keeper.Bundle() == "" || string(got) != h.keeper.Bundle() {
			t.Errorf("%s: registered %q", w.Name, got)
		}
	}
	version := registration.ResourceVersion
	if err := h.keeper.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(registration), registration); err != nil || registration.ResourceVersion != version {
		t.Errorf("a second look wrote again: %v", err)
	}
	brokers, err := h.source.Brokers(t.Context())
	if err != nil || len(brokers) != 1 || !strings.HasSuffix(brokers[0], ":9443") {
		t.Errorf("Brokers() = %v, %v", brokers, err)
	}
}

// rightsAreFew: what the webhook must not be able to do, it cannot.
func rightsAreFew(t *testing.T, h *hook) {
	t.Helper()
	c, err := client.New(h.config, client.Options{Scheme: cluster.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	object := func(kind, namespace, name string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: kind})
		u.SetNamespace(namespace)
		u.SetName(name)
		return u
	}
	for what, err := range map[string]error{
		"create a Secret":            c.Create(t.Context(), object("Secret", chartNS, "new")),
		"change another Secret":      c.Update(t.Context(), object("Secret", chartNS, "other")),
		"delete another Secret":      c.Delete(t.Context(), object("Secret", chartNS, "other")),
		"list service accounts":      c.List(t.Context(), &corev1.ServiceAccountList{}),
		"change a service account":   c.Update(t.Context(), object("ServiceAccount", "default", "default")),
		"list Secrets":               c.List(t.Context(), &corev1.SecretList{}, client.InNamespace(chartNS)),
		"delete its authority":       c.Delete(t.Context(), object("Secret", chartNS, "akv2k8s-ca")),
		"list pods":                  c.List(t.Context(), &corev1.PodList{}),
		"list ConfigMaps":            c.List(t.Context(), &corev1.ConfigMapList{}),
		"change AzureKeyVaultSecret": c.Delete(t.Context(), &v2beta1.AzureKeyVaultSecret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x"}}),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("it can %s: %v", what, err)
		}
	}
}

// answerable serves the webhook where this API server, which has no Services,
// can call it, and registers that address in place of the chart's Service.
func answerable(t *testing.T, h *hook, registration *admissionv1.MutatingWebhookConfiguration) *httptest.Server {
	t.Helper()
	server := httptest.NewTLSServer(h.handler.Routes())
	t.Cleanup(server.Close)
	for i := range registration.Webhooks {
		url := server.URL + *registration.Webhooks[i].ClientConfig.Service.Path
		registration.Webhooks[i].ClientConfig = admissionv1.WebhookClientConfig{
			URL: &url, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		}
	}
	if err := admin.Update(t.Context(), registration); err != nil {
		t.Fatal(err)
	}
	ns := labelled(t, enabled())
	eventually(t, "the API server calls the webhook", func() error {
		p := somePod(ns, "my-secret@azurekeyvault")
		if err := admin.Create(t.Context(), p, client.DryRunAll); err != nil {
			return err
		}
		if len(p.Spec.InitContainers) == 0 {
			return errors.New("not injected")
		}
		return nil
	})
	return server
}

func enabled() map[string]string {
	return map[string]string{"azure-key-vault-env-injection": "enabled"}
}

func somePod(namespace, value string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "app-", Namespace: namespace},
		Spec: corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{{
			Name: "app", Image: "registry.example/app:1", Command: []string{"/app"}, Env: []corev1.EnvVar{{Name: "A", Value: value}},
		}}},
	}
}

// warned collects what kubectl would print.
type warned struct {
	mu    sync.Mutex
	texts []string
}

func (w *warned) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

func person(t *testing.T) (client.Client, *warned) {
	t.Helper()
	w := &warned{}
	cfg := rest.CopyConfig(adminConfig)
	cfg.WarningHandler = w
	c, err := client.New(cfg, client.Options{Scheme: cluster.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return c, w
}

// namespacesChoose by their label whether pods read their vaults themselves; the API
// server sends these elsewhere.
func namespacesChoose(t *testing.T) {
	t.Helper()
	labels := enabled()
	labels["env-injector.spv.no/auth"] = "direct"
	ns := labelled(t, labels)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{
		Namespace: ns, Name: "shop", Annotations: map[string]string{"azure.workload.identity/client-id": "client-of-shop"},
	}}
	akvs := &v2beta1.AzureKeyVaultSecret{Spec: v2beta1.AzureKeyVaultSecretSpec{
		Vault: v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: "object", Type: v2beta1.ObjectSecret}},
	}}
	akvs.Namespace, akvs.Name = ns, "my-secret"
	if err := errors.Join(admin.Create(t.Context(), account), admin.Create(t.Context(), akvs)); err != nil {
		t.Fatal(err)
	}
	pod := somePod(ns, "my-secret@azurekeyvault")
	pod.Spec.ServiceAccountName = "shop"
	if err := admin.Create(t.Context(), pod, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	if image := pod.Spec.InitContainers[0].Image; !strings.Contains(image, "env-direct") {
		t.Errorf("the wrapper is that of %s", image)
	}
	for _, e := range pod.Spec.Containers[0].Env {
		if e.Name == "ENV_INJECTOR_CLIENT_ID" && e.Value != "client-of-shop" || e.Name == "ENV_INJECTOR_BROKER" {
			t.Errorf("the container is told %s=%s", e.Name, e.Value)
		}
	}
	err := admin.Create(t.Context(), somePod(ns, "my-secret@azurekeyvault"), client.DryRunAll)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `service account "default"`) {
		t.Errorf("a pod without identity: %v", err)
	}
}

func podsAreJudged(t *testing.T) {
	t.Helper()
	ns, plain := labelled(t, enabled()), namespace(t)
	akvs := &v2beta1.AzureKeyVaultSecret{Spec: v2beta1.AzureKeyVaultSecretSpec{
		Vault: v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: "object", Type: v2beta1.ObjectSecret}},
	}}
	akvs.Namespace, akvs.Name = ns, "my-secret"
	if err := admin.Create(t.Context(), akvs); err != nil {
		t.Fatal(err)
	}
	noCommand := somePod(ns, "my-secret@azurekeyvault")
	noCommand.Spec.Containers[0].Command = nil
	argument := somePod(ns, "text")
	argument.Spec.Containers[0].Args = []string{"my-secret@azurekeyvault"}
	directory := somePod(ns, "my-secret@azurekeyvault")
	directory.Spec.Containers[0].WorkingDir = "/my-secret@azurekeyvault"
	windows := somePod(ns, "my-secret@azurekeyvault")
	windows.Spec.OS = &corev1.PodOS{Name: corev1.Windows}
	cases := map[string]struct {
		pod      *corev1.Pod
		injected bool
		warning  string // part of it
		refusal  string // part of it
	}{
		"Injected":      {somePod(ns, "my-secret@azurekeyvault"), true, "", ""},
		"Absent":        {somePod(ns, "absent@azurekeyvault"), true, "has no AzureKeyVaultSecret of this name yet", ""},
		"Query":         {somePod(ns, "my-secret@azurekeyvault?tls.pem"), true, "query fits no part of this vault object, of type secret", ""},
		"Malformed":     {somePod(ns, "x my-secret@azurekeyvault"), false, "", "spec.containers[0].env[0].value of variable A: not a placeholder: write NAME"},
		"Registry":      {noCommand, false, "", `what image "registry.example/app:1" runs is not known because its registry does not let the Env Injector read it: set the container's command`},
		"Argument":      {argument, false, "", "spec.containers[0].args[0] holds a placeholder, which is filled in env only"},
		"WorkingDir":    {directory, true, "spec.containers[0].workingDir holds a placeholder", ""},
		"Windows":       {windows, false, "", "the pod is for Windows, where placeholders cannot be filled"},
		"NoPlaceholder": {somePod(ns, "text"), false, "", ""},
		"NotEnabled":    {somePod(plain, "my-secret@azurekeyvault"), false, "", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c, warnings := person(t)
			err := c.Create(t.Context(), tc.pod)
			if tc.refusal != "" {
				if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), tc.refusal) || strings.Contains(err.Error(), "remote-text") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Equal(tc.pod.Spec.Containers[0].Command, []string{brokerapi.Binary}); got != tc.injected {
				t.Errorf("injected: %v", got)
			}
			if got := strings.Join(warnings.texts, "\n"); (got == "") != (tc.warning == "") || !strings.Contains(got, tc.warning) {
				t.Errorf("warnings %q", warnings.texts)
			}
		})
	}
}

// sourcesAreRead with the chart's rights, and of a Secret nothing but placeholders is
// written.
func sourcesAreRead(t *testing.T) {
	t.Helper()
	ns := labelled(t, enabled())
	name := metav1.ObjectMeta{Namespace: ns, Name: "settings"}
	if err := errors.Join(
		admin.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: name, Data: map[string]string{"A": "my-secret@azurekeyvault", "B": "plain"}}),
		admin.Create(t.Context(), &corev1.Secret{ObjectMeta: name, StringData: map[string]string{"C": canary + "<my-secret@azurekeyvault?x>", "D": canary}}),
	); err != nil {
		t.Fatal(err)
	}
	settings := corev1.LocalObjectReference{Name: "settings"}
	p := somePod(ns, "plain")
	p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{
		{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: settings}},
		{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: settings}},
	}
	if err := admin.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range p.Spec.Containers[0].Env {
		if !strings.HasPrefix(e.Name, "ENV_INJECTOR_BROKER") {
			got[e.Name] = e.Value
		}
	}
	want := map[string]string{"A": "plain", "P_A": "my-secret@azurekeyvault", "ENV_INJECTOR_FOR_C": "<my-secret@azurekeyvault?x>", "ENV_INJECTOR_CONTAINER": "app"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	c, warnings := person(t)
	absent := somePod(ns, "plain")
	absent.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "later"}}}}
	if err := c.Create(t.Context(), absent); err != nil || len(warnings.texts) != 1 || !strings.Contains(warnings.texts[0], "there is no ConfigMap later yet") {
		t.Errorf("%v, warnings %q", err, warnings.texts)
	}
}

// dryRunsAreHonest: a dry run shows the pod that a run makes, and changes nothing.
func dryRunsAreHonest(t *testing.T) {
	t.Helper()
	ns := labelled(t, enabled())
	dry, kept := somePod(ns, "my-secret@azurekeyvault"), somePod(ns, "my-secret@azurekeyvault")
	if err := errors.Join(admin.Create(t.Context(), dry, client.DryRunAll), admin.Create(t.Context(), kept)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(dry.Spec, kept.Spec); d != "" {
		t.Errorf("-dry +kept\n%s", d)
	}
	var pods corev1.PodList
	if err := admin.List(t.Context(), &pods, client.InNamespace(ns)); err != nil || len(pods.Items) != 1 {
		t.Errorf("%d pods, %v", len(pods.Items), err)
	}
}

// onlyPlaceholdersWait: while no webhook answers, pods that need none start, and
// the others do not start with a placeholder for a value.
func onlyPlaceholdersWait(t *testing.T) {
	t.Helper()
	ns := labelled(t, enabled())
	if err := admin.Create(t.Context(), somePod(ns, "text")); err != nil {
		t.Errorf("a pod without placeholder waits: %v", err)
	}
	if err := admin.Create(t.Context(), somePod(ns, "my-secret@azurekeyvault")); err == nil {
		t.Error("a pod started with a placeholder for a value")
	}
}
