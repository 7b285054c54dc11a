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
	secrets       map[string]*v2beta1.AzureKeyVaultSecret
	secretErr     error
	architectures []string
	archErr       error
	brokers       []string
	brokerErr     error
	bundle        string
	command       webhook.CommandFunc

	log      bytes.Buffer
	registry *prometheus.Registry
	asked    []string // namespace/name of AzureKeyVaultSecrets
}

func (f *fixture) Secret(_ context.Context, namespace, name string) (*v2beta1.AzureKeyVaultSecret, error) {
	f.asked = append(f.asked, namespace+"/"+name)
	return f.secrets[name], f.secretErr
}

func (f *fixture) Architectures(context.Context) ([]string, error) { return f.architectures, f.archErr }

func (f *fixture) Brokers(context.Context) ([]string, error) { return f.brokers, f.brokerErr }

func newFixture() *fixture {
	return &fixture{
		secrets: map[string]*v2beta1.AzureKeyVaultSecret{"my-secret": {Spec: v2beta1.AzureKeyVaultSecretSpec{
			Vault: v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: "object", Type: v2beta1.ObjectSecret}},
		}}},
		architectures: []string{"amd64", "arm64"},
		brokers:       []string{"10.96.0.7:9443"},
		bundle:        "PEM",
		command: func(context.Context, string, []string) (inject.Command, error) {
			return inject.Command{Entrypoint: []string{"/entry"}}, nil
		},
		registry: prometheus.NewRegistry(),
	}
}

func (f *fixture) handler(t *testing.T) *webhook.Handler {
	t.Helper()
	metrics, err := webhook.NewMetrics(f.registry, func() (time.Time, time.Time) { return time.Unix(1000, 0), time.Time{} })
	if err != nil {
		t.Fatal(err)
	}
	return webhook.NewHandler(webhook.Options{
		Settings: inject.Settings{Image: "env:1", ServerName: "x-broker.akv2k8s.svc"},
		CABundle: func() string { return f.bundle },
		Excluded: []string{"akv2k8s", "kube-system"},
		Command: func(ctx context.Context, image string, architectures []string) (inject.Command, error) {
			return f.command(ctx, image, architectures)
		},
		Cluster: f, Metrics: metrics,
		Log: slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
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
	answer, err := server.Client().Post(server.URL+"/pods?timeout=10s", "application/json", bytes.NewReader(body))
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
			f.command = func(context.Context, string, []string) (inject.Command, error) {
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

func TestAsksForCommandsOfTheNodesArchitectures(t *testing.T) {
	t.Parallel()
	f := newFixture()
	var asked []string
	f.command = func(_ context.Context, image string, architectures []string) (inject.Command, error) {
		asked = append(asked, image+" for "+strings.Join(architectures, "+"))
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
	f.registry = prometheus.NewRegistry()
	raw, err := json.Marshal(corev1.Pod{Spec: corev1.PodSpec{
		Containers: []corev1.Container{container("app")}, NodeSelector: map[string]string{"kubernetes.io/arch": arch},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return f.review(t, func(r *admissionv1.AdmissionRequest) { r.Object.Raw = raw })
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
	c.Env = []corev1.EnvVar{{Name: "A", Value: "absent@azurekeyvault"}, {Name: "B", Value: "my-secret@azurekeyvault?tls.key"}}
	f := newFixture()
	got := f.review(t, with(t, c))
	want := []string{
		`container "app", variable A, placeholder absent@azurekeyvault: namespace "default" has no AzureKeyVaultSecret of this name yet; the container cannot start without it`,
		`container "app", variable B, placeholder my-secret@azurekeyvault?tls.key: the query fits no part of a vault object of type secret; the container cannot start with it`,
	}
	if d := cmp.Diff(want, got.Warnings); d != "" || !got.Allowed || got.Patch == nil {
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
	cases := map[string]struct {
		change func(*fixture)
		pod    []corev1.Container
		code   int32
		want   string
	}{
		"Malformed": {func(*fixture) {}, []corev1.Container{malformed}, http.StatusForbidden, "but is not a placeholder"},
		"Registry": {func(f *fixture) {
			f.command = func(context.Context, string, []string) (inject.Command, error) {
				return inject.Command{Err: inject.ErrImageForbidden}, errBoom
			}
		}, []corev1.Container{container("app")}, http.StatusForbidden, `container "app" has no command, and what image "registry.example/app:1" runs is not known because its registry does not let the Env Injector read it: set the container's command, or`},
		"Nodes":    {func(f *fixture) { f.archErr = errBoom }, []corev1.Container{container("app")}, http.StatusForbidden, "is not known"},
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
	f.command = func(ctx context.Context, _ string, _ []string) (inject.Command, error) {
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
