// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"math"
	"net/http"
)

// Unlimited lets everybody ask as often as they like.
func (b *Broker) Unlimited() {
	b.limits.sources.burst, b.limits.pods.burst, b.limits.namespaces.burst = math.MaxInt32, math.MaxInt32, math.MaxInt32
}

// HoldPods lets no pod ask.
func (b *Broker) HoldPods() { b.limits.pods.burst = 0 }

// Answer writes values that have been encoded.
func Answer(w http.ResponseWriter, body []byte) {
	outcome{result: resultAnswered, status: http.StatusOK, body: body}.write(w)
}
