// SPDX-License-Identifier: Apache-2.0

package bench

import "time"

// A Reading is what a counter said at some moment between two.
type Reading struct {
	Before, After time.Time
	Count         int
}

// Overdrawn is by how much the counter rose more, between any two readings, than a
// bucket lets through which holds burst and gains perSecond. 0 is never.
func Overdrawn(readings []Reading, burst, perSecond float64) float64 {
	worst := 0.0
	for i, from := range readings {
		for _, to := range readings[i+1:] {
			allowed := burst + perSecond*to.After.Sub(from.Before).Seconds()
			worst = max(worst, float64(to.Count-from.Count)-allowed)
		}
	}
	return worst
}
