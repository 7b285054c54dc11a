// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
)

// The defaults are a golden of their own; every value set is one of what it
// changes, so that a review sees the effect of a value and nothing else.
func TestGolden(t *testing.T) {
	t.Parallel()
	defaults := mustTemplate(t, product, "akv2k8s", "--set", "crds.install=false")
	golden(t, "testdata/default.yaml", defaults)
	for name, values := range cases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := mustTemplate(t, product, "akv2k8s", "--set", "crds.install=false", "--values", values)
			change := diff.Diff("default", defaults, name, out)
			if len(change) == 0 {
				t.Error("these values change nothing")
			}
			golden(t, filepath.Join(filepath.Dir(values), "change.diff"), change)
		})
	}
}

// TestGuardGolden keeps what the exec guard consists of, for an API server to judge.
func TestGuardGolden(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"exec-guard", "exec-guard-injected"} {
		dir := filepath.Join("testdata", name)
		args := []string{"--set", "crds.install=false", "--values", filepath.Join(dir, "values.yaml")}
		for _, part := range []string{"env-injector/exec-guard", "env-injector/admission", "env-injector/rbac", "broker/rbac"} {
			args = append(args, "--show-only", "templates/"+part+".yaml")
		}
		golden(t, filepath.Join(dir, "objects.yaml"), mustTemplate(t, product, "akv2k8s", args...))
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s differs; -update rewrites it:\n%s", file, diff.Diff("want", want, "got", got))
	}
}

// TestRenderingTwiceGivesTheSame stands for an upgrade that changes nothing: no
// certificate, password or time is made while rendering.
func TestRenderingTwiceGivesTheSame(t *testing.T) {
	t.Parallel()
	for name, values := range cases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := mustTemplate(t, product, "akv2k8s", "--values", values)
			second := mustTemplate(t, product, "akv2k8s", "--values", values)
			if !bytes.Equal(first, second) {
				t.Errorf("two renders differ:\n%s", diff.Diff("first", first, "second", second))
			}
		})
	}
}
