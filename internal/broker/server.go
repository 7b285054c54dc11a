// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"

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

const (
	// maxConnections from one neighbourhood at once, each with some 40 KiB of memory:
	// a node's 250 pods with four containers each.
	maxConnections = 1024

	// maxHeader is for the token and a few headers beside it.
	maxHeader = 24 << 10
)

// NewServer serves h to wrappers. They are the only callers and of our making, so
// nothing older than TLS 1.3 and nothing newer than HTTP/1.1 is spoken, and each
// connection is for one request. One that is slow to say what it wants is cut off by
// the timeouts of telemetry.NewServer.
func NewServer(address string, h http.Handler, certificate Certificate, log *slog.Logger) *http.Server {
	s := telemetry.NewServer(address, h)
	s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: certificate}
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	s.MaxHeaderBytes = maxHeader
	s.SetKeepAlivesEnabled(false)
	s.ConnState = new(crowd).watch
	// Failed handshakes of scanners and probes are no news.
	s.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	return s
}

// crowd is who is connected. A neighbourhood that is there too often is hung up on
// before it has cost a handshake.
type crowd struct {
	mu sync.Mutex
	n  map[netip.Prefix]int
}

func (c *crowd) watch(conn net.Conn, state http.ConnState) {
	change := map[http.ConnState]int{http.StateNew: 1, http.StateClosed: -1}[state]
	if change == 0 {
		return
	}
	if c.add(neighbourhood(sourceOf(conn.RemoteAddr().String())), change) > maxConnections && change > 0 {
		_ = conn.Close()
	}
}

func (c *crowd) add(who netip.Prefix, change int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[netip.Prefix]int{}
	}
	c.n[who] += change
	n := c.n[who]
	if n <= 0 {
		delete(c.n, who)
	}
	return n
}
