// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"cmp"
	"slices"
	"sync"
)

// Count is how often an operation on a vault ended with a status.
type Count struct {
	Vault     string `json:"vault"`
	Operation string `json:"operation"`
	Status    int    `json:"status"`
	Count     int    `json:"count"`
}

// counters count requests per vault, operation and status.
type counters struct {
	mu     sync.Mutex
	counts map[Count]int // keys have Count 0
}

func (c *counters) add(vault, operation string, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[Count]int{}
	}
	c.counts[Count{Vault: vault, Operation: operation, Status: status}]++
}

// Counters returns all counts, sorted.
func (s *Server) Counters() []Count {
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	out := make([]Count, 0, len(s.counters.counts))
	for key, n := range s.counters.counts {
		key.Count = n
		out = append(out, key)
	}
	slices.SortFunc(out, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Vault, b.Vault), cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Status, b.Status))
	})
	return out
}

// ResetCounters starts all counts at zero again.
func (s *Server) ResetCounters() {
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	s.counters.counts = nil
}
