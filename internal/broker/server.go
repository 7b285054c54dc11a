// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"

	"github.com/akv2k8s/akv2k8s/internal/telemetry"
)

// Certificate is where a server's certificate comes from; it may change while
// the server runs.
type Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// errNoCertificate is what a readiness probe sees.
var errNoCertificate = errors.New("there is no serving certificate yet")

// Ready is nil once there is a certificate to serve.
func (c Certificate) Ready(*http.Request) error {
	if cert, err := c(nil); err != nil || cert == nil {
		return errNoCertificate
	}
	return nil
}

// NewServer serves h to wrappers. They are the only callers and of our making, so
// nothing older than TLS 1.3 and nothing newer than HTTP/1.1 is spoken.
func NewServer(address string, h http.Handler, certificate Certificate, log *slog.Logger) *http.Server {
	s := telemetry.NewServer(address, h)
	s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: certificate}
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	// Failed handshakes of scanners and probes are no news.
	s.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	return s
}
