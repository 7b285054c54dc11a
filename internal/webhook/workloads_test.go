// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"

	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/webhook"
)

// advise sends a workload as the API server does and returns the warnings. That
// it is allowed, and not changed, is checked for each.
func (f *fixture) advise(t *testing.T, kind string, object any, change func(*admissionv1.AdmissionRequest)) []string {
	t.Helper()
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	f.command = func(context.Context, webhook.Lookup) (inject.Command, error) {
		t.Error("a registry was asked")
		return inject.Command{}, nil
	}
	request := &admissionv1.AdmissionRequest{
		UID: "42", Kind: metav1.GroupVersionKind{Version: "v1", Kind: kind}, Namespace: "default",
		Operation: admissionv1.Create, Object: k8sruntime.RawExtension{Raw: raw},
	}
	if change != nil {
		change(request)
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), "POST", webhook.WorkloadsPath+f.below+"?timeout=3s", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	f.handler(t).Routes().ServeHTTP(w, r)
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(w.Body).Decode(&review); err != nil || review.Response == nil {
		t.Fatal(err, w.Code)
	}
	if !review.Response.Allowed || review.Response.Patch != nil || review.Response.UID != "42" {
		t.Errorf("answer %+v", review.Response)
	}
	return review.Response.Warnings
}

func of(containers ...corev1.Container) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: containers}}
}

func deployment(containers ...corev1.Container) appsv1.Deployment {
	return appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: of(containers...)}}
}

func absent() corev1.Container {
	c := container("app")
	c.Env[0].Value = "absent@azurekeyvault"
	return c
}

const absentWarning = `container "app", variable A, placeholder absent@azurekeyvault: namespace "default" has no AzureKeyVaultSecret of this name yet; the container cannot start without it`

func TestAdvisesEveryKindOfWorkload(t *testing.T) {
	t.Parallel()
	template := of(absent())
	for kind, object := range map[string]any{
		"Deployment":  appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: template}},
		"StatefulSet": appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Template: template}},
		"DaemonSet":   appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: template}},
		"ReplicaSet":  appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Template: template}},
		"Job":         batchv1.Job{Spec: batchv1.JobSpec{Template: template}},
		"CronJob":     batchv1.CronJob{Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}}},
		"Pod":         corev1.Pod{Spec: template.Spec},
	} {
		for _, operation := range []admissionv1.Operation{admissionv1.Create, admissionv1.Update} {
			t.Run(kind+string(operation), func(t *testing.T) {
				t.Parallel()
				dry := true
				got := newFixture().advise(t, kind, object, func(r *admissionv1.AdmissionRequest) { r.Operation, r.DryRun = operation, &dry })
				if d := cmp.Diff([]string{absentWarning}, got); d != "" {
					t.Errorf("-want +got\n%s", d)
				}
			})
		}
	}
}

func TestAdviceTellsWhatWillBeRefused(t *testing.T) {
	t.Parallel()
	malformed, argument := container("app"), container("job")
	malformed.Env[0].Value = "hunter2:password@azurekeyvault.example"
	argument.Args = []string{"--password=my-secret@azurekeyvault"}
	got := newFixture().advise(t, "Deployment", deployment(malformed, argument), nil)
	if len(got) != 2 || strings.Contains(strings.Join(got, ""), "hunter2") {
		t.Fatalf("warnings %q", got)
	}
	for _, w := range got {
		if !strings.HasPrefix(w, `its pods will be refused: container "`) {
			t.Errorf("warning %q", w)
		}
	}
}

func TestAdviceIsSilent(t *testing.T) {
	t.Parallel()
	yes, now := true, metav1.Now()
	owned, leaving := deployment(absent()), deployment(absent())
	owned.OwnerReferences = []metav1.OwnerReference{{Kind: "Shop", Controller: &yes}}
	leaving.DeletionTimestamp = &now
	plain := container("app")
	plain.Env = nil
	for name, tc := range map[string]struct {
		object any
		change func(*admissionv1.AdmissionRequest)
		world  func(*fixture)
	}{
		"AllIsWell":     {deployment(container("app")), nil, nil}, // without a command, too
		"NoPlaceholder": {deployment(plain), nil, nil},
		"Owned":         {owned, nil, nil},
		"Leaving":       {leaving, nil, nil},
		"Delete": {nil, func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.Object.Raw = admissionv1.Delete, nil
		}, nil},
		"Scale":     {deployment(absent()), func(r *admissionv1.AdmissionRequest) { r.SubResource = "scale" }, nil},
		"Excluded":  {deployment(absent()), func(r *admissionv1.AdmissionRequest) { r.Namespace = "kube-system" }, nil},
		"NotOne":    {"text", nil, nil},
		"Empty":     {map[string]any{}, nil, nil},
		"Malformed": {map[string]any{"spec": map[string]any{"template": []int{1}}}, nil, nil},
		"Outage":    {deployment(absent()), nil, func(f *fixture) { f.secretErr, f.nodesErr = errBoom, errBoom }},
		"NotReady":  {deployment(absent()), nil, func(f *fixture) { f.brokerErr, f.brokers, f.bundle = errBoom, nil, "" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture()
			if tc.world != nil {
				tc.world(f)
			}
			if got := f.advise(t, "Deployment", tc.object, tc.change); len(got) > 0 {
				t.Errorf("warnings %q", got)
			}
		})
	}
}

// The API server cuts the warnings of a request to 256 runes each when there are
// more than 4,096: there never are, and the last says how many are missing.
func TestWarningsAreNotCutElsewhere(t *testing.T) {
	t.Parallel()
	c := container("app", "/app")
	c.Env = nil
	for i := range 1000 {
		c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("É%d", i), Value: fmt.Sprintf("absent-%d@azurekeyvault", i)})
	}
	c.Env[3].Name = strings.Repeat("é", 10_000)
	for name, warnings := range map[string][]string{
		"Workload": newFixture().advise(t, "Deployment", deployment(c), nil),
		"Pod":      newFixture().review(t, with(t, c)).Warnings,
	} {
		runes := utf8.RuneCountInString(strings.Join(warnings, ""))
		if runes < 2500 || runes > 4096-512 {
			t.Errorf("%s: %d runes", name, runes)
		}
		shown := len(warnings) - 1
		if last, want := warnings[shown], fmt.Sprintf("and %d more warnings like these", 1000-shown); last != want {
			t.Errorf("%s: %q, want %q", name, last, want)
		}
	}
}
