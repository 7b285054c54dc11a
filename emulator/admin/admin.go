// SPDX-License-Identifier: Apache-2.0

// Package admin is the emulator's back door: plain HTTP and JSON, without any authentication, to change what the
// vaults hold, to make them misbehave, and to read counters and current values. It exists for tests and for people at
// a terminal and listens on the loopback address unless told otherwise.
//
// Handler's table lists every endpoint; docs/emulator.md explains them.
package admin

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/eventgrid"
	"github.com/akv2k8s/akv2k8s/emulator/keyvault"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

const maxBody = 1 << 20

// Counters is everything that is counted.
type Counters struct {
	// Requests are answered vault requests by vault, operation and status.
	Requests []keyvault.Count `json:"requests"`
	// SignIns are answered requests to the login hosts and the metadata service by "path status".
	SignIns map[string]int `json:"signIns"`
	// Connections are accepted connections by listener: https, proxy, imds.
	Connections map[string]int `json:"connections"`
	// Events are those of the vaults that go into queues.
	Events eventgrid.Counts `json:"events"`
}

// SignIn says how the login hosts and the metadata service misbehave.
type SignIn struct {
	Faults []seed.Fault `json:"faults"`
	// Hanging is how many requests a hang fault holds now.
	Hanging int `json:"hanging"`
}

// Config is what Handler needs.
type Config struct {
	Vaults *keyvault.Server
	Events *eventgrid.Publisher
	// CAPEM is the emulator's CA certificate.
	CAPEM []byte
	// Counters and Reset read and clear the counters of all listeners.
	Counters func() Counters
	Reset    func()
	// RevokeTokens makes all access tokens issued so far invalid.
	RevokeTokens func()
	// SignIn reads and SetSignInFaults replaces the faults of the login hosts and the metadata service.
	SignIn          func() SignIn
	SetSignInFaults func([]seed.Fault) error
}

// endpoint answers a request; a nil result is 204.
type endpoint func(cfg Config, r *http.Request) (any, error)

// endpoints are all there is. {kind} is secrets, certificates or keys.
var endpoints = map[string]endpoint{
	"GET /v1/vaults":                                        listVaults,
	"GET /v1/vaults/{vault}/secrets/{name}":                 readSecret,
	"PUT /v1/vaults/{vault}/secrets/{name}":                 setSecret,
	"GET /v1/vaults/{vault}/certificates/{name}":            readCertificate,
	"PUT /v1/vaults/{vault}/certificates/{name}":            putCertificate,
	"POST /v1/vaults/{vault}/certificates/{name}/rotate":    rotate,
	"PATCH /v1/vaults/{vault}/{kind}/{name}":                change,
	"DELETE /v1/vaults/{vault}/{kind}/{name}":               remove,
	"POST /v1/vaults/{vault}/deleted/{kind}/{name}/recover": recoverDeleted,
	"PUT /v1/vaults/{vault}/permissions":                    setPermissions,
	"PUT /v1/vaults/{vault}/faults":                         setFaults,
	"DELETE /v1/vaults/{vault}/faults":                      clearFaults,
	"PUT /v1/event-grid":                                    subscribeAll,
	"DELETE /v1/event-grid":                                 unsubscribeAll,
	"PUT /v1/vaults/{vault}/event-grid":                     subscribe,
	"DELETE /v1/vaults/{vault}/event-grid":                  unsubscribe,
	"POST /v1/vaults/{vault}/{kind}/{name}/event":           publish,
	"PUT /v1/vaults/{vault}/limit":                          setLimit,
	"DELETE /v1/vaults/{vault}/limit":                       clearLimit,
	"PUT /v1/vaults/{vault}/clock":                          setClock,
	"GET /v1/sign-in":                                       readSignIn,
	"PUT /v1/sign-in/faults":                                setSignInFaults,
	"DELETE /v1/sign-in/faults":                             clearSignInFaults,
	"POST /v1/tokens/revoke":                                revoke,
	"GET /v1/counters":                                      readCounters,
	"DELETE /v1/counters":                                   resetCounters,
}

// Endpoints lists the method and path of every endpoint, sorted; the documentation is checked against it.
func Endpoints() []string { return slices.Sorted(maps.Keys(endpoints)) }

// Handler serves the admin endpoints, /healthz and /ca.crt.
func Handler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	for pattern, serve := range endpoints {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if fromBrowser(r) {
				respond(w, http.StatusForbidden, problem{"requests from web pages are refused"})
				return
			}
			result, err := serve(cfg, r)
			write(w, result, err)
		})
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /ca.crt", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-pem-file")
		_, _ = w.Write(cfg.CAPEM)
	})
	return mux
}

// fromBrowser keeps a web page that a developer happens to visit from driving the emulator on the same machine.
func fromBrowser(r *http.Request) bool {
	return r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
}

type problem struct {
	Error string `json:"error"`
}

var errBody = errors.New("the body is not JSON of the form that this endpoint takes")

