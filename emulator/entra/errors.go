// SPDX-License-Identifier: Apache-2.0

package entra

import (
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// aadError is an answer of the token endpoint that is not a token.
type aadError struct {
	status  int
	kind    string
	code    int
	message string
}

func (e *aadError) Error() string { return fmt.Sprintf("AADSTS%d: %s", e.code, e.message) }

//nolint:tagliatelle // OAuth's names
type errorBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Codes       []int  `json:"error_codes"`
	Timestamp   string `json:"timestamp"`
	TraceID     string `json:"trace_id"`
	Correlation string `json:"correlation_id"`
	URI         string `json:"error_uri"`
}

func (e *aadError) body(correlation string, now time.Time) errorBody {
	stamp := now.UTC().Format("2006-01-02 15:04:05Z")
	trace := uuid.NewString()
	if correlation == "" {
		correlation = uuid.NewString()
	}
	return errorBody{
		Error: e.kind,
		Description: fmt.Sprintf("%s Trace ID: %s Correlation ID: %s Timestamp: %s",
			e.Error(), trace, correlation, stamp),
		Codes:       []int{e.code},
		Timestamp:   stamp,
		TraceID:     trace,
		Correlation: correlation,
		URI:         fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", e.code),
	}
}

func unavailable(status int) *aadError {
	if status == http.StatusTooManyRequests {
		return &aadError{status, "temporarily_unavailable", 90055, "The server is temporarily too busy to handle the request. Please try again later."}
	}
	return &aadError{status, "temporarily_unavailable", 90033, "A transient error has occurred. Please try again."}
}

func invalidRequest(code int, format string, args ...any) *aadError {
	return &aadError{http.StatusBadRequest, "invalid_request", code, fmt.Sprintf(format, args...)}
}

func invalidClient(code int, format string, args ...any) *aadError {
	return &aadError{http.StatusUnauthorized, "invalid_client", code, fmt.Sprintf(format, args...)}
}

func missingParameter(name string) *aadError {
	return invalidRequest(900144, "The request body must contain the following parameter: '%s'.", name)
}

func unknownTenant(tenant string) *aadError {
	return invalidRequest(90002, "Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", tenant)
}

func unsupportedGrant(grant string) *aadError {
	return &aadError{http.StatusBadRequest, "unsupported_grant_type", 70003, fmt.Sprintf("The app requested an unsupported grant type '%s'.", grant)}
}

func unknownApplication(client, tenant string) *aadError {
	return &aadError{http.StatusBadRequest, "unauthorized_client", 700016, fmt.Sprintf(
		"Application with identifier '%s' was not found in the directory '%s'. "+
			"This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant.", client, tenant)}
}

func noCredential() *aadError {
	return invalidClient(7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
}

func wrongSecret(client string) *aadError {
	return invalidClient(7000215, "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", client)
}

func badScope(scope string) *aadError {
	return &aadError{http.StatusBadRequest, "invalid_scope", 1002012, fmt.Sprintf(
		"The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).", scope)}
}

func unknownResource(resource, tenant string) *aadError {
	return &aadError{http.StatusBadRequest, "invalid_resource", 500011, fmt.Sprintf(
		"The resource principal named %s was not found in the tenant named %s.", resource, tenant)}
}

func malformedAssertion() *aadError {
	return invalidRequest(50027, "JWT token is invalid or malformed.")
}

func assertionTimes(now, from, until time.Time) *aadError {
	const layout = "2006-01-02T15:04:05.0000000Z"
	return invalidClient(700024, "Client assertion is not within its valid time range. Current time: %s, assertion valid from %s, expiry time of assertion %s.",
		now.UTC().Format(layout), from.UTC().Format(layout), until.UTC().Format(layout))
}

func unknownCertificate(thumbprint, client string) *aadError {
	return invalidClient(700027, "The certificate with identifier used to sign the client assertion is not registered on application. "+
		"[Reason - The key was not found., Thumbprint of key used by client: '%s', Application: '%s']", thumbprint, client)
}

func badAssertionSignature() *aadError {
	return invalidClient(700027, "Client assertion failed signature validation. [Reason - The key used is incorrect.]")
}

func badAssertionAudience() *aadError {
	return invalidClient(700023, "Client assertion audience claim does not match Realm issuer.")
}

func badAssertionSubject() *aadError {
	return invalidClient(700021, "Client assertion application identifier doesn't match 'client_id' parameter.")
}

func noFederatedCredential() *aadError {
	return invalidClient(70025, "The client has no configured federated identity credentials.")
}

func noFederatedIssuer(issuer string) *aadError {
	return invalidClient(700211, "No matching federated identity record found for presented assertion issuer '%s'.", issuer)
}

func noFederatedAudience(audience string) *aadError {
	return invalidClient(700212, "No matching federated identity record found for presented assertion audience '%s'.", audience)
}

func noFederatedSubject(subject string) *aadError {
	return invalidClient(700213, "No matching federated identity record found for presented assertion subject '%s'.", subject)
}

func noFederatedMatch(issuer, subject, audience string) *aadError {
	return invalidClient(70021, "No matching federated identity record found for presented assertion. "+
		"Assertion Issuer: '%s'. Assertion Subject: '%s'. Assertion Audience: '%s'.", issuer, subject, audience)
}

func externalKeysUnavailable() *aadError {
	return invalidRequest(50166, "Request to External OIDC endpoint failed.")
}

func federatedSignature() *aadError {
	return invalidClient(50013, "Assertion failed signature validation. [Reason - The key was not found or is incorrect.]")
}
