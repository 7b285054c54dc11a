// SPDX-License-Identifier: Apache-2.0

// Package emulator puts the parts of the Key Vault emulator together: vaults and login hosts behind one HTTPS listener,
// the instance metadata service behind plain HTTP, a proxy that leads production host names to both, and the admin
// endpoint. A client needs two settings, the proxy and the CA, and is otherwise unmodified.
//
// Start is all there is to call; tests use package emulatortest.
package emulator

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/admin"
	"github.com/akv2k8s/akv2k8s/emulator/entra"
	"github.com/akv2k8s/akv2k8s/emulator/eventgrid"
	"github.com/akv2k8s/akv2k8s/emulator/fault"
	"github.com/akv2k8s/akv2k8s/emulator/imds"
	"github.com/akv2k8s/akv2k8s/emulator/keyvault"
	"github.com/akv2k8s/akv2k8s/emulator/pki"
	"github.com/akv2k8s/akv2k8s/emulator/proxy"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// LoginHosts are the names under which Entra ID is reached.
var LoginHosts = []string{"login.microsoftonline.com", "login.microsoft.com", "login.windows.net"}

// vaultPatterns are the names under which vaults may be reached; whether one exists is a second question.
var vaultPatterns = []string{"*.vault.azure.net", "*.vault.azure.cn", "*.vault.usgovcloudapi.net", "*.vault.localhost"}

// Config is what Start needs. An empty address means a free port of the loopback address.
type Config struct {
	Seed seed.Seed
	// CA signs the certificates of the HTTPS listener.
	CA *pki.CA

	ProxyAddress, HTTPSAddress, IMDSAddress, AdminAddress string

	// Log gets one line per request, without values. Nil is silence.
	Log *slog.Logger
}

// Emulator is a running emulator.
type Emulator struct {
	// Vaults changes what the vaults hold.
	Vaults *keyvault.Server
	// Authority signs the tokens.
	Authority *entra.Authority
	// Events puts what happens in the vaults into queues.
	Events *eventgrid.Publisher

	ca           *pki.CA
	servers      []*http.Server
	addrs        map[string]string
	counters     *counters
	signInFaults fault.Set
	proxy        *proxy.Proxy
	failed       chan error
}

// Start listens and serves until Close.
func Start(ctx context.Context, cfg Config) (*Emulator, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	principals, err := principals(cfg.Seed.Principals)
	if err != nil {
		return nil, err
	}
	authority, err := entra.New(entra.Config{Principals: principals, Resources: resources(cfg.Seed)})
	if err != nil {
		return nil, fmt.Errorf("starting the login hosts: %w", err)
	}
	e := &Emulator{
		Authority: authority, Events: newEvents(cfg, authority), ca: cfg.CA, addrs: map[string]string{}, counters: newCounters(),
		failed: make(chan error, 4),
	}
	e.proxy = proxy.New(proxy.Config{
		Hosts: append(append([]string{}, LoginHosts...), vaultPatterns...), Dial: e.dial, Exists: e.exists,
		Route: e.Events.Route, Plain: map[string]http.Handler{imds.Host: e.metadata()},
	})
	e.Vaults, err = keyvault.New(keyvault.Config{
		Vaults: cfg.Seed.Vaults, Principals: objectIDs(principals), Verify: verifier(authority), Cut: e.proxy.Cut, Log: cfg.Log,
		Created: e.Events.Created,
	})
	if err != nil {
		return nil, fmt.Errorf("filling the vaults: %w", err)
	}
	if err := e.SetSignInFaults(cfg.Seed.SignIn.Faults); err != nil {
		return nil, fmt.Errorf("setting the faults of the sign-in: %w", err)
	}
	if err := e.listen(ctx, cfg); err != nil {
		return nil, errors.Join(err, e.Close(ctx))
	}
	return e, nil
}

// listen opens the four listeners.
func (e *Emulator) listen(ctx context.Context, cfg Config) error {
	back := admin.Handler(admin.Config{
		Vaults: e.Vaults, Events: e.Events, CAPEM: e.ca.PEM(), Counters: e.Counters, Reset: e.ResetCounters,
		RevokeTokens: e.Authority.RevokeTokens, SignIn: e.SignIn, SetSignInFaults: e.SetSignInFaults,
	})
	// HTTP/1.1 only: a client's connections can then be counted and reset one by one.
	secure := e.ca.TLSConfig()
	secure.NextProtos = []string{"http/1.1"}
	for _, each := range []struct {
		name, address string
		handler       http.Handler
		tls           *tls.Config
	}{
		{"https", cfg.HTTPSAddress, e.front(), secure},
		{"imds", cfg.IMDSAddress, e.metadata(), nil},
		{"proxy", cfg.ProxyAddress, e.proxy, nil},
		{"admin", cfg.AdminAddress, back, nil},
	} {
		if err := e.serve(ctx, cfg.Log, each.name, each.address, each.handler, each.tls); err != nil {
			return err
		}
	}
	return nil
}

