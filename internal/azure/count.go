// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Metrics hears of what is sent to Azure. Its methods are called often and must not
// wait.
type Metrics interface {
	// Request counts one HTTP request to a vault: what Azure bills.
	Request(vault, operation, outcome string)
	// Token counts a token that was fetched, or was not.
	Token(outcome string)
}

// The operations that Metrics are told.
const (
	OperationChallenge = "challenge" // finds out how a vault wants to be spoken to
	OperationGet       = "get"
	OperationList      = "list"
)

// The outcomes that Metrics are told.
const (
	OutcomeOK           = "ok"
	OutcomeUnauthorized = "unauthorized" // 401; of a challenge that is the answer
	OutcomeForbidden    = "forbidden"    // 403, disabled objects among them
	OutcomeNotFound     = "not_found"    // 404
	OutcomeThrottled    = "throttled"    // 429
	OutcomeRefused      = "refused"      // any other 4xx; of a token, whatever a person must mend
	OutcomeFailed       = "failed"       // 5xx, and what is no answer of HTTP's
	OutcomeNoAnswer     = "no_answer"
)

func outcomeOf(resp *http.Response, err error) string {
	switch {
	case err != nil || resp == nil:
		return OutcomeNoAnswer
	case resp.StatusCode < http.StatusMultipleChoices:
		return OutcomeOK
	case resp.StatusCode == http.StatusUnauthorized:
		return OutcomeUnauthorized
	case resp.StatusCode == http.StatusForbidden:
		return OutcomeForbidden
	case resp.StatusCode == http.StatusNotFound:
		return OutcomeNotFound
	case resp.StatusCode == http.StatusTooManyRequests:
		return OutcomeThrottled
	case resp.StatusCode >= http.StatusBadRequest && resp.StatusCode < http.StatusInternalServerError:
		return OutcomeRefused
	}
	return OutcomeFailed
}

// counter counts the requests to one vault as they go out, those that the SDK adds
// among them.
type counter struct {
	vault   string
	metrics Metrics
}

// Do implements policy.Policy.
func (c counter) Do(req *policy.Request) (*http.Response, error) {
	raw := req.Raw()
	operation := OperationGet
	switch {
	case raw.Header.Get("Authorization") == "":
		operation = OperationChallenge
	case !strings.Contains(strings.Trim(raw.URL.Path, "/"), "/"):
		operation = OperationList
	}
	resp, err := req.Next()
	c.metrics.Request(c.vault, operation, outcomeOf(resp, err))
	return resp, err
}

type nobody struct{}

func (nobody) Request(string, string, string) {}
func (nobody) Token(string)                   {}
