// SPDX-License-Identifier: Apache-2.0

package secret_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mayReveal lists where bytes leave a Value. Packages that turn one value into
// another may; of the rest there are exactly three places where a value leaves
// the process, and a fourth must be argued for here.
var mayReveal = map[string]string{
	"internal/secret":             "the type itself",
	"internal/certs":              "takes certificates apart, into Values",
	"internal/render":             "renders Values from Values",
	"internal/plan":               "compares an output with what it should be",
	"internal/cluster/outputs.go": "leaves: writing an output",
	"internal/broker/outcome.go":  "leaves: answering the pod",
}

func TestRevealIsRare(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	used := map[string]bool{}
	for _, dir := range []string{"api", "cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
				strings.HasSuffix(filepath.Dir(path), "test") {
				return err
			}
			file, err := filepath.Rel(root, path)
			if err != nil || !reveals(t, path) {
				return err
			}
			switch folder := filepath.Dir(file); {
			case mayReveal[file] != "":
				used[file] = true
			case mayReveal[folder] != "":
				used[folder] = true
			default:
				t.Errorf("%s reveals a value: who may is listed in this test", file)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for place := range mayReveal {
		if _, err := os.Stat(filepath.Join(root, place)); err != nil || !used[place] && place != "internal/secret" && place != "internal/plan" {
			t.Errorf("%s reveals nothing: take it off the list", place)
		}
	}
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
