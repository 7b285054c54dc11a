// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/akv2k8s/akv2k8s/internal/inject"
)

// identityUser is who signs in with a refresh token of Azure's registries.
const identityUser = "00000000-0000-0000-0000-000000000000"

// maxWays bounds the requests that the credentials of one pod may cost.
const maxWays = 8

// Registries is what the operator says about registries, each by its host as
// images name it: docker.io, or registry.example:5000.
type Registries struct {
	// Mirrors are asked before a registry, in order. A path goes before the
	// repository's. Who pulls from docker.io does not mean its mirror to have the
	// credentials, so a mirror gets those alone that name it.
	Mirrors map[string][]*url.URL
	// Insecure registries may speak plain HTTP.
	Insecure []string
}

// Plain lists the hosts with which we may speak plain HTTP.
func (r Registries) Plain() []string {
	hosts := slices.Clone(r.Insecure)
	for _, mirrors := range r.Mirrors {
		for _, m := range mirrors {
			if m.Scheme == "http" {
				hosts = append(hosts, m.Host)
			}
		}
	}
	return hosts
}

// route is whom to ask about an image, and how, in order.
type route struct {
	key      string // of the answer: the same for all who ask the same in the same ways
	stops    []stop
	unusable []string // of the pull secrets
}

// stop is one registry.
type stop struct {
	ref  name.Reference // of the image, there
	host string         // as people know it
	ways []way
}

// way is one manner of signing in.
type way struct {
	said  string // to people
	scope string // hash of the credential
	auth  func(context.Context) (authn.Authenticator, error)
}

// The names of Docker Hub: what people write, and where its registry is.
const dockerHub, dockerHubHost = "docker.io", "index.docker.io"

func hostOf(repo name.Repository) string {
	if host := repo.RegistryStr(); host != dockerHubHost {
		return host
	}
	return dockerHub
}

// route finds out whom to ask. The only error is a name that is none.
func (r *Resolver) route(req Request) (route, error) {
	ref, err := name.ParseReference(req.Image, r.nameOptions(hostIn(req.Image))...)
	if err != nil {
		return route{}, err
	}
	keys, unusable := newKeyring(req.PullSecrets)
	out := route{unusable: unusable}
	parts := []string{platforms(req.Architectures)}
	for _, at := range append(r.mirrored(ref), ref) {
		s := stop{ref: at, host: hostOf(at.Context()), ways: r.ways(at.Context(), keys)}
		out.stops = append(out.stops, s)
		parts = append(parts, "at", at.Name())
		for _, w := range s.ways {
			parts = append(parts, w.scope)
		}
	}
	out.key = r.hash(parts...)
	return out, nil
}

// hostIn is what stands before the first slash, which is a host only if it looks
// like one; package name sees to that.
func hostIn(image string) string {
	host, _, _ := strings.Cut(image, "/")
	return host
}

func (r *Resolver) nameOptions(host string) []name.Option {
	if slices.Contains(r.options.Registries.Plain(), host) {
		return []name.Option{name.Insecure}
	}
	return nil
}

func (r *Resolver) mirrored(ref name.Reference) []name.Reference {
	var out []name.Reference
	for _, m := range r.options.Registries.Mirrors[hostOf(ref.Context())] {
		repo, err := name.NewRepository(m.Host+strings.TrimSuffix(m.Path, "/")+"/"+ref.Context().RepositoryStr(), r.nameOptions(m.Host)...)
		if err != nil {
			continue // the configuration is checked at the start; a long name may still not fit
		}
		if _, ok := ref.(name.Digest); ok {
			out = append(out, repo.Digest(ref.Identifier()))
		} else {
			out = append(out, repo.Tag(ref.Identifier()))
		}
	}
	return out
}

// ways lists how to sign in to a repository: what the pod's secrets hold for it,
// this process's own identity, and at last not at all.
func (r *Resolver) ways(repo name.Repository, keys keyring) []way {
	host := hostOf(repo)
	var out []way
	for _, l := range keys.lookup(host + "/" + repo.RepositoryStr()) {
		if len(out) == maxWays {
			break
		}
		password := string(l.password.Reveal())
		auth := authn.FromConfig(authn.AuthConfig{Username: l.user, Password: password})
		out = append(out, way{
			said: inject.WayPullSecret(l.from), scope: r.hash("login", l.user, password),
			auth: func(context.Context) (authn.Authenticator, error) { return auth, nil },
		})
	}
	if id := r.options.Identity; id != nil && id.Serves(host) {
		out = append(out, way{said: inject.WayIdentity, scope: r.hash("identity"), auth: signIn(id, host)})
	}
	return append(out, way{
		said: inject.WayAnonymous, scope: r.hash("anonymous"),
		auth: func(context.Context) (authn.Authenticator, error) { return authn.Anonymous, nil },
	})
}

// errIdentity is an identity that the registry, or Azure, did not take.
var errIdentity = errors.New("signing in with the registry identity")

func signIn(id Identity, host string) func(context.Context) (authn.Authenticator, error) {
	return func(ctx context.Context) (authn.Authenticator, error) {
		token, err := id.RefreshToken(ctx, host)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errIdentity, err)
		}
		return authn.FromConfig(authn.AuthConfig{Username: identityUser, Password: string(token.Reveal())}), nil
	}
}

// asked tells how far along the route a lookup came.
func (r route) asked(tried []int) inject.Asked {
	asked := inject.Asked{Unusable: r.unusable}
	add := func(list []string, text string) []string {
		if slices.Contains(list, text) {
			return list
		}
		return append(list, text)
	}
	for i, n := range tried {
		asked.Registries = add(asked.Registries, r.stops[i].host)
		for _, w := range r.stops[i].ways[:n] {
			asked.Ways = add(asked.Ways, w.said)
		}
	}
	return asked
}

// first is how far a caller knows to have come who did not wait for the end.
func (r route) first() []int { return []int{1} }
