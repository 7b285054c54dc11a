// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/inject"
)

// guardedNamespace is one that the chart's policy looks at, in a label of its own so
// that other tests' pods are not.
func guardedNamespace(t *testing.T) string {
	t.Helper()
	policy, binding := &admissionv1.ValidatingAdmissionPolicy{}, &admissionv1.ValidatingAdmissionPolicyBinding{}
	chartObject(t, "ValidatingAdmissionPolicy", "akv2k8s-env-injector", policy)
	chartObject(t, "ValidatingAdmissionPolicyBinding", "akv2k8s-env-injector", binding)
	policy.Spec.MatchConstraints.NamespaceSelector.MatchExpressions[0].Key = "guarded"
	install(t, policy)
	install(t, binding)
	return labelled(t, map[string]string{"guarded": "enabled"})
}

// Whatever comes after the webhook, no program gets a placeholder for a value.
func TestPlaceholderGuard(t *testing.T) {
	t.Parallel()
	ns := guardedNamespace(t)
	const says = "holds a placeholder that the Env Injector did not see"
	eventually(t, "the policy is in force", func() error {
		if err := admin.Create(t.Context(), somePod(ns, "my-secret@azurekeyvault"), client.DryRunAll); err == nil {
			return errors.New("not yet")
		}
		return nil
	})
	wrapped := func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{brokerapi.Binary} }
	second := corev1.Container{Name: "second", Image: "registry.example/app:1", Env: []corev1.EnvVar{{Name: "A", Value: "x <my-secret@azurekeyvault>"}}}
	for name, tc := range map[string]struct {
		value   string
		change  func(*corev1.Pod)
		refused string
	}{
		"NotInjected":     {"my-secret@azurekeyvault", nil, `container "app" ` + says},
		"Plain":           {"text", nil, ""},
		"Injected":        {"my-secret@azurekeyvault", wrapped, ""},
		"BehindAnother":   {"my-secret@azurekeyvault", func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"/other", brokerapi.Binary, "/app"} }, ""},
		"OptedOut":        {"my-secret@azurekeyvault", func(p *corev1.Pod) { p.Annotations = map[string]string{inject.AnnotationInject + "app": "false"} }, ""},
		"OptedIn":         {"my-secret@azurekeyvault", func(p *corev1.Pod) { p.Annotations = map[string]string{inject.AnnotationInject + "app": "true"} }, says},
		"OtherIsOptedOut": {"my-secret@azurekeyvault", func(p *corev1.Pod) { p.Annotations = map[string]string{inject.AnnotationInject + "x": "false"} }, says},
		"SecondContainer": {"my-secret@azurekeyvault", func(p *corev1.Pod) { wrapped(p); p.Spec.Containers = append(p.Spec.Containers, second) }, `container "second" ` + says},
		"InitContainer":   {"text", func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{second} }, `container "second" ` + says},
		"InAnArgument":    {"text", func(p *corev1.Pod) { p.Spec.Containers[0].Args = []string{"my-secret@azurekeyvault"} }, ""}, // the webhook's to say
		"WithoutVariables": {"", func(p *corev1.Pod) {
			p.Spec.Containers[0].Env = nil
			p.Annotations = map[string]string{"a": "b@azurekeyvault"}
		}, ""},
	} {
		p := somePod(ns, tc.value)
		if tc.change != nil {
			tc.change(p)
		}
		err := admin.Create(t.Context(), p)
		switch {
		case tc.refused == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.refused != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), tc.refused)):
			t.Errorf("%s: %v, want %q", name, err, tc.refused)
		}
	}
	t.Run("LargePodsAreJudged", func(t *testing.T) { // not refused for what judging costs
		p := somePod(ns, "my-secret@azurekeyvault")
		wrapped(p)
		for i := range 20_000 {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: "A" + strconv.Itoa(i), Value: "some value of some length"})
		}
		if err := admin.Create(t.Context(), p); err != nil {
			t.Errorf("%.300v", err)
		}
	})
}
