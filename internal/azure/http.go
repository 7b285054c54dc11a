// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// HTTPOptions says how this process reaches Azure.
type HTTPOptions struct {
	// CABundle is a PEM file of authorities to trust besides the usual ones, for a
	// proxy that opens TLS or an emulator. Empty adds none.
	CABundle string
	// CAs are such authorities in PEM, where they are in no file.
	CAs string
	// HTTP1 does without HTTP/2, which is for many requests. Its implementation prints
	// what it sends and receives where GODEBUG asks for that, which may be somebody
	// else's variable.
	HTTP1 bool
	// Proxy chooses a request's proxy. Nil honours HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
	Proxy func(*http.Request) (*url.URL, error)
}

// Silence keeps the SDK from printing its requests, which it does where
// AZURE_SDK_GO_LOGGING asks for that. It is for processes in whose environment that may
// be meant for another program.
func Silence() { azlog.SetListener(nil) }

// maxBodyBytes is far above the largest answer: a secret has 25 KB and a
// certificate's chain not many times more.
const maxBodyBytes = 4 << 20

// connectionsPerHost keeps a process from running a node out of ports.
const connectionsPerHost = 10

// NewHTTPClient makes the one HTTP client of a process that speaks to Azure.
func NewHTTPClient(o HTTPOptions) (*http.Client, error) {
	roots, err := trustedRoots(o.CABundle)
	if err != nil {
		return nil, err
	}
	if o.CAs != "" && !roots.AppendCertsFromPEM([]byte(o.CAs)) {
		return nil, errors.New("the CA bundle holds no certificate in PEM")
	}
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	transport := &http.Transport{
		Proxy:                  o.Proxy,
		OnProxyConnectResponse: checkProxy,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		// A connection that a firewall dropped silently is found by a ping.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		// A vault gets no more requests than this at once: its requests are scheduled
		// before they come here, so none waits for a connection. See package reader.
		MaxConnsPerHost:     connectionsPerHost,
		MaxIdleConnsPerHost: connectionsPerHost,
		IdleConnTimeout:     90 * time.Second,
	}
	if o.HTTP1 {
		transport.ForceAttemptHTTP2, transport.Protocols = false, new(http.Protocols)
		transport.Protocols.SetHTTP1(true)
	}
	return &http.Client{
		Transport: watched{transport},
		// Neither Key Vault nor Entra ID redirects; following would take a token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// trustedRoots are the system's, or the embedded ones of Mozilla where there is
// no system (our images hold one binary), and the operator's bundle.
func trustedRoots(file string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil || pool.Equal(x509.NewCertPool()) {
		if pool, err = embeddedRoots(); err != nil {
			return nil, err
		}
	}
	if file == "" {
		return pool, nil
	}
	extra, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("reading the CA bundle: %w", err)
	}
	if !pool.AppendCertsFromPEM(extra) {
		return nil, fmt.Errorf("the CA bundle %s holds no certificate in PEM", file)
	}
	return pool, nil
}

func embeddedRoots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, errors.New("the embedded certificate authorities do not parse")
		}
		if root.Constraint == nil {
			pool.AddCert(cert)
		} else {
			pool.AddCertWithConstraint(cert, root.Constraint)
		}
	}
	return pool, nil
}

// proxyError is a proxy's refusal to connect us.
type proxyError struct {
	status  int
	unknown bool // the proxy says that DNS does not know the host
}

func (e *proxyError) Error() string {
	if e.unknown {
		return fmt.Sprintf("the proxy answered %d: no such host", e.status)
	}
	return fmt.Sprintf("the proxy answered %d", e.status)
}

// checkProxy keeps what net/http would reduce to a status text: behind a proxy it
// is the proxy that asks DNS, so its answer alone tells a vault that does not
// exist from one that cannot be reached. RFC 9209 has a header for that; Squid has
// an older one of its own.
func checkProxy(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	status := strings.Join(resp.Header.Values("Proxy-Status"), ",")
	squid := resp.Header.Get("X-Squid-Error")
	return &proxyError{
		status:  resp.StatusCode,
		unknown: strings.Contains(status, "error=dns_error") || strings.HasPrefix(squid, "ERR_DNS_FAIL"),
	}
}

// trace remembers how the last request of one sign-in ended. The SDK reduces
// network faults to text there, and only they tell "refused" from "no answer".
type trace struct {
	mu     sync.Mutex
	err    error
	status int
}

type traceKey struct{}

func (t *trace) watch(ctx context.Context) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

func (t *trace) note(resp *http.Response, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err, t.status = err, 0
	if resp != nil {
		t.status = resp.StatusCode
	}
}

// last returns the fault or else the status of the last request; 0 is none made.
func (t *trace) last() (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status, t.err
}

// watched notes how requests end and bounds their answers.
type watched struct{ next http.RoundTripper }

func (w watched) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if t, ok := r.Context().Value(traceKey{}).(*trace); ok {
		t.note(resp, err)
	}
	if err != nil {
		return nil, err
	}
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxBodyBytes)
	return resp, nil
}

// CloseIdleConnections lets http.Client do what its name says.
func (w watched) CloseIdleConnections() {
	if c, ok := w.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
