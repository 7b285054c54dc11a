// SPDX-License-Identifier: Apache-2.0

package v2beta1_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// reasons are the constants Reason… of conditions.go.
func reasons(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "conditions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			t.Fatalf("%s is not a literal", spec.Names[0])
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, text)
		return true
	})
	slices.Sort(out)
	return out
}

// Whoever reads a reason finds a page of that name, and no page speaks of a
// reason that there is not.
func TestEveryReasonHasItsRunbook(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(filepath.Join("..", "..", "docs", "runbooks"))
	if err != nil {
		t.Fatal(err)
	}
	var pages []string
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), ".md"); ok && name != "README" {
			pages = append(pages, name)
		}
	}
	slices.Sort(pages)
	if diff := cmp.Diff(reasons(t), pages); diff != "" {
		t.Errorf("docs/runbooks (-reasons +pages):\n%s", diff)
	}
}

// The API server takes no other form for a condition's reason.
func TestReasonsAreWellFormed(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[A-Z][A-Za-z]{2,63}$`)
	for _, reason := range reasons(t) {
		if !form.MatchString(reason) {
			t.Errorf("reason %q", reason)
		}
	}
}
