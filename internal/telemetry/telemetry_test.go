// SPDX-License-Identifier: Apache-2.0

package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/akv2k8s/akv2k8s/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBoom = errors.New("boom")

func TestLoggerLevels(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		level string
		want  string
	}{
		"Error":   {"error", "E"},
		"Warn":    {"warn", "WE"},
		"Info":    {"info", "IWE"},
		"Debug":   {"debug", "DIWE"},
		"Unknown": {"loud", "IWE"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			log := telemetry.NewLogger(&out, tc.level, "text")
			log.Debug("x")
			log.Info("x")
			log.Warn("x")
			log.Error("x")
			got := ""
			for line := range strings.Lines(out.String()) {
				_, level, _ := strings.Cut(line, "level=")
				got += level[:1]
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestLoggerFormats(t *testing.T) {
	t.Parallel()
	for format, start := range map[string]string{"json": "{", "text": "time=", "": "time="} {
		var out bytes.Buffer
		telemetry.NewLogger(&out, "info", format).Info("x", telemetry.KeyName, "n")
		if !strings.HasPrefix(out.String(), start) {
			t.Errorf("format %q: %s", format, &out)
		}
	}
}

func get(t *testing.T, h http.Handler, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
	return w.Code, w.Body.String()
}

func TestHandler(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "test_total", Help: "A test."})
	registry.MustRegister(counter)
	err := errBoom
	h := telemetry.Handler(registry, map[string]telemetry.Check{
		"fine": func(*http.Request) error { return nil },
		"part": func(*http.Request) error { return err },
	})
	if code, body := get(t, h, http.MethodGet, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz of a process that is not ready: %d %s", code, body)
	}
	if code, body := get(t, h, http.MethodGet, "/readyz"); code != http.StatusServiceUnavailable || body != "part: boom\n" {
		t.Errorf("/readyz: %d %s", code, body)
	}
	err = nil
	if code, _ := get(t, h, http.MethodGet, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz once everything is in order: %d", code)
	}
	if code, body := get(t, h, http.MethodGet, "/metrics"); code != http.StatusOK || !strings.Contains(body, "test_total 0") {
		t.Errorf("/metrics: %d %s", code, body)
	}
	if code, _ := get(t, h, http.MethodPost, "/readyz"); code != http.StatusMethodNotAllowed {
		t.Errorf("POST /readyz: %d", code)
	}
	if code, _ := get(t, h, http.MethodGet, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("/debug/pprof/: %d", code)
	}
}

// A request in flight is answered after the server was told to stop; one after
// that is not.
func TestServeStopsGently(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	s := telemetry.NewServer(freeAddress(t), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(began)
			<-release
		}
		_, _ = io.WriteString(w, "done")
	}))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- telemetry.Serve(ctx, s) }()
	await(t, "http://"+s.Addr)

	body := make(chan string, 1)
	go func() { body <- fetch(t, "http://"+s.Addr+"/slow") }()
	<-began
	stop()
	close(release)
	if got := <-body; got != "done" {
		t.Errorf("the request in flight got %q", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve() = %v", err)
	}
	if got := fetch(t, "http://"+s.Addr); got != "" {
		t.Errorf("a stopped server says %q", got)
	}
}

func TestServeSaysWhatIsTaken(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	err = telemetry.Serve(t.Context(), telemetry.NewServer(l.Addr().String(), http.NotFoundHandler()))
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("Serve() = %v", err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// await returns once somebody answers.
func await(t *testing.T, url string) {
	t.Helper()
	for fetch(t, url) == "" {
		<-time.After(time.Millisecond)
	}
}

// fetch returns the body of an answer, or nothing when there is none.
func fetch(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, url, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	resp, err := client.Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return ""
	}
	return string(body)
}
