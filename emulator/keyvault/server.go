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

	"github.com/akv2k8s/akv2k8s/emulator/fault"
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
	// Cut ends the connections to a host whose name is gone from DNS. Nil does nothing.
	Cut func(host string)
	// Log gets one line per request, without values. Nil is silence.
	Log *slog.Logger
	// Now defaults to time.Now.
	Now func() time.Time
	// Created is told of each version that comes to be after the start. It is called under the vault's lock and must
	// neither wait nor call back. Nil is nobody.
	Created func(Version)
}

// Server answers for all vaults. It is safe for concurrent use.
type Server struct {
	vaults     map[string]*vault // by host
	principals map[string]string
	verify     func(string) (Caller, error)
	cut        func(host string)
	log        *slog.Logger
	now        func() time.Time
	counters   counters
}

// New makes the vaults and generates the keys and certificates that they start with.
func New(cfg Config) (*Server, error) {
	s := &Server{
		vaults: map[string]*vault{}, principals: cfg.Principals, verify: cfg.Verify, cut: cfg.Cut, log: cfg.Log, now: cfg.Now,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	for _, spec := range cfg.Vaults {
		v := newVault(spec, s.now)
		s.vaults[v.host()] = v
		if err := s.fill(v, spec); err != nil {
			return nil, fmt.Errorf("vault %s: %w", v.name, err)
		}
		v.created = cfg.Created // what a vault starts with is no news
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

// Resolves is HasVault as DNS would answer it once: a fault may have taken the name away.
func (s *Server) Resolves(host string) bool {
	v := s.vaults[hostname(host)]
	return v != nil && v.faults.Resolves()
}

// Release ends all faults, so that no request waits any longer.
func (s *Server) Release() {
	for _, v := range s.vaults {
		v.faults.Replace(nil)
	}
}

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
	outcome       fault.Outcome
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

// ServeHTTP answers one request. It counts it first, so that whoever has an answer finds it counted.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := s.vaults[hostname(r.Host)]
	if v == nil {
		http.Error(w, "keyvault-emulator: no vault has this host name", http.StatusNotFound)
		return
	}
	c := &call{vault: v, request: r, address: clientAddress(r), route: route{operation: "unknown"}}
	out := s.respond(r.Context(), c)
	s.counters.add(v.name, c.route.operation, out.status)
	s.log.InfoContext(r.Context(), "vault request", "vault", v.name, "operation", c.route.operation, "object", c.name,
		"status", out.status, "app_id", c.caller.AppID)
	if out.status == 0 {
		fault.Reset(w)
	}
	c.write(r.Context(), w, out)
}

// respond turns a result or a failure into an answer; status 0 is none.
func (s *Server) respond(ctx context.Context, c *call) reply {
	result, bad := s.answer(ctx, c)
	if bad == unanswered {
		return reply{}
	}
	if bad != nil {
		return reply{status: bad.status, header: bad.header, body: bad.body()}
	}
	return *result
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
	// The body comes before the faults: only behind it does net/http notice that a client has gone.
	body, err := io.ReadAll(io.LimitReader(c.request.Body, maxBody))
	if err != nil {
		return nil, badParameter("The request body could not be read.")
	}
	c.body = body
	if bad := c.suffer(ctx); bad != nil {
		return nil, bad
	}
	return s.perform(c)
}

func (s *Server) perform(c *call) (*reply, *failure) {
	c.vault.mu.Lock()
	bad := s.allowed(c)
	c.vault.mu.Unlock()
	if bad != nil {
		return nil, bad
	}
	made, bad := c.route.prepareFor(c)
	if bad != nil {
		return nil, bad
	}
	c.vault.mu.Lock()
	defer c.vault.mu.Unlock()
	return c.route.handle(c, made)
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

func (c *call) write(ctx context.Context, w http.ResponseWriter, out reply) {
	h := w.Header()
	for name, value := range map[string]string{
		"Cache-Control": "no-cache", "Pragma": "no-cache", "Expires": "-1", "X-Content-Type-Options": "nosniff",
		"Date":                           c.vault.now().UTC().Format(http.TimeFormat),
		"Strict-Transport-Security":      "max-age=31536000;includeSubDomains",
		"X-Ms-Keyvault-Region":           region,
		"X-Ms-Keyvault-Service-Version":  "1.9.2874.1",
		"X-Ms-Keyvault-Network-Info":     "conn_type=Ipv4;addr=" + c.address + ";act_addr_fam=InterNetwork;",
		"X-Ms-Request-Id":                uuid.NewString(),
		"X-Ms-Client-Request-Id":         c.request.Header.Get("X-Ms-Client-Request-Id"),
		"X-Ms-Keyvault-Emulator-Warning": "not the real service",
	} {
		if value != "" {
			h.Set(name, value)
		}
	}
	maps.Copy(h, out.header)
	var body []byte
	if out.body != nil {
		h.Set("Content-Type", "application/json; charset=utf-8")
		body = encode(out.body)
	}
	c.outcome.Send(ctx, w, out.status, body)
}

func encode(body any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(body) // into memory, of types that have a form in JSON
	return out.Bytes()
}

func clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
