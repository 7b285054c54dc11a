// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/broker"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// A wire is a listener whose connections need no network, so that a story may have a
// clock of its own.
type wire struct {
	conns chan net.Conn
	close sync.Once
	done  chan struct{}
}

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error   { w.close.Do(func() { close(w.done) }); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{} }

type peer struct {
	net.Conn
	address string
}

func (p peer) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(p.address), Port: 1} }

func (w *wire) dial(address string) net.Conn {
	near, far := net.Pipe()
	w.conns <- peer{far, address}
	return near
}

// served runs a story with the broker's own server, which speaks TLS.
func served(t *testing.T, h http.Handler, story func(t *testing.T, w *wire, trust *tls.Config)) {
	t.Helper()
	certificate, trust := keyPair(t)
	synctest.Test(t, func(t *testing.T) {
		w := &wire{conns: make(chan net.Conn), done: make(chan struct{})}
		server := broker.NewServer("", h, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil }, slog.New(slog.DiscardHandler))
		ended := make(chan error, 1)
		go func() { ended <- server.ServeTLS(w, "", "") }()
		story(t, w, trust)
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		time.Sleep(time.Second) // connections linger for a moment, so that their last answers arrive
	})
}

func keyPair(t *testing.T) (*tls.Certificate, *tls.Config) {
	t.Helper()
	_, both := pair(t, "broker")
	certificate, err := tls.X509KeyPair(both, both)
	if err != nil {
		t.Fatal(err)
	}
	return &certificate, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} // another test looks at certificates
}

// lasts is how long the server bears a connection that says this and no more. A
// connection that the server ends is read to its end.
func lasts(t *testing.T, conn net.Conn, said string) time.Duration {
	t.Helper()
	began := time.Now()
	if _, err := io.WriteString(conn, said); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn)
	return time.Since(began)
}

// Who is slow holds a connection for seconds, wherever it is that nothing comes.
func TestSlowClientsAreCutOff(t *testing.T) {
	s := newStage(t)
	head := "POST " + brokerapi.ValuesPath + " HTTP/1.1\r\nHost: x\r\n"
	for name, tc := range map[string]struct {
		secure bool
		said   string
		within time.Duration
	}{
		"Handshake": {false, "", 5 * time.Second},
		"HelloHalf": {false, "\x16\x03\x01", 5 * time.Second},
		"Silence":   {true, "", 5 * time.Second},
		"Header":    {true, head + "X-A", 5 * time.Second},
		"Body":      {true, head + "Authorization: Bearer x\r\nContent-Length: 19\r\n\r\n{", 15 * time.Second},
		"Chunk":     {true, head + "Authorization: Bearer x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", 15 * time.Second},
		// One request is all that a connection is for.
		"Idle": {true, head + "Content-Length: 0\r\n\r\n", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			served(t, s.handler, func(t *testing.T, w *wire, trust *tls.Config) {
				t.Helper()
				conn := w.dial("10.0.0.1")
				if tc.secure {
					conn = tls.Client(conn, trust)
				}
				if got := lasts(t, conn, tc.said); got > tc.within {
					t.Errorf("a connection lasts %v", got)
				}
				_ = conn.Close()
			})
		})
	}
}

// A drop now and then keeps no connection open.
func TestTricklesAreCutOff(t *testing.T) {
	s := newStage(t)
	served(t, s.handler, func(t *testing.T, w *wire, trust *tls.Config) {
		t.Helper()
		conn := tls.Client(w.dial("10.0.0.1"), trust)
		defer func() { _ = conn.Close() }()
		began := time.Now()
		_, err := io.WriteString(conn, "POST / HTTP/1.1\r\n")
		for ; err == nil && time.Since(began) < time.Minute; time.Sleep(time.Second) {
			_, err = io.WriteString(conn, "X: x\r\n")
		}
		if got := time.Since(began); got > 12*time.Second { // 5 s, and as long for the farewell that nobody reads
			t.Errorf("a connection lasts %v", got)
		}
	})
}

// Who asks and does not read what is answered is left after seconds.
func TestSlowReadersAreCutOff(t *testing.T) {
	large := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		broker.Answer(w, make([]byte, 1<<20))
	})
	served(t, large, func(t *testing.T, w *wire, trust *tls.Config) {
		t.Helper()
		conn := tls.Client(w.dial("10.0.0.1"), trust)
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		if n, _ := io.Copy(io.Discard, conn); n >= 1<<20 {
			t.Errorf("%d bytes came after all", n)
		}
		_ = conn.NetConn().Close()
	})
}

func TestOnlyTLS13(t *testing.T) {
	s := newStage(t)
	for version, ok := range map[uint16]bool{tls.VersionTLS12: false, tls.VersionTLS13: true} {
		served(t, s.handler, func(t *testing.T, w *wire, trust *tls.Config) {
			t.Helper()
			trust.MaxVersion = version
			conn := tls.Client(w.dial("10.0.0.1"), trust)
			if err := conn.HandshakeContext(t.Context()); (err == nil) != ok {
				t.Errorf("%s: %v", tls.VersionName(version), err)
			}
			_ = conn.NetConn().Close()
		})
	}
}

func TestOversizedHeaders(t *testing.T) {
	s := newStage(t)
	served(t, s.handler, func(t *testing.T, w *wire, trust *tls.Config) {
		t.Helper()
		conn := tls.Client(w.dial("10.0.0.1"), trust)
		defer func() { _ = conn.NetConn().Close() }()
		go func() {
			_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", brokerapi.ValuesPath, strings.Repeat("x", 1<<20))
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
}

// Who opens very many connections is hung up on, and keeps nobody else out.
func TestConnectionsAreCounted(t *testing.T) {
	s := newStage(t)
	served(t, s.handler, func(t *testing.T, w *wire, trust *tls.Config) {
		t.Helper()
		speaks := func(address string) error {
			conn := tls.Client(w.dial(address), trust)
			defer func() { _ = conn.NetConn().Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return conn.HandshakeContext(ctx)
		}
		var open []net.Conn
		for range 1024 {
			open = append(open, w.dial("10.0.0.1"))
		}
		synctest.Wait()
		if err := speaks("10.0.0.1"); err == nil {
			t.Error("one more is served")
		}
		if err := speaks("10.0.0.2"); err != nil {
			t.Errorf("another is not served: %v", err)
		}
		for _, conn := range open {
			_ = conn.Close()
		}
		synctest.Wait()
		if err := speaks("10.0.0.1"); err != nil {
			t.Errorf("not served after the others have gone: %v", err)
		}
	})
}
