// SPDX-License-Identifier: Apache-2.0

// Package deps_test keeps the wrapper what it is meant to be: the standard
// library and a few packages of ours, small, in one file that needs nothing.
//
// azure-keyvault-env.txt is the golden list of every package that it links. A
// change is a visible line in a diff; write it anew with
//
//	go test ./test/deps -update
package deps_test

import (
	"context"
	"debug/elf"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden list")

const (
	module  = "github.com/akv2k8s/akv2k8s/"
	program = module + "cmd/azure-keyvault-env"
	golden  = "azure-keyvault-env.txt"

	// maxBytes bounds the stripped binary: it is copied into memory for each pod.
	maxBytes = 6_200_000
)

// allowed are the packages beside the standard library's: the program, its shell,
// and the innermost ring as far as that needs the standard library alone.
var allowed = []string{
	program,
	module + "internal/envexec",
	module + "internal/brokerapi",
	module + "internal/placeholder",
	module + "internal/secret",
}

var platforms = []string{"linux/amd64", "linux/arm64"}

// run is the go command for one platform, as releases use it.
func run(ctx context.Context, t *testing.T, platform string, args ...string) string {
	t.Helper()
	goos, goarch, _ := strings.Cut(platform, "/")
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GOEXPERIMENT=")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// linked lists the packages of the program on any platform. The standard
// library's internal packages are its own affair and change with its releases.
func linked(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, p := range platforms {
		all = append(all, strings.Fields(run(t.Context(), t, p, "list", "-deps", program))...)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(pkg string) bool {
		return standard(pkg) && slices.Contains(strings.Split(pkg, "/"), "internal") || strings.HasPrefix(pkg, "vendor/")
	})
}

// standard goes by the first element, which is a host's name for all others.
func standard(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return !strings.Contains(first, ".")
}

func TestLinkedPackages(t *testing.T) {
	t.Parallel()
	got := linked(t)
	for _, pkg := range got {
		if !standard(pkg) && !slices.Contains(allowed, pkg) {
			t.Errorf("%s is linked: neither the standard library nor the innermost ring", pkg)
		}
	}
	if t.Failed() {
		return
	}
	text := strings.Join(got, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Fields(string(want)), got); d != "" {
		t.Errorf("the linked packages changed; if that is meant, run go test ./test/deps -update\n-want +got\n%s", d)
	}
}

func TestBinary(t *testing.T) {
	t.Parallel()
	for _, p := range platforms {
		t.Run(filepath.Base(p), func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "azure-keyvault-env")
			run(t.Context(), t, p, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.version=v0.0.0", "-o", file, program)
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %d bytes", p, info.Size())
			if info.Size() > maxBytes {
				t.Errorf("%d bytes, want at most %d", info.Size(), maxBytes)
			}
			mustStandAlone(t, file)
		})
	}
}

// maxDirectBytes bounds the program of direct mode, with which internal/inject fits a
// volume and the memory for copying.
const maxDirectBytes = 15_000_000

func TestDirectBinary(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "azure-keyvault-env")
	run(t.Context(), t, platforms[0], "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", file, program+"-direct")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", info.Size())
	if info.Size() >= maxDirectBytes {
		t.Errorf("%d bytes, want less than %d", info.Size(), maxDirectBytes)
	}
	mustStandAlone(t, file)
}

// mustStandAlone demands a static program: an image may hold nothing else.
func mustStandAlone(t *testing.T, file string) {
	t.Helper()
	binary, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = binary.Close() }()
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s asks for a loader", file)
		}
	}
	if libraries, err := binary.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("%s needs %v (%v)", file, libraries, err)
	}
}
