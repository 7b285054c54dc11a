// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/json"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// Annotations of a pod about one of its containers, whose name follows.
const (
	// AnnotationInject "false" leaves a container alone, placeholders and all.
	AnnotationInject = "inject.env-injector.spv.no/"
	// AnnotationEntrypoint is what the container's image runs, as a JSON list: its
	// entrypoint, and its cmd unless the container has args. No registry is asked.
	AnnotationEntrypoint = "entrypoint.env-injector.spv.no/"
	// AnnotationExec lists, separated by commas, handlers of the container whose exec
	// command gets the values too, or is "all".
	AnnotationExec = "exec.env-injector.spv.no/"
	// AnnotationCoreDumps "allow" leaves the container's program the core dumps that it
	// would have without us. The values are in them.
	AnnotationCoreDumps = "core-dumps.env-injector.spv.no/"
)

// annotations refuses those that cannot be understood: who writes one relies on it.
func annotations(in *injection) {
	for _, key := range slices.Sorted(maps.Keys(in.annotations)) {
		prefix, container, _ := strings.Cut(key, "/")
		rule, ours := rules[prefix+"/"]
		if !ours {
			continue
		}
		if !in.hasContainer(container) {
			in.warn("annotation %s has no effect: the pod has no container or init container of this name", key)
			continue
		}
		if !rule.holds(in.annotations[key]) {
			in.refuse("annotation %s must be %s", key, rule.says)
		}
	}
}

// A rule is what the values of an annotation must be.
type rule struct {
	holds func(string) bool
	says  string
}

var rules = map[string]rule{
	AnnotationInject:     {func(v string) bool { return v == "true" || v == "false" }, `"true" or "false"`},
	AnnotationEntrypoint: {func(v string) bool { return entrypointOf(v) != nil }, `a JSON list of texts, for example ["/app","serve"]`},
	AnnotationCoreDumps:  {func(v string) bool { return v == brokerapi.CoreDumpsAllowed }, `"allow", or not be there`},
	AnnotationExec:       {func(v string) bool { _, ok := handlersOf(v); return ok }, `"all", or some of ` + strings.Join(handlers, ",")},
}

// entrypointOf is nil for what is not a list of texts, or an empty one.
func entrypointOf(text string) []string {
	var list []string
	if json.Unmarshal([]byte(text), &list) != nil || len(list) == 0 {
		return nil
	}
	return list
}

// handlersOf lists the handlers that an annotation names.
func handlersOf(text string) ([]string, bool) {
	if text == "all" {
		return handlers, true
	}
	var list []string
	for name := range strings.SplitSeq(text, ",") {
		name = strings.TrimSpace(name)
		if !slices.Contains(handlers, name) {
			return nil, false
		}
		list = append(list, name)
	}
	return list, true
}
