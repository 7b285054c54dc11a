// SPDX-License-Identifier: Apache-2.0

// Package rules_test holds what no compiler and no linter sees: that documents
// and code say the same, and that values leave the process where they should and
// nowhere else.
package rules_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// reasons are the values of the Reason constants of the API.
func reasons(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "api/v2beta1/conditions.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, text)
		return true
	})
	if len(found) == 0 {
		t.Fatal("no reason found: the test looks in the wrong place")
	}
	slices.Sort(found)
	return found
}

func TestEachReasonHasItsRunbook(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "docs/runbooks/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, page := range pages {
		names = append(names, strings.TrimSuffix(filepath.Base(page), ".md"))
	}
	if d := cmp.Diff(reasons(t), names); d != "" {
		t.Errorf("reasons of api/v2beta1 and pages of docs/runbooks differ, -reason +page:\n%s", d)
	}
}

func TestEachReasonIsInTheReference(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/spec/azurekeyvaultsecret.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range reasons(t) {
		if !strings.Contains(string(text), "[`"+reason+"`](../runbooks/"+reason+".md)") {
			t.Errorf("docs/spec/azurekeyvaultsecret.md has no row for %s", reason)
		}
	}
}

// A value leaves a process by Reveal. Within rings 0 and 1 it only becomes
// another value; it goes out into the world in three places (the
// wrapper is on the other side of the wire and never holds a Value). The fourth is of
// credentials for registries, in a process that never sees a vault's value.
var exits = []string{
	"internal/broker",  // answering the pod that asked
	"internal/cluster", // writing an output
	"internal/direct",  // filling the environment of the very process
	"internal/image",   // signing in to the registry that a pull secret names
}

func TestValuesLeaveWhereWeSay(t *testing.T) {
	within := regexp.MustCompile(`^internal/(secret|vault|certs|render)(/|$)`)
	found := map[string]bool{}
	walk(t, func(path string, text string) {
		dir := filepath.Dir(path)
		if !strings.HasSuffix(path, "_test.go") && strings.Contains(text, ".Reveal()") && !within.MatchString(dir) {
			found[dir] = true
		}
	}, "internal", "cmd")
	for dir := range found {
		if !slices.Contains(exits, dir) {
			t.Errorf("%s reveals a value: values leave a process in %v only", dir, exits)
		}
	}
}

func TestTheProjectSpeaksOfItselfAlone(t *testing.T) {
	foreign := regexp.MustCompile(`(?i)(\.\./shared|issue #?\d|` + strings.Join(ofThisMachine(t), "|") + `)`)
	walkAll(t, func(path, text string) {
		if strings.HasSuffix(path, "rules_test.go") || strings.HasSuffix(path, ".sum") {
			return
		}
		if m := foreign.FindString(text); m != "" {
			t.Errorf("%s says %q", path, m)
		}
	})
}

// ofThisMachine are patterns of where the checkout is and where modules come from.
func ofThisMachine(t *testing.T) []string {
	t.Helper()
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	patterns := []string{regexp.QuoteMeta(here) + `\b`}
	proxies, err := exec.CommandContext(t.Context(), "go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range regexp.MustCompile(`[a-z0-9-]+(\.[a-z0-9-]+)+`).FindAllString(string(proxies), -1) {
		patterns = append(patterns, regexp.QuoteMeta(host))
	}
	return patterns
}

// The page about upgrading says of each surface which test holds it.
func TestTheUpgradePageNamesTests(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs/upgrading-from-akv2k8s-1.x.md"))
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	walkAll(t, func(path, text string) {
		if strings.HasSuffix(path, "_test.go") {
			tests.WriteString(text)
		}
	})
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) == 0 {
		t.Error("the page names no test")
	}
	for _, m := range named {
		if !strings.Contains(tests.String(), "func "+m[1]+"(") {
			t.Errorf("the page names %s, which does not exist", m[1])
		}
	}
}

func walk(t *testing.T, visit func(path, text string), dirs ...string) {
	t.Helper()
	walkAll(t, func(path, text string) {
		for _, dir := range dirs {
			if strings.HasPrefix(path, dir+"/") && strings.HasSuffix(path, ".go") {
				visit(path, text)
			}
		}
	})
}

// walkAll visits every text that the repository could hold.
func walkAll(t *testing.T, visit func(path, text string)) {
	t.Helper()
	skip := []string{".git", "bin", "dist"}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(skip, entry.Name()):
			return filepath.SkipDir
		case !entry.Type().IsRegular(), entry.Name() == ".git": // a file in a worktree
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		visit(rel, string(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
