// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"sync"
)

// gauge is a number that can be waited for.
type gauge struct {
	mu      sync.Mutex
	n       int
	changed chan struct{} // closed at the next change; nil while nobody waits
}

func (g *gauge) read() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

func (g *gauge) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n += n
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// next returns nil when the number is reached, and otherwise what is closed when it is worth another look.
func (g *gauge) next(n int) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n >= n {
		return nil
	}
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed
}

func (g *gauge) await(ctx context.Context, n int) error {
	for changed := g.next(n); changed != nil; changed = g.next(n) {
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
