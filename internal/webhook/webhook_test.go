// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBoom = errors.New("boom remote-text")

// fixture is a webhook whose surroundings a test may change.
type fixture struct {
	secrets   map[string]*v2beta1.AzureKeyVaultSecret
	secretErr error
	nodes     []inject.Node
	nodesErr  error
	pullNames func(namespace, account string, names []string) []inject.PullSecret // nil: not read
	brokers   []string
	brokerErr error
	bundle    string
	command   webhook.CommandFunc
	sources   map[inject.SourceKind]webhook.SourceFunc
	delivery  inject.Delivery
	below     string // the path of reviews, behind the usual one
	account   webhook.AccountFunc

	log      bytes.Buffer
	registry *prometheus.Registry
	asked    []string // namespace/name of AzureKeyVaultSecrets
}

func (f *fixture) Secret(_ context.Context, namespace, name string) (*v2beta1.AzureKeyVaultSecret, error) {
	f.asked = append(f.asked, namespace+"/"+name)
	return f.secrets[name], f.secretErr
}

func (f *fixture) Nodes(context.Context) ([]inject.Node, error) { return f.nodes, f.nodesErr }

func (f *fixture) Brokers(context.Context) ([]string, error) { return f.brokers, f.brokerErr }

func newFixture() *fixture {
	return &fixture{
		secrets: map[string]*v2beta1.AzureKeyVaultSecret{"my-secret": {Spec: v2beta1.AzureKeyVaultSecretSpec{
			Vault: v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: "object", Type: v2beta1.ObjectSecret}},
		}}},
		nodes:   []inject.Node{node("a", "amd64"), node("b", "arm64")},
		brokers: []string{"10.96.0.7:9443"},
		bundle:  "PEM",
		command: func(context.Context, webhook.Lookup) (inject.Command, error) {
			return inject.Command{Entrypoint: []string{"/entry"}}, nil
		},
		registry: prometheus.NewRegistry(),
	}
}

func node(name, arch string) inject.Node {
	return inject.Node{Name: name, Labels: map[string]string{corev1.LabelArchStable: arch}}
}