func (e *Emulator) serve(ctx context.Context, log *slog.Logger, name, address string, handler http.Handler, secure *tls.Config) error {
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("opening the %s listener: %w", name, err)
	}
	e.addrs[name] = listener.Addr().String()
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				e.counters.connection(name)
			}
		},
	}
	e.servers = append(e.servers, server)
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			e.failed <- fmt.Errorf("serving %s: %w", name, err)
		}
	}()
	return nil
}

// metadata is the instance metadata service.
func (e *Emulator) metadata() http.Handler { return e.signIn(imds.Handler(e.Authority), imds.Refuse) }

// front sends a request to the login hosts or to the vaults, by the name it was sent to.
func (e *Emulator) front() http.Handler {
	login := e.signIn(e.Authority.Handler(), e.Authority.Refuse)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e.Vaults.HasVault(r.Host) {
			e.Vaults.ServeHTTP(w, r)
			return
		}
		login.ServeHTTP(w, r)
	})
}

// dial connects the proxy to the HTTPS listener.
func (e *Emulator) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", e.local("https"))
}

func (e *Emulator) exists(host string) bool {
	return slices.Contains(LoginHosts, host) || e.Vaults.Resolves(host)
}

// local is a listener's address as this machine reaches it.
func (e *Emulator) local(name string) string {
	host, port, err := net.SplitHostPort(e.addrs[name])
	if err != nil {
		return e.addrs[name]
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// ProxyURL is the value for HTTPS_PROXY and HTTP_PROXY.
func (e *Emulator) ProxyURL() string { return "http://" + e.local("proxy") }

// AdminURL is where the admin endpoint is.
func (e *Emulator) AdminURL() string { return "http://" + e.local("admin") }

// HTTPSAddress is the listener behind the proxy, for clients that find their own way.
func (e *Emulator) HTTPSAddress() string { return e.local("https") }

// IMDSAddress is the metadata service, for a node that leads 169.254.169.254 there.
func (e *Emulator) IMDSAddress() string { return e.local("imds") }

// Failed delivers the error of a listener that ended by itself.
func (e *Emulator) Failed() <-chan error { return e.failed }

// Close stops serving; requests under way may finish until ctx ends, and those that faults hold are let go.
func (e *Emulator) Close(ctx context.Context) error {
	defer e.Events.Close()
	var errs []error
	e.signInFaults.Replace(nil)
	e.Vaults.Release()
	for _, server := range slices.Backward(e.servers) {
		if err := server.Shutdown(ctx); err != nil {
			errs = append(errs, server.Close())
		}
	}
	return errors.Join(errs...)
}

// verifier translates between the authority's words and the vaults'.
func verifier(authority *entra.Authority) func(string) (keyvault.Caller, error) {
	known := map[error]error{
		entra.ErrExpired: keyvault.ErrTokenExpired, entra.ErrNotYetValid: keyvault.ErrTokenNotYetValid,
		entra.ErrSignature: keyvault.ErrTokenSignature, entra.ErrRevoked: keyvault.ErrTokenRevoked,
	}
	return func(raw string) (keyvault.Caller, error) {
		claims, err := authority.Verify(raw)
		for theirs, ours := range known {
			if errors.Is(err, theirs) {
				return keyvault.Caller{}, ours
			}
		}
		if err != nil {
			return keyvault.Caller{}, keyvault.ErrTokenMalformed
		}
		return keyvault.Caller{
			TenantID: claims.TenantID, ObjectID: claims.ObjectID, AppID: claims.AppID, Audience: claims.Audience,
		}, nil
	}
}

func resources(s seed.Seed) []string {
	var out []string
	for _, v := range s.Vaults {
		out = append(out, "https://"+v.DNSSuffix)
	}
	return out
}

func principals(list []seed.Principal) ([]entra.Principal, error) {
	out := make([]entra.Principal, 0, len(list))
	for _, it := range list {
		one := entra.Principal{
			Name: it.Name, TenantID: it.Tenant, ClientID: it.ClientID, ObjectID: it.ObjectID, Secrets: it.Secrets,
			ManagedIdentity: it.ManagedIdentity, ResourceID: it.ResourceID,
		}
		if one.ObjectID == "" {
			one.ObjectID = derivedID(it.Tenant, it.ClientID)
		}
		for i, text := range it.Certificates {
			cert, err := parseCertificate(text)
			if err != nil {
				return nil, fmt.Errorf("principal %s: certificates[%d]: %w", it.Name, i, err)
			}
			one.Certificates = append(one.Certificates, cert)
		}
		for _, f := range it.Federated {
			one.Federated = append(one.Federated, entra.Federated(f))
		}
		out = append(out, one)
	}
	return out, nil
}

func parseCertificate(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errors.New("the certificate cannot be read")
	}
	return cert, nil
}

// derivedID makes a stable object id in the form of a UUID.
func derivedID(tenant, client string) string {
	sum := sha256.Sum256([]byte(tenant + "/" + client))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

func objectIDs(list []entra.Principal) map[string]string {
	out := map[string]string{}
	for _, it := range list {
		out[it.Name] = it.ObjectID
	}
	return out
}
