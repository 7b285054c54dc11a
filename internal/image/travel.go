// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/akv2k8s/akv2k8s/internal/inject"
)

// travel asks along the route until somebody answers. Of a mirror's failure the
// log alone hears: the registry itself has the last word.
func (r *Resolver) travel(ctx context.Context, way route, architectures []string) answer {
	f := failure{sentinel: inject.ErrImageUnavailable}
	for i, s := range way.stops {
		part, cancel := share(ctx, len(way.stops)-i)
		a, tried, err := r.visit(part, s, architectures)
		cancel()
		if err == nil {
			return a
		}
		f.sentinel, f.cause, f.tried = translate(err), errors.Join(f.cause, err), append(f.tried, tried)
	}
	if f.cause == nil {
		f.cause = errNoWay
	}
	return answer{outcome: OutcomeFailed, failure: &f}
}

// share leaves those who are asked later half of the time that remains.
func share(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || left < 2 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// visit asks one registry, in one way after the other as long as it answers that
// it does not know us. An image that is hidden from one way may not exist for
// another, so a "not found" in any way outranks a "forbidden".
func (r *Resolver) visit(ctx context.Context, s stop, architectures []string) (answer, int, error) {
	var missing, causes error
	for i, w := range s.ways {
		part, cancel := share(ctx, len(s.ways)-i)
		a, err := r.ask(part, s.ref, w, architectures)
		cancel()
		if err == nil {
			return a, i + 1, nil
		}
		causes = errors.Join(causes, err)
		switch {
		case errors.Is(err, errIdentity):
		case errors.Is(translate(err), inject.ErrImageNotFound):
			missing = inject.ErrImageNotFound
		case errors.Is(translate(err), inject.ErrImageForbidden):
		default:
			return answer{}, i + 1, &verdict{translate(err), causes}
		}
	}
	if missing != nil {
		return answer{}, len(s.ways), &verdict{missing, causes}
	}
	return answer{}, len(s.ways), &verdict{inject.ErrImageForbidden, causes}
}

// ask asks for the digest, which is small, does not count against pull limits and
// shows whether the credential is good; and for the rest only if that is news.
func (r *Resolver) ask(ctx context.Context, ref name.Reference, w way, architectures []string) (answer, error) {
	auth, err := w.auth(ctx)
	if err != nil {
		return answer{}, err
	}
	puller, err := remote.NewPuller(r.remote(auth)...)
	if err != nil {
		return answer{}, err
	}
	digest, err := digestOf(ctx, puller, ref)
	if err != nil {
		return answer{}, err
	}
	exact := ref.Context().Digest(digest)
	key := r.hash(exact.Name(), w.scope, platforms(architectures))
	if c, ok := r.known.Get(key); ok {
		return answer{command: c.(inject.Command), outcome: OutcomeCached}, nil //nolint:forcetypeassert // only commands are put in
	}
	c, err := read(ctx, puller, exact, architectures)
	if err != nil {
		return answer{}, err
	}
	r.known.Add(key, c, cachedFor)
	return answer{command: c, outcome: OutcomeRead}, nil
}

func (r *Resolver) remote(auth authn.Authenticator) []remote.Option {
	return []remote.Option{
		remote.WithTransport(r.options.Transport),
		remote.WithAuth(auth),
		remote.WithUserAgent("akv2k8s"),
		remote.WithRetryBackoff(remote.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 2}),
	}
}

// digestOf asks what a reference points to now. Some registries answer HEAD
// without a digest, or not at all.
func digestOf(ctx context.Context, puller *remote.Puller, ref name.Reference) (string, error) {
	desc, err := puller.Head(ctx, ref)
	if err == nil {
		return desc.Digest.String(), nil
	}
	if final(err) {
		return "", err
	}
	full, err := puller.Get(ctx, ref)
	if err != nil {
		return "", err
	}
	return full.Digest.String(), nil
}

// final says that another method would get no other answer.
func final(err error) bool {
	e, ok := errors.AsType[*transport.Error](err)
	return !ok && !errors.Is(translate(err), inject.ErrImageUnavailable) ||
		ok && slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests}, e.StatusCode)
}

// maxPlatforms bounds the requests that one image may cost.
const maxPlatforms = 8

// read fetches the configuration, of each architecture if the image has several:
// where the pod will run is not known yet, so they must agree.
func read(ctx context.Context, puller *remote.Puller, ref name.Digest, architectures []string) (inject.Command, error) {
	desc, err := puller.Get(ctx, ref)
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
	return fromIndex(index, architectures)
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

// matching lists, for each architecture, the Linux image that its nodes start:
// the best, and of equals the first.
func matching(manifest *v1.IndexManifest, architectures []string) []v1.Hash {
	var found []v1.Hash
	for _, arch := range architectures {
		best := -1
		var digest v1.Hash
		for _, m := range manifest.Manifests {
			if m.Platform == nil || m.Platform.OS != "linux" {
				continue
			}
			rank := inject.PlatformRank(arch, m.Platform.Architecture, m.Platform.Variant)
			if rank >= 0 && (best < 0 || rank < best) {
				best, digest = rank, m.Digest
			}
		}
		if best >= 0 && !slices.Contains(found, digest) && len(found) < maxPlatforms {
			found = append(found, digest)
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
