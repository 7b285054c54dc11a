// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"math"
	"net/http"

	"github.com/akv2k8s/akv2k8s/internal/grant"
)

// Unlimited lets everybody ask as often as they like.
func (b *Broker) Unlimited() {
	b.limits.sources.burst, b.limits.pods.burst, b.limits.namespaces.burst = math.MaxInt32, math.MaxInt32, math.MaxInt32
}

// HoldPods lets no pod ask.
func (b *Broker) HoldPods() { b.limits.pods.burst = 0 }

// Granted is an answer's status and size.
func Granted(values grant.Values) (int, int) {
	o := granted(grant.Verdict{}, values)
	return o.status, len(o.body)
}

// Encoded is an answer, and whether its memory was moved while it was made.
func Encoded(values grant.Values) ([]byte, bool) {
	body := encoded(values)
	return body, cap(body) != capacity(values)
}

// Answer writes values that have been encoded.
func Answer(w http.ResponseWriter, body []byte) {
	outcome{result: resultAnswered, status: http.StatusOK, body: body}.write(w)
}
