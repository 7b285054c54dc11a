// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/util/cache"

	"github.com/akv2k8s/akv2k8s/internal/grant"
)

// The limits of one replica, in requests. Each must let everybody through who
// starts in earnest, since a wrapper that is held comes again for 21 s only; more
// replicas let more through.
//
//   - A source is an address. Behind one may be a whole node: 250 pods that start
//     together with eight containers each, be it by SNAT or in the host's network.
//   - A pod has some containers, and probes that ask anew each time. One that crashes
//     is slowed down by the kubelet far below this.
//   - A namespace may start 1,000 pods with two containers each at once, and as many
//     again while they wait.
const (
	sourceRate, sourceBurst       = 100, 2000
	podRate, podBurst             = 20, 200
	namespaceRate, namespaceBurst = 100, 2000

	// rejectedCosts is what a token that the API server rejects takes from its source
	// beside the request: whoever guesses may do so ten times a second.
	rejectedCosts = 9

	// maxKeys of each limit are remembered, at some 300 bytes; of more, those are
	// forgotten who were quiet longest.
	maxKeys = 10_000

	// tellEvery bounds the audit lines about one key that is held.
	tellEvery = time.Second
)

// limits hold back who asks too often.
type limits struct {
	sources    *limit[netip.Prefix]
	pods       *limit[string] // by UID, which the API server confirmed
	namespaces *limit[string]
}

func newLimits() *limits {
	return &limits{
		sources:    newLimit[netip.Prefix](grant.RuleSourceLimit, sourceRate, sourceBurst),
		pods:       newLimit[string](grant.RulePodLimit, podRate, podBurst),
		namespaces: newLimit[string](grant.RuleNamespaceLimit, namespaceRate, namespaceBurst),
	}
}

// admit is nil unless this caller must wait. A pod that is held takes nothing from
// its namespace.
func (l *limits) admit(c grant.Caller, now time.Time) *held {
	if h := l.pods.take(c.UID, now); h != nil {
		return h
	}
	return l.namespaces.take(c.Namespace, now)
}

// held is that somebody must wait.
type held struct {
	rule  grant.Rule
	after time.Duration
	// count is for how many requests this one speaks: those that nobody was told of,
	// and itself. 0 is one that the next will speak for.
	count int
}

// limit is a bucket for each key.
type limit[K comparable] struct {
	rule  grant.Rule
	rate  rate.Limit
	burst int

	mu      sync.Mutex
	buckets *cache.LRUExpireCache
}

type bucket struct {
	*rate.Limiter
	untold int // requests that were held since somebody was told of one
	told   time.Time
}

func newLimit[K comparable](rule grant.Rule, perSecond rate.Limit, burst int) *limit[K] {
	return &limit[K]{rule: rule, rate: perSecond, burst: burst, buckets: cache.NewLRUExpireCache(maxKeys)}
}

// take is nil when key may pass.
func (l *limit[K]) take(key K, now time.Time) *held {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(key)
	if b.AllowN(now, 1) {
		return nil
	}
	h := &held{rule: l.rule, after: time.Duration((1 - b.TokensAt(now)) / float64(l.rate) * float64(time.Second))}
	b.untold++
	if now.Sub(b.told) >= tellEvery {
		h.count, b.untold, b.told = b.untold, 0, now
	}
	return h
}

// charge takes more from key, which may then have to wait. It leaves debts alone, so
// that nobody waits for long.
func (l *limit[K]) charge(key K, n int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.bucket(key); b.TokensAt(now) > 0 {
		b.ReserveN(now, n)
	}
}

// bucket is remembered until it is full again, when it is as good as a new one.
func (l *limit[K]) bucket(key K) *bucket {
	b, ok := l.buckets.Get(key)
	if !ok {
		b = &bucket{Limiter: rate.NewLimiter(l.rate, l.burst)}
	}
	l.buckets.Add(key, b, time.Duration(float64(l.burst+rejectedCosts)/float64(l.rate)*float64(time.Second)))
	return b.(*bucket) //nolint:forcetypeassert // nothing else is added
}

// neighbourhood is who shares a limit: an IPv4 address, and of IPv6 the 64 bits that
// a node has for its pods, among which it may choose at will.
func neighbourhood(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // all who have no address share one
	}
	return p
}

// sourceOf is the address of a peer, the zero one where there is none.
func sourceOf(remote string) netip.Addr {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}
