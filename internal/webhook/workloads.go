// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/akv2k8s/akv2k8s/internal/inject"
)

// WorkloadsPath is where the API server sends Deployments and the like.
const WorkloadsPath = "/workloads"

// Advise answers one request about a workload. It always allows: its warnings
// tell a person at kubectl apply what will happen to the workload's pods, which
// are made later and by a controller that shows nobody what it is told.
//
// It decides about the template as Handle will about each pod, but asks no
// registry: that takes long, and whoever applies a workload need not wait.
func (h *Handler) Advise(ctx context.Context, req admission.Request) admission.Response {
	answer := admission.Allowed("")
	if req.Operation != admissionv1.Create && req.Operation != admissionv1.Update || req.SubResource != "" {
		return answer
	}
	pod := template(req.Kind.Kind, req.Object.Raw)
	if pod == nil {
		return answer
	}
	return answer.WithWarnings(told(h.unhurried().advice(ctx, req, pod))...)
}

// advice is empty when all is well, and when that cannot be told.
func (h *Handler) advice(ctx context.Context, req admission.Request, pod *inject.Pod) []string {
	if slices.Contains(h.Excluded, req.Namespace) || h.teach(ctx, h.Log, req.Namespace, pod) != nil {
		return nil
	}
	facts, err := h.facts(ctx, h.Log, req, pod)
	if err != nil {
		return nil
	}
	_, report, err := inject.Decide(facts, h.settings(ctx))
	var refusal inject.Refusal
	if !errors.As(err, &refusal) {
		return report.Warnings
	}
	var warnings []string
	for _, problem := range refusal.Problems {
		warnings = append(warnings, "its pods will be refused: "+problem)
	}
	return warnings
}

// unhurried is the same Handler for whom every image is known.
func (h *Handler) unhurried() *Handler {
	o := h.Options
	o.Cluster, o.PullSecrets = uniform{o.Cluster}, nil
	o.Command = func(context.Context, Lookup) (inject.Command, error) {
		return inject.Command{Entrypoint: []string{"unknown"}}, nil
	}
	return &Handler{o}
}

// uniform is a cluster whose nodes need not be known.
type uniform struct{ Cluster }

func (uniform) Nodes(context.Context) ([]inject.Node, error) { return []inject.Node{{}}, nil }

// workload is what Deployment, StatefulSet, DaemonSet, ReplicaSet and Job have in
// common, and where a CronJob has it.
type workload struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		Template    json.RawMessage `json:"template"`
		JobTemplate struct {
			Spec struct {
				Template json.RawMessage `json:"template"`
			} `json:"spec"`
		} `json:"jobTemplate"`
	} `json:"spec"`
}

// template returns the pod that a workload makes, or nil: one that a controller
// owns was made of a template that had its warnings, and one that is being
// deleted makes none any more. A pod is its own.
func template(kind string, raw []byte) *inject.Pod {
	var w workload
	if err := k8sjson.Unmarshal(raw, &w); err != nil || metav1.GetControllerOfNoCopy(&w.Metadata) != nil || w.Metadata.DeletionTimestamp != nil {
		return nil
	}
	text := w.Spec.Template
	switch kind {
	case "Pod":
		text = raw
	case "CronJob":
		text = w.Spec.JobTemplate.Spec.Template
	}
	pod, err := inject.Read(text)
	if err != nil {
		return nil
	}
	return pod
}

const (
	// maxTold bounds the runes of an answer's warnings. When those of a whole
	// request, other webhooks' among them, exceed 4,096, the API server cuts each
	// of them to 256; a quarter is left to the others.
	maxTold = 3 << 10
	// maxWarning bounds one: a name of a variable may have any length.
	maxWarning = 512
)

// told is as many of the warnings as the API server passes on unharmed.
func told(warnings []string) []string {
	out := make([]string, 0, len(warnings))
	left := maxTold
	for i, w := range warnings {
		if utf8.RuneCountInString(w) > maxWarning {
			w = string([]rune(w)[:maxWarning-1]) + "…"
		}
		if left -= utf8.RuneCountInString(w); left < 0 {
			return append(out, fmt.Sprintf("and %d more warnings like these", len(warnings)-i))
		}
		out = append(out, w)
	}
	return out
}
