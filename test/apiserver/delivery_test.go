// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/webhook/kube"
)

// amounts are of CPU, memory and, where given, ephemeral storage.
func amounts(texts ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i, name := range []corev1.ResourceName{"cpu", "memory", "ephemeral-storage"} {
		if i < len(texts) && texts[i] != "" {
			list[name] = resource.MustParse(texts[i])
		}
	}
	return list
}

// injected is the pod as the webhook makes it of what the API server hands it: with
// what the namespace's LimitRanges have filled in.
func injected(t *testing.T, pod *corev1.Pod, by inject.Delivery) *corev1.Pod {
	t.Helper()
	seen := pod.DeepCopy()
	if err := admin.Create(t.Context(), seen, client.DryRunAll); err != nil {
		t.Fatalf("the pod does not pass by itself: %v", err)
	}
	raw, err := json.Marshal(corev1.Pod{ObjectMeta: pod.ObjectMeta, Spec: seen.Spec})
	if err != nil {
		t.Fatal(err)
	}
	read, err := inject.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	patch, _, err := inject.Decide(inject.Facts{Pod: read, Namespace: pod.Namespace}, inject.Settings{
		Image: "registry.example/azure-keyvault-env:1", PullPolicy: corev1.PullIfNotPresent, Delivery: by,
		// The chart's defaults.
		Resources: corev1.ResourceRequirements{Requests: amounts("5m", "32Mi"), Limits: amounts("", "32Mi")},
		Brokers:   []string{"10.96.0.7:9443"}, ServerName: "broker", CABundle: "PEM",
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(patch)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = decoded.Apply(raw); err != nil {
		t.Fatal(err)
	}
	out := &corev1.Pod{}
	if err := json.Unmarshal(raw, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A pod that passes the limits and quotas of its namespace passes them injected,
// with the QoS class that it had.
func TestInjectedPodsPassLimits(t *testing.T) {
	t.Parallel()
	ofContainers := func(item corev1.LimitRangeItem) []client.Object {
		item.Type = corev1.LimitTypeContainer
		return []client.Object{&corev1.LimitRange{Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{item}}}}
	}
	quota := func(hard corev1.ResourceList) []client.Object {
		// What the controller manager would write, which does not run here.
		return []client.Object{&corev1.ResourceQuota{
			Spec:   corev1.ResourceQuotaSpec{Hard: hard},
			Status: corev1.ResourceQuotaStatus{Hard: hard, Used: zero(hard)},
		}}
	}
	for name, tc := range map[string]struct {
		rules     []client.Object
		resources corev1.ResourceRequirements
		whole     *corev1.ResourceRequirements // of the pod
		class     corev1.PodQOSClass
	}{
		"MinAndMax": {
			ofContainers(corev1.LimitRangeItem{Min: amounts("50m", "64Mi"), Max: amounts("1", "1Gi")}),
			corev1.ResourceRequirements{Requests: amounts("100m", "64Mi"), Limits: amounts("500m", "128Mi")},
			nil, corev1.PodQOSBurstable,
		},
		"MinAndMaxGuaranteed": {
			ofContainers(corev1.LimitRangeItem{Min: amounts("50m", "64Mi"), Max: amounts("1", "1Gi")}),
			corev1.ResourceRequirements{Limits: amounts("100m", "128Mi")},
			nil, corev1.PodQOSGuaranteed,
		},
		"Defaults": {
			ofContainers(corev1.LimitRangeItem{
				Min: amounts("20m", "48Mi"), Max: amounts("1", "1Gi"),
				DefaultRequest: amounts("50m", "64Mi"), Default: amounts("200m", "128Mi"),
			}),
			corev1.ResourceRequirements{},
			nil, corev1.PodQOSBurstable,
		},
		"Ratio": {
			ofContainers(corev1.LimitRangeItem{MaxLimitRequestRatio: amounts("2", "1")}),
			corev1.ResourceRequirements{Requests: amounts("100m", "64Mi"), Limits: amounts("200m", "64Mi")},
			nil, corev1.PodQOSBurstable,
		},
		"Storage": {
			ofContainers(corev1.LimitRangeItem{Min: amounts("", "", "1Gi"), Max: amounts("", "", "4Gi")}),
			corev1.ResourceRequirements{Requests: amounts("", "", "2Gi"), Limits: amounts("", "", "2Gi")},
			nil, corev1.PodQOSBestEffort,
		},
		"PodAsAWhole": {
			ofContainers(corev1.LimitRangeItem{Min: amounts("50m", "64Mi")}),
			corev1.ResourceRequirements{Requests: amounts("50m", "64Mi")},
			&corev1.ResourceRequirements{Requests: amounts("1", "1Gi"), Limits: amounts("1", "1Gi")}, corev1.PodQOSGuaranteed,
		},
		"OfPods": {
			[]client.Object{&corev1.LimitRange{Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
				Type: corev1.LimitTypePod, Min: amounts("100m", "64Mi"), Max: amounts("100m", "64Mi"),
			}}}}},
			corev1.ResourceRequirements{Limits: amounts("100m", "64Mi")},
			nil, corev1.PodQOSGuaranteed,
		},
		"Quota": { // which insists on all four, and has just enough
			quota(corev1.ResourceList{
				"requests.cpu": resource.MustParse("100m"), "requests.memory": resource.MustParse("64Mi"),
				"limits.cpu": resource.MustParse("200m"), "limits.memory": resource.MustParse("128Mi"),
			}),
			corev1.ResourceRequirements{Requests: amounts("100m", "64Mi"), Limits: amounts("200m", "128Mi")},
			nil, corev1.PodQOSBurstable,
		},
		"QuotaOfStorage": {
			quota(corev1.ResourceList{"limits.ephemeral-storage": resource.MustParse("2Gi"), "limits.cpu": resource.MustParse("100m")}),
			corev1.ResourceRequirements{Limits: amounts("100m", "", "2Gi")},
			nil, corev1.PodQOSBurstable,
		},
		"QuotaOfBestEffort": {
			[]client.Object{&corev1.ResourceQuota{
				Spec:   corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("0")}, Scopes: []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeNotBestEffort}},
				Status: corev1.ResourceQuotaStatus{Hard: corev1.ResourceList{"pods": resource.MustParse("0")}, Used: corev1.ResourceList{"pods": resource.MustParse("0")}},
			}},
			corev1.ResourceRequirements{},
			nil, corev1.PodQOSBestEffort,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			for _, o := range tc.rules {
				rule(t, ns, o)
			}
			pod := somePod(ns, "my-secret@azurekeyvault;file") // which has a volume for that, too
			pod.Spec.Containers[0].Resources, pod.Spec.Resources = tc.resources, tc.whole
			for _, by := range []inject.Delivery{inject.DeliveryInitContainer, inject.DeliveryImageVolume} {
				out := injected(t, pod, by)
				if err := admin.Create(t.Context(), out, client.DryRunAll); err != nil {
					t.Errorf("%s: %v", by, err)
				} else if out.Status.QOSClass != tc.class {
					t.Errorf("%s: QoS class %s", by, out.Status.QOSClass)
				}
			}
		})
	}
}

