// SPDX-License-Identifier: Apache-2.0

package release_test

import (
	"archive/tar"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"sigs.k8s.io/yaml"

	"github.com/akv2k8s/akv2k8s/internal/release"
)

var greeter = release.Product{Binary: "greeter", Image: "greeter", Title: "Greeter", Summary: "Greets"}

const greeting = `package main

var version string

func main() { println("hello", version) }
`

// module writes a Go module with one program into a new directory, so that two
// modules differ in their path and their files' times at least.
func module(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := filepath.Join(dir, "cmd", greeter.Binary)
	if err := os.MkdirAll(cmd, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		filepath.Join(dir, "go.mod"):  "module example.test/greeter\n\ngo 1.26.0\n",
		filepath.Join(cmd, "main.go"): source,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func platforms(t *testing.T, list ...string) []v1.Platform {
	t.Helper()
	parsed, err := release.Platforms(list)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func build(t *testing.T, b release.Builder, on ...string) v1.ImageIndex {
	t.Helper()
	index, err := b.Index(t.Context(), greeter, platforms(t, on...))
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func digest(t *testing.T, index v1.ImageIndex) string {
	t.Helper()
	d, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func TestSameSourceGivesSameDigest(t *testing.T) {
	t.Parallel()
	base := digest(t, build(t, release.Builder{Module: module(t, greeting), Version: "1.0.0"}, "linux/amd64", "linux/arm64"))
	cases := map[string]struct {
		builder release.Builder
		same    bool
	}{
		"OtherDirectory": {release.Builder{Module: module(t, greeting), Version: "1.0.0"}, true},
		"OtherSource":    {release.Builder{Module: module(t, strings.ReplaceAll(greeting, "hello", "hullo")), Version: "1.0.0"}, false},
		"OtherVersion":   {release.Builder{Module: module(t, greeting), Version: "1.0.1"}, false},
		"OtherTime":      {release.Builder{Module: module(t, greeting), Version: "1.0.0", Created: "2026-01-02T03:04:05Z"}, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := digest(t, build(t, tc.builder, "linux/amd64", "linux/arm64"))
			if (got == base) != tc.same {
				t.Errorf("digest %s against %s: same = %v, want %v", got, base, got == base, tc.same)
			}
		})
	}
}

// TestImageHoldsTheBinaryAlone looks at a pushed image as a node would.
func TestImageHoldsTheBinaryAlone(t *testing.T) {
	t.Parallel()
	ref, _ := serve(t)
	index := build(t, release.Builder{Module: module(t, greeting), Version: "1.0.0"}, "linux/amd64", "linux/arm64")
	if err := release.Push(t.Context(), ref, index); err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(pulled); err != nil {
		t.Errorf("the pushed index is not valid: %v", err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		image, err := remote.Image(ref, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		want := v1.Config{
			User: "65532:65532", Entrypoint: []string{"/greeter"}, WorkingDir: "/", Labels: config.Config.Labels,
		}
		if diff := cmp.Diff(want, config.Config); diff != "" {
			t.Errorf("%s: config (-want +got):\n%s", arch, diff)
		}
		if got := config.Config.Labels["org.opencontainers.image.version"]; got != "1.0.0" {
			t.Errorf("%s: version label is %q", arch, got)
		}
		if diff := cmp.Diff([]string{"greeter 755 0:0"}, contents(t, image)); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", arch, diff)
		}
	}
}

func contents(t *testing.T, image v1.Image) []string {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, layer := range layers {
		stream, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		archive := tar.NewReader(stream)
		for {
			header, err := archive.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, fmt.Sprintf("%s %o %d:%d", header.Name, header.Mode, header.Uid, header.Gid))
		}
		_ = stream.Close()
	}
	return files
}

func TestSecondPushSendsNothing(t *testing.T) {
	t.Parallel()
	ref, writes := serve(t)
	index := build(t, release.Builder{Module: module(t, greeting), Version: "1.0.0"}, "linux/amd64")
	if err := release.Push(t.Context(), ref, index); err != nil {
		t.Fatal(err)
	}
	first := writes.Load()
	if first == 0 {
		t.Fatal("the first push sent nothing")
	}
	if err := release.Push(t.Context(), ref, index); err != nil {
		t.Fatal(err)
	}
	if second := writes.Load() - first; second != 0 {
		t.Errorf("the second push made %d writing requests, want none", second)
	}
}

// serve runs a registry and counts the requests that change it.
func serve(t *testing.T) (name.Tag, *atomic.Int64) {
	t.Helper()
	var writes atomic.Int64
	inner := registry.New()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			writes.Add(1)
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	ref, err := release.Reference(strings.TrimPrefix(server.URL, "http://")+"/team", greeter, "1.0.0", true)
	if err != nil {
		t.Fatal(err)
	}
	return ref, &writes
}

func TestStoreReplacesByName(t *testing.T) {
	t.Parallel()
	ref, err := release.Reference("registry.example/team", greeter, "1.0.0", false)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	var last string
	for _, version := range []string{"1.0.0", "1.0.1"} {
		index := build(t, release.Builder{Module: module(t, greeting), Version: version}, "linux/amd64")
		if err := release.Store(dir, ref, index); err != nil {
			t.Fatal(err)
		}
		last = digest(t, index)
	}
	root, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := root.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest.String() != last {
		t.Errorf("the layout lists %v, want %s alone", manifest.Manifests, last)
	}
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		list []string
		ok   bool
	}{
		"Both":    {[]string{"linux/amd64", "linux/arm64"}, true},
		"None":    {nil, false},
		"Windows": {[]string{"windows/amd64"}, false},
		"Unknown": {[]string{"linux/pdp11"}, false},
		"Words":   {[]string{"amd64"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := release.Platforms(tc.list); (err == nil) != tc.ok {
				t.Errorf("Platforms(%v): error %v, want ok = %v", tc.list, err, tc.ok)
			}
		})
	}
}

func TestProductsAreTheSixImages(t *testing.T) {
	t.Parallel()
	want := []string{
		"azure-keyvault-controller", "azure-keyvault-webhook", "azure-keyvault-broker", "azure-keyvault-env", "azure-keyvault-env-direct", "keyvault-emulator",
	}
	var got []string
	for _, p := range release.Products() {
		got = append(got, p.Image)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	// Whoever starts either wrapper does so by one path.
	if wrapper, direct := release.Products()[3].RootFile(), release.Products()[4].RootFile(); wrapper != direct {
		t.Errorf("the wrappers are /%s and /%s", wrapper, direct)
	}
	if _, err := release.Select(release.Products(), []string{"azure-keyvault-nothing"}); err == nil {
		t.Error("an unknown image was selected")
	}
}

func TestValuesNameEveryImage(t *testing.T) {
	t.Parallel()
	digests := map[string]string{}
	for i, p := range release.Products() {
		digests[p.Image] = "sha256:" + strings.Repeat(string(rune('a'+i)), 64)
	}
	files, err := release.Values("registry.example/team", "1.0.0", digests)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for chart, text := range files {
		var values map[string]any
		if err := yaml.UnmarshalStrict(text, &values); err != nil {
			t.Fatalf("%s: %v", chart, err)
		}
		if diff := cmp.Diff(map[string]any{"imageRegistry": "registry.example/team"}, values["global"]); diff != "" {
			t.Errorf("%s: global (-want +got):\n%s", chart, diff)
		}
		all.Write(text)
	}
	for image, want := range digests {
		if !strings.Contains(all.String(), want) {
			t.Errorf("no chart is told the digest of %s", image)
		}
	}
}

// TestDockerfileMakesTheSameImages: both ways of building know the same programs.
func TestDockerfileMakesTheSameImages(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range release.Products() {
		for _, line := range []string{
			"FROM scratch AS " + p.Image + "\nCOPY --from=build /out/" + p.Binary + " /" + p.File + "\nUSER 65532:65532\nENTRYPOINT [\"/" + p.RootFile() + "\"]\n",
			" ./cmd/" + p.Binary,
		} {
			if !strings.Contains(string(text), line) {
				t.Errorf("the Dockerfile lacks\n%s", line)
			}
		}
	}
	if got, want := strings.Count(string(text), "FROM scratch AS "), len(release.Products()); got != want {
		t.Errorf("the Dockerfile has %d images, want %d", got, want)
	}
}

func TestExists(t *testing.T) {
	t.Parallel()
	b := release.Builder{Module: module(t, greeting)}
	if !b.Exists(greeter) {
		t.Error("a program that is there is not seen")
	}
	if b.Exists(release.Product{Binary: "nobody"}) {
		t.Error("a program that is not there is seen")
	}
}

// TestCompilerSpeaks: whoever builds images must learn what does not compile.
func TestCompilerSpeaks(t *testing.T) {
	t.Parallel()
	b := release.Builder{Module: module(t, "package main\n\nfunc main() { missing() }\n")}
	_, err := b.Index(t.Context(), greeter, platforms(t, "linux/amd64"))
	if err == nil || !strings.Contains(err.Error(), "undefined: missing") {
		t.Errorf("got %v, want the compiler's own words", err)
	}
}
