// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/webhook"
)

// calm is a cluster that answers the same for ever and remembers nothing, so that
// a million requests leave nothing behind.
type calm struct{ secret *v2beta1.AzureKeyVaultSecret }

func (c calm) Secret(context.Context, string, string) (*v2beta1.AzureKeyVaultSecret, error) {
	return c.secret, nil
}
func (calm) Nodes(context.Context) ([]inject.Node, error) { return []inject.Node{{}}, nil }
func (calm) Brokers(context.Context) ([]string, error)    { return []string{"10.96.0.7:9443"}, nil }

func calmRoutes(tb testing.TB) http.Handler {
	tb.Helper()
	return calmRoutesWith(tb, func(context.Context, webhook.Lookup) (inject.Command, error) {
		return inject.Command{Entrypoint: []string{"/entry"}}, nil
	})
}

func calmRoutesWith(tb testing.TB, command webhook.CommandFunc) http.Handler {
	tb.Helper()
	metrics, err := webhook.NewMetrics(prometheus.NewRegistry(), func() (time.Time, time.Time) { return time.Time{}, time.Time{} })
	if err != nil {
		tb.Fatal(err)
	}
	return webhook.NewHandler(webhook.Options{
		Settings: inject.Settings{Image: "env:1", ServerName: "x-broker.akv2k8s.svc"},
		CABundle: func() string { return "PEM" },
		Command:  command,
		Cluster:  calm{newFixture().secrets["my-secret"]},
		Metrics:  metrics,
		Log:      slog.New(slog.DiscardHandler),
	}).Routes()
}

// send posts a body to a path of the webhook.
func send(tb testing.TB, routes http.Handler, path string, body []byte) *httptest.ResponseRecorder {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	routes.ServeHTTP(w, r)
	return w
}

// answered checks what must be true of every answer, whatever was asked.
func answered(tb testing.TB, path string, body []byte, w *httptest.ResponseRecorder) {
	tb.Helper()
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &review); err != nil || review.Response == nil {
		tb.Fatalf("%d: neither a review nor an error: %.200q", w.Code, w.Body)
	}
	response := review.Response
	if path == webhook.WorkloadsPath {
		advised(tb, response)
	}
	runes := 0
	for _, warning := range response.Warnings {
		runes += len([]rune(warning))
	}
	switch {
	case !response.Allowed && (response.Result == nil || response.Result.Code < 400 || response.Patch != nil):
		tb.Fatalf("refused without saying why: %+v", response)
	case runes > 4096:
		tb.Fatalf("%d runes of warnings", runes)
	case len(response.Patch) > 0 && !json.Valid(response.Patch):
		tb.Fatalf("no patch: %.200q", response.Patch)
	case w.Body.Len() > 64<<10+100*len(body):
		tb.Fatalf("%d bytes answer %d", w.Body.Len(), len(body))
	}
}

// advised checks what is true of workloads besides.
func advised(tb testing.TB, response *admissionv1.AdmissionResponse) {
	tb.Helper()
	switch {
	case !response.Allowed && response.UID != "":
		tb.Fatalf("a workload is refused: %+v", response) // without UID the API server takes it for no answer
	case response.Allowed && response.Patch != nil:
		tb.Fatal("a workload is changed")
	}
}

// reviewOf is what the API server sends about an object.
func reviewOf(tb testing.TB, kind string, object []byte) []byte {
	tb.Helper()
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "42", Kind: metav1.GroupVersionKind{Version: "v1", Kind: kind}, Namespace: "default",
			Operation: admissionv1.Create, Object: k8sruntime.RawExtension{Raw: object},
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return body
}

