// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"
)

// ErrForbiddenAddress is a registry at an address that none has.
var ErrForbiddenAddress = errors.New("a registry has no business at this address")

// wireServer is Azure's agent endpoint, which every virtual machine can reach.
var wireServer = netip.MustParseAddr("168.63.129.16")

// Dial says how registries are reached.
type Dial struct {
	Proxy         func(*http.Request) (*url.URL, error) // nil is none
	Roots         *x509.CertPool                        // nil is the system's
	Plain         []string                              // hosts with which we may speak plain HTTP
	Budget        Budget                                // of each host
	AllowLoopback bool                                  // for tests
	Now           func() time.Time                      // nil is time.Now
}

// NewTransport makes connections to registries.
func NewTransport(d Dial) http.RoundTripper {
	if d.Now == nil {
		d.Now = time.Now
	}
	return guard{newBudget(bounded{d.transport()}, d.Budget, d.Now), d.Plain}
}

func (d Dial) transport() *http.Transport {
	return &http.Transport{
		Proxy:                  d.Proxy,
		DialContext:            dialer(d.AllowLoopback).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: d.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    5 * time.Second,
		ResponseHeaderTimeout:  10 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// errPlain is a request that everybody on the way could read.
var errPlain = errors.New("plain HTTP is not allowed to this host")

var errNoTLS = errors.New("this host speaks no TLS")

// guard keeps requests off the wire that nobody has encrypted. The library that
// speaks to registries falls back to plain HTTP for private addresses, and a
// registry may send us to any URL to sign in.
type guard struct {
	http.RoundTripper

	plain []string
}

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	allowed := slices.Contains(g.plain, r.URL.Host)
	if r.URL.Scheme != "https" && !allowed {
		return nil, errPlain
	}
	response, err := g.RoundTripper.RoundTrip(r)
	if _, mismatch := errors.AsType[tls.RecordHeaderError](err); mismatch && allowed {
		return nil, errNoTLS // as expected; what plain HTTP yields is the news
	}
	return response, err
}

// maxBody bounds one answer: the distribution specification lets a manifest be
// 4 MiB, and a configuration is smaller. A registry that claims more would
// otherwise be believed.
const maxBody = 4 << 20

var errTooLarge = errors.New("the registry's answer is larger than a manifest may be")

// bounded cuts answers off.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		response.Body = &body{ReadCloser: response.Body, left: maxBody}
	}
	return response, err
}

type body struct {
	io.ReadCloser

	left int
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// dialer does not go where only credentials of the node or this pod's own ports
// can be found. Whoever may create a pod chooses the host name, and a name may
// resolve to anything; so the address is looked at, after resolving.
func dialer(allowLoopback bool) *net.Dialer {
	return &net.Dialer{
		Timeout:   5 * time.Second,
		KeepAlive: 30 * time.Second,
		Control: func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("reading the address of a registry: %w", err)
			}
			if !permitted(at.Addr().Unmap(), allowLoopback) {
				return ErrForbiddenAddress
			}
			return nil
		},
	}
}

func permitted(a netip.Addr, loopback bool) bool {
	switch {
	case a.IsLoopback():
		return loopback
	case a.IsLinkLocalUnicast(), a.IsMulticast(), a.IsUnspecified(), a == wireServer:
		return false // the metadata service of every cloud is link-local
	default:
		return true
	}
}
