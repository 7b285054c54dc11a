// SPDX-License-Identifier: Apache-2.0

package reader

// Gates is how many vaults are remembered.
func (r *Reader) Gates() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.gates)
}

// Flights is how many reads are remembered.
func (r *Reader) Flights() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.flights)
}

// Kept is how many answers are kept for an outage, their size, and how many reads are
// under way of which it must be remembered when they were asked for.
func (r *Reader) Kept() (int, int, int) {
	c := r.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.kept), c.bytes, len(c.asked)
}

// MaxCachedBytes is their limit.
const MaxCachedBytes = maxCachedBytes
