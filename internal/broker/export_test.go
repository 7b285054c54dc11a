// SPDX-License-Identifier: Apache-2.0

package broker

import "math"

// Unlimited lets everybody ask as often as they like.
func (b *Broker) Unlimited() {
	b.limits.sources.burst, b.limits.pods.burst, b.limits.namespaces.burst = math.MaxInt32, math.MaxInt32, math.MaxInt32
}
