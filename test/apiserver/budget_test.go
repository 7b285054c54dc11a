// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/internal/cluster"
)

// stored is what a pod may take in etcd, a little less than the 1.5 MiB that this
// takes of one request. Field management takes its part of it.
const stored = 1_450_000

// nobody registers the chart's conditions for namespaces of this test's own, with a
// webhook that does not answer: a pod that is created was not worth a call, and one
// that is refused says whether the call failed or the condition.
func nobody(t *testing.T) string {
	t.Helper()
	registration := &admissionv1.MutatingWebhookConfiguration{}
	chartObject(t, "MutatingWebhookConfiguration", "akv2k8s-env-injector", registration)
	registration.ObjectMeta = metav1.ObjectMeta{Name: "nobody"}
	url, labels := "https://127.0.0.1:1/pods", map[string]string{"nobody": "answers"}
	for i := range registration.Webhooks {
		registration.Webhooks[i].ClientConfig = admissionv1.WebhookClientConfig{URL: &url}
		registration.Webhooks[i].NamespaceSelector = &metav1.LabelSelector{MatchLabels: labels}
	}
	install(t, registration)
	ns := labelled(t, labels)
	eventually(t, "the webhook is registered", func() error {
		if err := admin.Create(t.Context(), somePod(ns, "my-secret@azurekeyvault"), client.DryRunAll); err == nil {
			return fmt.Errorf("created")
		}
		return nil
	})
	return ns
}

// compact speaks the form in which a request can hold most.
func compact(t *testing.T) client.Client {
	t.Helper()
	cfg := rest.CopyConfig(adminConfig)
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.WarningHandler = rest.NoWarnings{}
	c, err := client.New(cfg, client.Options{Scheme: cluster.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// containers are n that share variables.
func containers(n int, env ...corev1.EnvVar) []corev1.Container {
	list := make([]corev1.Container, n)
	for i := range list {
		list[i] = corev1.Container{Name: fmt.Sprintf("c%d", i), Image: "i", Env: env}
	}
	return list
}

func repeat[T any](n int, one T) []T {
	list := make([]T, n)
	for i := range list {
		list[i] = one
	}
	return list
}

// The API server gives an expression 1,000,000 units, all of a webhook's 2,500,000,
// and refuses the pod when they are used up. No pod that it can store does that.
func TestLargestPodsAreWithinBudget(t *testing.T) { // not beside others: the API server works for seconds on some
	ns, c := nobody(t), compact(t)
	numbered := make([]corev1.EnvVar, 14_000)
	for i := range numbered {
		numbered[i] = corev1.EnvVar{Name: fmt.Sprintf("V%d", i), Value: "x"}
	}
	field := corev1.EnvVar{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}
	cases := map[string]struct {
		containers []corev1.Container
		asked      bool // without a placeholder, too
	}{
		"NumberedVariables": {containers(1, numbered...), false},
		"TinyVariables":     {containers(1, repeat(stored/10, corev1.EnvVar{Name: "A"})...), false},
		"ShortVariables":    {containers(1, repeat(stored/16, corev1.EnvVar{Name: "A", Value: "b"})...), false},
		"HugeValues":        {containers(1, repeat(4, corev1.EnvVar{Name: "A", Value: strings.Repeat("x", stored/4)})...), false},
		"ManyContainers":    {containers(1000, repeat(60, corev1.EnvVar{Name: "A", Value: "b"})...), false},
		"NothingButBlanks":  {[]corev1.Container{{Name: "c", Image: "i", Args: make([]string, stored/2)}}, false},
		// Longer in text than what is searched: asked, lest the budget be used up.
		"TwiceAsMany": {containers(1, repeat(stored/8, corev1.EnvVar{Name: "A", Value: "b"})...), true},
		"Unprintable": {containers(1, corev1.EnvVar{Name: "A", Value: strings.Repeat("\x01", stored)}), true},
		"FieldRefs":   {containers(1, repeat(stored/32, field)...), true},
		// They name ConfigMaps, and are rightly asked about.
		"EnvFrom": {[]corev1.Container{{Name: "c", Image: "i", EnvFrom: repeat(stored/13, corev1.EnvFromSource{
			ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "a"}},
		})}}, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) { // one after the other: each takes the API server some 100 MB
			p := somePod(ns, "")
			p.Spec.Containers, p.Spec.ServiceAccountName = tc.containers, "default"
			judge(t, c, p, tc.asked)
			last := &p.Spec.Containers[len(p.Spec.Containers)-1]
			last.Env = append(slices.Clip(last.Env), corev1.EnvVar{Name: "LAST", Value: "my-secret@azurekeyvault"})
			judge(t, c, p, true)
		})
	}
}

// judge creates the pod, or has it refused because the webhook does not answer. It
// is created in truth: a dry run does not show that it can be stored.
func judge(t *testing.T, c client.Client, p *corev1.Pod, asked bool) {
	t.Helper()
	p = p.DeepCopy()
	err := c.Create(t.Context(), p)
	switch {
	case !asked && err != nil:
		t.Errorf("refused: %.300v", err)
	case !asked:
		if err := c.Delete(t.Context(), p, client.GracePeriodSeconds(0)); err != nil {
			t.Error(err)
		}
	case err == nil || !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "failed calling webhook"):
		t.Errorf("not asked about: %.300v", err)
	}
}
