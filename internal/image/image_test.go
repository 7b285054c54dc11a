// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/akv2k8s/akv2k8s/internal/image"
	"github.com/akv2k8s/akv2k8s/internal/inject"
)

// fixture is a registry in memory that counts and may misbehave.
type fixture struct {
	host     string
	requests atomic.Int64
	spoil    atomic.Pointer[http.HandlerFunc] // answers instead, if set
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{}
	good := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		if spoil := f.spoil.Load(); spoil != nil {
			(*spoil)(w, r)
			return
		}
		good.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	f.host = strings.TrimPrefix(server.URL, "http://")
	return f
}

func (f *fixture) answer(h http.HandlerFunc) { f.spoil.Store(&h) }

func (f *fixture) push(t *testing.T, ref string, img v1.Image) v1.Hash {
	t.Helper()
	if err := remote.Write(f.tag(t, ref), img); err != nil {
		t.Fatal(err)
	}
	return digest(t, img)
}

func (f *fixture) tag(t *testing.T, ref string) name.Reference {
	t.Helper()
	tag, err := name.ParseReference(f.host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

func digest(t *testing.T, img interface{ Digest() (v1.Hash, error) }) v1.Hash {
	t.Helper()
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func runs(t *testing.T, entrypoint, cmd []string) v1.Image {
	t.Helper()
	img, err := mutate.Config(empty.Image, v1.Config{Entrypoint: entrypoint, Cmd: cmd})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func index(t *testing.T, images map[string]v1.Image) v1.ImageIndex {
	t.Helper()
	idx := v1.ImageIndex(empty.Index)
	for _, platform := range slices.Sorted(maps.Keys(images)) {
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: images[platform], Descriptor: v1.Descriptor{Platform: p}})
	}
	return idx
}

// generous is a budget that no test uses up.
var generous = image.Budget{Rate: 1000, Concurrent: 100}

// options let a Resolver speak to these plain registries.
func options(plain ...*fixture) image.Options {
	var hosts []string
	for _, f := range plain {
		hosts = append(hosts, f.host)
	}
	return image.Options{
		Timeout: time.Minute, TagTTL: time.Minute, Registries: image.Registries{Insecure: hosts},
		Transport: image.NewTransport(image.Dial{AllowLoopback: true, Plain: hosts, Budget: generous}),
	}
}

func resolver(plain ...*fixture) *image.Resolver { return image.NewResolver(options(plain...)) }

func ask(f *fixture, ref string, architectures ...string) image.Request {
	if len(architectures) == 0 {
		architectures = []string{"amd64"}
	}
	return image.Request{Image: f.host + "/" + ref, Architectures: architectures}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hash := f.push(t, "app:1", runs(t, []string{"/entry"}, []string{"serve"}))
	f.push(t, "bare:1", runs(t, nil, nil))
	for name, ref := range map[string]string{"Tag": "app:1", "Digest": "app@" + hash.String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := resolver(f).Command(t.Context(), ask(f, ref))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(inject.Command{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}}, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
	t.Run("Nothing", func(t *testing.T) {
		t.Parallel()
		got, err := resolver(f).Command(t.Context(), ask(f, "bare:1"))
		if err != nil || len(got.Entrypoint) != 0 || len(got.Cmd) != 0 {
			t.Errorf("Command() = %v, %v", got, err)
		}
	})
}

func TestCommandOfAnIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	one, other := runs(t, []string{"/one"}, nil), runs(t, []string{"/other"}, nil)
	cases := map[string]struct {
		images        map[string]v1.Image
		architectures []string
		want          []string
		err           error
	}{
		"First":         {map[string]v1.Image{"linux/amd64": one, "linux/arm64": other}, []string{"amd64"}, []string{"/one"}, nil},
		"Second":        {map[string]v1.Image{"linux/amd64": one, "linux/arm64": other}, []string{"arm64"}, []string{"/other"}, nil},
		"BothAgree":     {map[string]v1.Image{"linux/amd64": one, "linux/arm64": one}, []string{"arm64", "amd64"}, []string{"/one"}, nil},
		"BothDiffer":    {map[string]v1.Image{"linux/amd64": one, "linux/arm64": other}, []string{"arm64", "amd64"}, nil, inject.ErrImageAmbiguous},
		"OneOfTwo":      {map[string]v1.Image{"linux/amd64": one}, []string{"arm64", "amd64"}, []string{"/one"}, nil},
		"WrongPlatform": {map[string]v1.Image{"linux/amd64": one}, []string{"arm64"}, nil, inject.ErrImagePlatform},
		"Variant":       {map[string]v1.Image{"linux/arm/v6": other, "linux/arm/v7": one, "linux/arm64/v8": other}, []string{"arm"}, []string{"/one"}, nil},
		"VariantOf64":   {map[string]v1.Image{"linux/arm/v7": other, "linux/arm64/v8": one}, []string{"arm64"}, []string{"/one"}, nil},
		"Fallback":      {map[string]v1.Image{"linux/arm/v7": one, "linux/386": other}, []string{"arm64"}, []string{"/one"}, nil},
		"TooNew":        {map[string]v1.Image{"linux/amd64/v3": one}, []string{"amd64"}, nil, inject.ErrImagePlatform},
		"NotForLinux":   {map[string]v1.Image{"windows/amd64": one}, []string{"amd64"}, nil, inject.ErrImagePlatform},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ref := "multi:" + strings.ToLower(name)
			if err := remote.WriteIndex(f.tag(t, ref), index(t, tc.images)); err != nil {
				t.Fatal(err)
			}
			got, err := resolver(f).Command(t.Context(), ask(f, ref, tc.architectures...))
			if !errors.Is(got.Err, tc.err) || (err != nil) != (tc.err != nil) {
				t.Fatalf("Command() = %v, %v", got, err)
			}
			if d := cmp.Diff(tc.want, got.Entrypoint); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// What a registry says is never in the sentinel that people see.
func TestCommandFailures(t *testing.T) {
	t.Parallel()
	const remark = "remote-text-that-nobody-may-see"
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, `{"errors":[{"code":"X","message":"`+remark+`"}]}`)
		}
	}
	cases := map[string]struct {
		answer http.HandlerFunc
		err    error
	}{
		"Unauthorized": {status(http.StatusUnauthorized), inject.ErrImageForbidden},
		"Forbidden":    {status(http.StatusForbidden), inject.ErrImageForbidden},
		"Throttled":    {status(http.StatusTooManyRequests), inject.ErrImageThrottled},
		"Broken":       {status(http.StatusInternalServerError), inject.ErrImageUnavailable},
		"HangsUp":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, inject.ErrImageUnavailable},
		"NotAManifest": {garbage("{not json " + remark), inject.ErrImageUnreadable},
		"AnOldSchema":  {garbage(`{"schemaVersion":1}`), inject.ErrImageUnreadable},
		"Endless":      {garbage(strings.Repeat("x", 5<<20)), inject.ErrImageUnavailable},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.answer(tc.answer)
			got, err := resolver(f).Command(t.Context(), ask(f, "app:1"))
			if !errors.Is(got.Err, tc.err) || err == nil {
				t.Fatalf("Command() = %v, %v", got, err)
			}
			if strings.Contains(got.Err.Error(), remark) {
				t.Errorf("the registry's words reach people: %v", got.Err)
			}
		})
	}
	t.Run("NotFound", func(t *testing.T) {
		t.Parallel()
		missing := newFixture(t)
		if got, _ := resolver(missing).Command(t.Context(), ask(missing, "none:1")); !errors.Is(got.Err, inject.ErrImageNotFound) {
			t.Errorf("Command() = %v", got)
		}
	})
	t.Run("Name", func(t *testing.T) {
		t.Parallel()
		got, _ := resolver().Command(t.Context(), image.Request{Image: "Not An Image", Architectures: []string{"amd64"}})
		if !errors.Is(got.Err, inject.ErrImageName) {
			t.Errorf("Command() = %v", got)
		}
	})
	t.Run("NobodyListens", func(t *testing.T) {
		t.Parallel()
		got, _ := resolver().Command(t.Context(), image.Request{Image: "127.0.0.1:1/app", Architectures: []string{"amd64"}})
		if !errors.Is(got.Err, inject.ErrImageUnavailable) {
			t.Errorf("Command() = %v", got)
		}
	})
}

