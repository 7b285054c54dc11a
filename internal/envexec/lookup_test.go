// SPDX-License-Identifier: Apache-2.0

package envexec_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/akv2k8s/akv2k8s/internal/envexec"
)

func file(t *testing.T, mode os.FileMode, elements ...string) {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/true\n"), mode); err != nil {
		t.Fatal(err)
	}
}

func TestLookup(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	file(t, 0o755, dir, "one", "tool")
	file(t, 0o755, dir, "two", "tool")
	file(t, 0o644, dir, "plain", "tool")
	file(t, 0o755, dir, "here")
	if err := os.MkdirAll(filepath.Join(dir, "folder", "tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	one, two, plain, folder := filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "plain"), filepath.Join(dir, "folder")
	cases := map[string]struct {
		program, path string
		want          string // empty: refused with status
		status        int
	}{
		"FirstOfPath":        {"tool", one + ":" + two, one + "/tool", 0},
		"SkipsPlainFile":     {"tool", plain + ":" + two, two + "/tool", 0},
		"SkipsDirectory":     {"tool", folder + ":" + two, two + "/tool", 0},
		"OnlyPlainFile":      {"tool", plain, "", envexec.ExitNotExecutable},
		"OnlyDirectory":      {"tool", folder, "", envexec.ExitNotFound},
		"Nowhere":            {"nosuch", one + ":" + two, "", envexec.ExitNotFound},
		"NoSuchDirectory":    {"tool", "/nosuch:" + one, one + "/tool", 0},
		"FileInPath":         {"tool", one + "/tool:" + two, two + "/tool", 0},
		"EmptyEntryIsHere":   {"here", one + "::" + two, "./here", 0},
		"RelativeEntry":      {"tool", "one", "one/tool", 0},
		"AbsolutePath":       {two + "/tool", one, two + "/tool", 0},
		"RelativePath":       {"two/tool", one, "two/tool", 0},
		"PathToPlainFile":    {plain + "/tool", one, "", envexec.ExitNotExecutable},
		"PathToDirectory":    {one + "/", one, "", envexec.ExitNotExecutable},
		"PathToNothing":      {"./nosuch", one, "", envexec.ExitNotFound},
		"PathThroughAFile":   {one + "/tool/x", one, "", envexec.ExitNotFound},
		"EmptyNameIsNothing": {"", one, "", envexec.ExitNotFound},
		"DotIsNothing":       {".", one + "/tool", "", envexec.ExitNotFound},
		"DotDotIsNothing":    {"..", one + "/tool/x", "", envexec.ExitNotFound},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := envexec.Lookup(tc.program, tc.path)
			if tc.want == "" {
				if err == nil || envexec.Status(err) != tc.status {
					t.Errorf("Lookup() = %q, %v, want status %d", got, err, tc.status)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("Lookup() = %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

// Without a PATH the search is where runtimes look.
func TestLookupDefaultPath(t *testing.T) {
	t.Parallel()
	if got, err := envexec.Lookup("sh", ""); err != nil || !strings.HasSuffix(got, "/bin/sh") {
		t.Errorf("Lookup() = %q, %v", got, err)
	}
}

// Errors that are not about starting are the wrapper's own.
func TestStatus(t *testing.T) {
	t.Parallel()
	if got := envexec.Status(fmt.Errorf("reading: %w", syscall.ENOENT)); got != envexec.ExitFailed {
		t.Errorf("Status() = %d, want %d", got, envexec.ExitFailed)
	}
}
