// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"context"
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// fault is a seed.Fault that is in force.
type fault struct {
	seed.Fault

	left int // requests it still meets; below 0 is no end
}

func (f *fault) matches(c *call) bool {
	if len(f.Operations) > 0 && !slices.Contains(f.Operations, c.route.operation) {
		return false
	}
	return len(f.Objects) == 0 || slices.ContainsFunc(f.Objects, func(object string) bool {
		return strings.EqualFold(object, string(c.route.kind)+"/"+c.name)
	})
}

// take returns the faults that a call meets, and uses them up. It needs the vault's lock.
func (v *vault) take(c *call) []seed.Fault {
	var met []seed.Fault
	for _, f := range v.faults {
		if f.left == 0 || !f.matches(c) {
			continue
		}
		if f.Kind == seed.FaultRevoke && !v.revoked[c.token] {
			continue
		}
		f.left--
		met = append(met, f.Fault)
	}
	return met
}

// setFaults replaces the faults in force. A revoke fault concerns the tokens that the vault has seen so far.
func (v *vault) setFaults(list []seed.Fault) {
	v.faults = nil
	v.revoked = map[[32]byte]bool{}
	for _, each := range list {
		left := each.Count
		if left == 0 {
			left = -1
		}
		v.faults = append(v.faults, &fault{Fault: each, left: left})
		if each.Kind == seed.FaultRevoke {
			v.revoked, v.seenTokens = v.seenTokens, map[[32]byte]bool{}
		}
	}
}

// suffer applies faults in order; the first that answers ends the call.
func suffer(ctx context.Context, c *call, faults []seed.Fault) *failure {
	for _, f := range faults {
		switch f.Kind {
		case seed.FaultLatency:
			wait(ctx, time.Duration(f.Latency))
		case seed.FaultReset:
			panic(resetConnection{})
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
	return nil
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

// wait ends early when the client goes away.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func tokenHash(raw string) [32]byte { return sha256.Sum256([]byte(raw)) }