func (f *fixture) handler(t *testing.T) *webhook.Handler {
	t.Helper()
	metrics, err := webhook.NewMetrics(f.registry, func() (time.Time, time.Time) { return time.Unix(1000, 0), time.Time{} })
	if err != nil {
		t.Fatal(err)
	}
	options := webhook.Options{
		Settings: inject.Settings{Image: "env:1", ServerName: "x-broker.akv2k8s.svc", Delivery: f.delivery},
		CABundle: func() string { return f.bundle },
		Excluded: []string{"akv2k8s", "kube-system"},
		Command:  func(ctx context.Context, l webhook.Lookup) (inject.Command, error) { return f.command(ctx, l) },
		Source:   f.sources,
		Direct:   &inject.Settings{Image: "direct:1", Direct: &inject.Direct{TenantID: "tenant"}},
		Account:  f.account,
		Secret: func(_ context.Context, namespace, name string) (*v2beta1.AzureKeyVaultSecret, error) {
			f.asked = append(f.asked, namespace+"/"+name+" now")
			return f.secrets[name], f.secretErr
		},
		Cluster: f, Metrics: metrics,
		Log: slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if f.pullNames != nil {
		options.PullSecrets = func(_ context.Context, namespace, account string, names []string) []inject.PullSecret {
			return f.pullNames(namespace, account, names)
		}
	}
	return webhook.NewHandler(options)
}

// review sends a pod as the API server does and returns the answer.
func (f *fixture) review(t *testing.T, change func(*admissionv1.AdmissionRequest)) *admissionv1.AdmissionResponse {
	t.Helper()
	server := httptest.NewServer(f.handler(t).Routes())
	defer server.Close()
	request := &admissionv1.AdmissionRequest{
		UID: "42", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		Namespace: "default", Operation: admissionv1.Create, Object: k8sruntime.RawExtension{Raw: pod(t, container("app", "/app"))},
	}
	if change != nil {
		change(request)
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request,
	})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := server.Client().Post(server.URL+"/pods"+f.below+"?timeout=10s", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(answer.Body).Decode(&review); err != nil || review.Response == nil {
		t.Fatal(err, answer.Status)
	}
	if review.Response.UID != types.UID("42") || review.APIVersion != "admission.k8s.io/v1" {
		t.Errorf("answer to %q as %s", review.Response.UID, review.APIVersion)
	}
	return review.Response
}

func container(name string, command ...string) corev1.Container {
	return corev1.Container{Name: name, Image: "registry.example/app:1", Command: command, Env: []corev1.EnvVar{{Name: "A", Value: "my-secret@azurekeyvault"}}}
}

func pod(t *testing.T, containers ...corev1.Container) []byte {
	t.Helper()
	raw, err := json.Marshal(corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{GenerateName: "app-"},
		Spec: corev1.PodSpec{Containers: containers},
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func with(t *testing.T, containers ...corev1.Container) func(*admissionv1.AdmissionRequest) {
	t.Helper()
	raw := pod(t, containers...)
	return func(r *admissionv1.AdmissionRequest) { r.Object.Raw = raw }
}

func TestInjects(t *testing.T) {
	t.Parallel()
	for name, dryRun := range map[string]bool{"Run": false, "DryRun": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture()
			f.command = func(context.Context, webhook.Lookup) (inject.Command, error) {
				t.Error("the registry was asked although the command is given")
				return inject.Command{}, nil
			}
			got := f.review(t, func(r *admissionv1.AdmissionRequest) { r.DryRun = &dryRun })
			if !got.Allowed || got.PatchType == nil || *got.PatchType != admissionv1.PatchTypeJSONPatch || len(got.Warnings) > 0 {
				t.Fatalf("answer %+v", got)
			}
			for _, want := range []string{`"/azure-keyvault/azure-keyvault-env"`, `"10.96.0.7:9443"`, `"PEM"`, `"copy-azurekeyvault-env"`} {
				if !bytes.Contains(got.Patch, []byte(want)) {
					t.Errorf("no %s in the patch", want)
				}
			}
			if d := cmp.Diff([]string{"default/my-secret"}, f.asked); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			if !strings.Contains(f.log.String(), "injected a pod") || !strings.Contains(f.log.String(), "pod=app-") {
				t.Errorf("log: %s", f.log.String())
			}
		})
	}
}

// Nodes are asked for only where the delivery depends on them, and an outage is no
// reason to refuse a pod.
func TestDelivers(t *testing.T) {
	t.Parallel()
	able := []inject.Node{{Kubelet: "v1.37.0", Runtime: "containerd://2.4.2"}}
	for name, tc := range map[string]struct {
		delivery inject.Delivery
		nodesErr error
		want     string // in the log
	}{
		"Default":       {"", errBoom, "initContainer"},
		"InitContainer": {inject.DeliveryInitContainer, errBoom, "initContainer"},
		"ImageVolume":   {inject.DeliveryImageVolume, errBoom, "imageVolume"},
		"Auto":          {inject.DeliveryAuto, nil, "imageVolume"},
		"AutoInOutage":  {inject.DeliveryAuto, errBoom, "initContainer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture()
			f.delivery, f.nodes, f.nodesErr = tc.delivery, able, tc.nodesErr
			got := f.review(t, nil)
			installed, mounted := bytes.Contains(got.Patch, []byte("initContainers")), bytes.Contains(got.Patch, []byte(`"image":{"reference":"env:1"`))
			if !got.Allowed || installed == mounted || mounted != (tc.want == "imageVolume") {
				t.Errorf("answer %+v", got)
			}
			if log := f.log.String(); !strings.Contains(log, "delivery="+tc.want) || strings.Contains(log, "boom") != (name == "AutoInOutage") {
				t.Errorf("log: %s", log)
			}
		})
	}
}

