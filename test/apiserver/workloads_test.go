// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	reviewv1 "k8s.io/api/admission/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// advised registers the chart's warnings at the server's address.
func advised(t *testing.T, server *httptest.Server, registration *admissionv1.ValidatingWebhookConfiguration) {
	t.Helper()
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(registration), registration); err != nil {
		t.Fatal(err)
	}
	for i := range registration.Webhooks {
		if len(registration.Webhooks[i].ClientConfig.CABundle) == 0 {
			t.Errorf("%s has no authority", registration.Webhooks[i].Name)
		}
		url := server.URL + *registration.Webhooks[i].ClientConfig.Service.Path
		registration.Webhooks[i].ClientConfig = admissionv1.WebhookClientConfig{
			URL: &url, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		}
	}
	if err := admin.Update(t.Context(), registration); err != nil {
		t.Fatal(err)
	}
}

// workloads are one of each kind, around the same template.
func workloads(namespace string, change func(*corev1.Pod)) map[string]client.Object {
	p := somePod(namespace, "absent@azurekeyvault")
	if change != nil {
		change(p)
	}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "app"}, Annotations: p.Annotations}, Spec: p.Spec}
	once := *template.DeepCopy()
	once.Spec.RestartPolicy = corev1.RestartPolicyNever
	meta := metav1.ObjectMeta{GenerateName: "app-", Namespace: namespace}
	selector := &metav1.LabelSelector{MatchLabels: template.Labels}
	return map[string]client.Object{
		"Deployment":  &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template}},
		"StatefulSet": &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template}},
		"DaemonSet":   &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}},
		"ReplicaSet":  &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Selector: selector, Template: template}},
		"Job":         &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: once}},
		"CronJob": &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{Schedule: "0 0 * * *", JobTemplate: batchv1.JobTemplateSpec{
			Spec: batchv1.JobSpec{Template: once},
		}}},
	}
}

// workloadsAreAdvised: who applies one reads what its pods lack, at creation and
// at a change, in a dry run, and never in vain.
func workloadsAreAdvised(t *testing.T) {
	t.Helper()
	ns := labelled(t, enabled())
	eventually(t, "the API server asks about workloads", func() error {
		c, warnings := person(t)
		if err := c.Create(t.Context(), workloads(ns, nil)["Deployment"], client.DryRunAll); err != nil || len(warnings.texts) == 0 {
			return errors.Join(err, errors.New("no warning"))
		}
		return nil
	})
	for kind := range workloads(ns, nil) {
		t.Run(kind, func(t *testing.T) { isAdvised(t, ns, kind) })
	}
	t.Run("Pod", func(t *testing.T) {
		c, warnings := person(t)
		p := somePod(ns, "text")
		p.Annotations = map[string]string{"key": "my-secret@azurekeyvault"}
		if err := c.Create(t.Context(), p); err != nil || len(warnings.texts) != 1 || !strings.HasPrefix(warnings.texts[0], "metadata.annotations.key holds a placeholder") {
			t.Errorf("%v, warnings %q", err, warnings.texts)
		}
	})
}

