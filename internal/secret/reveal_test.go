// SPDX-License-Identifier: Apache-2.0

package secret_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// mayReveal lists where bytes leave a Value. Packages that turn one value into
// another may; of the rest there are exactly four places where a value leaves
// the process, and a fifth must be argued for here.
var mayReveal = map[string]string{
	"internal/certs":              "takes certificates apart, into Values",
	"internal/render":             "renders Values from Values",
	"internal/secret":             "the type itself, which compares and counts",
	"internal/cluster/outputs.go": "leaves: writing an output",
	"internal/broker/outcome.go":  "leaves: answering the pod",
	"internal/direct/direct.go":   "leaves: into the environment of the process that asked for it itself",
	"internal/image":              "leaves: signing in to a registry with a pull secret",
}

func TestRevealIsRare(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, file := range sources(t) {
		if !reveals(t, filepath.Join(root, file)) {
			continue
		}
		place := file
		if mayReveal[place] == "" {
			place = filepath.Dir(file)
		}
		used[place] = true
		if mayReveal[place] == "" {
			t.Errorf("%s reveals a value: who may is listed in this test", file)
		}
	}
	for place := range mayReveal {
		if !used[place] {
			t.Errorf("%s reveals nothing: take it off the list", place)
		}
	}
}

var root = filepath.Join("..", "..")

// sources lists what is linked into programs: no tests, and no packages for them.
func sources(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, dir := range []string{"api", "cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			inTest := strings.HasSuffix(path, "_test.go") || strings.HasSuffix(filepath.Dir(path), "test")
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || inTest {
				return err
			}
			file, err := filepath.Rel(root, path)
			files = append(files, file)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// reveals says whether a file calls Reveal of something.
func reveals(t *testing.T, path string) bool {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Reveal" {
			found = true
		}
		return true
	})
	return found
}
