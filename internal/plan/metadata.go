// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
)

type ownerReference = metav1.OwnerReference

var errMetadata = errors.New("labels or annotations of the output are not as Kubernetes takes them, or are reserved")

// options are those of one output.
func (f Facts) options(kind render.Kind) v2beta1.OutputOptions {
	switch out := f.AKVS.Spec.Output; {
	case kind == render.Secret && out.Secret != nil:
		return out.Secret.OutputOptions
	case kind == render.ConfigMap && out.ConfigMap != nil:
		return out.ConfigMap.OutputOptions
	}
	return v2beta1.OutputOptions{}
}

// reserved are the labels and annotations that make Kubernetes act, and our own.
var reserved = regexp.MustCompile(`^([^/]*\.)?(kubernetes\.io|k8s\.io|spv\.no)/`)

// own are ours; labels of Kubernetes' domains, such as app.kubernetes.io/name, are
// anybody's.
var own = regexp.MustCompile(`^([^/]*\.)?spv\.no/`)

// tools are the labels and annotations by which kubectl, Helm, Argo CD and Flux
// know what they applied. On an output they would have it pruned, or shown as a
// difference.
var tools = regexp.MustCompile(`^(app\.kubernetes\.io/(managed-by|instance)$|([^/]*\.)?(helm\.sh|argoproj\.io|fluxcd\.io|kubectl\.kubernetes\.io)/)`)

// checkMetadata says whether the API server would take what the spec asks for.
func checkMetadata(o v2beta1.OutputOptions) error {
	for key, value := range o.Labels {
		if len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 || strings.HasPrefix(key, "spv.no/") {
			return errMetadata
		}
	}
	size := 0
	for key, value := range o.Annotations {
		size += len(key) + len(value)
		if len(validation.IsQualifiedName(strings.ToLower(key))) > 0 || reserved.MatchString(key) {
			return errMetadata
		}
	}
	if size > maxAnnotations {
		return errMetadata
	}
	return nil
}

// maxAnnotations is what all annotations together may have, in bytes:
// TotalAnnotationSizeLimitB of k8s.io/apimachinery.
const maxAnnotations = 256 * 1024

// metadata are the labels and annotations that the output should have from us:
// those of the spec or, if it names none, those of the resource itself. What
// somebody else keeps under the same name is left to them, so that no dispute over
// it ever holds up the data. Labels come first, then annotations.
func (f Facts) metadata(o Output, m marks) (map[string]string, map[string]string) {
	options := f.options(o.Kind)
	labels, annotations := options.Labels, options.Annotations
	if labels == nil {
		labels = carried(f.AKVS.Labels, own)
	}
	if annotations == nil {
		annotations = carried(f.AKVS.Annotations, reserved)
	}
	if seen := o.Observed; seen != nil {
		labels = f.granted(o, labels, seen.Labels, seen.LabelManagers)
		annotations = f.granted(o, annotations, seen.Annotations, seen.AnnotationManagers)
	} else {
		labels, annotations = f.granted(o, labels, nil, nil), f.granted(o, annotations, nil, nil)
	}
	labels[v2beta1.OutputLabel] = v2beta1.OutputLabelValue
	if m.adopted {
		labels[v2beta1.AdoptedLabel] = v2beta1.AdoptedLabelValue
	}
	if m.guests {
		labels[v2beta1.GuestsLabel] = v2beta1.GuestsLabelValue
	}
	return labels, annotations
}

func carried(entries map[string]string, never *regexp.Regexp) map[string]string {
	out := map[string]string{}
	for key, value := range entries {
		if !tools.MatchString(key) && !never.MatchString(key) {
			out[key] = value
		}
	}
	return out
}

// granted is a copy of want without what others keep.
func (f Facts) granted(o Output, want, seen map[string]string, managers map[string][]string) map[string]string {
	out := map[string]string{}
	for key, value := range want {
		if held, exists := seen[key]; !exists || held == value || f.outranks(o, managers[key]) {
			out[key] = value
		}
	}
	return out
}

// outranks says whether everybody in the list gives way to us.
func (f Facts) outranks(o Output, managers []string) bool {
	for _, manager := range managers {
		if manager == Manager(f.AKVS.UID) {
			continue
		}
		if !isOurs(manager) {
			return false
		}
		if slices.ContainsFunc(o.Rivals, func(r Rival) bool { return Manager(r.UID) == manager && f.yields(r) }) {
			return false
		}
	}
	return len(managers) > 0
}

// sameMetadata says whether all that is wanted is there and ours, and nothing of
// ours besides.
func (f Facts) sameMetadata(seen map[string]string, managers map[string][]string, want map[string]string) bool {
	mine := Manager(f.AKVS.UID)
	for key, value := range want {
		if held, ok := seen[key]; !ok || held != value || !slices.Contains(managers[key], mine) {
			return false
		}
	}
	for key, by := range managers {
		if _, wanted := want[key]; !wanted && slices.Contains(by, mine) {
			return false
		}
	}
	return true
}
