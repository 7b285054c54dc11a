// SPDX-License-Identifier: Apache-2.0

// Package telemetry is how the servers speak about themselves: one slog
// handler, one HTTP server with health, readiness and metrics. It never sees a
// value.
package telemetry

import (
	"io"
	"log/slog"
)

// The keys of log lines, so that one word names one thing everywhere.
const (
	KeyError     = "error"
	KeyNamespace = "namespace"
	KeyName      = "name"
	KeyPod       = "pod"
	KeyContainer = "container"
	KeyVault     = "vault"
	KeyObject    = "object"
	KeyKind      = "kind"
	KeyVersion   = "version"
	KeyReason    = "reason"
	KeyImage     = "image"
	KeyStatus    = "status"
	KeyRequestID = "requestID"
)

// NewLogger logs at level (error, warn, info, debug) in format (json, text).
// An unknown level is info, an unknown format text.
func NewLogger(w io.Writer, level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: levelOf(level)}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func levelOf(level string) slog.Level {
	switch level {
	case "error":
		return slog.LevelError
	case "warn":
		return slog.LevelWarn
	case "debug":
		return slog.LevelDebug
	default:
		return slog.LevelInfo
	}
}
