// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/akv2k8s/akv2k8s/internal/telemetry"
)

// Path is where the API server sends pods.
const Path = "/pods"

const (
	// defaultTimeout is the API server's own when the registration says nothing,
	// and maxTimeout the longest that it accepts.
	defaultTimeout = 10 * time.Second
	maxTimeout     = 30 * time.Second
)

// Routes serves Path and /healthz.
func (h *Handler) Routes() http.Handler {
	// A panic is answered by hanging up: its text is for the log alone.
	hook := (&admission.Webhook{Handler: h}).WithRecoverPanic(false)
	mux := http.NewServeMux()
	mux.Handle("POST "+Path, punctual(hook))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	return mux
}

// punctual answers before the API server stops waiting, so that a person reads
// our sentence instead of its "context deadline exceeded". The API server says
// how long it waits in the query.
func punctual(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience(r.URL.Query().Get("timeout")))
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// patience keeps a tenth, at most a second, for the way back.
func patience(timeout string) time.Duration {
	d, err := time.ParseDuration(timeout)
	if err != nil || d <= 0 {
		d = defaultTimeout
	}
	d = min(d, maxTimeout)
	return d - min(d/10, time.Second)
}

// parting has callers come back on another connection once ctx has ended. The API
// server keeps its connections and goes on using them, wherever new ones lead; one
// that is closed under a request refuses a pod.
func parting(ctx context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ctx.Err() != nil {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// NewServer serves Routes with a certificate that may change at any time. When ctx
// ends it goes on, and takes leave of its callers.
func (h *Handler) NewServer(ctx context.Context, address string, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *http.Server {
	s := telemetry.NewServer(address, parting(ctx, h.Routes()))
	s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate, NextProtos: []string{"h2", "http/1.1"}}
	// Failed handshakes of scanners and probes are no news.
	s.ErrorLog = slog.NewLogLogger(h.Log.Handler(), slog.LevelDebug)
	return s
}
