// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// maxTokenBytes is far above a service account's token, which has about 1 KiB.
const maxTokenBytes = 16 << 10

// A container's name is a DNS label; what is not one is not worth asking about.
var containerName = regexp.MustCompile(`\A[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\z`)

// parse takes the token and the container's name out of a request, or says what
// is wrong with it. A request without a token is read no further.
func parse(w http.ResponseWriter, r *http.Request) (token, container string, refusal *outcome) { //nolint:nonamedreturns // two strings need names
	token, ok := bearer(r.Header)
	if !ok {
		return "", "", noToken()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, brokerapi.MaxRequestBytes))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return "", "", badRequest(http.StatusRequestEntityTooLarge, "the request is too large")
	}
	var request brokerapi.Request
	if err != nil || json.Unmarshal(body, &request) != nil || !containerName.MatchString(request.Container) {
		return "", "", badRequest(http.StatusBadRequest, `the request is not {"container":"NAME"}`)
	}
	return token, request.Container, nil
}

// bearer returns the one token of a request.
func bearer(h http.Header) (string, bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	return token, strings.EqualFold(scheme, "Bearer") && token != "" && len(token) <= maxTokenBytes
}
