// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A metric is what the code registers, or what the page says of it.
type metric struct {
	Type   string
	Labels []string
}

const ours = "akv2k8s_"

// TestMetricsPageSaysWhatIsRegistered holds names, types and labels of docs/metrics.md
// to the code, both ways.
func TestMetricsPageSaysWhatIsRegistered(t *testing.T) {
	if d := cmp.Diff(registeredMetrics(t), describedMetrics(t)); d != "" {
		t.Errorf("metrics of the code and of docs/metrics.md differ, -code +page:\n%s", d)
	}
}

// TestDocumentsNameMetricsThatExist: an expression over a metric that was renamed
// is empty for ever.
func TestDocumentsNameMetricsThatExist(t *testing.T) {
	known := registeredMetrics(t)
	name := regexp.MustCompile(`\b` + ours + `[a-z_]+`)
	walkAll(t, func(path, text string) {
		if filepath.Ext(path) != ".md" || strings.HasPrefix(filepath.Base(path), "upgrading-") { // which names those of 1.x
			return
		}
		for _, found := range name.FindAllString(text, -1) {
			base := found
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if m := known[strings.TrimSuffix(found, suffix)]; m.Type == "histogram" {
					base = strings.TrimSuffix(found, suffix)
				}
			}
			if _, ok := known[base]; !ok {
				t.Errorf("%s names %s, which nobody registers", path, found)
			}
		}
	})
}

// describedMetrics reads the page's tables of metrics.
func describedMetrics(t *testing.T) map[string]metric {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `(" + ours + "[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\| .+ \\|$")
	out := map[string]metric{}
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		if _, twice := out[m[1]]; twice {
			t.Errorf("docs/metrics.md describes %s twice", m[1])
		}
		var labels []string
		for _, label := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(m[3], -1) {
			labels = append(labels, label[1])
		}
		slices.Sort(labels)
		out[m[1]] = metric{m[2], labels}
	}
	return out
}

// registeredMetrics reads the calls that make them.
func registeredMetrics(t *testing.T) map[string]metric {
	t.Helper()
	out := map[string]metric{}
	walk(t, func(path, text string) {
		if strings.HasSuffix(path, "_test.go") || !strings.Contains(text, `"`+ours) {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(out, metricsOf(t, file))
	}, "internal", "cmd")
	if len(out) == 0 {
		t.Fatal("no metric found: the test looks in the wrong place")
	}
	return out
}

func metricsOf(t *testing.T, file *ast.File) map[string]metric {
	t.Helper()
	out, helpers := map[string]metric{}, helpersOf(file)
	var calls []*ast.CallExpr // that enclose the node, the innermost last
	var visit func(ast.Node) bool
	visit = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			calls = append(calls, n)
			for _, child := range append([]ast.Expr{n.Fun}, n.Args...) {
				ast.Inspect(child, visit)
			}
			calls = calls[:len(calls)-1]
			return false
		case *ast.BasicLit:
			name, ok := literal(n)
			if !ok || !strings.HasPrefix(name, ours) {
				return true
			}
			if len(calls) == 0 {
				t.Errorf("%s is named outside of a call: the test does not see what it is", name)
				return true
			}
			m := made(calls[len(calls)-1], helpers)
			if m.Type == "" {
				t.Errorf("the test does not see what %s is: make it by a constructor of prometheus, or by a function made of one", name)
			}
			out[name] = m
		}
		return true
	}
	ast.Inspect(file, visit)
	return out
}

// helpersOf are the functions in variables that make metrics, by name: the call that
// each makes.
func helpersOf(file *ast.File) map[string]*ast.CallExpr {
	out := map[string]*ast.CallExpr{}
	ast.Inspect(file, func(n ast.Node) bool {
		assign, ok := n.(*ast.AssignStmt)
		if !ok || len(assign.Lhs) != 1 || len(assign.Rhs) != 1 {
			return true
		}
		name, named := assign.Lhs[0].(*ast.Ident)
		function, isFunction := assign.Rhs[0].(*ast.FuncLit)
		if !named || !isFunction {
			return true
		}
		ast.Inspect(function.Body, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && typeOf(call) != "" {
				out[name.Name] = call
			}
			return true
		})
		return true
	})
	return out
}

// made is what a call makes.
func made(call *ast.CallExpr, helpers map[string]*ast.CallExpr) metric {
	if name, ok := call.Fun.(*ast.Ident); ok && helpers[name.Name] != nil {
		call = helpers[name.Name]
	}
	var labels []string
	ast.Inspect(call, func(n ast.Node) bool {
		composite, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		switch of := composite.Type.(type) {
		case *ast.ArrayType: // the labels; numbers are the buckets
			if element, ok := of.Elt.(*ast.Ident); ok && element.Name == "string" {
				labels = append(labels, texts(composite.Elts)...)
			}
		case *ast.SelectorExpr:
			if of.Sel.Name == "Labels" {
				labels = append(labels, texts(composite.Elts)...)
			}
		}
		return true
	})
	slices.Sort(labels)
	return metric{typeOf(call), labels}
}

// types are the constructors of package prometheus by what they make. What has a
// Desc of its own is counted when somebody asks.
var types = map[string]string{
	"NewCounter": "counter", "NewCounterVec": "counter",
	"NewGauge": "gauge", "NewGaugeVec": "gauge", "NewGaugeFunc": "gauge", "NewDesc": "gauge",
	"NewHistogram": "histogram", "NewHistogramVec": "histogram",
}

func typeOf(call *ast.CallExpr) string {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	return types[selector.Sel.Name]
}

// texts are the literals among expressions, and the keys of pairs.
func texts(expressions []ast.Expr) []string {
	var out []string
	for _, e := range expressions {
		if pair, ok := e.(*ast.KeyValueExpr); ok {
			e = pair.Key
		}
		if lit, ok := e.(*ast.BasicLit); ok {
			if text, ok := literal(lit); ok {
				out = append(out, text)
			}
		}
	}
	return out
}

func literal(lit *ast.BasicLit) (string, bool) {
	if lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}
