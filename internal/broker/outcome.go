// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"slices"
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
//	denied           403       a rule of package grant says no; retry, with Retry-After, if it may say yes in a moment
//	refused          422       something that a person must put right, with the problems
//	limited          429       too many requests; retry, with Retry-After
//	failed           500       a fault of the broker's own
//	unavailable      503       the API server or the vault did not answer; retry, with Retry-After
const (
	resultAnswered        result = "answered"
	resultBadRequest      result = "bad_request"
	resultUnauthenticated result = "unauthenticated"
	resultDenied          result = "denied"
	resultRefused         result = "refused"
	resultLimited         result = "limited"
	resultFailed          result = "failed"
	resultUnavailable     result = "unavailable"
)

// outcome is how a request ended, complete for answer, metrics and audit alike.
type outcome struct {
	result     result
	status     int
	failure    brokerapi.Failure // unless body
	body       []byte            // the values, as they go over the wire
	weight     int64             // of body, taken from what all may hold
	retryAfter time.Duration     // with failure.Retry

	// For the audit.
	source   netip.Addr
	claim    grant.Claim   // whom the token spoke for, if nobody confirmed it
	verdict  grant.Verdict // as far as it got
	records  []grant.Record
	requests int // that were held, for which this one speaks; see held
}

func badRequest(status int, message string) *outcome {
	return &outcome{result: resultBadRequest, status: status, failure: brokerapi.Failure{Message: message}}
}

func noToken(why grant.Rule) *outcome {
	return &outcome{
		result: resultUnauthenticated, status: http.StatusUnauthorized, verdict: grant.Verdict{Rule: why},
		failure: brokerapi.Failure{Message: grant.ErrToken.Error() + ": " + why.Sentence()},
	}
}

func limited(v grant.Verdict, h held) outcome {
	v.Rule = h.rule
	return outcome{
		result: resultLimited, status: http.StatusTooManyRequests, verdict: v, retryAfter: h.after, requests: h.count,
		failure: brokerapi.Failure{Message: "the broker does not answer this request just now: " + h.rule.Sentence(), Retry: true},
	}
}

func denied(v grant.Verdict) outcome {
	return outcome{
		result: resultDenied, status: http.StatusForbidden, verdict: v, retryAfter: again,
		failure: brokerapi.Failure{Message: "the broker refuses this container: " + v.Rule.Sentence(), Retry: v.Rule.Passing()},
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
	o := outcome{result: resultRefused, status: http.StatusUnprocessableEntity, verdict: v}
	if values.Retry {
		o = unavailable(v, "", values.RetryAfter)
	}
	o.failure = values.Failure()
	return o
}

func granted(v grant.Verdict, values grant.Values) outcome {
	if values.Bytes > grant.MaxBytes {
		return outcome{
			result: resultRefused, status: http.StatusUnprocessableEntity, verdict: v,
			failure: brokerapi.Failure{Message: grant.TooLarge},
		}
	}
	return outcome{result: resultAnswered, status: http.StatusOK, verdict: v, body: encoded(values)}
}

// encoded is a brokerapi.Response in JSON. encoding/json would leave values in memory
// that is used again; this is one piece, and can be wiped.
func encoded(values grant.Values) []byte {
	body := append(make([]byte, 0, capacity(values)), `{"values":`...)
	body = appendValues(body, values.Values)
	for i, key := range slices.Sorted(maps.Keys(values.Directories)) {
		head := `,`
		if i == 0 {
			head = `,"directories":{`
		}
		body = append(appendText(append(body, head...), key), ':')
		body = appendValues(body, values.Directories[key])
	}
	if len(values.Directories) > 0 {
		body = append(body, '}')
	}
	if len(values.Absent) > 0 {
		absent, _ := json.Marshal(values.Absent) // texts always marshal
		body = append(append(body, `,"absent":`...), absent...)
	}
	return append(body, '}', '\n')
}

// capacity is never less than the answer takes: to grow would be to copy, and leave
// values behind. No byte of a name takes more than two.
func capacity(values grant.Values) int {
	size := len(`{"values":,"directories":{},"absent":[]}`) + 1 + sizeOf(values.Values)
	for key, files := range values.Directories {
		size += 2*len(key) + len(`"":,`) + sizeOf(files)
	}
	for _, key := range values.Absent {
		size += 2*len(key) + len(`"",`)
	}
	return size
}

func sizeOf(values map[string]secret.Value) int {
	size := len(`{}`)
	for name, value := range values {
		size += 2*len(name) + base64.StdEncoding.EncodedLen(value.Len()) + len(`"":"",`)
	}
	return size
}

func appendValues(body []byte, values map[string]secret.Value) []byte {
	body = append(body, '{')
	for i, name := range slices.Sorted(maps.Keys(values)) {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(appendText(body, name), `:"`...)
		body = append(base64.StdEncoding.AppendEncode(body, values[name].Reveal()), '"')
	}
	return append(body, '}')
}

func appendText(body []byte, text string) []byte {
	quoted, _ := json.Marshal(text) // texts always marshal
	return append(body, quoted...)
}

// writeWithin is less than a reader takes who wants the answer, and bounds for how
// long others wait for the memory.
const writeWithin = 10 * time.Second

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
	body := o.body
	if body == nil {
		body, _ = json.Marshal(o.failure) // texts always marshal
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeWithin)) // a recorder has none
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(o.status)
	_, _ = w.Write(body) // a caller that is gone needs no answer
	clear(body)
}
