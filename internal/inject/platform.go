// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// Node is what of a node decides anything: what selectors see, and what mounts images.
type Node struct {
	Name          string
	Labels        map[string]string
	Unschedulable bool   // cordoned
	Kubelet       string // its version, as in .status.nodeInfo
	Runtime       string // of containers, as NAME://VERSION
}

// linux holds for a node that does not say what it is, too.
func (n Node) linux() bool {
	os := n.Labels[corev1.LabelOSStable]
	return os == "" || os == string(corev1.Linux)
}

// Architectures lists, as GOARCH and sorted, where the pod may run: the
// architectures of the Linux nodes that its node name, node selector and required
// node affinity admit. Taints and free space are passed over: they come and go.
//
// If no node of now fits, one may still come, so what the pod says of
// kubernetes.io/arch and kubernetes.io/os alone decides among the architectures
// that it or a node names. If that leaves none either, the nodes' count.
func (p *Pod) Architectures(nodes []Node) []string {
	linux := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return !n.linux() })
	fit := slices.DeleteFunc(slices.Clone(linux), func(n Node) bool { return !p.fits(n, nil) })
	if found := architectures(fit); len(found) > 0 {
		return found
	}
	all := architectures(linux)
	var imagined []Node
	for _, arch := range append(p.named(), all...) {
		imagined = append(imagined, Node{Labels: map[string]string{corev1.LabelArchStable: arch, corev1.LabelOSStable: string(corev1.Linux)}})
	}
	fit = slices.DeleteFunc(imagined, func(n Node) bool { return !p.fits(n, platformLabels) })
	if found := architectures(fit); len(found) > 0 {
		return found
	}
	return all
}

// platformLabels are what a node to come can be judged by.
var platformLabels = []string{corev1.LabelArchStable, corev1.LabelOSStable}

func architectures(nodes []Node) []string {
	var found []string
	for _, n := range nodes {
		if arch := n.Labels[corev1.LabelArchStable]; arch != "" {
			found = append(found, arch)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// named lists the architectures that the pod speaks of.
func (p *Pod) named() []string {
	var found []string
	if arch := p.object.Spec.NodeSelector[corev1.LabelArchStable]; arch != "" {
		found = append(found, arch)
	}
	for _, term := range p.terms() {
		for _, r := range term.MatchExpressions {
			if r.Key == corev1.LabelArchStable {
				found = append(found, r.Values...)
			}
		}
	}
	return found
}

// terms of the required node affinity, of which one must hold; nil without one.
func (p *Pod) terms() []corev1.NodeSelectorTerm {
	a := p.object.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	return a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
}

// fits judges a node as the scheduler does, or by some labels only.
func (p *Pod) fits(n Node, only []string) bool {
	spec := &p.object.Spec
	if only == nil && spec.NodeName != "" && spec.NodeName != n.Name {
		return false
	}
	for key, value := range spec.NodeSelector {
		if judged(key, only) && n.Labels[key] != value {
			return false
		}
	}
	terms := p.terms()
	return terms == nil || slices.ContainsFunc(terms, func(t corev1.NodeSelectorTerm) bool { return n.meets(t, only) })
}

func judged(key string, only []string) bool { return only == nil || slices.Contains(only, key) }

// meets holds for no node if the term is empty, as in the scheduler.
func (n Node) meets(t corev1.NodeSelectorTerm, only []string) bool {
	if len(t.MatchExpressions)+len(t.MatchFields) == 0 {
		return false
	}
	for _, r := range t.MatchExpressions {
		if judged(r.Key, only) && !matches(r, n.Labels) {
			return false
		}
	}
	for _, r := range t.MatchFields { // the controller of a DaemonSet names the node so
		if only == nil && !matches(r, labels.Set{"metadata.name": n.Name}) {
			return false
		}
	}
	return true
}

// matches is false for a requirement that is none, as in the scheduler.
func matches(r corev1.NodeSelectorRequirement, set labels.Set) bool {
	// Kubernetes' words for them differ by the first letter's case.
	operator := selection.Operator(strings.ToLower(string(r.Operator)))
	switch r.Operator {
	case corev1.NodeSelectorOpDoesNotExist:
		operator = selection.DoesNotExist
	case corev1.NodeSelectorOpGt:
		operator = selection.GreaterThan
	case corev1.NodeSelectorOpLt:
		operator = selection.LessThan
	default:
	}
	requirement, err := labels.NewRequirement(r.Key, operator, r.Values)
	return err == nil && requirement.Matches(set)
}

// fallbacks are the platforms whose images a container runtime also starts, best
// first, as containerd has them: a kernel of arm64 runs 32-bit programs, and arm
// means v7 unless a variant is named.
var fallbacks = map[string][]string{
	"amd64": {"amd64", "386"},
	"arm64": {"arm64/v8", "arm/v8", "arm/v7", "arm/v6", "arm/v5"},
	"arm":   {"arm/v7", "arm/v6", "arm/v5"},
}

// PlatformRank says how well an image for architecture and variant suits nodes of
// an architecture: 0 is best, -1 not at all.
func PlatformRank(node, architecture, variant string) int {
	switch {
	case architecture == "arm64" && variant == "":
		variant = "v8"
	case architecture == "arm" && variant == "":
		variant = "v7"
	case architecture == "amd64" && variant == "v1":
		variant = ""
	}
	platform := strings.TrimSuffix(architecture+"/"+variant, "/")
	known, ok := fallbacks[node]
	if !ok { // such as riscv64 and s390x, which have no variants to choose among
		known = []string{node}
		platform = architecture
	}
	return slices.Index(known, platform)
}
