// SPDX-License-Identifier: Apache-2.0

// Package imds emulates the token endpoint of the Azure Instance Metadata
// Service, the plain-HTTP service at 169.254.169.254 that hands tokens of managed
// identities to whatever runs on a node.
//
// Which identities exist is the authority's knowledge. Start at Handler.
package imds

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/entra"
)

// Host is the link-local address where clients expect the service.
const Host = "169.254.169.254"

// Authority is what Handler needs of entra.Authority.
type Authority interface {
	Principals() []entra.Principal
	Issue(p entra.Principal, resource string) (entra.Token, error)
}

// Handler serves GET /metadata/identity/oauth2/token.
func Handler(authority Authority) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metadata/identity/oauth2/token", func(w http.ResponseWriter, r *http.Request) {
		body, err := answer(authority, r)
		if err != nil {
			respond(w, http.StatusBadRequest, errorBody{"invalid_request", err.Error()})
			return
		}
		respond(w, http.StatusOK, body)
	})
	return mux
}

// Refuse answers as the service does while it cannot work: 429 when there are too many requests, 5xx otherwise.
func Refuse(w http.ResponseWriter, _ *http.Request, status int) {
	if status == http.StatusTooManyRequests {
		respond(w, status, errorBody{"too_many_requests", "Too many requests"})
		return
	}
	respond(w, status, errorBody{"unknown", "Failed to retrieve token from the Active directory."})
}

//nolint:tagliatelle // OAuth's names
type errorBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// tokenBody carries its numbers as strings, as the real service does.
//
//nolint:tagliatelle // OAuth's names
type tokenBody struct {
	AccessToken  string `json:"access_token"`
	ClientID     string `json:"client_id"`
	ExpiresIn    string `json:"expires_in"`
	ExpiresOn    string `json:"expires_on"`
	ExtExpiresIn string `json:"ext_expires_in"`
	NotBefore    string `json:"not_before"`
	Resource     string `json:"resource"`
	TokenType    string `json:"token_type"`
}

var (
	errNoHeader   = errors.New("Required metadata header not specified")                                                                                 //nolint:staticcheck // the service's words
	errNoAudience = errors.New("Required audience parameter not specified")                                                                              //nolint:staticcheck // the service's words
	errNoVersion  = errors.New("Required query variable 'api-version' is missing")                                                                       //nolint:staticcheck // the service's words
	errNoIdentity = errors.New("Identity not found")                                                                                                     //nolint:staticcheck // the service's words
	errAmbiguous  = errors.New("Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request") //nolint:staticcheck // the service's words
	errResource   = errors.New("The resource principal named in the request was not found in the tenant")                                                //nolint:staticcheck // the service's words
)

func answer(authority Authority, r *http.Request) (tokenBody, error) {
	query := r.URL.Query()
	resource := strings.TrimSuffix(query.Get("resource"), "/.default")
	switch {
	case r.Header.Get("Metadata") != "true":
		return tokenBody{}, errNoHeader
	case query.Get("api-version") == "":
		return tokenBody{}, errNoVersion
	case resource == "":
		return tokenBody{}, errNoAudience
	}
	p, err := choose(authority.Principals(), query.Get)
	if err != nil {
		return tokenBody{}, err
	}
	token, err := authority.Issue(p, resource)
	if err != nil {
		return tokenBody{}, errResource
	}
	left := seconds(token.Expires.Sub(token.Issued))
	return tokenBody{
		AccessToken:  token.Raw,
		ClientID:     p.ClientID,
		ExpiresIn:    left,
		ExpiresOn:    strconv.FormatInt(token.Expires.Unix(), 10),
		ExtExpiresIn: left,
		NotBefore:    strconv.FormatInt(token.Issued.Unix(), 10),
		Resource:     resource,
		TokenType:    "Bearer",
	}, nil
}

// choose finds the identity that a request names; a request that names none gets
// the system-assigned identity, or the only user-assigned one.
func choose(all []entra.Principal, param func(string) string) (entra.Principal, error) {
	identities := slices.DeleteFunc(all, func(p entra.Principal) bool { return !p.ManagedIdentity })
	pick := func(match func(entra.Principal) bool) (entra.Principal, error) {
		if i := slices.IndexFunc(identities, match); i >= 0 {
			return identities[i], nil
		}
		return entra.Principal{}, errNoIdentity
	}
	if id := param("client_id"); id != "" {
		return pick(func(p entra.Principal) bool { return strings.EqualFold(p.ClientID, id) })
	}
	if id := param("object_id"); id != "" {
		return pick(func(p entra.Principal) bool { return strings.EqualFold(p.ObjectID, id) })
	}
	for _, name := range []string{"msi_res_id", "mi_res_id"} {
		if id := param(name); id != "" {
			return pick(func(p entra.Principal) bool { return strings.EqualFold(p.ResourceID, id) })
		}
	}
	system, err := pick(func(p entra.Principal) bool { return p.ResourceID == "" })
	switch {
	case err == nil:
		return system, nil
	case len(identities) > 1:
		return entra.Principal{}, errAmbiguous
	}
	return pick(func(entra.Principal) bool { return true })
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Server", "IMDS/150.870.65.1854")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone; nobody is left to tell
}