func zero(list corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name := range list {
		out[name] = resource.MustParse("0")
	}
	return out
}

// rule makes a LimitRange or ResourceQuota, and waits until pods are held to it.
func rule(t *testing.T, ns string, o client.Object) {
	t.Helper()
	o.SetNamespace(ns)
	o.SetName("rule")
	var status corev1.ResourceQuotaStatus
	if q, ok := o.(*corev1.ResourceQuota); ok {
		status = q.Status
	}
	if err := admin.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	offender := &corev1.Pod{}
	switch o := o.(type) {
	case *corev1.LimitRange:
		offender = somePod(ns, "text")
		offender.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: amounts("1m", "1Mi", "1Mi"), Limits: amounts("999", "999Gi", "999Gi")}
	case *corev1.ResourceQuota:
		o.Status = status
		if err := admin.Status().Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		offender = somePod(ns, "text")
		offender.Spec.Containers[0].Resources.Requests = amounts("999")
	}
	eventually(t, "pods are held to the rule", func() error {
		err := admin.Create(t.Context(), offender.DeepCopy(), client.DryRunAll)
		if apierrors.IsForbidden(err) {
			return nil
		}
		return fmt.Errorf("not refused: %w", err)
	})
}

// Where a container may have less than the wrapper's copying needs, no pod whose
// containers state it passes until the value says less. The documentation says so.
func TestALimitBelowTheValue(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	rule(t, ns, &corev1.LimitRange{Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer, Max: amounts("", "24Mi")}}}})
	pod := somePod(ns, "my-secret@azurekeyvault")
	pod.Spec.Containers[0].Resources.Limits = amounts("", "24Mi")
	if err := admin.Create(t.Context(), injected(t, pod, inject.DeliveryInitContainer), client.DryRunAll); !apierrors.IsForbidden(err) {
		t.Errorf("error %v", err)
	}
	if err := admin.Create(t.Context(), injected(t, pod, inject.DeliveryImageVolume), client.DryRunAll); err != nil {
		t.Error(err)
	}
}

