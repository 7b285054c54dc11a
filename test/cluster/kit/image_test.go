// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New())
	t.Cleanup(server.Close)
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!"), 0o600); err != nil {
		t.Fatal(err)
	}
	ref := server.Listener.Addr().String() + "/a/b:1"
	err := push([]string{
		"-entrypoint", `["/app", "two words"]`, "-cmd", "serve now", "-user", "1:2", "-env", "A=b",
		"-workdir", "/w", "-platform", "linux/arm64", ref, program + "=/bin/app", "bin/link=>/bin/app", "tmp/",
	})
	if err != nil {
		t.Fatal(err)
	}

	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(parsed)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := file.Config
	if !slices.Equal(c.Entrypoint, []string{"/app", "two words"}) || !slices.Equal(c.Cmd, []string{"serve", "now"}) ||
		c.User != "1:2" || c.WorkingDir != "/w" || c.Env[len(c.Env)-1] != "A=b" || file.Architecture != "arm64" {
		t.Errorf("configuration: %+v", file)
	}
}

func TestArchive(t *testing.T) {
	source := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(source, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := archive([]string{source + "=/bin/../usr/app", "/usr/link=>app", "/tmp/"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for r := tar.NewReader(bytes.NewReader(out)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = h.Mode
	}
	want := map[string]int64{"usr/": 0o755, "usr/app": 0o755, "usr/link": 0o777, "tmp/": 0o1777}
	if !maps.Equal(got, want) {
		t.Errorf("entries: got %v, want %v", got, want)
	}
}

// The registry's name must be one that an image client takes for plain HTTP
// without being told, in the product as here.
func TestRegistryNamesArePlainHTTP(t *testing.T) {
	for _, host := range []string{"registry.localhost:5000", "registry.localhost", "10.0.0.10:5000"} {
		ref, err := name.ParseReference(host + "/app:1")
		if err != nil {
			t.Fatal(err)
		}
		if got := ref.Context().Scheme(); got != "http" || ref.Context().RegistryStr() != host {
			t.Errorf("%s: scheme %s, registry %s", host, got, ref.Context().RegistryStr())
		}
	}
}