// FuzzReviews sends anything to both paths: as a review, and as the object of one.
// A part of it is repeated, since what is long is mostly long of something.
func FuzzReviews(f *testing.F) {
	odd := container("app", "/app", "$(A)")
	odd.Args, odd.WorkingDir = []string{"x@azurekeyvault"}, "/my-secret@azurekeyvault"
	reference := corev1.Container{Name: "from", EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "s"},
	}}}}
	for _, containers := range [][]corev1.Container{{container("app", "/app")}, {container("app"), odd}, {reference}} {
		raw, err := json.Marshal(corev1.Pod{Spec: corev1.PodSpec{Containers: containers}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, uint16(0), uint16(0), uint8(0), true)
		f.Add(fmt.Appendf(nil, `{"spec":{"template":%s}}`, raw), uint16(0), uint16(0), uint8(0), true)
		at := bytes.Index(raw, []byte(`{"name":"A"`))
		if at > 0 {
			end := at + bytes.IndexByte(raw[at:], '}') + 1
			raw = append(append(raw[:end:end], ','), raw[at:]...) // a list of two, of which the first is repeated
			f.Add(raw, uint16(at), uint16(end-at+1), uint8(200), true)
		}
		f.Add(reviewOf(f, "Pod", raw), uint16(0), uint16(0), uint8(0), false)
	}
	f.Add([]byte(`{"spec":{"containers":[[[]]]}}`), uint16(23), uint16(1), uint8(255), true)
	f.Add([]byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`), uint16(0), uint16(0), uint8(0), false)
	routes := calmRoutes(f)
	f.Fuzz(func(t *testing.T, text []byte, at, length uint16, times uint8, object bool) {
		begin := min(int(at), len(text))
		end := min(begin+int(length), len(text))
		body := append(append(bytes.Clone(text[:begin]), bytes.Repeat(text[begin:end], int(times)+1)...), text[end:]...)
		kinds := []string{""}
		if object {
			if !json.Valid(body) {
				return // the API server sends none such
			}
			kinds = []string{"Pod", "Deployment", "CronJob"}
		}
		for _, kind := range kinds {
			whole := body
			if kind != "" {
				whole = reviewOf(t, kind, body)
			}
			for _, path := range []string{webhook.Path, webhook.WorkloadsPath} {
				answered(t, path, whole, send(t, routes, path, whole))
			}
		}
	})
}

// many makes a list of n.
func many[T any](n int, one func(int) T) []T {
	list := make([]T, n)
	for i := range list {
		list[i] = one(i)
	}
	return list
}

// The largest pods that an API server takes cost memory in proportion, and get an
// answer that is not longer than that.
func TestLargePodsTakeMemoryInProportion(t *testing.T) {
	placeholder := func(i int) corev1.EnvVar {
		return corev1.EnvVar{Name: fmt.Sprintf("V%d", i), Value: fmt.Sprintf("s%d@azurekeyvault", i)}
	}
	for name, spec := range map[string]corev1.PodSpec{
		"ManyVariables": {Containers: []corev1.Container{{Name: "app", Command: []string{"/app"}, Env: many(60_000, placeholder)}}},
		"ManyContainers": {Containers: many(1000, func(i int) corev1.Container {
			return corev1.Container{Name: fmt.Sprintf("c%d", i), Image: fmt.Sprint(i), Env: many(50, placeholder)}
		})},
		"Malformed":  {Containers: []corev1.Container{{Name: "app", Env: many(60_000, func(int) corev1.EnvVar { return corev1.EnvVar{Name: "A", Value: "x y@azurekeyvault"} })}}},
		"Arguments":  {Containers: []corev1.Container{{Name: "app", Args: many(100_000, func(int) string { return "x@azurekeyvault" })}}},
		"Elsewhere":  {Volumes: many(20_000, func(int) corev1.Volume { return corev1.Volume{Name: "x@azurekeyvault"} }), Containers: []corev1.Container{container("app")}},
		"Expansions": {Containers: []corev1.Container{{Name: "app", Command: []string{strings.Repeat("$(A)", 300_000)}, Env: container("app").Env}}},
		"Dollars":    {Containers: []corev1.Container{{Name: "app", Command: []string{strings.Repeat("$(", 700_000)}, Env: container("app").Env}}},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := json.Marshal(corev1.Pod{Spec: spec})
			if err != nil {
				t.Fatal(err)
			}
			body := reviewOf(t, "Pod", raw)
			routes := calmRoutes(t)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			w := send(t, routes, webhook.Path, body)
			runtime.ReadMemStats(&after)
			answered(t, webhook.Path, body, w)
			took := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d MiB allocated for a pod of %d KiB, answered with %d KiB", took>>20, len(raw)>>10, w.Body.Len()>>10)
			if limit := uint64(200*len(body) + 8<<20); took > limit {
				t.Errorf("%d bytes allocated for %d, more than %d", took, len(body), limit)
			}
		})
	}
}

// Of long reviews one is decided about at a time, the short ones go by, and who
// has waited long enough hears so.
func TestLongReviewsTakeTurns(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	routes := calmRoutesWith(t, func(context.Context, webhook.Lookup) (inject.Command, error) {
		entered <- struct{}{}
		<-leave
		return inject.Command{Entrypoint: []string{"/entry"}}, nil
	})
	long := container("app")
	long.Env = append(long.Env, corev1.EnvVar{Name: "LONG", Value: strings.Repeat("x", 300<<10)})
	first := make(chan *httptest.ResponseRecorder, 1)
	body := reviewOf(t, "Pod", pod(t, long))
	go func() { first <- send(t, routes, webhook.Path, body) }()
	<-entered
	if w := send(t, routes, webhook.Path+"?timeout=10ms", body); w.Code != http.StatusServiceUnavailable {
		t.Errorf("the second: %d %s", w.Code, w.Body)
	}
	short := reviewOf(t, "Pod", pod(t, container("app", "/app")))
	answered(t, webhook.Path, short, send(t, routes, webhook.Path, short))
	close(leave)
	answered(t, webhook.Path, body, <-first)
	if w := send(t, routes, webhook.WorkloadsPath, body); w.Code != http.StatusOK {
		t.Errorf("after the first: %d %s", w.Code, w.Body)
	}
}

// What is no review, or too long for one, is answered in order.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	routes := calmRoutes(t)
	for name, body := range map[string][]byte{
		"Empty":      nil,
		"Text":       []byte("text"),
		"Null":       []byte("null"),
		"NoRequest":  []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`),
		"Deep":       []byte(strings.Repeat("[", 3<<20)),
		"DeepObject": reviewOf(t, "Pod", []byte(`{"spec":{"x":`+strings.Repeat("[", 9000)+strings.Repeat("]", 9000)+`}}`)),
		"TooLong":    bytes.Repeat([]byte(" "), 8<<20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, path := range []string{webhook.Path, webhook.WorkloadsPath} {
				answered(t, path, body, send(t, routes, path, body))
			}
		})
	}
	t.Run("Endless", func(t *testing.T) {
		t.Parallel()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, webhook.Path, io.MultiReader(strings.NewReader(`{"x":"`), endless{}))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, r)
		answered(t, webhook.Path, nil, w)
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
