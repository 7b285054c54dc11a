// SPDX-License-Identifier: Apache-2.0

package sweep

import (
	"context"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// SweepNow takes one look at all that is watched in a collection, due or not.
func (s *Sweeper) SweepNow(ctx context.Context, of vault.Collection) {
	s.mu.Lock()
	c := s.collections[of]
	for _, e := range c.entries {
		e.due = time.Now()
	}
	s.mu.Unlock()
	s.look(ctx, c)
}
