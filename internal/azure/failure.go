// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Log keys of this package.
const (
	keyVault   = "vault"
	keyKind    = "kind"
	keyObject  = "object"
	keyStatus  = "status"
	keyCode    = "code"
	keyInner   = "innerCode"
	keyRequest = "requestID"
	keyReason  = "reason"
	keyOrigin  = "origin"
	keyCloud   = "cloud"
	keyHost    = "host"
	keyQueue   = "queue"
)

var (
	errPanic  = errors.New("the Azure SDK panicked")
	errAnswer = errors.New("the vault's answer lacks what was asked for")
)

// signInError is a token that we did not get.
type signInError struct {
	refused bool // or nobody answered
	cause   error
	network error // what the transport saw, if that was the reason
	status  int
}

func (e *signInError) Error() string { return "signing in: no token" }

// Unwrap offers what the transport saw too: the SDK drops the error chain of a
// canceled request.
func (e *signInError) Unwrap() []error {
	if e.network == nil {
		return []error{e.cause}
	}
	return []error{e.cause, e.network}
}

// NonRetriable tells the SDK that signing in has had its retries.
func (*signInError) NonRetriable() {}

// newSignInError holds silence, throttling and 5xx to be an outage. Whatever else
// ended a sign-in (a refusal, a missing setting, no identity on this node) is for
// a person to mend.
func newSignInError(seen *trace, cause error) *signInError {
	status, network := seen.last()
	e := &signInError{refused: true, cause: cause, network: network, status: status}
	// Only this type stands for an attempt; the SDK's other errors say that there
	// was nothing to attempt with, whatever its probes met.
	_, attempted := errors.AsType[*azidentity.AuthenticationFailedError](cause)
	outage := network != nil || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
	interrupted := errors.Is(e, context.Canceled) || errors.Is(e, context.DeadlineExceeded)
	if attempted && outage || interrupted || errors.Is(cause, errPanic) {
		e.refused = false
	}
	return e
}

func (e *signInError) outcome() string {
	switch {
	case e.refused:
		return OutcomeRefused
	case e.status == http.StatusTooManyRequests:
		return OutcomeThrottled
	case e.network != nil:
		return OutcomeNoAnswer
	}
	return OutcomeFailed
}

// failure is what a read's error means to us, and what the log may say about it.
type failure struct {
	err    error
	status int
	code   string
	inner  string
	id     string
	reason string
}

