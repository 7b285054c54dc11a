// SPDX-License-Identifier: Apache-2.0

// Package proxy is the emulator's front door: a forward proxy that leads a fixed
// set of production host names to the emulator and refuses all others, so that
// unmodified programs meet the emulator where they expect Azure.
//
// It never opens a connection to anything but the emulator, and what the emulator
// was told to lead to. Start at New.
package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// Config says which hosts lead where. Host patterns are exact names or start with
// "*." and then match exactly one more label.
type Config struct {
	// Hosts are the names whose port 443 is tunnelled to Dial.
	Hosts []string
	// Dial connects to the emulator's TLS listener.
	Dial func(ctx context.Context) (net.Conn, error)
	// Exists reports whether a name that matches Hosts exists at all. A name that
	// does not is answered the way a proxy answers for a name that DNS does not
	// know. Nil means that all exist.
	Exists func(host string) bool
	// Route is the address of a host that is led elsewhere than to Dial, if it has one.
	// Nil has none.
	Route func(host string) (address string, ok bool)
	// Plain are the services reached by plain HTTP, by exact host name.
	Plain map[string]http.Handler
}

// Proxy leads clients to the emulator. It is safe for concurrent use.
type Proxy struct {
	Config

	mu      sync.Mutex
	tunnels map[*tunnel]struct{}
}

// tunnel is one client's connection to one host. end may be called at any time, before there is a connection as well;
// ended is closed when nothing is left of it.
type tunnel struct {
	host  string
	end   context.CancelFunc
	ended chan struct{}
}

// New returns the proxy.
func New(cfg Config) *Proxy { return &Proxy{Config: cfg, tunnels: map[*tunnel]struct{}{}} }

// Cut ends all connections to a host, in lower case, those that are just being made included, and returns when they
// have ended. It does not keep new ones away.
func (p *Proxy) Cut(host string) {
	for _, t := range p.to(host) {
		t.end()
		<-t.ended
	}
}

func (p *Proxy) to(host string) []*tunnel {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*tunnel
	for t := range p.tunnels {
		if t.host == host {
			out = append(out, t)
		}
	}
	return out
}

// enter registers a tunnel before anything is known about it, so that no Cut can miss it.
func (p *Proxy) enter(t *tunnel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tunnels[t] = struct{}{}
}

func (p *Proxy) leave(t *tunnel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tunnels, t)
	close(t.ended)
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		p.connect(w, r)
	case r.URL.IsAbs():
		p.forward(w, r)
	default:
		http.Error(w, "keyvault-emulator: this port is a proxy; set HTTPS_PROXY and HTTP_PROXY to it", http.StatusBadRequest)
	}
}

func (p *Proxy) forward(w http.ResponseWriter, r *http.Request) {
	host := strings.ToLower(r.URL.Hostname())
	service, ok := p.Plain[host]
	if !ok || r.URL.Scheme != "http" {
		refuse(w, host)
		return
	}
	r = r.Clone(r.Context())
	r.Header.Del("Proxy-Connection")
	r.Header.Del("Proxy-Authorization")
	r.URL.Scheme, r.URL.Host = "", ""
	service.ServeHTTP(w, r)
}

// connect answers
//
//	403  a host that the emulator does not play
//	502  a vault that does not exist, with the Proxy-Status of RFC 9209 (dns_error)
//	502  the emulator's own listener is down
//	200  a tunnel to the emulator's TLS listener, or to where Route leads
func (p *Proxy) connect(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(r.Host)
	host = strings.ToLower(host)
	ctx, end := context.WithCancel(r.Context())
	defer end()
	t := &tunnel{host, end, make(chan struct{})}
	p.enter(t)
	defer p.leave(t)
	if address, ok := p.route(host); ok && port == "443" {
		p.tunnel(ctx, w, func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", address) })
		return
	}
	switch {
	case err != nil || port != "443" && !strings.HasSuffix(host, ".localhost") || !p.plays(host):
		refuse(w, r.Host)
		return
	case p.Exists != nil && !p.Exists(host):
		w.Header().Set("Proxy-Status", `keyvault-emulator; error=dns_error; rcode="NXDOMAIN"`)
		http.Error(w, fmt.Sprintf("keyvault-emulator: the host %q does not exist", host), http.StatusBadGateway)
		return
	}
	p.tunnel(ctx, w, p.Dial)
}

func (p *Proxy) route(host string) (string, bool) {
	if p.Route == nil {
		return "", false
	}
	return p.Route(host)
}

func (p *Proxy) plays(host string) bool {
	for _, pattern := range p.Hosts {
		if Match(pattern, host) {
			return true
		}
	}
	return false
}

// Match reports whether host is named by pattern, which is an exact name or
// starts with "*." and then stands for exactly one label.
func Match(pattern, host string) bool {
	suffix, wild := strings.CutPrefix(strings.ToLower(pattern), "*")
	host = strings.ToLower(host)
	if !wild {
		return host == suffix
	}
	label, ok := strings.CutSuffix(host, suffix)
	return ok && label != "" && !strings.Contains(label, ".")
}

func refuse(w http.ResponseWriter, host string) {
	http.Error(w, fmt.Sprintf("keyvault-emulator: the host %q is none of those this proxy leads to", host), http.StatusForbidden)
}

func (p *Proxy) tunnel(ctx context.Context, w http.ResponseWriter, dial func(context.Context) (net.Conn, error)) {
	backend, err := dial(ctx)
	if err != nil {
		http.Error(w, "keyvault-emulator: what listens behind this name does not answer", http.StatusBadGateway)
		return
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = backend.Close()
		http.Error(w, "keyvault-emulator: this connection cannot be a tunnel", http.StatusInternalServerError)
		return
	}
	if _, err := client.Write([]byte("HTTP/1.1 200 Connection Established\r\n\r\n")); err != nil {
		_, _ = client.Close(), backend.Close()
		return
	}
	// Bytes that the client sent right behind its CONNECT sit in the reader.
	splice(ctx, client, buffered.Reader, backend)
}

// splice copies both ways and ends both connections as soon as one side or ctx
// ends: TLS has no use for half a tunnel.
func splice(ctx context.Context, client net.Conn, fromClient io.Reader, backend net.Conn) {
	var once sync.Once
	end := func() { once.Do(func() { _, _ = client.Close(), backend.Close() }) }
	defer context.AfterFunc(ctx, end)()
	var both sync.WaitGroup
	both.Go(func() { defer end(); _, _ = io.Copy(backend, fromClient) })
	both.Go(func() { defer end(); _, _ = io.Copy(client, backend) })
	both.Wait()
}