// garbage answers manifests with a text, and says it is one.
func garbage(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		kind := "application/vnd.docker.distribution.manifest.v2+json"
		if strings.Contains(text, `"schemaVersion":1`) {
			kind = "application/vnd.docker.distribution.manifest.v1+json"
		}
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, text)
	}
}

func TestCommandEndsWithItsDeadline(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	released := make(chan struct{})
	f.answer(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-released:
		}
	})
	defer close(released)
	o := options(f)
	o.Timeout = 50 * time.Millisecond
	got, err := image.NewResolver(o).Command(t.Context(), ask(f, "app:1"))
	if !errors.Is(got.Err, inject.ErrImageUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Command() = %v, %v", got, err)
	}
}

// counter is a Resolver's clock, and what it counts.
type counter struct {
	mu       sync.Mutex
	now      time.Time
	outcomes []image.Outcome
}

func (c *counter) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *counter) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *counter) observe(o image.Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes = append(c.outcomes, o)
}

func counted(o image.Options) (*image.Resolver, *counter) {
	c := &counter{now: time.Unix(1000, 0)}
	o.Now, o.Observe = c.time, c.observe
	return image.NewResolver(o), c
}

// An answer costs nothing while its time lasts; then whether the tag still points
// there; and all again only if it does not.
func TestCommandCachesByDigest(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hash := f.push(t, "app:1", runs(t, []string{"/old"}, nil))
	r, c := counted(options(f))
	get := func(req image.Request, want string, requests int64) {
		t.Helper()
		f.requests.Store(0)
		got, err := r.Command(t.Context(), req)
		if err != nil || len(got.Entrypoint) != 1 || got.Entrypoint[0] != want {
			t.Fatalf("Command() = %v, %v; want %s", got, err, want)
		}
		if n := f.requests.Load(); n > requests {
			t.Errorf("%d requests; want %d at most", n, requests)
		}
	}
	const greeting = 2 // in TLS, and in plain HTTP
	get(ask(f, "app:1"), "/old", greeting+3)
	get(ask(f, "app:1"), "/old", 0)
	get(ask(f, "app@"+hash.String()), "/old", greeting+1)
	c.pass(time.Minute + 1)
	get(ask(f, "app:1"), "/old", greeting+1)
	f.push(t, "app:1", runs(t, []string{"/new"}, nil))
	get(ask(f, "app:1"), "/old", 0)
	c.pass(time.Minute + 1)
	get(ask(f, "app:1"), "/new", greeting+3)
	get(ask(f, "app:1", "arm64"), "/new", greeting+3) // whose image may be another
	want := []image.Outcome{
		image.OutcomeRead, image.OutcomeCached, image.OutcomeCached, image.OutcomeCached, image.OutcomeCached, image.OutcomeRead, image.OutcomeRead,
	}
	if d := cmp.Diff(want, c.outcomes); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestCommandRemembersFailuresForAMoment(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r, c := counted(options(f))
	want := func(err error, asked bool) {
		t.Helper()
		f.requests.Store(0)
		got, _ := r.Command(t.Context(), ask(f, "app:1"))
		if !errors.Is(got.Err, err) || f.requests.Load() > 0 != asked {
			t.Errorf("Command() = %v after %d requests", got, f.requests.Load())
		}
	}
	want(inject.ErrImageNotFound, true)
	f.push(t, "app:1", runs(t, []string{"/entry"}, nil))
	c.pass(4 * time.Second)
	want(inject.ErrImageNotFound, false)
	c.pass(time.Second + 1)
	want(nil, true)
}

func TestCommandSharesFlights(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hash := f.push(t, "app:1", runs(t, []string{"/entry"}, nil))
	f.requests.Store(0)
	r := resolver(f)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got, err := r.Command(t.Context(), ask(f, "app@"+hash.String())); err != nil || got.Entrypoint[0] != "/entry" {
				t.Errorf("Command() = %v, %v", got, err)
			}
		})
	}
	wg.Wait()
	// Greeting (twice: https and http), digest, manifest and configuration.
	if n := f.requests.Load(); n > 5 {
		t.Errorf("50 callers cost %d requests", n)
	}
}