func isAdvised(t *testing.T, ns, kind string) {
	t.Helper()
	const absent = "has no AzureKeyVaultSecret of this name yet"
	o := workloads(ns, nil)[kind]
	c, warnings := person(t)
	warns := func(what string, err error) {
		t.Helper()
		if err != nil || len(warnings.texts) != 1 || !strings.Contains(warnings.texts[0], absent) {
			t.Errorf("%s: %v, warnings %q", what, err, warnings.texts)
		}
		warnings.texts = nil
	}
	warns("dry run", c.Create(t.Context(), o.DeepCopyObject().(client.Object), client.DryRunAll))
	warns("creation", c.Create(t.Context(), o))
	o.SetLabels(map[string]string{"changed": "yes"})
	warns("change", c.Update(t.Context(), o))

	yes := true
	controlled := workloads(ns, nil)[kind]
	controlled.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "Owner", Name: "o", UID: "1", Controller: &yes}})
	fine := workloads(ns, func(p *corev1.Pod) { p.Spec.Containers[0].Env = nil })[kind]
	for what, o := range map[string]client.Object{"controlled": controlled, "without placeholder": fine} {
		if err := c.Create(t.Context(), o, client.DryRunAll); err != nil || len(warnings.texts) > 0 {
			t.Errorf("%s: %v, warnings %q", what, err, warnings.texts)
		}
	}
	argument := workloads(ns, func(p *corev1.Pod) { p.Spec.Containers[0].Args = []string{"my-secret@azurekeyvault"} })[kind]
	if err := c.Create(t.Context(), argument, client.DryRunAll); err != nil || len(warnings.texts) != 1 ||
		!strings.HasPrefix(warnings.texts[0], `its pods will be refused: container "app": spec.containers[0].args[0] holds a placeholder`) {
		t.Errorf("argument: %v, warnings %q", err, warnings.texts)
	}
}

// adviceIsNotWaitedFor: without a webhook, workloads are applied as ever.
func adviceIsNotWaitedFor(t *testing.T) {
	t.Helper()
	ns := labelled(t, enabled())
	for kind, o := range workloads(ns, nil) {
		c, warnings := person(t)
		if err := c.Create(t.Context(), o); err != nil || len(warnings.texts) > 0 {
			t.Errorf("%s: %v, warnings %q", kind, err, warnings.texts)
		}
	}
}

// othersAddContainers registers a webhook after ours that adds a container with a placeholder
// to each pod, whereupon ours is asked again.
func othersAddContainers(t *testing.T) {
	t.Helper()
	server := sidecarServer(t)
	none, url, never := admissionv1.SideEffectClassNone, server.URL, admissionv1.NeverReinvocationPolicy
	labels := map[string]string{"another": "webhook", "azure-key-vault-env-injection": "enabled"}
	registration := &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "zz-another"},
		Webhooks: []admissionv1.MutatingWebhook{{
			Name: "sidecar.another.example.com", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, ReinvocationPolicy: &never,
			ClientConfig:      admissionv1.WebhookClientConfig{URL: &url, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"another": "webhook"}},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}
	install(t, registration)
	ns := labelled(t, labels)
	eventually(t, "another webhook adds its container and ours is asked again", func() error {
		p := somePod(ns, "my-secret@azurekeyvault")
		if err := admin.Create(t.Context(), p, client.DryRunAll); err != nil {
			return err
		}
		if len(p.Spec.Containers) != 2 {
			return errors.New("not added")
		}
		return nil
	})
	p := somePod(ns, "my-secret@azurekeyvault")
	if err := admin.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if len(p.Spec.Containers) != 2 || len(p.Spec.InitContainers) != 1 || len(p.Spec.Volumes) != 2 {
		t.Fatalf("%d containers, %d init containers, %d volumes", len(p.Spec.Containers), len(p.Spec.InitContainers), len(p.Spec.Volumes))
	}
	for _, c := range p.Spec.Containers {
		if len(c.Command) != 1 || !strings.HasSuffix(c.Command[0], "azure-keyvault-env") || len(c.Args) != 1 || c.Args[0] != "/"+c.Name {
			t.Errorf("container %s runs %q %q", c.Name, c.Command, c.Args)
		}
	}
}

// sidecarServer answers reviews with a patch that adds a container.
func sidecarServer(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review reviewv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		kind := reviewv1.PatchTypeJSONPatch
		review.Response = &reviewv1.AdmissionResponse{
			UID: review.Request.UID, Allowed: true, PatchType: &kind,
			Patch: []byte(`[{"op":"add","path":"/spec/containers/-","value":{"name":"sidecar","image":"registry.example/sidecar:1","command":["/sidecar"],` +
				`"env":[{"name":"B","value":"my-secret@azurekeyvault"}]}}]`),
		}
		review.Request = nil
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(server.Close)
	return server
}
