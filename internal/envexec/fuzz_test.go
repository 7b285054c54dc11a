// SPDX-License-Identifier: Apache-2.0

package envexec_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/envexec"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// Whatever an environment and an answer hold, either there is an environment without
// the wrapper's variables, in which all others are as they were, or a sentence
// without a value.
func FuzzFill(f *testing.F) {
	f.Add("A=x@azurekeyvault\nB=2\nENV_INJECTOR_X=1", "x@azurekeyvault", "y@azurekeyvault")
	f.Add("A=<x@azurekeyvault?q>@@azurekeyvault\n=\nB", "x@azurekeyvault?q", "")
	f.Add("A=x@azurekeyvault;default=a=b\nA=x@azurekeyvault;optional", "", "x@azurekeyvault")
	f.Fuzz(func(t *testing.T, environ, key, absent string) {
		const value = "\x01hunter2\x01" // in no input by chance, nor printable
		entries := strings.Split(environ, "\n")
		got, err := envexec.Fill(entries, brokerapi.Response{Values: map[string][]byte{key: []byte(value)}, Absent: []string{absent}})
		if err != nil {
			if got != nil || strings.Contains(err.Error(), value) {
				t.Fatalf("Fill() = %q, %v", got, err)
			}
			return
		}
		others := slices.DeleteFunc(entries, func(e string) bool {
			_, text, _ := strings.Cut(e, "=")
			return strings.HasPrefix(e, brokerapi.EnvPrefix) || placeholder.In(text)
		})
		for _, entry := range got {
			if strings.HasPrefix(entry, brokerapi.EnvPrefix) {
				t.Fatalf("%q reaches the program", entry)
			}
			if len(others) > 0 && entry == others[0] {
				others = others[1:]
			}
		}
		if len(others) > 0 {
			t.Fatalf("%q did not stay in its place in %q", others, got)
		}
	})
}

// What is found is a file of that name that can be executed.
func FuzzLookup(f *testing.F) {
	dir := f.TempDir()
	f.Chdir(dir)
	for path, mode := range map[string]os.FileMode{"bin/tool": 0o755, "plain/tool": 0o644, "here": 0o755} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			f.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			f.Fatal(err)
		}
	}
	f.Add("tool", "plain:bin")
	f.Add("here", ":/nowhere")
	f.Add("bin/tool", "")
	f.Add(".", "bin/tool")
	f.Add("..", "bin/tool/x:.")
	f.Fuzz(func(t *testing.T, program, path string) {
		got, err := envexec.Lookup(program, path)
		if err != nil {
			if status := envexec.Status(err); status != envexec.ExitNotFound && status != envexec.ExitNotExecutable {
				t.Fatalf("status %d for %v", status, err)
			}
			return
		}
		info, err := os.Stat(got)
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 || !strings.HasSuffix(got, program) || !strings.Contains(got, "/") {
			t.Fatalf("Lookup(%q, %q) = %q, %v", program, path, got, err)
		}
	})
}
