// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"encoding/json"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func webhook(t *testing.T, values string) admissionv1.MutatingWebhook {
	t.Helper()
	configurations := each[*admissionv1.MutatingWebhookConfiguration](rendered(t, values))
	if len(configurations) != 1 || len(configurations[0].Webhooks) != 1 {
		t.Fatalf("want one configuration with one webhook, got %d configurations", len(configurations))
	}
	return configurations[0].Webhooks[0]
}

func TestWebhookContract(t *testing.T) {
	t.Parallel()
	hook := webhook(t, "")
	port, path := int32(443), "/pods"
	service := &admissionv1.ServiceReference{Namespace: "akv2k8s-system", Name: "akv2k8s-env-injector", Path: &path, Port: &port}
	if diff := cmp.Diff(service, hook.ClientConfig.Service); diff != "" {
		t.Errorf("service (-want +got):\n%s", diff)
	}
	got := []any{
		hook.Name, *hook.FailurePolicy, *hook.TimeoutSeconds, *hook.SideEffects, *hook.ReinvocationPolicy, *hook.MatchPolicy, hook.AdmissionReviewVersions,
	}
	want := []any{
		"pods.env-injector.admission.spv.no", admissionv1.Fail, int32(10), admissionv1.SideEffectClassNone,
		admissionv1.IfNeededReinvocationPolicy, admissionv1.Equivalent,
		[]string{"v1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestWhichNamespacesAreInjected(t *testing.T) {
	t.Parallel()
	const name, asked = "kubernetes.io/metadata.name", "azure-key-vault-env-injection"
	for title, tc := range map[string]struct {
		values string
		labels map[string]string
		want   bool
	}{
		"Asked":            {"", map[string]string{name: "shop", asked: "enabled"}, true},
		"NotAsked":         {"", map[string]string{name: "shop"}, false},
		"Disabled":         {"", map[string]string{name: "shop", asked: "disabled"}, false},
		"KubeSystem":       {"", map[string]string{name: "kube-system", asked: "enabled"}, false},
		"OwnNamespace":     {"", map[string]string{name: "akv2k8s-system", asked: "enabled"}, false},
		"OtherLabel":       {"scheduling", map[string]string{name: "shop", "inject": "yes"}, true},
		"OtherLabelUnset":  {"scheduling", map[string]string{name: "shop", asked: "enabled"}, false},
		"FurtherCondition": {"scheduling", map[string]string{name: "shop", "inject": "yes", "tier": "infra"}, false},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			selector, err := metav1.LabelSelectorAsSelector(webhook(t, cases(t)[tc.values]).NamespaceSelector)
			if err != nil {
				t.Fatal(err)
			}
			if got := selector.Matches(labelSet(tc.labels)); got != tc.want {
				t.Errorf("namespace with %v: looked at = %v, want %v", tc.labels, got, tc.want)
			}
		})
	}
}

type labelSet map[string]string

func (l labelSet) Has(key string) bool              { _, ok := l[key]; return ok }
func (l labelSet) Get(key string) string            { return l[key] }
func (l labelSet) Lookup(key string) (string, bool) { v, ok := l[key]; return v, ok }

// TestWhichPodsAreInjected evaluates the match condition as the API server does:
// pods that it passes over start even while no webhook answers.
func TestWhichPodsAreInjected(t *testing.T) {
	t.Parallel()
	plain := corev1.Container{Name: "plain", Env: []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "EMPTY"}}}
	secret := corev1.Container{Name: "secret", Env: []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "KEY", Value: "certificate@azurekeyvault?tls.key"}}}
	reference := corev1.Container{Name: "ref", Env: []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"},
	}}}}
	for name, tc := range map[string]struct {
		spec corev1.PodSpec
		want bool
	}{
		"NoContainer":   {corev1.PodSpec{}, false},
		"NoEnvironment": {corev1.PodSpec{Containers: []corev1.Container{{Name: "bare"}}}, false},
		"Plain":         {corev1.PodSpec{Containers: []corev1.Container{plain, reference}, InitContainers: []corev1.Container{plain}}, false},
		"Container":     {corev1.PodSpec{Containers: []corev1.Container{plain, secret}}, true},
		"InitContainer": {corev1.PodSpec{Containers: []corev1.Container{plain}, InitContainers: []corev1.Container{reference, secret}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, condition := range webhook(t, "").MatchConditions {
				if got := evaluate(t, condition.Expression, corev1.Pod{Spec: tc.spec}); got != tc.want {
					t.Errorf("condition %s: %v, want %v", condition.Name, got, tc.want)
				}
			}
		})
	}
}

func evaluate(t *testing.T, expression string, pod corev1.Pod) bool {
	t.Helper()
	env, err := cel.NewEnv(cel.Variable("object", cel.DynType))
	if err != nil {
		t.Fatal(err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		t.Fatal(issues.Err())
	}
	program, err := env.Program(ast)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(wire, &object); err != nil {
		t.Fatal(err)
	}
	if object["spec"].(map[string]any)["containers"] == nil { // the API server refuses null, and sends a list
		object["spec"].(map[string]any)["containers"] = []any{}
	}
	result, _, err := program.Eval(map[string]any{"object": object})
	if err != nil {
		t.Fatal(err)
	}
	return result.Value() == true
}
