// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/image"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// private is a registry with TLS of its own authority that knows its users.
type private struct {
	*httptest.Server

	host  string
	token bool // or basic authentication

	mu      sync.Mutex
	users   map[string]string   // password by user; "" is who does not sign in
	readers map[string][]string // users by repository
	asked   []string            // user method kind, of manifests and configurations
}

func newPrivate(t *testing.T, token bool) *private {
	t.Helper()
	p := &private{token: token, users: map[string]string{"pusher": "push"}, readers: map[string][]string{}}
	good := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			p.giveToken(w, r)
			return
		}
		user, ok := p.userOf(r)
		repository, kind := "", ""
		if parts := strings.Split(r.URL.Path, "/"); len(parts) > 4 {
			repository, kind = strings.Join(parts[2:len(parts)-2], "/"), parts[len(parts)-2]
		}
		switch {
		case !ok:
			p.challenge(w)
		case repository != "" && !p.may(user, repository):
			w.WriteHeader(http.StatusForbidden)
		default:
			p.note(user, r.Method, kind)
			good.ServeHTTP(w, r)
		}
	}))
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(p.Close)
	p.host = strings.TrimPrefix(p.URL, "https://")
	return p
}

func (p *private) note(user, method, kind string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if kind == "manifests" || kind == "blobs" {
		p.asked = append(p.asked, user+" "+method+" "+kind)
	}
}

// since forgets what was asked, and tells it.
func (p *private) since() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked
}

func (p *private) may(user, repository string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return user == "pusher" || slices.Contains(p.readers[repository], user)
}

func (p *private) let(repository string, users ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers[repository] = users
	for _, u := range users {
		p.users[u] = "password of " + u
	}
}

func (p *private) knows(user, password string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	want, ok := p.users[user]
	return ok && (user == "" || want == password)
}

func (p *private) giveToken(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if !p.knows(user, password) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"token": "token of <" + user + ">"})
}

func (p *private) userOf(r *http.Request) (string, bool) {
	if p.token {
		user, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer token of <")
		return strings.TrimSuffix(user, ">"), ok
	}
	user, password, ok := r.BasicAuth()
	return user, (ok || user == "") && p.knows(user, password)
}

func (p *private) challenge(w http.ResponseWriter) {
	kind := `Basic realm="x"`
	if p.token {
		kind = fmt.Sprintf(`Bearer realm="%s/token",service="%s"`, p.URL, p.host)
	}
	w.Header().Set("WWW-Authenticate", kind)
	w.WriteHeader(http.StatusUnauthorized)
}

func (p *private) push(t *testing.T, ref string, img v1.Image, readers ...string) {
	t.Helper()
	tag, err := name.ParseReference(p.host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img, remote.WithTransport(p.Client().Transport), remote.WithAuth(&authn.Basic{Username: "pusher", Password: "push"})); err != nil {
		t.Fatal(err)
	}
	p.let(tag.Context().RepositoryStr(), readers...)
	p.since()
}

func (p *private) options() image.Options {
	roots := x509.NewCertPool()
	roots.AddCert(p.Certificate())
	return image.Options{
		Timeout: time.Minute, TagTTL: time.Minute,
		Transport: image.NewTransport(image.Dial{AllowLoopback: true, Roots: roots, Budget: generous}),
	}
}

// signed is a pull secret with the right password for a registry.
func signed(name, host, user string) inject.PullSecret {
	return inject.PullSecret{Name: name, Type: corev1.SecretTypeDockerConfigJson, Config: secret.New(
		fmt.Appendf(nil, `{"auths": {%q: {"username": %q, "password": "password of %s"}}}`, host, user, user))}
}