// Anyone may name another's digest at a registry of their own, one that never
// answers for instance. That is their affair alone.
func TestCommandSharesNoFlightsBetweenRegistries(t *testing.T) {
	t.Parallel()
	victim, attacker := newFixture(t), newFixture(t)
	hash := victim.push(t, "app:1", runs(t, []string{"/entry"}, nil))
	asked, release := make(chan struct{}, 10), make(chan struct{})
	attacker.answer(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-release
		w.WriteHeader(http.StatusNotFound)
	})
	r := resolver(victim, attacker)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = r.Command(t.Context(), ask(attacker, "app@"+hash.String())) })
	<-asked // its flight has begun
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if got, err := r.Command(ctx, ask(victim, "app@"+hash.String())); err != nil || got.Entrypoint[0] != "/entry" {
		t.Errorf("Command() = %v, %v", got, err)
	}
	close(release)
	wg.Wait()
}

// A registry's name may resolve to where the node's credentials are.
func TestTransportAvoidsMetadata(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"169.254.169.254", "[fe80::1]", "168.63.129.16", "0.0.0.0", "[::ffff:169.254.169.254]", "224.0.0.1", "127.0.0.1"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+":9/", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := image.NewTransport(image.Dial{Plain: []string{address + ":9"}, Budget: generous}).RoundTrip(request)
		if err == nil {
			_ = response.Body.Close()
		}
		if !errors.Is(err, image.ErrForbiddenAddress) {
			t.Errorf("%s: %v", address, err)
		}
	}
}
