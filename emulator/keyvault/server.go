// SPDX-License-Identifier: Apache-2.0

// Package keyvault emulates the data plane of Azure Key Vault: secrets, certificates and keys of any number of
// vaults, chosen by host name, with the service's authentication challenge, permissions, paging, soft deletion,
// limits and error bodies. Everything lives in memory.
//
// It protects nothing: values are kept in the clear and the keys are not in any hardware. Start at New; requests come
// in through ServeHTTP, and admin.go has what tests and people change from outside.
package keyvault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// APIVersions are the stable api-versions that are answered.
var APIVersions = []string{"7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"}

// maxBody bounds a request's body: the largest imports are a few dozen kilobytes.
const maxBody = 1 << 20

// Config is what New needs.
type Config struct {
	Vaults []seed.Vault
	// Principals maps the names that permissions use to object ids.
	Principals map[string]string
	// Verify checks a bearer token and says whom it speaks for; its errors are the ErrToken values.
	Verify func(raw string) (Caller, error)
	// Log gets one line per request, without values. Nil is silence.
	Log *slog.Logger
	// Now defaults to time.Now.
	Now func() time.Time
}

// Server answers for all vaults. It is safe for concurrent use.
type Server struct {
	vaults     map[string]*vault // by host
	principals map[string]string
	verify     func(string) (Caller, error)
	log        *slog.Logger
	now        func() time.Time
	counters   counters
}

// New makes the vaults and generates the keys and certificates that they start with.
func New(cfg Config) (*Server, error) {
	s := &Server{
		vaults: map[string]*vault{}, principals: cfg.Principals, verify: cfg.Verify, log: cfg.Log, now: cfg.Now,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	for _, spec := range cfg.Vaults {
		v := newVault(spec)
		s.vaults[v.name+"."+v.suffix] = v
		if err := s.fill(v, spec); err != nil {
			return nil, fmt.Errorf("vault %s: %w", v.name, err)
		}
	}
	return s, nil
}

// Hosts lists the host names of the vaults, sorted.
func (s *Server) Hosts() []string {
	hosts := make([]string, 0, len(s.vaults))
	for host := range s.vaults {
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	return hosts
}

// HasVault reports whether a host, with or without a port, names a vault.
func (s *Server) HasVault(host string) bool { return s.vaults[hostname(host)] != nil }

func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		hostport = host
	}
	return strings.ToLower(hostport)
}

// call is one authenticated request on its way through.
type call struct {
	vault   *vault
	route   route
	caller  Caller
	token   [32]byte
	address string
	request *http.Request

	name, version string
	body          []byte
}

// decode reads the body into out. Unknown fields are left alone, as the service does.
func (c *call) decode(out any) *failure {
	if len(bytes.TrimSpace(c.body)) == 0 {
		return badParameter("The request body is missing.")
	}
	if err := json.Unmarshal(c.body, out); err != nil {
		return badParameter("The request body could not be parsed as JSON.")
	}
	return nil
}

// resetConnection is panicked by the reset fault and caught at the top.
type resetConnection struct{}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if recovered := recover(); recovered != nil {
			if _, is := recovered.(resetConnection); !is {
				panic(recovered)
			}
			reset(w)
		}
	}()
	v := s.vaults[hostname(r.Host)]
	if v == nil {
		http.Error(w, "keyvault-emulator: no vault has this host name", http.StatusNotFound)
		return
	}
	c := &call{vault: v, request: r, address: clientAddress(r), route: route{operation: "unknown"}}
	result, bad := s.answer(r.Context(), c)
	status := s.write(w, r, result, bad)
	s.counters.add(v.name, c.route.operation, status)
	s.log.InfoContext(r.Context(), "vault request", "vault", v.name, "operation", c.route.operation, "object", c.name,
		"status", status, "app_id", c.caller.AppID)
}

// answer takes a request through the checks in the order that the service makes them: who, what, whether, and then
// the operation itself.
func (s *Server) answer(ctx context.Context, c *call) (*reply, *failure) {
	if bad := s.authenticate(c); bad != nil {
		return nil, bad
	}
	if bad := checkAPIVersion(c.request); bad != nil {
		return nil, bad
	}
	if bad := c.resolve(); bad != nil {
		return nil, bad
	}
	c.vault.mu.Lock()
	faults := c.vault.take(c)
	c.vault.seenTokens[c.token] = true
	c.vault.mu.Unlock()
	if bad := suffer(ctx, c, faults); bad != nil {
		return nil, bad
	}
	body, err := io.ReadAll(io.LimitReader(c.request.Body, maxBody))
	if err != nil {
		return nil, badParameter("The request body could not be read.")
	}
	c.body = body
	return s.perform(c)
}