// The webhook hears of a node that cannot mount images, with the chart's rights.
func TestNodesAreFollowed(t *testing.T) {
	cfg := rest.CopyConfig(adminConfig)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: webhookAccount, Groups: []string{"system:serviceaccounts", "system:authenticated"}}
	source, err := kube.New(t.Context(), cfg, client.ObjectKey{Namespace: chartNS, Name: "akv2k8s-broker"})
	if err != nil {
		t.Fatal(err)
	}
	run(t, source.Run)
	eventually(t, "the memory is filled", func() error {
		return source.Ready(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	})
	node := func(name, arch, kubelet string, cordoned bool) inject.Node {
		return inject.Node{
			Name: name, Labels: map[string]string{corev1.LabelArchStable: arch, corev1.LabelOSStable: "linux"},
			Unschedulable: cordoned, Kubelet: kubelet, Runtime: "containerd://2.4.2",
		}
	}
	become := func(want ...inject.Node) {
		t.Helper()
		eventually(t, fmt.Sprintf("the nodes become %v", want), func() error {
			nodes, err := source.Nodes(t.Context())
			nodes = slices.SortedFunc(slices.Values(nodes), func(a, b inject.Node) int { return strings.Compare(a.Name, b.Name) })
			if d := cmp.Diff(want, nodes); err == nil && d != "" {
				err = errors.New(d)
			}
			return err
		})
	}
	one, two := &corev1.Node{}, &corev1.Node{}
	for name, n := range map[string]*corev1.Node{"one": one, "two": two} {
		n.Name, n.Labels = name, node("", "arm64", "", false).Labels
		install(t, n)
		n.Status.NodeInfo = corev1.NodeSystemInfo{KubeletVersion: "v1.37.2", ContainerRuntimeVersion: "containerd://2.4.2"}
		if err := admin.Status().Update(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	become(node("one", "arm64", "v1.37.2", false), node("two", "arm64", "v1.37.2", false))
	two.Status.NodeInfo.KubeletVersion = "v1.34.0"
	if err := admin.Status().Update(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	become(node("one", "arm64", "v1.37.2", false), node("two", "arm64", "v1.34.0", false))
	two.Spec.Unschedulable = true
	if err := admin.Update(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	become(node("one", "arm64", "v1.37.2", false), node("two", "arm64", "v1.34.0", true))
	one.Labels[corev1.LabelArchStable] = "amd64"
	if err := admin.Update(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	become(node("one", "amd64", "v1.37.2", false), node("two", "arm64", "v1.34.0", true))
}
