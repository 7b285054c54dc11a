// SPDX-License-Identifier: Apache-2.0

package inject_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/akv2k8s/akv2k8s/internal/inject"
)

func node(name, os, arch string, more ...string) inject.Node {
	n := inject.Node{Name: name, Labels: map[string]string{"kubernetes.io/os": os, "kubernetes.io/arch": arch}}
	for i := 0; i+1 < len(more); i += 2 {
		n.Labels[more[i]] = more[i+1]
	}
	return n
}

func affinity(terms string) string {
	return "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [" + terms + "]}}}"
}

func TestArchitectures(t *testing.T) {
	t.Parallel()
	mixed := []inject.Node{
		node("intel", "linux", "amd64", "pool", "big", "cores", "8"), node("arm", "linux", "arm64", "pool", "small", "cores", "2"),
		node("windows", "windows", "amd64", "pool", "windows"),
	}
	for name, tc := range map[string]struct {
		nodes []inject.Node
		spec  string
		want  []string
	}{
		"Anywhere":           {mixed, "", []string{"amd64", "arm64"}},
		"NodeSelector":       {mixed, "nodeSelector: {kubernetes.io/arch: arm64}", []string{"arm64"}},
		"OtherLabel":         {mixed, "nodeSelector: {pool: big}", []string{"amd64"}},
		"NodeName":           {mixed, "nodeName: arm", []string{"arm64"}},
		"In":                 {mixed, affinity("{matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [arm64, riscv64]}]}"), []string{"arm64"}},
		"NotIn":              {mixed, affinity("{matchExpressions: [{key: kubernetes.io/arch, operator: NotIn, values: [arm64]}]}"), []string{"amd64"}},
		"Exists":             {mixed, affinity("{matchExpressions: [{key: pool, operator: Exists}]}"), []string{"amd64", "arm64"}},
		"DoesNotExist":       {append(mixed, node("odd", "linux", "s390x")), affinity("{matchExpressions: [{key: pool, operator: DoesNotExist}]}"), []string{"s390x"}},
		"Greater":            {mixed, affinity("{matchExpressions: [{key: cores, operator: Gt, values: ['4']}]}"), []string{"amd64"}},
		"Less":               {mixed, affinity("{matchExpressions: [{key: cores, operator: Lt, values: ['4']}]}"), []string{"arm64"}},
		"AllOfATerm":         {mixed, affinity("{matchExpressions: [{key: pool, operator: Exists}, {key: cores, operator: Gt, values: ['4']}]}"), []string{"amd64"}},
		"AnyTerm":            {mixed, affinity("{matchExpressions: [{key: pool, operator: In, values: [big]}]}, {matchExpressions: [{key: pool, operator: In, values: [small]}]}"), []string{"amd64", "arm64"}},
		"DaemonSet":          {mixed, affinity("{matchFields: [{key: metadata.name, operator: In, values: [arm]}]}"), []string{"arm64"}},
		"SelectorAndTerms":   {mixed, "nodeSelector: {pool: big}\n" + affinity("{matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]}"), []string{"amd64"}},
		"NodeToComeSelector": {mixed[:1], "nodeSelector: {kubernetes.io/arch: arm64, pool: new}", []string{"arm64"}},
		"NodeToComeTerms":    {mixed[:1], affinity("{matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [arm64, arm]}, {key: pool, operator: In, values: [new]}]}"), []string{"arm", "arm64"}},
		"NodeToComeNotIn":    {mixed, affinity("{matchExpressions: [{key: kubernetes.io/arch, operator: NotIn, values: [amd64]}, {key: pool, operator: In, values: [new]}]}"), []string{"arm64"}},
		"NodeToComeUnknown":  {mixed, "nodeSelector: {pool: new}", []string{"amd64", "arm64"}},
		"NoNodeEver":         {mixed, affinity("{matchExpressions: [{key: kubernetes.io/arch, operator: DoesNotExist}]}"), []string{"amd64", "arm64"}},
		"NotAnOperator":      {mixed, affinity("{matchExpressions: [{key: kubernetes.io/arch, operator: Like, values: [arm64]}]}"), []string{"amd64", "arm64"}},
		"EmptyTerm":          {mixed, affinity("{}"), []string{"amd64", "arm64"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw, err := yaml.YAMLToJSON([]byte("spec:\n  " + indent(tc.spec)))
			if err != nil {
				t.Fatal(err)
			}
			pod, err := inject.Read(raw)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, pod.Architectures(tc.nodes)); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func indent(text string) string {
	out := ""
	for _, r := range text {
		out += string(r)
		if r == '\n' {
			out += "  "
		}
	}
	return out
}

func TestPlatformRank(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		node, architecture, variant string
		want                        int
	}{
		{"amd64", "amd64", "", 0},
		{"amd64", "amd64", "v1", 0},
		{"amd64", "amd64", "v3", -1}, // a runtime takes it on request only
		{"amd64", "386", "", 1},
		{"amd64", "arm64", "v8", -1},
		{"arm64", "arm64", "", 0},
		{"arm64", "arm64", "v8", 0},
		{"arm64", "arm", "v7", 2},
		{"arm", "arm", "", 0},
		{"arm", "arm", "v7", 0},
		{"arm", "arm", "v6", 1},
		{"arm", "arm64", "v8", -1},
		{"riscv64", "riscv64", "", 0},
		{"s390x", "s390x", "z14", 0},
		{"s390x", "amd64", "", -1},
	} {
		if got := inject.PlatformRank(tc.node, tc.architecture, tc.variant); got != tc.want {
			t.Errorf("on %s, %s/%s has rank %d; want %d", tc.node, tc.architecture, tc.variant, got, tc.want)
		}
	}
}