func TestAsksForCommandsOfTheNodesArchitectures(t *testing.T) {
	t.Parallel()
	f := newFixture()
	var asked []string
	f.command = func(_ context.Context, l webhook.Lookup) (inject.Command, error) {
		asked = append(asked, l.Image+" for "+strings.Join(l.Architectures, "+"))
		return inject.Command{Entrypoint: []string{"/from-image"}}, nil
	}
	got := f.review(t, with(t, container("one"), container("two")))
	if !got.Allowed || bytes.Count(got.Patch, []byte("/from-image")) != 2 {
		t.Errorf("answer %+v", got)
	}
	if d := cmp.Diff([]string{"registry.example/app:1 for amd64+arm64"}, asked); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	got = f.withNodeSelector(t, "arm64")
	if !got.Allowed || asked[1] != "registry.example/app:1 for arm64" {
		t.Errorf("answer %+v, asked %v", got, asked)
	}
}

func (f *fixture) withNodeSelector(t *testing.T, arch string) *admissionv1.AdmissionResponse {
	t.Helper()
	raw, err := json.Marshal(corev1.Pod{Spec: corev1.PodSpec{
		Containers: []corev1.Container{container("app")}, NodeSelector: map[string]string{"kubernetes.io/arch": arch},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return f.again(t, func(r *admissionv1.AdmissionRequest) { r.Object.Raw = raw })
}

// holds is what every source of a kind holds.
func holds(texts map[string]string, err error) webhook.SourceFunc {
	return func(_ context.Context, namespace string, s inject.Source) (map[string]string, error) {
		if namespace != "default" || s.Name != "settings" {
			return nil, errBoom
		}
		return texts, err
	}
}

// fromSources is a container that takes its environment from a ConfigMap and a Secret.
func fromSources() corev1.Container {
	c := container("app", "/app")
	name := corev1.LocalObjectReference{Name: "settings"}
	c.Env = []corev1.EnvVar{{Name: "B", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: name, Key: "B"}}}}
	c.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name}}}
	return c
}

func TestSources(t *testing.T) {
	t.Parallel()
	texts := map[string]string{"A": "a@azurekeyvault", "B": "b@azurekeyvault"}
	both := func(configMaps, secrets webhook.SourceFunc) map[inject.SourceKind]webhook.SourceFunc {
		return map[inject.SourceKind]webhook.SourceFunc{inject.ConfigMap: configMaps, inject.Secret: secrets}
	}
	cases := map[string]struct {
		sources  map[inject.SourceKind]webhook.SourceFunc
		code     int32 // 0 is allowed
		written  []string
		warnings int
	}{
		"Both":           {both(holds(texts, nil), holds(texts, nil)), 0, []string{`"value":"a@azurekeyvault"`, `"value":"b@azurekeyvault"`}, 0},
		"Plain":          {both(holds(map[string]string{"A": "a"}, nil), holds(map[string]string{"B": "b"}, nil)), 0, nil, 0},
		"Missing":        {both(holds(nil, nil), holds(texts, nil)), 0, []string{`"value":"b@azurekeyvault"`}, 1},
		"NotAllowed":     {nil, 0, nil, 0},
		"SecretsAlone":   {map[inject.SourceKind]webhook.SourceFunc{inject.Secret: holds(texts, nil)}, 0, []string{`"value":"b@azurekeyvault"`}, 0},
		"ConfigMapFails": {both(holds(nil, errBoom), holds(texts, nil)), http.StatusServiceUnavailable, nil, 0},
		"SecretFails":    {both(holds(texts, nil), holds(nil, errBoom)), http.StatusServiceUnavailable, nil, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture()
			f.sources = tc.sources
			f.secrets["a"], f.secrets["b"] = f.secrets["my-secret"], f.secrets["my-secret"]
			got := f.review(t, with(t, fromSources()))
			if got.Allowed != (tc.code == 0) || !got.Allowed && got.Result.Code != tc.code || len(got.Warnings) != tc.warnings || (got.Patch != nil) != (tc.written != nil) {
				t.Errorf("answer %+v", got)
			}
			for _, want := range tc.written {
				if !bytes.Contains(got.Patch, []byte(want)) {
					t.Errorf("no %s in %s", want, got.Patch)
				}
			}
			if !got.Allowed && (strings.Contains(got.Result.Message, "remote-text") || !strings.Contains(f.log.String(), "remote-text")) {
				t.Errorf("said %s, logged %s", got.Result.Message, f.log.String())
			}
		})
	}
}