// write maps outcomes to answers:
//
//	nil, nil              204
//	result, nil           200
//	no vault, no object   404
//	anything else         400
func write(w http.ResponseWriter, result any, err error) {
	switch {
	case errors.Is(err, keyvault.ErrNoVault), errors.Is(err, keyvault.ErrNoObject):
		respond(w, http.StatusNotFound, problem{err.Error()})
	case err != nil:
		respond(w, http.StatusBadRequest, problem{err.Error()})
	case result == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		respond(w, http.StatusOK, result)
	}
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(body) // the client has gone; nobody is left to tell
}

// decode is strict: a misspelt field is an error.
func decode(r *http.Request, out any) error {
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(out)
	switch {
	case err == nil:
		return nil
	case strings.HasPrefix(err.Error(), "json: unknown field"):
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	default:
		return errBody
	}
}

func listVaults(cfg Config, _ *http.Request) (any, error) {
	return map[string]any{"vaults": cfg.Vaults.Vaults()}, nil
}

func readSecret(cfg Config, r *http.Request) (any, error) {
	return cfg.Vaults.Secret(r.PathValue("vault"), r.PathValue("name"))
}

type versionBody struct {
	Version string `json:"version"`
}

func setSecret(cfg Config, r *http.Request) (any, error) {
	var in seed.Secret
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	in.Name = r.PathValue("name")
	version, err := cfg.Vaults.SetSecret(r.PathValue("vault"), in)
	return versionBody{version}, err
}

func readCertificate(cfg Config, r *http.Request) (any, error) {
	return cfg.Vaults.Certificate(r.PathValue("vault"), r.PathValue("name"))
}

func putCertificate(cfg Config, r *http.Request) (any, error) {
	var in seed.Certificate
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	in.Name = r.PathValue("name")
	version, err := cfg.Vaults.PutCertificate(r.PathValue("vault"), in)
	return versionBody{version}, err
}

func rotate(cfg Config, r *http.Request) (any, error) {
	version, err := cfg.Vaults.RotateCertificate(r.PathValue("vault"), r.PathValue("name"))
	return versionBody{version}, err
}

func change(cfg Config, r *http.Request) (any, error) {
	var in keyvault.Change
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if in.Enabled == nil && in.Tags == nil {
		return nil, errors.New("enabled and tags are missing; one is needed")
	}
	return nil, cfg.Vaults.Update(r.PathValue("vault"), r.PathValue("kind"), r.PathValue("name"), in)
}

func remove(cfg Config, r *http.Request) (any, error) {
	purge := r.URL.Query().Get("purge") == "true"
	return nil, cfg.Vaults.Delete(r.PathValue("vault"), r.PathValue("kind"), r.PathValue("name"), purge)
}

func recoverDeleted(cfg Config, r *http.Request) (any, error) {
	return nil, cfg.Vaults.Recover(r.PathValue("vault"), r.PathValue("kind"), r.PathValue("name"))
}

func setPermissions(cfg Config, r *http.Request) (any, error) {
	var in struct {
		Permissions []seed.Permission `json:"permissions"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return nil, cfg.Vaults.SetPermissions(r.PathValue("vault"), in.Permissions)
}

type faultsBody struct {
	Faults []seed.Fault `json:"faults"`
}

func setFaults(cfg Config, r *http.Request) (any, error) {
	var in faultsBody
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return nil, cfg.Vaults.SetFaults(r.PathValue("vault"), in.Faults)
}

func clearFaults(cfg Config, r *http.Request) (any, error) {
	return nil, cfg.Vaults.SetFaults(r.PathValue("vault"), nil)
}

func setLimit(cfg Config, r *http.Request) (any, error) {
	var in seed.Limit
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return nil, cfg.Vaults.SetLimit(r.PathValue("vault"), &in)
}

func clearLimit(cfg Config, r *http.Request) (any, error) {
	return nil, cfg.Vaults.SetLimit(r.PathValue("vault"), nil)
}

func setClock(cfg Config, r *http.Request) (any, error) {
	var in struct {
		Offset *seed.Duration `json:"offset"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if in.Offset == nil {
		return nil, errors.New("offset is missing")
	}
	return nil, cfg.Vaults.SetClock(r.PathValue("vault"), time.Duration(*in.Offset))
}

func readSignIn(cfg Config, _ *http.Request) (any, error) { return cfg.SignIn(), nil }

func setSignInFaults(cfg Config, r *http.Request) (any, error) {
	var in faultsBody
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return nil, cfg.SetSignInFaults(in.Faults)
}

func clearSignInFaults(cfg Config, _ *http.Request) (any, error) {
	return nil, cfg.SetSignInFaults(nil)
}

func revoke(cfg Config, _ *http.Request) (any, error) {
	cfg.RevokeTokens()
	return nil, nil //nolint:nilnil // done, and nothing to say
}

func readCounters(cfg Config, _ *http.Request) (any, error) { return cfg.Counters(), nil }

func resetCounters(cfg Config, _ *http.Request) (any, error) {
	cfg.Reset()
	return nil, nil //nolint:nilnil // done, and nothing to say
}
