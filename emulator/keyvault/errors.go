// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// The ways a token is refused; Config.Verify returns one of these.
var (
	ErrTokenMalformed   = errors.New("the token cannot be read")
	ErrTokenSignature   = errors.New("the token's signature is wrong")
	ErrTokenExpired     = errors.New("the token has expired")
	ErrTokenNotYetValid = errors.New("the token is not valid yet")
	ErrTokenRevoked     = errors.New("the token was revoked")
)

// failure is an answer that is not a result, in the service's own words.
type failure struct {
	status  int
	code    string
	message string
	inner   string
	header  http.Header
}

func (f *failure) Error() string { return f.code + ": " + f.message }

type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Inner   *innerError `json:"innererror,omitempty"`
}

type innerError struct {
	Code string `json:"code"`
}

func (f *failure) body() errorBody {
	out := errorBody{errorDetail{Code: f.code, Message: f.message}}
	if f.inner != "" {
		out.Error.Inner = &innerError{f.inner}
	}
	return out
}

// words of a kind as the service writes it in messages and codes.
type words struct{ code, title, lower, inner string }

var wordsOf = map[kind]words{
	secrets:      {"Secret", "Secret", "secret", "Secret"},
	keys:         {"Key", "Key", "key", "Key"},
	certificates: {"Certificate", "Certificate", "certificate", "Certificate"},
}

const helpLink = "For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid="

func notFound(k kind, nameID string) *failure {
	w := wordsOf[k]
	return &failure{status: http.StatusNotFound, code: w.code + "NotFound", message: fmt.Sprintf(
		"A %s with (name/id) %s was not found in this key vault. If you recently deleted this %s you may be able to "+
			"recover it using the correct recovery command. %s2125182", w.lower, nameID, w.lower, helpLink)}
}

func deletedNotFound(k kind, name string) *failure {
	w := wordsOf[k]
	return &failure{status: http.StatusNotFound, code: w.code + "NotFound", message: fmt.Sprintf("Deleted %s not found: %s", w.title, name)}
}

func pendingNotFound(name string) *failure {
	return &failure{status: http.StatusNotFound, code: "PendingCertificateNotFound", message: "Pending certificate not found: " + name}
}

func deletedConflict(k kind, name string) *failure {
	w := wordsOf[k]
	return &failure{status: http.StatusConflict, code: "Conflict", inner: "ObjectIsDeletedButRecoverable", message: fmt.Sprintf(
		"%s %s is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the %s can "+
			"only be recovered or purged.", w.title, name, w.lower)}
}

func existsConflict(k kind, name string) *failure {
	w := wordsOf[k]
	return &failure{status: http.StatusConflict, code: "Conflict", message: fmt.Sprintf("A %s with name %s already exists in this key vault.", w.lower, name)}
}

func disabled(k kind, operation string) *failure {
	w := wordsOf[k]
	return &failure{status: http.StatusForbidden, code: "Forbidden", inner: w.inner + "Disabled", message: fmt.Sprintf(
		"Operation %s is not allowed on a disabled %s.", operation, w.lower)}
}

func managedByVault(k kind, operation string) *failure {
	w := wordsOf[k]
	return &failure{status: http.StatusForbidden, code: "Forbidden", inner: w.code + "ManagedByKeyVault", message: fmt.Sprintf(
		"Operation %q is not allowed on this %s, since it is associated with a certificate. Perform the operation on the "+
			"corresponding certificate. For more information refer to "+
			"https://docs.microsoft.com/en-us/azure/key-vault/certificates/about-certificates#composition-of-a-certificate", operation, w.lower)}
}

func badParameter(format string, args ...any) *failure {
	return &failure{status: http.StatusBadRequest, code: "BadParameter", message: fmt.Sprintf(format, args...)}
}

// notEmulated is said where the emulator ends; the service would do better.
func notEmulated(what string) *failure {
	return &failure{status: http.StatusNotImplemented, code: "NotImplemented", message: "keyvault-emulator: " + what + " is not emulated"}
}

func unauthorized(challenge, message string) *failure {
	return &failure{
		status: http.StatusUnauthorized, code: "Unauthorized", message: message,
		header: http.Header{"Www-Authenticate": {challenge}},
	}
}

// tokenFailure is the service's word for each way a token can be wrong.
func tokenFailure(challenge string, err error) *failure {
	switch {
	case errors.Is(err, ErrTokenExpired):
		return unauthorized(challenge, "[TokenExpired] Error validating token: 'S2S12086'.")
	case errors.Is(err, ErrTokenNotYetValid):
		return unauthorized(challenge, "Error validating token: IDX10222")
	case errors.Is(err, ErrTokenRevoked):
		return revoked(challenge)
	case errors.Is(err, ErrTokenSignature):
		return unauthorized(challenge, "AKV10046: Unable to resolve the key used for signature validation.")
	default:
		return unauthorized(challenge, "AKV10000: Request is missing a Bearer or PoP token.")
	}
}

// revokedClaims is base64 of {"access_token":{"nbf":{"essential":true}}}.
const revokedClaims = "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZX19fQ=="

// revoked asks for a fresh token by a claims challenge.
func revoked(challenge string) *failure {
	return unauthorized(challenge+`, error="insufficient_claims", claims="`+revokedClaims+`"`, "AKV10057: The token has been revoked.")
}

func forbiddenByRBAC(c *call) *failure {
	return &failure{status: http.StatusForbidden, code: "Forbidden", inner: "ForbiddenByRbac", message: fmt.Sprintf(
		"Caller is not authorized to perform action on resource.\r\n"+
			"If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\n"+
			"Caller: %s\r\nAction: '%s'\r\nResource: '%s'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\n"+
			"DecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: %s;location=%s\r\n",
		c.caller, action(c.route.kind, c.route.permission), c.vault.resource(c.route.kind, c.name), c.vault.name, region)}
}

func forbiddenByPolicy(c *call) *failure {
	return &failure{status: http.StatusForbidden, code: "Forbidden", inner: "ForbiddenByPolicy", message: fmt.Sprintf(
		"The user, group or application '%s' does not have %s %s permission on key vault '%s;location=%s'. %s2125287",
		c.caller, c.route.kind, c.route.permission, c.vault.name, region, helpLink)}
}

func forbiddenByFirewall(c *call) *failure {
	return &failure{status: http.StatusForbidden, code: "Forbidden", inner: "ForbiddenByFirewall", message: fmt.Sprintf(
		"Client address is not authorized and caller is not a trusted service.\r\nClient address: %s\r\nCaller: %s\r\nVault: %s;location=%s",
		c.address, c.caller, c.vault.name, region)}
}

func throttled(retryAfter int) *failure {
	f := &failure{
		status: http.StatusTooManyRequests, code: "Throttled",
		message: "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached",
	}
	if retryAfter > 0 {
		f.header = http.Header{"Retry-After": {fmt.Sprint(retryAfter)}}
	}
	return f
}

func serverError(status int) *failure {
	code := map[int]string{500: "InternalServerError", 502: "BadGateway", 503: "ServiceUnavailable", 504: "GatewayTimeout"}[status]
	if code == "" {
		code = strings.ReplaceAll(http.StatusText(status), " ", "")
	}
	return &failure{status: status, code: code, message: "The service is unable to process this request. Please try again later."}
}