func TestTooManySources(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.sources = map[inject.SourceKind]webhook.SourceFunc{inject.ConfigMap: func(context.Context, string, inject.Source) (map[string]string, error) {
		return map[string]string{}, nil
	}}
	c := container("app", "/app")
	for i := range 101 {
		if i == 100 {
			if got := f.review(t, with(t, c)); !got.Allowed {
				t.Errorf("answer to 100 %+v", got)
			}
		}
		c.EnvFrom = append(c.EnvFrom, corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: strconv.Itoa(i)}}})
	}
	if got := f.again(t, with(t, c)); got.Allowed || got.Result.Code != http.StatusForbidden || !strings.Contains(got.Result.Message, "more than 100 ConfigMaps and Secrets") {
		t.Errorf("answer to 101 %+v", got)
	}
}

// Without a reason to, nobody's ConfigMaps and Secrets are read.
func TestReadsOnlyWhatContainersName(t *testing.T) {
	t.Parallel()
	f := newFixture()
	read := func(context.Context, string, inject.Source) (map[string]string, error) { return nil, errBoom }
	f.sources = map[inject.SourceKind]webhook.SourceFunc{inject.ConfigMap: read, inject.Secret: read}
	if got := f.review(t, nil); !got.Allowed {
		t.Errorf("answer %+v", got)
	}
	got := f.again(t, func(r *admissionv1.AdmissionRequest) {
		with(t, fromSources())(r)
		r.Namespace = "kube-system"
	})
	if !got.Allowed {
		t.Errorf("answer %+v", got)
	}
}

// again is another review by the same webhook, begun anew.
func (f *fixture) again(t *testing.T, change func(*admissionv1.AdmissionRequest)) *admissionv1.AdmissionResponse {
	t.Helper()
	f.registry = prometheus.NewRegistry()
	return f.review(t, change)
}