func TestSignsIn(t *testing.T) {
	t.Parallel()
	for title, token := range map[string]bool{"Basic": false, "Token": true} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			p := newPrivate(t, token)
			p.push(t, "team/app:1", runs(t, []string{"/entry"}, nil), "reader")
			p.let("team/other", "stranger")
			p.let("open/app", "") // whoever comes
			for name, tc := range map[string]struct {
				secrets []inject.PullSecret
				asked   inject.Asked
				err     error
			}{
				"Right":         {[]inject.PullSecret{signed("a", p.host, "reader")}, inject.Asked{}, nil},
				"SecondOfTwo":   {[]inject.PullSecret{signed("a", p.host, "stranger"), signed("b", p.host, "reader")}, inject.Asked{}, nil},
				"AfterMissing":  {[]inject.PullSecret{inject.UnusablePullSecret("a", inject.Missing), signed("b", p.host, "reader")}, inject.Asked{}, nil},
				"WrongPassword": {[]inject.PullSecret{signed("a", p.host, "nobody"), signed("b", p.host, "reader")}, inject.Asked{}, nil},
				"Stranger": {
					[]inject.PullSecret{signed("a", p.host, "stranger"), inject.UnusablePullSecret("b", inject.Missing)},
					inject.Asked{
						Registries: []string{p.host}, Ways: []string{`with pull secret "a"`, "without sign-in"},
						Unusable: []string{`pull secret "b" does not exist`},
					},
					inject.ErrImageForbidden,
				},
				"ForAnotherHost": {
					[]inject.PullSecret{signed("a", "other.example", "reader")},
					inject.Asked{Registries: []string{p.host}, Ways: []string{"without sign-in"}},
					inject.ErrImageForbidden,
				},
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					request := image.Request{Image: p.host + "/team/app:1", Architectures: []string{"amd64"}, PullSecrets: tc.secrets}
					got, err := image.NewResolver(p.options()).Command(t.Context(), request)
					if !errors.Is(got.Err, tc.err) || (err != nil) != (tc.err != nil) {
						t.Fatalf("Command() = %v, %v", got, err)
					}
					if tc.err == nil && !slices.Equal(got.Entrypoint, []string{"/entry"}) {
						t.Errorf("Command() = %v", got)
					}
					if d := cmp.Diff(tc.asked, got.Asked); d != "" {
						t.Errorf("-want +got\n%s", d)
					}
				})
			}
		})
	}
}

// A credential that is of no use stands in nobody's way.
func TestSignsInAnonymouslyAtLast(t *testing.T) {
	t.Parallel()
	p := newPrivate(t, true)
	p.push(t, "open/app:1", runs(t, []string{"/entry"}, nil), "")
	request := image.Request{Image: p.host + "/open/app:1", Architectures: []string{"amd64"}, PullSecrets: []inject.PullSecret{
		inject.UnusablePullSecret("gone", inject.Missing),
		{Name: "cut", Type: corev1.SecretTypeDockerConfigJson, Config: secret.New([]byte("{"))},
		signed("wrong", p.host, "nobody"),
	}}
	if got, err := image.NewResolver(p.options()).Command(t.Context(), request); err != nil {
		t.Errorf("Command() = %v, %v", got, err)
	}
}

// A "not found" for who is known outranks the "forbidden" for who is not.
func TestTellsMissingFromForbidden(t *testing.T) {
	t.Parallel()
	p := newPrivate(t, true)
	p.push(t, "team/app:1", runs(t, nil, nil), "reader")
	request := image.Request{Image: p.host + "/team/app:2", Architectures: []string{"amd64"}, PullSecrets: []inject.PullSecret{signed("a", p.host, "reader")}}
	if got, _ := image.NewResolver(p.options()).Command(t.Context(), request); !errors.Is(got.Err, inject.ErrImageNotFound) {
		t.Errorf("Command() = %v", got)
	}
}

// What one credential could read is not told to who has shown another; that a
// credential is still good is asked again.
func TestAnswersAreForThoseWhoMayPull(t *testing.T) {
	t.Parallel()
	p := newPrivate(t, false)
	p.push(t, "team/app:1", runs(t, []string{"/entry"}, nil), "reader", "colleague")
	r, c := counted(p.options())
	ask := func(users ...string) error {
		t.Helper()
		request := image.Request{Image: p.host + "/team/app:1", Architectures: []string{"amd64"}}
		for _, u := range users {
			request.PullSecrets = append(request.PullSecrets, signed("of-"+u, p.host, u))
		}
		got, _ := r.Command(t.Context(), request)
		return got.Err
	}
	if err := ask("reader"); err != nil {
		t.Fatal(err)
	}
	for _, who := range [][]string{{}, {"stranger"}} {
		if err := ask(who...); !errors.Is(err, inject.ErrImageForbidden) {
			t.Errorf("%v is told: %v", who, err)
		}
	}
	p.since()
	if err := ask("colleague"); err != nil || len(p.since()) == 0 {
		t.Errorf("a colleague: %v; want an answer that was asked for", err)
	}
	c.pass(time.Minute + 1)
	if err := ask("reader"); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff([]string{"reader HEAD manifests"}, p.since()); d != "" {
		t.Errorf("after the time to live: -want +got\n%s", d)
	}
	p.let("team/app", "colleague")
	c.pass(time.Minute + 1)
	if err := ask("reader"); !errors.Is(err, inject.ErrImageForbidden) {
		t.Errorf("who may not pull any more is told: %v", err)
	}
}

