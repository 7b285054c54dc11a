// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
	"github.com/akv2k8s/akv2k8s/internal/webhook"
)

// BenchmarkReview answers reviews as an API server sends them, of a pod without a
// placeholder and of one with three: the cost of one admission but for the network.
func BenchmarkReview(b *testing.B) {
	for name, file := range map[string]string{"Plain": "testdata/review-plain.json", "Inject": "testdata/review-inject.json"} {
		body, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			routes := benchRoutes(b)
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/pods?timeout=10s", bytes.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				routes.ServeHTTP(w, r)
				if !bytes.Contains(w.Body.Bytes(), []byte(`"allowed":true`)) {
					b.Fatal(w.Body)
				}
			}
		})
	}
}

// benchRoutes logs as the program does, into nothing.
func benchRoutes(b *testing.B) http.Handler {
	b.Helper()
	f := newFixture()
	for _, name := range []string{"bench-inject-0", "bench-inject-1", "bench-inject-2"} {
		f.secrets[name] = &v2beta1.AzureKeyVaultSecret{Spec: f.secrets["my-secret"].Spec}
	}
	metrics, err := webhook.NewMetrics(prometheus.NewRegistry(), func() (time.Time, time.Time) { return time.Time{}, time.Time{} })
	if err != nil {
		b.Fatal(err)
	}
	f.bundle = "-----BEGIN CERTIFICATE-----\n" + string(bytes.Repeat([]byte("MIIBszCCAVmgAwIBAgIUe0bWJr6m8mYc1vZ3b0Xn7XkQp2MwCgYIKoZIzj0EAwIw\n"), 10)) + "-----END CERTIFICATE-----\n"
	return webhook.NewHandler(webhook.Options{
		Settings: inject.Settings{Image: "env:1", ServerName: "x-broker.akv2k8s.svc"},
		CABundle: func() string { return f.bundle },
		Excluded: []string{"akv2k8s", "kube-system"},
		Cluster:  f, Metrics: metrics,
		Log: telemetry.NewLogger(io.Discard, "info", "text"),
	}).Routes()
}