// Pull secrets are read for a look-up alone, and go with it.
func TestReadsPullSecretsForALookup(t *testing.T) {
	t.Parallel()
	read := func(t *testing.T, f *fixture, command ...string) []inject.PullSecret {
		t.Helper()
		var with []inject.PullSecret
		f.command = func(_ context.Context, l webhook.Lookup) (inject.Command, error) {
			with = l.PullSecrets
			return inject.Command{Entrypoint: []string{"/from-image"}}, nil
		}
		raw, err := json.Marshal(corev1.Pod{Spec: corev1.PodSpec{
			Containers: []corev1.Container{container("app", command...)}, ServiceAccountName: "account",
			ImagePullSecrets: []corev1.LocalObjectReference{{Name: "one"}, {Name: "other"}, {Name: "one"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got := f.review(t, func(r *admissionv1.AdmissionRequest) { r.Object.Raw = raw }); !got.Allowed {
			t.Fatalf("answer %+v", got)
		}
		return with
	}
	var asked []string
	reading := newFixture()
	reading.pullNames = func(namespace, account string, names []string) []inject.PullSecret {
		asked = append(asked, namespace+" "+account+" "+strings.Join(names, ","))
		return []inject.PullSecret{{Name: "one"}}
	}
	if got := read(t, reading); len(got) != 1 || got[0].Name != "one" {
		t.Errorf("the look-up had %v", got)
	}
	reading.registry = prometheus.NewRegistry()
	read(t, reading, "/app")
	if d := cmp.Diff([]string{"default account one,other"}, asked); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if got := read(t, newFixture()); len(got) != 1 || got[0].Unusable != inject.NoPullSecrets().Unusable {
		t.Errorf("without the right to read, the look-up had %v", got)
	}
}

func TestLeavesAlone(t *testing.T) {
	t.Parallel()
	plain := container("app", "/app")
	plain.Env = nil
	cases := map[string]func(*admissionv1.AdmissionRequest){
		"NoPlaceholder": with(t, plain),
		"Update":        func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update },
		"Delete": func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.Object.Raw = admissionv1.Delete, nil
		},
		"Subresource": func(r *admissionv1.AdmissionRequest) { r.SubResource = "ephemeralcontainers" },
		"NotAPod":     func(r *admissionv1.AdmissionRequest) { r.Kind.Kind = "Deployment" },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture()
			if got := f.review(t, change); !got.Allowed || got.Patch != nil || len(got.Warnings) > 0 || len(f.asked) > 0 {
				t.Errorf("answer %+v, asked %v", got, f.asked)
			}
		})
	}
}

func TestExcludedNamespaces(t *testing.T) {
	t.Parallel()
	for _, namespace := range []string{"akv2k8s", "kube-system"} {
		t.Run(namespace, func(t *testing.T) {
			t.Parallel()
			got := newFixture().review(t, func(r *admissionv1.AdmissionRequest) { r.Namespace = namespace })
			want := []string{"pods of namespace " + namespace + " are never injected: their placeholders stay as they are"}
			if d := cmp.Diff(want, got.Warnings); d != "" || !got.Allowed || got.Patch != nil {
				t.Errorf("answer %+v: -want +got\n%s", got, d)
			}
		})
	}
}

func TestWarns(t *testing.T) {
	t.Parallel()
	c := container("app", "/app")
	c.Env = []corev1.EnvVar{{Name: "A", Value: "absent@azurekeyvault"}, {Name: "B", Value: "my-secret@azurekeyvault?tls.pem"}}
	f := newFixture()
	got := f.review(t, with(t, c))
	want := []string{
		`container "app", variable A, placeholder absent@azurekeyvault: namespace "default" has no AzureKeyVaultSecret of this name yet; the container cannot start without it`,
		`container "app", variable B, placeholder my-secret@azurekeyvault?tls.pem: the placeholder's query fits no part of this vault object, of type secret; possible are: none, raw, username, password, tls.crt, tls.key; the container cannot start with it`,
	}
	if d := cmp.Diff(want, got.Warnings); d != "" || !got.Allowed || got.Patch == nil {
		t.Errorf("answer %+v: -want +got\n%s", got, d)
	}
}

// A placeholder where none is filled is told of, though nothing is to be done.
func TestWarnsOfOtherFields(t *testing.T) {
	t.Parallel()
	c := corev1.Container{Name: "app", WorkingDir: "/my-secret@azurekeyvault"}
	got := newFixture().review(t, with(t, c))
	want := []string{"spec.containers[0].workingDir holds a placeholder, which is filled in the env of containers only: here it stays as it is"}
	if d := cmp.Diff(want, got.Warnings); d != "" || !got.Allowed || got.Patch != nil {
		t.Errorf("answer %+v: -want +got\n%s", got, d)
	}
}

// A cluster that cannot be asked costs the warnings, not the pod.
func TestInjectsWithoutWarningsDuringAnOutage(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.secretErr = errBoom
	if got := f.review(t, nil); !got.Allowed || got.Patch == nil || len(got.Warnings) > 0 {
		t.Errorf("answer %+v", got)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	malformed := container("app", "/app")
	malformed.Env[0].Value = "password@azurekeyvault.example"
	argument := corev1.Container{Name: "app", Args: []string{"password@azurekeyvault"}}
	cases := map[string]struct {
		change func(*fixture)
		pod    []corev1.Container
		code   int32
		want   string
	}{
		"Argument":  {func(*fixture) {}, []corev1.Container{argument}, http.StatusForbidden, "spec.containers[0].args[0] holds a placeholder, which is filled in env only"},
		"Malformed": {func(*fixture) {}, []corev1.Container{malformed}, http.StatusForbidden, "variable A: not a placeholder: write NAME"},
		"Registry": {func(f *fixture) {
			f.command = func(context.Context, webhook.Lookup) (inject.Command, error) {
				return inject.Command{Err: inject.ErrImageForbidden}, errBoom
			}
		}, []corev1.Container{container("app")}, http.StatusForbidden, `container "app" has no command, and what image "registry.example/app:1" runs is not known because its registry does not let the Env Injector read it: set the container's command, or`},
		"Nodes":    {func(f *fixture) { f.nodesErr = errBoom }, []corev1.Container{container("app")}, http.StatusForbidden, "is not known"},
		"NoBroker": {func(f *fixture) { f.brokers, f.brokerErr = nil, errBoom }, []corev1.Container{container("app", "/app")}, http.StatusServiceUnavailable, "starting and cannot inject yet"},
		"NoBundle": {func(f *fixture) { f.bundle = "" }, []corev1.Container{container("app", "/app")}, http.StatusServiceUnavailable, "starting and cannot inject yet"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture()
			tc.change(f)
			got := f.review(t, with(t, tc.pod...))
			if got.Allowed || got.Patch != nil || got.Result.Code != tc.code || !strings.Contains(got.Result.Message, tc.want) {
				t.Errorf("answer %+v", got)
			}
			if strings.Contains(got.Result.Message, "remote-text") || strings.Contains(got.Result.Message, "password@") {
				t.Errorf("leaked: %s", got.Result.Message)
			}
		})
	}
	t.Run("Unreadable", func(t *testing.T) {
		t.Parallel()
		got := newFixture().review(t, func(r *admissionv1.AdmissionRequest) { r.Object.Raw = []byte(`{"spec":{"containers":"password"}}`) })
		if got.Allowed || got.Result.Code != http.StatusBadRequest || strings.Contains(got.Result.Message, "password") {
			t.Errorf("answer %+v", got)
		}
	})
}

// The answer comes before the API server stops waiting, and says what took long.
func TestAnswersInTime(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.command = func(ctx context.Context, _ webhook.Lookup) (inject.Command, error) {
		<-ctx.Done()
		return inject.Command{Err: inject.ErrImageUnavailable}, ctx.Err()
	}
	routes := f.handler(t).Routes()
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "1", Operation: admissionv1.Create, Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Object: k8sruntime.RawExtension{Raw: pod(t, container("app"))},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/pods?timeout=100ms", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	routes.ServeHTTP(w, r) // would wait for ever without the deadline
	if !strings.Contains(w.Body.String(), "did not answer in time") {
		t.Errorf("answer %s", w.Body.String())
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	routes := newFixture().handler(t).Routes()
	for target, want := range map[string]int{"GET /healthz": 200, "POST /healthz": 405, "GET /pods": 405, "GET /": 404} {
		method, path, _ := strings.Cut(target, " ")
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", target, w.Code, want)
		}
	}
}

// A server that is going answers, and has its caller connect again: elsewhere.
func TestServerThatIsGoing(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	server := httptest.NewServer(newFixture().handler(t).NewServer(ctx, "", nil).Handler)
	defer server.Close()
	closes := func() bool {
		t.Helper()
		r, err := server.Client().Get(server.URL + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		if r.StatusCode != http.StatusOK {
			t.Errorf("status %d", r.StatusCode)
		}
		return r.Close
	}
	if closes() {
		t.Error("the connection is not kept")
	}
	leave()
	if !closes() {
		t.Error("the connection is kept")
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	f := newFixture()
	h := f.handler(t)
	h.Metrics.Looked("read")
	server := httptest.NewServer(h.Routes())
	defer server.Close()
	for _, c := range []corev1.Container{container("app", "/app"), {Name: "plain"}, {Name: "bad", Env: []corev1.EnvVar{{Name: "A", Value: "@azurekeyvault"}}}} {
		body, err := json.Marshal(admissionv1.AdmissionReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
			Request: &admissionv1.AdmissionRequest{
				Operation: admissionv1.Create, Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Object: k8sruntime.RawExtension{Raw: pod(t, c)},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := server.Client().Post(server.URL+"/pods", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
	}
	want, err := os.Open("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = want.Close() }()
	err = testutil.GatherAndCompare(f.registry, want,
		"akv2k8s_pod_inspections_total", "akv2k8s_pod_mutations_total", "akv2k8s_pod_mutations_failed_total", "akv2k8s_container_inspections_total",
		"akv2k8s_container_inspections_failed_total", "akv2k8s_image_lookups_total", "akv2k8s_certificate_end_seconds")
	if err != nil {
		t.Error(err)
	}
}
