// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/webhook/kube"
)

var (
	broker  = client.ObjectKey{Namespace: "akv2k8s", Name: "akv2k8s-broker"}
	errBoom = errors.New("boom")
)

func clientWith(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme, err := kube.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

func failing(t *testing.T) client.WithWatch {
	t.Helper()
	return interceptor.NewClient(clientWith(t), interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return errBoom
		},
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return errBoom },
	})
}

func service(ports []corev1.ServicePort, ips ...string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: broker.Namespace, Name: broker.Name},
		Spec:       corev1.ServiceSpec{Ports: ports, ClusterIPs: ips},
	}
}

func TestBrokers(t *testing.T) {
	t.Parallel()
	https := []corev1.ServicePort{{Name: "http", Port: 8080}, {Name: "https", Port: 9443}}
	cases := map[string]struct {
		service *corev1.Service
		want    []string
	}{
		"One":       {service(https, "10.96.0.7"), []string{"10.96.0.7:9443"}},
		"DualStack": {service(https, "10.96.0.7", "fd00::7"), []string{"10.96.0.7:9443", "[fd00::7]:9443"}},
		"Headless":  {service(https, "None"), nil},
		"Pending":   {service(https), nil},
		"NoPort":    {service(https[:1], "10.96.0.7"), nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := kube.NewFrom(nil, clientWith(t, tc.service), broker).Brokers(t.Context())
			if d := cmp.Diff(tc.want, got); d != "" || (tc.want == nil) != errors.Is(err, kube.ErrNoBroker) {
				t.Errorf("error %v, -want +got\n%s", err, d)
			}
		})
	}
	t.Run("Absent", func(t *testing.T) {
		t.Parallel()
		if got, err := kube.NewFrom(nil, clientWith(t), broker).Brokers(t.Context()); err == nil {
			t.Errorf("Brokers() = %v", got)
		}
	})
}

func node(name, os, arch string) client.Object {
	labels := map[string]string{}
	if os != "" {
		labels[corev1.LabelOSStable] = os
	}
	if arch != "" {
		labels[corev1.LabelArchStable] = arch
	}
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
}

func TestArchitectures(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		nodes []client.Object
		want  []string
	}{
		"None":       {nil, []string{runtime.GOARCH}},
		"Unlabelled": {[]client.Object{node("a", "", "")}, []string{runtime.GOARCH}},
		"Several":    {[]client.Object{node("a", "linux", "arm64"), node("b", "", "amd64"), node("c", "linux", "amd64")}, []string{"amd64", "arm64"}},
		"Windows":    {[]client.Object{node("a", "linux", "arm64"), node("b", "windows", "amd64")}, []string{"arm64"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := kube.NewFrom(nil, clientWith(t, tc.nodes...), broker).Architectures(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
	t.Run("Outage", func(t *testing.T) {
		t.Parallel()
		if _, err := kube.NewFrom(nil, failing(t), broker).Architectures(t.Context()); !errors.Is(err, errBoom) {
			t.Errorf("error %v", err)
		}
	})
}

func TestNodes(t *testing.T) {
	t.Parallel()
	running := func(name, os, kubelet string, cordoned bool) client.Object {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
		if os != "" {
			n.Labels[corev1.LabelOSStable] = os
		}
		n.Spec.Unschedulable = cordoned
		n.Status.NodeInfo = corev1.NodeSystemInfo{KubeletVersion: kubelet, ContainerRuntimeVersion: "containerd://2.4.2", Architecture: "amd64"}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}
		return n
	}
	cases := map[string]struct {
		nodes []client.Object
		want  []inject.Node
	}{
		"None": {nil, nil},
		"Alike": {
			[]client.Object{running("a", "linux", "v1.37.0", false), running("b", "", "v1.35.0", false), running("c", "linux", "v1.37.0", false)},
			[]inject.Node{{Kubelet: "v1.35.0", Runtime: "containerd://2.4.2"}, {Kubelet: "v1.37.0", Runtime: "containerd://2.4.2"}},
		},
		"Cordoned": {[]client.Object{running("a", "linux", "v1.34.0", true)}, nil},
		"Windows":  {[]client.Object{running("a", "windows", "v1.34.0", false)}, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := kube.NewFrom(nil, clientWith(t, tc.nodes...), broker).Nodes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
	t.Run("Outage", func(t *testing.T) {
		t.Parallel()
		if _, err := kube.NewFrom(nil, failing(t), broker).Nodes(t.Context()); !errors.Is(err, errBoom) {
			t.Errorf("error %v", err)
		}
	})
}

func TestSecret(t *testing.T) {
	t.Parallel()
	akvs := &v2beta1.AzureKeyVaultSecret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "my-secret"}}
	cases := map[string]struct {
		live, kept client.WithWatch
		found      bool
		err        error
	}{
		"InMemory":  {failing(t), clientWith(t, akvs), true, nil},
		"JustMade":  {clientWith(t, akvs), clientWith(t), true, nil},
		"Absent":    {clientWith(t), clientWith(t), false, nil},
		"NotSynced": {clientWith(t, akvs), failing(t), false, errBoom},
		"Outage":    {failing(t), clientWith(t), false, errBoom},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := kube.NewFrom(tc.live, tc.kept, broker).Secret(t.Context(), "default", "my-secret")
			if (got != nil) != tc.found || !errors.Is(err, tc.err) {
				t.Errorf("Secret() = %v, %v", got, err)
			}
		})
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()
	name := metav1.ObjectMeta{Namespace: "default", Name: "settings"}
	live := clientWith(t,
		&corev1.ConfigMap{ObjectMeta: name, Data: map[string]string{"A": "a@azurekeyvault", "P": "plain"}, BinaryData: map[string][]byte{"B": {1}}},
		&corev1.Secret{ObjectMeta: name, Data: map[string][]byte{"C": []byte("<c@azurekeyvault>"), "P": []byte("s3cr3t")}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "empty"}},
	)
	type read = func(context.Context, string, string) (map[string]string, error)
	s, down := kube.NewFrom(live, failing(t), broker), kube.NewFrom(failing(t), failing(t), broker)
	for name, tc := range map[string]struct {
		read            read
		namespace, name string
		want            map[string]string
		err             error
	}{
		"ConfigMap":       {s.ConfigMap, "default", "settings", map[string]string{"A": "a@azurekeyvault", "P": ""}, nil},
		"Secret":          {s.SecretTexts, "default", "settings", map[string]string{"C": "<c@azurekeyvault>", "P": ""}, nil},
		"Empty":           {s.ConfigMap, "default", "empty", map[string]string{}, nil},
		"AbsentConfigMap": {s.ConfigMap, "default", "absent", nil, nil},
		"AbsentSecret":    {s.SecretTexts, "other", "settings", nil, nil},
		"Outage":          {down.ConfigMap, "default", "settings", nil, errBoom},
		"SecretOutage":    {down.SecretTexts, "default", "settings", nil, errBoom},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tc.read(t.Context(), tc.namespace, tc.name)
			if d := cmp.Diff(tc.want, got); d != "" || !errors.Is(err, tc.err) {
				t.Errorf("%v, -want +got\n%s", err, d)
			}
		})
	}
}
