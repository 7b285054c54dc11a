// SPDX-License-Identifier: Apache-2.0

// Package image learns from a registry what an image runs: its entrypoint and
// cmd. It reads the manifest and the configuration, never a layer, and keeps
// what it learned by digest, which names one content for ever.
//
// The name of the image comes from whoever creates the pod, so a registry is an
// untrusted peer that an untrusted person chose: see dialer for where we do not
// go, and translate for what of its answers goes any further.
package image

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/singleflight"
	"k8s.io/apimachinery/pkg/util/cache"

	"github.com/akv2k8s/akv2k8s/internal/inject"
)

const (
	// maxCached bounds the memory: a command is a few hundred bytes, so this is
	// well below a megabyte, and more images than most clusters run.
	maxCached = 1024
	// cachedFor only lets what is no longer used go; a digest does not change.
	cachedFor = 24 * time.Hour
	// maxPlatforms bounds the requests that one image may cost.
	maxPlatforms = 8
)

// Request asks about one image on behalf of a pod.
type Request struct {
	Image         string
	Architectures []string // of the nodes the pod may run on, as GOARCH; not empty
	// Keychain finds the credentials for a registry; nil signs in nowhere.
	Keychain authn.Keychain
	// Scope names those who may share what the Keychain let us read: an answer is
	// never given to another scope. Empty belongs to no Keychain.
	Scope string
}

// Options of a Resolver.
type Options struct {
	Timeout   time.Duration     // of one image, all requests together
	Transport http.RoundTripper // nil heeds the proxy variables
	Observe   func(Outcome)     // counts lookups; nil does not
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
	known   *cache.LRUExpireCache // cacheKey → inject.Command
	flights singleflight.Group
}

// NewResolver returns a Resolver with an empty cache.
func NewResolver(o Options) *Resolver {
	if o.Observe == nil {
		o.Observe = func(Outcome) {}
	}
	if o.Transport == nil {
		o.Transport = NewTransport(Dial{Proxy: http.ProxyFromEnvironment})
	}
	return &Resolver{options: o, known: cache.NewLRUExpireCache(maxCached)}
}

// Command answers for one image. After a failure the answer's Err is one of
// inject's sentinels, fit for a person; the returned error is the cause, with the
// registry's own words, fit for a log.
func (r *Resolver) Command(ctx context.Context, req Request) (inject.Command, error) {
	ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	command, outcome, err := r.command(ctx, req)
	if err != nil {
		r.options.Observe(OutcomeFailed)
		return inject.Command{Err: translate(err)}, err
	}
	r.options.Observe(outcome)
	return command, nil
}

func (r *Resolver) command(ctx context.Context, req Request) (inject.Command, Outcome, error) {
	ref, err := name.ParseReference(req.Image)
	if err != nil {
		return inject.Command{}, OutcomeFailed, errors.Join(inject.ErrImageName, err)
	}
	digest, err := r.digest(ctx, ref, req)
	if err != nil {
		return inject.Command{}, OutcomeFailed, err
	}
	key := cacheKey(digest, req)
	if c, ok := r.known.Get(key); ok {
		return c.(inject.Command), OutcomeCached, nil //nolint:forcetypeassert // only commands are put in
	}
	// A flight is shared by those who ask the same repository alone: whoever names
	// another's digest at a registry of their own would else decide how it ends.
	flight := ref.Context().Name() + "\x00" + key
	c, err := r.shared(ctx, flight, func(ctx context.Context) (inject.Command, error) {
		return r.read(ctx, ref.Context().Digest(digest), req)
	})
	if err != nil {
		return inject.Command{}, OutcomeFailed, err
	}
	r.known.Add(key, c, cachedFor)
	return c, OutcomeRead, nil
}