// Secrets of other names, with the same credentials, are one look-up.
func TestSharesBetweenPodsOfTheSameCredentials(t *testing.T) {
	t.Parallel()
	p := newPrivate(t, true)
	p.push(t, "team/app:1", runs(t, []string{"/entry"}, nil), "reader")
	r := image.NewResolver(p.options())
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			request := image.Request{
				Image: p.host + "/team/app:1", Architectures: []string{"amd64"}, PullSecrets: []inject.PullSecret{signed("s"+strconv.Itoa(i), p.host, "reader")},
			}
			if got, err := r.Command(t.Context(), request); err != nil {
				t.Errorf("Command() = %v, %v", got, err)
			}
		})
	}
	wg.Wait()
	if d := cmp.Diff([]string{"reader HEAD manifests", "reader GET manifests", "reader GET blobs"}, p.since()); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestTrusts(t *testing.T) {
	t.Parallel()
	p := newPrivate(t, true)
	p.push(t, "open/app:1", runs(t, []string{"/entry"}, nil), "")
	request := image.Request{Image: p.host + "/open/app:1", Architectures: []string{"amd64"}}
	o := p.options()
	if got, err := image.NewResolver(o).Command(t.Context(), request); err != nil {
		t.Errorf("with the authority, Command() = %v, %v", got, err)
	}
	o.Transport = image.NewTransport(image.Dial{AllowLoopback: true, Roots: x509.NewCertPool(), Budget: generous})
	if got, _ := image.NewResolver(o).Command(t.Context(), request); !errors.Is(got.Err, inject.ErrImageUntrusted) {
		t.Errorf("without, Command() = %v", got)
	}
}

// The library would speak plain HTTP to a private address.
func TestPlainHTTPIsRefusedUnlessAllowed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.push(t, "app:1", runs(t, []string{"/entry"}, nil))
	f.requests.Store(0)
	request := ask(f, "app:1")
	request.PullSecrets = []inject.PullSecret{signed("a", f.host, "reader")}
	if got, _ := resolver().Command(t.Context(), request); !errors.Is(got.Err, inject.ErrImagePlain) || f.requests.Load() > 0 {
		t.Errorf("Command() = %v after %d requests", got, f.requests.Load())
	}
	if got, err := resolver(f).Command(t.Context(), request); err != nil {
		t.Errorf("Command() = %v, %v", got, err)
	}
}

