// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/grant"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// result is how a request ended, in one word for metrics and audit.
type result string

// The results, and what the caller sees of each:
//
//	answered         200       the values
//	bad_request      400, 413  not a request of ours
//	unauthenticated  401       no token, or not a valid one of a pod for us
//	denied           403       a rule of package grant says no
//	refused          422       something that a person must put right, with the problems
//	failed           500       a fault of the broker's own
//	unavailable      503       the API server or the vault did not answer; retry, with Retry-After
const (
	resultAnswered        result = "answered"
	resultBadRequest      result = "bad_request"
	resultUnauthenticated result = "unauthenticated"
	resultDenied          result = "denied"
	resultRefused         result = "refused"
	resultFailed          result = "failed"
	resultUnavailable     result = "unavailable"
)

// outcome is how a request ended, complete for answer, metrics and audit alike.
type outcome struct {
	result     result
	status     int
	failure    brokerapi.Failure // unless values
	values     map[string]secret.Value
	absent     []string
	retryAfter time.Duration // with failure.Retry
	verdict    grant.Verdict // as far as it got
}

func badRequest(status int, message string) *outcome {
	return &outcome{result: resultBadRequest, status: status, failure: brokerapi.Failure{Message: message}}
}

func noToken() *outcome {
	return &outcome{
		result: resultUnauthenticated, status: http.StatusUnauthorized,
		failure: brokerapi.Failure{Message: grant.ErrToken.Error()},
	}
}

func denied(v grant.Verdict) outcome {
	return outcome{
		result: resultDenied, status: http.StatusForbidden, verdict: v,
		failure: brokerapi.Failure{Message: "the broker refuses this container: " + v.Rule.Sentence()},
	}
}

func failed() outcome {
	return outcome{
		result: resultFailed, status: http.StatusInternalServerError,
		failure: brokerapi.Failure{Message: "the broker failed; its log says where"},
	}
}

func unavailable(v grant.Verdict, message string, after time.Duration) outcome {
	if after <= 0 {
		after = comeAgain
	}
	return outcome{
		result: resultUnavailable, status: http.StatusServiceUnavailable, verdict: v, retryAfter: after,
		failure: brokerapi.Failure{Message: message, Retry: true},
	}
}

func busy(v grant.Verdict) outcome {
	return unavailable(v, "the broker has too many requests at once", 0)
}

func refused(v grant.Verdict, values grant.Values) outcome {
	if values.Retry {
		o := unavailable(v, "the values could not be read just now", values.RetryAfter)
		o.failure.Problems = values.Problems
		return o
	}
	return outcome{
		result: resultRefused, status: http.StatusUnprocessableEntity, verdict: v,
		failure: brokerapi.Failure{Message: "the container cannot have its values", Problems: values.Problems},
	}
}

func granted(v grant.Verdict, values grant.Values) outcome {
	size := 0
	for _, value := range values.Values {
		size += value.Len()
	}
	if size > brokerapi.MaxResponseBytes/2 { // base64 adds a third, names the rest
		return outcome{
			result: resultRefused, status: http.StatusUnprocessableEntity, verdict: v,
			failure: brokerapi.Failure{Message: "the values are larger than an environment can hold"},
		}
	}
	return outcome{result: resultAnswered, status: http.StatusOK, verdict: v, values: values.Values, absent: values.Absent}
}

// write answers the caller. It is the one place where values leave the broker.
func (o outcome) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if o.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if o.failure.Retry {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(o.retryAfter.Seconds()))))
	}
	var body bytes.Buffer
	_ = json.NewEncoder(&body).Encode(o.answer()) // maps, strings and bytes always marshal
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(o.status)
	_, _ = w.Write(body.Bytes()) // a caller that is gone needs no answer
	clear(body.Bytes())
}

func (o outcome) answer() any {
	if o.result != resultAnswered {
		return o.failure
	}
	revealed := make(map[string][]byte, len(o.values))
	for name, value := range o.values {
		revealed[name] = value.Reveal()
	}
	return brokerapi.Response{Values: revealed, Absent: o.absent}
}