// digest asks what a tag points to now. That is one small request for each pod
// with a tag; remembering it would start a new image with the old one's command.
// HEAD does not count against pull limits.
func (r *Resolver) digest(ctx context.Context, ref name.Reference, req Request) (string, error) {
	if d, ok := ref.(name.Digest); ok {
		return d.DigestStr(), nil
	}
	desc, err := remote.Head(ref, r.remote(ctx, req)...)
	if err == nil {
		return desc.Digest.String(), nil
	}
	// Some registries answer HEAD without a digest, or not at all.
	full, getErr := remote.Get(ref, r.remote(ctx, req)...)
	if getErr != nil {
		return "", getErr
	}
	return full.Digest.String(), nil
}

// shared lets concurrent lookups of one image be one. The work outlives the
// caller that began it, because others wait for it too; each waits only as long
// as its own context lasts.
func (r *Resolver) shared(ctx context.Context, key string, read func(context.Context) (inject.Command, error)) (inject.Command, error) {
	answer := r.flights.DoChan(key, func() (any, error) {
		work, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.options.Timeout)
		defer cancel()
		return read(work)
	})
	select {
	case <-ctx.Done():
		return inject.Command{}, ctx.Err()
	case a := <-answer:
		if a.Err != nil {
			return inject.Command{}, a.Err
		}
		return a.Val.(inject.Command), nil //nolint:forcetypeassert // read returns nothing else
	}
}

// read fetches the configuration, of each architecture if the image has several:
// where the pod will run is not known yet, so they must agree.
func (r *Resolver) read(ctx context.Context, ref name.Digest, req Request) (inject.Command, error) {
	desc, err := remote.Get(ref, r.remote(ctx, req)...)
	if err != nil {
		return inject.Command{}, err
	}
	if !desc.MediaType.IsIndex() {
		img, err := desc.Image()
		if err != nil {
			return inject.Command{}, errors.Join(inject.ErrImageUnreadable, err)
		}
		return commandOf(img)
	}
	index, err := desc.ImageIndex()
	if err != nil {
		return inject.Command{}, errors.Join(inject.ErrImageUnreadable, err)
	}
	return fromIndex(index, req.Architectures)
}

func fromIndex(index v1.ImageIndex, architectures []string) (inject.Command, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return inject.Command{}, errors.Join(inject.ErrImageUnreadable, err)
	}
	var first *inject.Command
	for _, digest := range matching(manifest, architectures) {
		img, err := index.Image(digest)
		if err != nil {
			return inject.Command{}, err
		}
		c, err := commandOf(img)
		if err != nil {
			return inject.Command{}, err
		}
		if first == nil {
			first = &c
		}
		if !slices.Equal(first.Entrypoint, c.Entrypoint) || !slices.Equal(first.Cmd, c.Cmd) {
			return inject.Command{}, inject.ErrImageAmbiguous
		}
	}
	if first == nil {
		return inject.Command{}, inject.ErrImagePlatform
	}
	return *first, nil
}

// matching lists the images for Linux on one of the architectures.
func matching(manifest *v1.IndexManifest, architectures []string) []v1.Hash {
	var found []v1.Hash
	for _, m := range manifest.Manifests {
		if m.Platform != nil && m.Platform.OS == "linux" && slices.Contains(architectures, m.Platform.Architecture) && len(found) < maxPlatforms {
			found = append(found, m.Digest)
		}
	}
	return found
}

func commandOf(img v1.Image) (inject.Command, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return inject.Command{}, err
	}
	return inject.Command{Entrypoint: config.Config.Entrypoint, Cmd: config.Config.Cmd}, nil
}

func (r *Resolver) remote(ctx context.Context, req Request) []remote.Option {
	keys := req.Keychain
	if keys == nil {
		keys = authn.NewMultiKeychain() // of none: anonymous
	}
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithTransport(r.options.Transport),
		remote.WithAuthFromKeychain(keys),
		remote.WithUserAgent("akv2k8s"),
		remote.WithRetryBackoff(remote.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 2}),
	}
}

// cacheKey adds what the answer depends on beside the content.
func cacheKey(digest string, req Request) string {
	return strings.Join(append([]string{digest, req.Scope}, slices.Sorted(slices.Values(req.Architectures))...), "\x00")
}
