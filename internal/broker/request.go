// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/grant"
)

// A container's name is a DNS label; what is not one is not worth asking about.
var containerName = regexp.MustCompile(`\A[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\z`)

// request is what somebody asks, as far as that shows without asking anybody.
type request struct {
	token     string
	claim     grant.Claim
	container string
}

// parse takes a request apart, or says what is wrong with it. One without a token is
// read no further.
func parse(w http.ResponseWriter, r *http.Request) (request, *outcome) {
	token, ok := bearer(r.Header)
	if !ok {
		return request{}, noToken(grant.RuleTokenMalformed)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, brokerapi.MaxRequestBytes))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return request{}, badRequest(http.StatusRequestEntityTooLarge, "the request is too large")
	}
	var asked brokerapi.Request
	if err != nil || json.Unmarshal(body, &asked) != nil || !containerName.MatchString(asked.Container) {
		return request{}, badRequest(http.StatusBadRequest, `the request is not {"container":"NAME"}`)
	}
	claim, rule := grant.Screen(token, time.Now())
	q := request{token: token, claim: claim, container: asked.Container}
	if rule != grant.RuleNone {
		return q, noToken(rule)
	}
	return q, nil
}

// bearer returns the one token of a request.
func bearer(h http.Header) (string, bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	return token, strings.EqualFold(scheme, "Bearer")
}