// level is lower for what is the user's to mend and shows on their object anyway.
func (f failure) level() slog.Level {
	switch {
	case errors.Is(f.err, context.Canceled):
		return slog.LevelDebug
	case errors.Is(f.err, vault.ErrNotFound), errors.Is(f.err, vault.ErrPending), errors.Is(f.err, vault.ErrDisabled), errors.Is(f.err, vault.ErrNoVault):
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// attributes are the log's view: status and codes, never a body, URL or token.
func (f failure) attributes() []any {
	var out []any
	add := func(key, value string) {
		if value != "" {
			out = append(out, key, value)
		}
	}
	if f.status != 0 {
		out = append(out, keyStatus, f.status)
	}
	add(keyCode, f.code)
	add(keyInner, f.inner)
	add(keyRequest, f.id)
	add(keyReason, f.reason)
	return out
}

// classify translates whatever the SDK returned:
//
//	a sign-in that was refused                   ErrSignIn
//	401                                          ErrSignIn
//	403 with the inner code of disabled objects  ErrDisabled
//	403 of the firewall or of private links      ErrFirewall
//	403 otherwise                                ErrForbidden
//	404 with a code of Key Vault                 ErrNotFound
//	429                                          Throttled
//	DNS, or the proxy's DNS, lacks the host      ErrNoVault
//	a certificate without a certificate          ErrPending
//	everything else                              ErrUnavailable
func classify(err error, host string, now time.Time) failure {
	if e, ok := errors.AsType[*signInError](err); ok {
		return classifySignIn(e, now)
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return classifyResponse(e, now)
	}
	f := failure{err: vault.ErrUnavailable, reason: describe(err)}
	switch {
	case errors.Is(err, vault.ErrPending):
		f = failure{err: vault.ErrPending}
	case isUnknownHost(err, host):
		f.err = vault.ErrNoVault
	case errors.Is(err, context.Canceled):
		f.err = fmt.Errorf("%w: %w", vault.ErrUnavailable, context.Canceled)
	}
	return f
}

func classifySignIn(e *signInError, now time.Time) failure {
	f := failure{err: vault.ErrSignIn, status: e.status, reason: "sign-in refused"}
	failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](e.cause)
	if ok && failed.RawResponse != nil {
		f.code, f.id = aadCode(failed.RawResponse), requestID(failed.RawResponse)
	}
	if e.refused {
		return f
	}
	f.err, f.reason = vault.ErrUnavailable, "sign-in did not answer"
	switch {
	case errors.Is(e, context.Canceled):
		f.err = fmt.Errorf("%w: %w", vault.ErrUnavailable, context.Canceled)
	case e.network != nil:
		f.reason += ": " + describe(e.network)
	case e.status == http.StatusTooManyRequests && ok && failed.RawResponse != nil:
		f.err = vault.Throttled{RetryAfter: retryAfter(failed.RawResponse.Header, now)}
	}
	return f
}

// forbidden are the inner codes of a 403 that mean more than "you may not".
var forbidden = map[string]error{
	"SecretDisabled":        vault.ErrDisabled,
	"CertificateDisabled":   vault.ErrDisabled,
	"KeyDisabled":           vault.ErrDisabled,
	"ForbiddenByFirewall":   vault.ErrFirewall,
	"ForbiddenByConnection": vault.ErrFirewall,
}

// missing are the codes of a 404 that speaks of an object. Any other 404 did not
// come from a vault, and an object must not seem deleted because of it.
var missing = map[string]bool{"SecretNotFound": true, "CertificateNotFound": true, "KeyNotFound": true}

func classifyResponse(e *azcore.ResponseError, now time.Time) failure {
	f := failure{err: vault.ErrUnavailable, status: e.StatusCode, code: word(e.ErrorCode)}
	var header http.Header
	if e.RawResponse != nil {
		header = e.RawResponse.Header
		f.id, f.inner = requestID(e.RawResponse), innerCode(e.RawResponse)
	}
	switch e.StatusCode {
	case http.StatusUnauthorized:
		f.err = vault.ErrSignIn
	case http.StatusForbidden:
		f.err = vault.ErrForbidden
		if err, ok := forbidden[f.inner]; ok {
			f.err = err
		}
	case http.StatusNotFound:
		if missing[f.code] {
			f.err = vault.ErrNotFound
		}
	case http.StatusTooManyRequests:
		f.err = vault.Throttled{RetryAfter: retryAfter(header, now)}
	}
	return f
}

// innerCode digs out what the SDK leaves in the body.
func innerCode(resp *http.Response) string {
	var body struct {
		Error struct {
			InnerError struct {
				Code string `json:"code"`
			} `json:"innererror"`
		} `json:"error"`
	}
	raw, err := runtime.Payload(resp)
	if err != nil || json.Unmarshal(raw, &body) != nil {
		return ""
	}
	return word(body.Error.InnerError.Code)
}

// aadCode is the number of Entra's error, such as AADSTS7000215; IMDS has none.
func aadCode(resp *http.Response) string {
	//nolint:tagliatelle // OAuth's names
	var body struct {
		Codes []int `json:"error_codes"`
	}
	raw, err := runtime.Payload(resp)
	if err != nil || json.Unmarshal(raw, &body) != nil || len(body.Codes) == 0 {
		return ""
	}
	return "AADSTS" + strconv.Itoa(body.Codes[0])
}

var (
	wordPattern = regexp.MustCompile(`\A[A-Za-z0-9_.]{1,64}\z`)
	idPattern   = regexp.MustCompile(`\A[0-9A-Fa-f-]{1,64}\z`)
)

// word passes remote words only if they look like the codes they claim to be.
func word(s string) string {
	if wordPattern.MatchString(s) {
		return s
	}
	return ""
}

func requestID(resp *http.Response) string {
	if id := resp.Header.Get("x-ms-request-id"); idPattern.MatchString(id) {
		return id
	}
	return ""
}

// maxRetryAfter bounds how long an answer can silence us.
const maxRetryAfter = 10 * time.Minute

func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	wait := time.Duration(0)
	if seconds, err := strconv.Atoi(text); err == nil {
		wait = time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return max(0, min(wait, maxRetryAfter))
}

// isUnknownHost is about the vault's own name: a proxy or sign-in host that DNS
// does not know is an outage.
func isUnknownHost(err error, host string) bool {
	if e, ok := errors.AsType[*proxyError](err); ok {
		return e.unknown
	}
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && e.IsNotFound && strings.EqualFold(strings.TrimSuffix(e.Name, "."), host)
}

// describe says what kind of network fault it was, in our words.
func describe(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, errPanic), errors.Is(err, errAnswer):
		return err.Error()
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	if e, ok := errors.AsType[*proxyError](err); ok {
		return e.Error()
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "the server's certificate is not trusted"
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return "DNS lookup of " + e.Name + " failed"
	}
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "timeout"
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return "network fault during " + e.Op
	}
	return fmt.Sprintf("unexpected error of type %T", rootOf(err))
}

func rootOf(err error) error {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err
}
