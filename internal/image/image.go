// SPDX-License-Identifier: Apache-2.0

// Package image learns from a registry what an image runs: its entrypoint and
// cmd. It reads the manifest and the configuration, never a layer, and keeps
// what it learned by digest, which names one content for ever.
//
// The name of the image comes from whoever creates the pod, so a registry is an
// untrusted peer that an untrusted person chose: see dialer for where we do not
// go, guard for what we do not say in the clear, budget for how often we ask, and
// translate for what of its answers goes any further.
//
// Whether somebody may read an image is the registry's to say. So nothing that was
// learned with one credential is told to who has not shown the same: every key of
// every cache holds a hash of the credentials, and that they are still good is
// asked again after Options.TagTTL.
package image

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/apimachinery/pkg/util/cache"

	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

const (
	// maxCached bounds the memory of each cache: a command is a few hundred bytes,
	// so this is about a megabyte, and more images than most clusters run.
	maxCached = 1024
	// cachedFor only lets what is no longer used go; a digest does not change.
	cachedFor = 24 * time.Hour
	// failedFor keeps a workload whose pods fail again and again from asking each
	// time, and is short enough for who has just mended the cause.
	failedFor = 5 * time.Second
)

// Request asks about one image on behalf of a pod.
type Request struct {
	Image         string
	Architectures []string            // of the nodes the pod may run on, as GOARCH; not empty
	PullSecrets   []inject.PullSecret // of the pod, in order
}

// Identity signs in, as this process, to registries that take its tokens.
type Identity interface {
	// Serves says whether the registry of this host is one; a token goes to no other.
	Serves(host string) bool
	// RefreshToken is the password that goes with identityUser.
	RefreshToken(ctx context.Context, host string) (secret.Value, error)
}

// Options of a Resolver.
type Options struct {
	Timeout    time.Duration     // of one image, all requests together
	TagTTL     time.Duration     // how long an answer is given without asking the registry
	Transport  http.RoundTripper // from NewTransport
	Registries Registries
	Identity   Identity         // nil: nobody signs in but by pull secrets
	Observe    func(Outcome)    // counts lookups; nil does not
	Now        func() time.Time // nil is time.Now
}

// Outcome is how a lookup ended, for counting.
type Outcome string

// The outcomes.
const (
	OutcomeCached Outcome = "cached" // the registry was asked for the digest at most
	OutcomeRead   Outcome = "read"
	OutcomeFailed Outcome = "failed"
)

// Resolver answers what images run. It is safe for concurrent use.
type Resolver struct {
	options Options
	secret  []byte                // of the keys, so that they tell nothing of a credential
	answers *cache.LRUExpireCache // route.key → answer
	known   *cache.LRUExpireCache // digest, architectures and credential → inject.Command
	flights singleflight.Group
}

// answer is how a lookup ended, for all whose route is the same.
type answer struct {
	command inject.Command
	outcome Outcome
	failure *failure // nil if the command is known
}

// NewResolver returns a Resolver with empty caches.
func NewResolver(o Options) *Resolver {
	if o.Observe == nil {
		o.Observe = func(Outcome) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Resolver{options: o, secret: make([]byte, sha256.Size)}
	_, _ = rand.Read(r.secret) // never fails
	r.answers = cache.NewLRUExpireCacheWithClock(maxCached, clock(o.Now))
	r.known = cache.NewLRUExpireCacheWithClock(maxCached, clock(o.Now))
	return r
}

// clock is what the caches tell time by.
type clock func() time.Time

// Now implements cache.Clock.
func (c clock) Now() time.Time { return c() }

// Command answers for one image. After a failure the answer's Err is one of
// inject's sentinels, fit for a person; the returned error is the cause, with the
// registry's own words, fit for a log.
func (r *Resolver) Command(ctx context.Context, req Request) (inject.Command, error) {
	ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	way, err := r.route(req)
	if err != nil {
		r.options.Observe(OutcomeFailed)
		return inject.Command{Err: inject.ErrImageName}, err
	}
	a := r.answer(ctx, way, req.Architectures)
	r.options.Observe(a.outcome)
	if a.failure != nil {
		return inject.Command{Err: a.failure.sentinel, Asked: way.asked(a.failure.tried)}, a.failure.cause
	}
	return a.command, nil
}

// answer is from memory, from somebody who asks the same at this moment, or from
// the registry.
func (r *Resolver) answer(ctx context.Context, way route, architectures []string) answer {
	if kept, ok := r.answers.Get(way.key); ok {
		a := kept.(answer) //nolint:forcetypeassert // only answers are put in
		if a.failure == nil {
			a.outcome = OutcomeCached
		}
		return a
	}
	flight := r.flights.DoChan(way.key, func() (any, error) {
		// The work outlives the caller that began it, because others wait for it too;
		// each waits only as long as its own context lasts.
		work, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.options.Timeout)
		defer cancel()
		a := r.travel(work, way, architectures)
		ttl := r.options.TagTTL
		if a.failure != nil {
			ttl = failedFor
		}
		if ttl > 0 {
			r.answers.Add(way.key, a, ttl)
		}
		return a, nil
	})
	select {
	case <-ctx.Done():
		return answer{outcome: OutcomeFailed, failure: &failure{sentinel: inject.ErrImageUnavailable, cause: ctx.Err(), tried: way.first()}}
	case a := <-flight:
		return a.Val.(answer) //nolint:forcetypeassert // the flight returns nothing else
	}
}

// hash makes a key of a cache. It cannot be computed outside of this process, so
// that neither a dump nor a guess leads from it to a credential.
func (r *Resolver) hash(parts ...string) string {
	h := hmac.New(sha256.New, r.secret)
	for _, p := range parts {
		sum := sha256.Sum256([]byte(p)) // of one length, so that no two lists of parts are alike
		_, _ = h.Write(sum[:])
	}
	return string(h.Sum(nil))
}

// platforms writes architectures as a part of a key.
func platforms(architectures []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(architectures))), ",")
}

// failure is a lookup that told nothing.
type failure struct {
	sentinel error // one of inject's
	cause    error // what happened, for the log
	tried    []int // how many ways of each registry were tried, in order
}

var errNoWay = errors.New("no registry could be asked")
