// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/akv2k8s/akv2k8s/emulator/fault"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// setFaults replaces the faults in force, and cuts the connections to a vault whose name is gone.
func (s *Server) setFaults(v *vault, list []seed.Fault) {
	if has(list, seed.FaultRevoke) {
		v.tokens.revoke()
	} else {
		v.tokens.forgive()
	}
	v.faults.Replace(list)
	if has(list, seed.FaultDNS) && s.cut != nil {
		s.cut(v.host())
	}
}

func has(list []seed.Fault, kind seed.FaultKind) bool {
	return slices.ContainsFunc(list, func(f seed.Fault) bool { return f.Kind == kind })
}

// checkFaults finds what a seed cannot know: which operations there are.
func checkFaults(list []seed.Fault) error {
	var errs []error
	for i, f := range list {
		for _, operation := range f.Operations {
			if !slices.ContainsFunc(allRoutes, func(r route) bool { return r.operation == operation }) {
				errs = append(errs, fmt.Errorf("faults[%d] (%s): no operation is called %q", i, f.Kind, operation))
			}
		}
	}
	return errors.Join(errs...)
}

// suffer takes a call through the faults; a failure ends it.
func (c *call) suffer(ctx context.Context) *failure {
	c.outcome = c.vault.faults.Meet(ctx, fault.Request{
		Operation: c.route.operation, Object: string(c.route.kind) + "/" + c.name, Revoked: c.vault.tokens.revoked(c.token),
	})
	c.vault.tokens.see(c.token)
	if c.outcome.NoAnswer() {
		return unanswered
	}
	if f := c.outcome.Answer; f != nil {
		return c.answerOf(*f)
	}
	if !c.vault.limit.allows() {
		return throttled(0)
	}
	return nil
}

// unanswered stands for no answer at all.
var unanswered = &failure{}

// answerOf is what the service says in the place of an answer.
func (c *call) answerOf(f seed.Fault) *failure {
	switch f.Kind {
	case seed.FaultThrottle:
		return throttled(f.RetryAfter)
	case seed.FaultFirewall:
		return forbiddenByFirewall(c)
	case seed.FaultForbid:
		return forbid(c)
	case seed.FaultRevoke:
		return revoked(c.vault.challenge())
	default:
		return serverError(statusOrDefault(f.Status))
	}
}

func statusOrDefault(status int) int {
	if status == 0 {
		return http.StatusServiceUnavailable
	}
	return status
}

func forbid(c *call) *failure {
	if c.vault.access == seed.AccessPolicy {
		return forbiddenByPolicy(c)
	}
	return forbiddenByRBAC(c)
}

// limiter bounds the transactions of a vault. Its zero value bounds nothing.
type limiter struct {
	bucket atomic.Pointer[bucket]
	clock  func() time.Time
}

type bucket struct {
	seed.Limit

	tokens *rate.Limiter
}

// set starts with a full bucket; nil takes the limit away.
func (l *limiter) set(limit *seed.Limit) {
	if limit == nil {
		l.bucket.Store(nil)
		return
	}
	refill := rate.Limit(float64(limit.Transactions) / time.Duration(limit.Per).Seconds())
	l.bucket.Store(&bucket{*limit, rate.NewLimiter(refill, limit.Transactions)})
}

func (l *limiter) get() *seed.Limit {
	if b := l.bucket.Load(); b != nil {
		return new(b.Limit)
	}
	return nil
}

// allows counts a transaction, unless it is one too many.
func (l *limiter) allows() bool {
	b := l.bucket.Load()
	return b == nil || b.tokens.AllowN(l.clock(), 1)
}

// tokens remembers which tokens a vault has seen, for the revoke fault.
type tokens struct{ seen, gone atomic.Pointer[sync.Map] }

func newTokens() *tokens {
	t := &tokens{}
	t.seen.Store(&sync.Map{})
	t.gone.Store(&sync.Map{})
	return t
}

func (t *tokens) see(hash [32]byte) { t.seen.Load().LoadOrStore(hash, nil) }

func (t *tokens) revoked(hash [32]byte) bool {
	_, is := t.gone.Load().Load(hash)
	return is
}

// revoke takes all tokens seen so far back, and forgive stops that.
func (t *tokens) revoke()  { t.gone.Store(t.seen.Swap(&sync.Map{})) }
func (t *tokens) forgive() { t.gone.Store(&sync.Map{}) }

func tokenHash(raw string) [32]byte { return sha256.Sum256([]byte(raw)) }
