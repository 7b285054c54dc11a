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

// Path is where the API server sends pods. Below it, and below WorkloadsPath, those have
// a path of their own that read their vaults themselves: the registrations know which
// namespaces these are in, and nobody need read namespaces.
const (
	Path       = "/pods"
	directPath = "/direct"
)

const (
	// defaultTimeout is the API server's own when the registration says nothing,
	// and maxTimeout the longest that it accepts.
	defaultTimeout = 10 * time.Second
	maxTimeout     = 30 * time.Second
)

// Routes serves Path, WorkloadsPath, with a Guard ExecPath and BreakGlassPath, and /healthz.
func (h *Handler) Routes() http.Handler {
	mux := http.NewServeMux()
	turn := make(chan struct{}, 1)
	serve := func(path string, answer admission.HandlerFunc) {
		// A panic is answered by hanging up: its text is for the log alone.
		hook := (&admission.Webhook{Handler: answer}).WithRecoverPanic(false)
		mux.Handle("POST "+path, punctual(rationed(turn, hook)))
	}
	serve(Path, h.Handle)
	serve(WorkloadsPath, h.Advise)
	if h.Direct != nil {
		d := h.direct()
		serve(Path+directPath, d.Handle)
		serve(WorkloadsPath+directPath, d.Advise)
	}
	if h.Guard.Pod != nil {
		serve(ExecPath, h.KeepOut)
		serve(BreakGlassPath, h.Record)
	}
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

// ordinary is the length of a review that need not wait for its turn: almost every
// one is far shorter.
const ordinary = 256 << 10

// rationed lets one long review in at a time. A pod of 3 MiB takes up to 140 while
// it is decided about, and a webhook that is killed for its memory answers nobody.
func rationed(turn chan struct{}, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if 0 <= r.ContentLength && r.ContentLength <= ordinary {
			next.ServeHTTP(w, r)
			return
		}
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
			http.Error(w, "other reviews of this length were not answered in time", http.StatusServiceUnavailable)
		}
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
