// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
)

type texts = map[string]string

func TestWriteCarriesMetadata(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ofResource, ofSpec  v2beta1.OutputOptions // its labels and annotations
		adopted             bool
		labels, annotations texts // besides our mark
	}{
		"None":    {},
		"Carried": {ofResource: v2beta1.OutputOptions{Labels: texts{"team": "x"}, Annotations: texts{"note": "y"}}, labels: texts{"team": "x"}, annotations: texts{"note": "y"}},
		"ExplicitInstead": {
			ofResource: v2beta1.OutputOptions{Labels: texts{"team": "x"}, Annotations: texts{"note": "y"}},
			ofSpec:     v2beta1.OutputOptions{Labels: texts{"app": "a"}, Annotations: texts{"why": "b"}},
			labels:     texts{"app": "a"}, annotations: texts{"why": "b"},
		},
		"ExplicitLabelsAlone": {
			ofResource: v2beta1.OutputOptions{Labels: texts{"team": "x"}, Annotations: texts{"note": "y"}},
			ofSpec:     v2beta1.OutputOptions{Labels: texts{"app": "a"}},
			labels:     texts{"app": "a"}, annotations: texts{"note": "y"},
		},
		"ExplicitlyNone": {
			ofResource: v2beta1.OutputOptions{Labels: texts{"team": "x"}, Annotations: texts{"note": "y"}},
			ofSpec:     v2beta1.OutputOptions{Labels: texts{}, Annotations: texts{}},
		},
		"OfKubectl":   {ofResource: v2beta1.OutputOptions{Annotations: texts{"kubectl.kubernetes.io/last-applied-configuration": "{}", "kubectl.kubernetes.io/restartedAt": "now"}}},
		"OfHelm":      {ofResource: v2beta1.OutputOptions{Labels: texts{"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "c"}, Annotations: texts{"meta.helm.sh/release-name": "r", "helm.sh/hook": "h"}}},
		"OfArgoCD":    {ofResource: v2beta1.OutputOptions{Labels: texts{"app.kubernetes.io/instance": "i", "argocd.argoproj.io/instance": "i"}, Annotations: texts{"argocd.argoproj.io/tracking-id": "t", "argocd.argoproj.io/sync-wave": "1"}}},
		"OfFlux":      {ofResource: v2beta1.OutputOptions{Labels: texts{"kustomize.toolkit.fluxcd.io/name": "n", "helm.toolkit.fluxcd.io/name": "n"}, Annotations: texts{"reconcile.fluxcd.io/requestedAt": "now"}}},
		"OfOurselves": {ofResource: v2beta1.OutputOptions{Labels: texts{"spv.no/output-of": "x", "spv.no/adopted": "true"}, Annotations: texts{v2beta1.RefreshAnnotation: "now", "spv.no/adopt-by": "x"}}},
		"OfKubernetes": {
			ofResource: v2beta1.OutputOptions{Labels: texts{"app.kubernetes.io/name": "n"}, Annotations: texts{"kubernetes.io/service-account.name": "s", "x.k8s.io/y": "z"}},
			labels:     texts{"app.kubernetes.io/name": "n"}, // labels do not act
		},
		"LooksLikeATools": {
			ofResource: v2beta1.OutputOptions{Labels: texts{"myhelm.sh/x": "y", "app.kubernetes.io/instance-of": "z"}, Annotations: texts{"fluxcd.io.example.com/x": "y"}},
			labels:     texts{"myhelm.sh/x": "y", "app.kubernetes.io/instance-of": "z"}, annotations: texts{"fluxcd.io.example.com/x": "y"},
		},
		"ToolsExplicitly": { // whoever writes it down means it
			ofSpec: v2beta1.OutputOptions{Labels: texts{"app.kubernetes.io/managed-by": "x"}, Annotations: texts{"argocd.argoproj.io/sync-options": "Prune=false"}},
			labels: texts{"app.kubernetes.io/managed-by": "x"}, annotations: texts{"argocd.argoproj.io/sync-options": "Prune=false"},
		},
		"Adopted": {adopted: true, ofResource: v2beta1.OutputOptions{Labels: texts{"team": "x"}}, labels: texts{"team": "x", v2beta1.AdoptedLabel: v2beta1.AdoptedLabelValue}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := decide(facts(func(f *world) {
				f.AKVS.Labels, f.AKVS.Annotations = tc.ofResource.Labels, tc.ofResource.Annotations
				f.AKVS.Spec.Output.Secret.OutputOptions = tc.ofSpec
				if tc.adopted {
					f.AKVS.Spec.Output.Secret.Adopt = true
					f.Observed = opaque("theirs", "x", "kubectl")
					f.Observed.Annotations = texts{v2beta1.AdoptAnnotation: "a"}
				}
			}))
			w := write(in)
			if w == nil {
				t.Fatalf("nothing is written: %v", said(in))
			}
			if diff := cmp.Diff(union(marks(), tc.labels), w.Labels); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(union(nil, tc.annotations), w.Annotations); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
		})
	}
}

// What somebody else keeps is left to them, and never keeps the data away.
func TestWriteLeavesOthersMetadataToThem(t *testing.T) {
	t.Parallel()
	const ours, theirs = "x", "y"
	for name, tc := range map[string]struct {
		held     string
		managers []string
		rivals   []plan.Rival
		want     bool // it becomes, or stays, ours
	}{
		"Ours":              {theirs, []string{"akvs-uid-a"}, nil, true},
		"APersons":          {theirs, []string{"kubectl"}, nil, false},
		"APersonsAndOurs":   {theirs, []string{"akvs-uid-a", "kubectl"}, nil, false},
		"APersonsEqual":     {ours, []string{"kubectl"}, nil, true},
		"Nobodys":           {theirs, nil, nil, false},
		"NobodysEqual":      {ours, nil, nil, true},
		"TheOriginals":      {theirs, []string{plan.OriginalManager}, nil, true},
		"AnElders":          {theirs, []string{"akvs-uid-b"}, []plan.Rival{elderB}, false},
		"AnEldersEqual":     {ours, []string{"akvs-uid-b"}, []plan.Rival{elderB}, true},
		"AYoungers":         {theirs, []string{"akvs-uid-b"}, []plan.Rival{youngerB}, true},
		"OfOneGone":         {theirs, []string{"akvs-uid-b"}, nil, true},
		"AYoungersPersons":  {theirs, []string{"akvs-uid-b", "helm"}, []plan.Rival{youngerB}, false},
		"OfAReleasedOutput": {theirs, []string{plan.ReleasedManager}, nil, false},
	} {
		for _, where := range []string{"Label", "Annotation"} {
			t.Run(name+where, func(t *testing.T) {
				t.Parallel()
				f := facts(func(f *world) {
					f.AKVS.CreationTimestamp = metav1.NewTime(noon.Add(-1))
					f.Observed, f.Rivals = owned(opaque("password", "old", "akvs-uid-a"), ownedBy("a", "uid-a")), tc.rivals
					held, by := texts{"team": tc.held}, map[string][]string{"team": tc.managers}
					if where == "Label" {
						f.AKVS.Labels, f.Observed.Labels, f.Observed.LabelManagers = texts{"team": ours}, held, by
						return
					}
					f.AKVS.Annotations, f.Observed.Annotations, f.Observed.AnnotationManagers = texts{"team": ours}, held, by
				})
				in := decide(f)
				w := write(in)
				if w == nil || ready(t, in).Reason != v2beta1.ReasonSynced {
					t.Fatalf("the data is kept away: %v", said(in))
				}
				written := w.Labels
				if where == "Annotation" {
					written = w.Annotations
				}
				if value, got := written["team"]; got != tc.want || got && value != ours {
					t.Errorf("written %t %q, want %t", got, value, tc.want)
				}
				if again := decide(after(f, in)); write(again) != nil {
					t.Errorf("it is written again: %+v", write(again))
				}
			})
		}
	}
}

// A change of labels alone is written, and what is carried no longer goes.
func TestDecideFollowsMetadata(t *testing.T) {
	t.Parallel()
	f := facts(func(f *world) { f.AKVS.Labels, f.AKVS.Annotations = texts{"team": "x"}, texts{"note": "y"} })
	f = after(f, decide(f))
	for name, change := range map[string]func(*world){
		"LabelChanged":      func(f *world) { f.AKVS.Labels = texts{"team": "z"} },
		"LabelGone":         func(f *world) { f.AKVS.Labels = nil },
		"AnnotationChanged": func(f *world) { f.AKVS.Annotations = texts{"note": "z"} },
		"AnnotationGone":    func(f *world) { f.AKVS.Annotations = nil },
		"LabelTakenAway":    func(f *world) { f.Observed.LabelManagers = map[string][]string{"team": {"kubectl"}} },
		"AnnotationLost":    func(f *world) { f.Observed.Annotations, f.Observed.AnnotationManagers = nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := f
			f.AKVS, f.Observed = f.AKVS.DeepCopy(), new(*f.Observed)
			change(&f)
			in := decide(f)
			if write(in) == nil {
				t.Fatalf("nothing is written: %v", said(in))
			}
			f = after(f, in)
			if diff := cmp.Diff(union(marks(), f.AKVS.Labels), f.Observed.Labels); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(union(nil, f.AKVS.Annotations), f.Observed.Annotations); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
			if again := decide(f); write(again) != nil {
				t.Errorf("it is written again: %+v", write(again))
			}
		})
	}
}

func TestDecideRefusesMetadataThatCannotBe(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64)
	for name, options := range map[string]v2beta1.OutputOptions{
		"LabelKey":        {Labels: texts{"no good": "x"}},
		"LabelValue":      {Labels: texts{"team": "no good"}},
		"LabelLong":       {Labels: texts{"team": long}},
		"LabelOurs":       {Labels: texts{"spv.no/output-of": "x"}},
		"AnnotationKey":   {Annotations: texts{"no good": "x"}},
		"AnnotationKube":  {Annotations: texts{"kubernetes.io/service-account.name": "x"}},
		"AnnotationK8s":   {Annotations: texts{"any.k8s.io/x": "y"}},
		"AnnotationOurs":  {Annotations: texts{"spv.no/adopt-by": "x"}},
		"AnnotationsHuge": {Annotations: texts{"note": strings.Repeat("x", 256*1024)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := decide(facts(func(f *world) { f.AKVS.Spec.Output.Secret.OutputOptions = options }))
			if write(in) != nil || ready(t, in).Reason != v2beta1.ReasonOutputInvalid || in.Requeue != 0 {
				t.Errorf("write %v, requeue %s, said %v", write(in), in.Requeue, said(in))
			}
		})
	}
}