// A registry may not have us sign in where everybody can listen.
func TestSignsInNowhereInTheClear(t *testing.T) {
	t.Parallel()
	f, p := newFixture(t), newPrivate(t, true)
	p.push(t, "team/app:1", runs(t, nil, nil), "reader")
	p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+f.host+`/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	request := image.Request{Image: p.host + "/team/app:1", Architectures: []string{"amd64"}, PullSecrets: []inject.PullSecret{signed("a", p.host, "reader")}}
	if got, err := image.NewResolver(p.options()).Command(t.Context(), request); got.Err == nil || f.requests.Load() > 0 {
		t.Errorf("Command() = %v, %v after %d requests in the clear", got, err, f.requests.Load())
	}
}

// mirrored says that origin has these mirrors.
func mirrored(t *testing.T, o image.Options, origin string, mirrors ...string) image.Options {
	t.Helper()
	var urls []*url.URL
	for _, m := range mirrors {
		u, err := url.Parse(m)
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, u)
	}
	o.Registries.Mirrors = map[string][]*url.URL{origin: urls}
	o.Transport = image.NewTransport(image.Dial{AllowLoopback: true, Plain: o.Registries.Plain(), Budget: generous})
	return o
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	mirror, origin := newFixture(t), newFixture(t)
	mirror.push(t, "library/both:1", runs(t, []string{"/mirror"}, nil))
	mirror.push(t, "hub/library/nested:1", runs(t, []string{"/nested"}, nil))
	hash := origin.push(t, "library/both:1", runs(t, []string{"/origin"}, nil))
	origin.push(t, "library/here:1", runs(t, []string{"/origin"}, nil))
	for title, tc := range map[string]struct {
		mirrors []string
		ref     string
		want    string
	}{
		"First":      {[]string{"http://" + mirror.host}, "library/both:1", "/mirror"},
		"OriginToo":  {[]string{"http://" + mirror.host}, "library/here:1", "/origin"},
		"Digest":     {[]string{"http://" + mirror.host}, "library/both@" + hash.String(), "/origin"},
		"Path":       {[]string{"http://" + mirror.host + "/hub/"}, "library/nested:1", "/nested"},
		"DeadMirror": {[]string{"http://127.0.0.1:1", "http://" + mirror.host}, "library/both:1", "/mirror"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			r := image.NewResolver(mirrored(t, options(origin), origin.host, tc.mirrors...))
			got, err := r.Command(t.Context(), ask(origin, tc.ref))
			if err != nil || !slices.Equal(got.Entrypoint, []string{tc.want}) {
				t.Errorf("Command() = %v, %v", got, err)
			}
		})
	}
	t.Run("Nowhere", func(t *testing.T) {
		t.Parallel()
		r := image.NewResolver(mirrored(t, options(origin), origin.host, "http://"+mirror.host))
		got, _ := r.Command(t.Context(), ask(origin, "library/none:1"))
		want := inject.Asked{Registries: []string{mirror.host, origin.host}, Ways: []string{"without sign-in"}}
		if d := cmp.Diff(want, got.Asked); d != "" || !errors.Is(got.Err, inject.ErrImageNotFound) {
			t.Errorf("Command() = %v: -want +got\n%s", got, d)
		}
	})
	t.Run("DockerHub", func(t *testing.T) {
		t.Parallel()
		r := image.NewResolver(mirrored(t, options(), "docker.io", "http://"+mirror.host))
		got, err := r.Command(t.Context(), image.Request{Image: "both:1", Architectures: []string{"amd64"}})
		if err != nil || !slices.Equal(got.Entrypoint, []string{"/mirror"}) {
			t.Errorf("Command() = %v, %v", got, err)
		}
	})
}

// A pod's credentials for a registry are not for whoever the operator asks first.
func TestMirrorsGetTheirOwnCredentialsAlone(t *testing.T) {
	t.Parallel()
	mirror := newFixture(t)
	var mu sync.Mutex
	var sent []string
	mirror.answer(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if user, _, ok := r.BasicAuth(); ok {
			sent = append(sent, user)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	origin := newFixture(t)
	r := image.NewResolver(mirrored(t, options(origin), origin.host, "http://"+mirror.host))
	request := ask(origin, "app:1")
	request.PullSecrets = []inject.PullSecret{signed("a", origin.host, "for-the-origin"), signed("b", mirror.host, "for-the-mirror")}
	_, _ = r.Command(t.Context(), request)
	mu.Lock()
	defer mu.Unlock()
	if d := cmp.Diff([]string{"for-the-mirror"}, slices.Compact(sent)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// A mirror that hangs leaves the registry itself time to answer.
func TestASlowMirrorLeavesTime(t *testing.T) {
	t.Parallel()
	mirror, origin := newFixture(t), newFixture(t)
	origin.push(t, "app:1", runs(t, []string{"/origin"}, nil))
	release := make(chan struct{})
	defer close(release)
	mirror.answer(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	o := mirrored(t, options(origin), origin.host, "http://"+mirror.host)
	o.Timeout = 6 * time.Second
	if got, err := image.NewResolver(o).Command(t.Context(), ask(origin, "app:1")); err != nil {
		t.Errorf("Command() = %v, %v", got, err)
	}
}

// identity signs in to one host.
type identity struct {
	host, token string
	err         error
	asked       []string
}

func (i *identity) Serves(host string) bool { return host == i.host }

func (i *identity) RefreshToken(_ context.Context, host string) (secret.Value, error) {
	i.asked = append(i.asked, host)
	return secret.New([]byte(i.token)), i.err
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	const user = "00000000-0000-0000-0000-000000000000"
	p := newPrivate(t, true)
	p.push(t, "team/app:1", runs(t, []string{"/entry"}, nil), user)
	p.let("other/app", "reader", "")
	for title, tc := range map[string]struct {
		identity identity
		secrets  []inject.PullSecret
		err      error
		asked    []string
		ways     []string
	}{
		"Right":     {identity{host: p.host, token: "password of " + user}, nil, nil, []string{p.host}, nil},
		"AfterPull": {identity{host: p.host, token: "password of " + user}, []inject.PullSecret{signed("a", p.host, "reader")}, nil, []string{p.host}, nil},
		"Wrong":     {identity{host: p.host, token: "x"}, nil, inject.ErrImageForbidden, []string{p.host}, []string{inject.WayIdentity, inject.WayAnonymous}},
		"NoToken":   {identity{host: p.host, err: errors.New("remote-text")}, nil, inject.ErrImageForbidden, []string{p.host}, []string{inject.WayIdentity, inject.WayAnonymous}},
		"OtherHost": {identity{host: "mine.azurecr.io", token: "password of " + user}, nil, inject.ErrImageForbidden, nil, []string{inject.WayAnonymous}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			o := p.options()
			o.Identity = &tc.identity
			got, err := image.NewResolver(o).Command(t.Context(), image.Request{Image: p.host + "/team/app:1", Architectures: []string{"amd64"}, PullSecrets: tc.secrets})
			if !errors.Is(got.Err, tc.err) {
				t.Fatalf("Command() = %v, %v", got, err)
			}
			if d := cmp.Diff(tc.asked, tc.identity.asked); d != "" {
				t.Errorf("tokens: -want +got\n%s", d)
			}
			if d := cmp.Diff(tc.ways, got.Asked.Ways); d != "" {
				t.Errorf("ways: -want +got\n%s", d)
			}
		})
	}
}

// A registry that asks to be left alone is, for as long as it says, by everybody.
func TestRests(t *testing.T) {
	t.Parallel()
	for title, tc := range map[string]struct {
		status int
		after  string
		rest   time.Duration // zero: none
	}{
		"Seconds":     {http.StatusTooManyRequests, "20", 20 * time.Second},
		"Date":        {http.StatusTooManyRequests, time.Unix(1030, 0).UTC().Format(http.TimeFormat), 30 * time.Second},
		"Unsaid":      {http.StatusTooManyRequests, "", 10 * time.Second},
		"Nonsense":    {http.StatusTooManyRequests, "soon", 10 * time.Second},
		"Past":        {http.StatusTooManyRequests, time.Unix(1, 0).UTC().Format(http.TimeFormat), time.Second},
		"TooLong":     {http.StatusTooManyRequests, "86400", time.Minute},
		"Maintenance": {http.StatusServiceUnavailable, "20", 20 * time.Second},
		"Broken":      {http.StatusServiceUnavailable, "", 0},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.push(t, "app:1", runs(t, []string{"/entry"}, nil))
			now := time.Unix(1000, 0)
			transport := image.NewTransport(image.Dial{
				AllowLoopback: true, Plain: []string{f.host}, Budget: generous, Now: func() time.Time { return now },
			})
			asked := func() bool {
				t.Helper()
				before := f.requests.Load()
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.host+"/v2/", nil)
				if err != nil {
					t.Fatal(err)
				}
				if response, err := transport.RoundTrip(r); err == nil {
					_ = response.Body.Close()
				}
				return f.requests.Load() > before
			}
			f.answer(func(w http.ResponseWriter, _ *http.Request) {
				if tc.after != "" {
					w.Header().Set("Retry-After", tc.after)
				}
				w.WriteHeader(tc.status)
			})
			asked()
			f.answer(func(http.ResponseWriter, *http.Request) {})
			if tc.rest == 0 {
				if !asked() {
					t.Error("left alone, unasked")
				}
				return
			}
			now = now.Add(tc.rest - 1)
			if asked() {
				t.Error("asked during its rest")
			}
			now = now.Add(1)
			if !asked() {
				t.Error("not asked after its rest")
			}
		})
	}
}

// Who would have to wait for longer than there is time is told so at once.
func TestBudget(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.push(t, "app:1", runs(t, []string{"/entry"}, nil))
	o := options(f)
	o.Transport = image.NewTransport(image.Dial{AllowLoopback: true, Plain: []string{f.host}, Budget: image.Budget{Rate: 1, Concurrent: 1}})
	o.Timeout = 500 * time.Millisecond // in which a second request per second does not fit
	f.requests.Store(0)
	got, _ := image.NewResolver(o).Command(t.Context(), ask(f, "app:1"))
	if !errors.Is(got.Err, inject.ErrImageThrottled) || f.requests.Load() > 2 {
		t.Errorf("Command() = %v after %d requests", got, f.requests.Load())
	}
}

// No more requests are under way at once than the budget has.
func TestBudgetOfConcurrentRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const most = 3
	arrived, release := make(chan struct{}, 20), make(chan struct{})
	var mu sync.Mutex
	under, peak := 0, 0
	f.answer(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		under++
		peak = max(peak, under)
		mu.Unlock()
		arrived <- struct{}{}
		<-release
		mu.Lock()
		under--
		mu.Unlock()
	})
	transport := image.NewTransport(image.Dial{AllowLoopback: true, Plain: []string{f.host}, Budget: image.Budget{Rate: 1000, Concurrent: most}})
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.host+"/v2/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			response, err := transport.RoundTrip(r)
			if err != nil {
				t.Error(err)
				return
			}
			_ = response.Body.Close()
		})
	}
	for range most {
		<-arrived
	}
	close(release)
	wg.Wait()
	if peak > most {
		t.Errorf("%d requests under way at once", peak)
	}
}