func (s *Server) perform(c *call) (*reply, *failure) {
	c.vault.mu.Lock()
	bad := s.allowed(c)
	c.vault.mu.Unlock()
	if bad != nil {
		return nil, bad
	}
	made, bad := c.route.prepareFor(s, c)
	if bad != nil {
		return nil, bad
	}
	c.vault.mu.Lock()
	defer c.vault.mu.Unlock()
	return c.route.handle(s, c, made)
}

func (v *vault) challenge() string {
	return fmt.Sprintf(`Bearer authorization="https://login.microsoftonline.com/%s", resource="https://%s"`, v.tenant, v.suffix)
}

func (s *Server) authenticate(c *call) *failure {
	scheme, raw, _ := strings.Cut(c.request.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || raw == "" {
		c.route.operation = "challenge"
		return unauthorized(c.vault.challenge(), "AKV10000: Request is missing a Bearer or PoP token.")
	}
	c.route.operation = "unauthorized"
	caller, err := s.verify(raw)
	if err != nil {
		return tokenFailure(c.vault.challenge(), err)
	}
	c.caller, c.token = caller, tokenHash(raw)
	resource := "https://" + c.vault.suffix
	if strings.TrimSuffix(caller.Audience, "/") != resource {
		return unauthorized(c.vault.challenge(), fmt.Sprintf("AKV10022: Invalid audience. Expected %s, found: %s.", resource, caller.Audience))
	}
	if !strings.EqualFold(caller.TenantID, c.vault.tenant) {
		return unauthorized(c.vault.challenge(), fmt.Sprintf(
			"AKV10032: Invalid issuer. Expected one of https://sts.windows.net/%s/, found %s.", c.vault.tenant, caller.issuer()))
	}
	return nil
}

func checkAPIVersion(r *http.Request) *failure {
	version := r.URL.Query().Get("api-version")
	switch {
	case version == "":
		return badParameter("api-version must be specified")
	case !slices.Contains(APIVersions, version):
		return badParameter("The specified version (%s) is not recognized. Consider using the latest supported version (%s).",
			version, APIVersions[len(APIVersions)-1])
	}
	return nil
}

func (s *Server) write(w http.ResponseWriter, r *http.Request, result *reply, bad *failure) int {
	status, header, body := 0, http.Header(nil), any(nil)
	if bad != nil {
		status, header, body = bad.status, bad.header, bad.body()
	} else {
		status, header, body = result.status, result.header, result.body
	}
	h := w.Header()
	for name, value := range map[string]string{
		"Cache-Control": "no-cache", "Pragma": "no-cache", "Expires": "-1", "X-Content-Type-Options": "nosniff",
		"Strict-Transport-Security":      "max-age=31536000;includeSubDomains",
		"X-Ms-Keyvault-Region":           region,
		"X-Ms-Keyvault-Service-Version":  "1.9.2874.1",
		"X-Ms-Keyvault-Network-Info":     "conn_type=Ipv4;addr=" + clientAddress(r) + ";act_addr_fam=InterNetwork;",
		"X-Ms-Request-Id":                uuid.NewString(),
		"X-Ms-Client-Request-Id":         r.Header.Get("X-Ms-Client-Request-Id"),
		"X-Ms-Keyvault-Emulator-Warning": "not the real service",
	} {
		if value != "" {
			h.Set(name, value)
		}
	}
	maps.Copy(h, header)
	if body == nil {
		w.WriteHeader(status)
		return status
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(body) // the client has gone; nobody is left to tell
	return status
}

func clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// reset ends the connection without an answer: with a TCP reset where the connection can be had, and by aborting the
// handler otherwise.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	under := conn
	if tlsConn, is := conn.(interface{ NetConn() net.Conn }); is {
		under = tlsConn.NetConn()
	}
	if tcp, is := under.(*net.TCPConn); is {
		_ = tcp.SetLinger(0)
	}
	_ = under.Close()
}
