// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
	t.Run("None", func(t *testing.T) {
		t.Parallel()
		if _, err := kube.NewFrom(nil, nil, client.ObjectKey{Namespace: "akv2k8s"}).Brokers(t.Context()); !errors.Is(err, kube.ErrNoBroker) {
			t.Errorf("without a broker: %v", err)
		}
	})
	t.Run("Absent", func(t *testing.T) {
		t.Parallel()
		if got, err := kube.NewFrom(nil, clientWith(t), broker).Brokers(t.Context()); err == nil {
			t.Errorf("Brokers() = %v", got)
		}
	})
}

func node(name string, labels map[string]string) client.Object {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: map[string]string{"much": "too much"}}}
}

func TestNodes(t *testing.T) {
	t.Parallel()
	arm := map[string]string{corev1.LabelArchStable: "arm64", "pool": "a"}
	own := map[string]string{corev1.LabelArchStable: runtime.GOARCH, corev1.LabelOSStable: runtime.GOOS}
	cases := map[string]struct {
		nodes []client.Object
		want  []inject.Node
	}{
		"None":       {nil, []inject.Node{{Labels: own}}},
		"Unlabelled": {[]client.Object{node("a", nil)}, []inject.Node{{Labels: own}}},
		"Several":    {[]client.Object{node("a", arm), node("b", nil), node("c", own)}, []inject.Node{{Name: "a", Labels: arm}, {Name: "b"}, {Name: "c", Labels: own}}},
		"Cordoned": {[]client.Object{&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: arm}, Spec: corev1.NodeSpec{Unschedulable: true},
			Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1.37.0", ContainerRuntimeVersion: "containerd://2.4.2"}},
		}}, []inject.Node{{Name: "a", Labels: arm, Unschedulable: true, Kubelet: "v1.37.0", Runtime: "containerd://2.4.2"}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := kube.NewFrom(nil, clientWith(t, tc.nodes...), broker).Nodes(t.Context())
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
		if _, err := kube.NewFrom(nil, failing(t), broker).Nodes(t.Context()); !errors.Is(err, errBoom) {
			t.Errorf("error %v", err)
		}
	})
}

func pullSecret(name string, kind corev1.SecretType, key string) client.Object {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Type: kind,
		Data: map[string][]byte{key: []byte("config of " + name), "other": []byte("x")},
	}
}

func TestPullSecrets(t *testing.T) {
	t.Parallel()
	account := &corev1.ServiceAccount{
		ObjectMeta:       metav1.ObjectMeta{Namespace: "default", Name: "account"},
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "of-account"}, {Name: "of-pod"}},
	}
	objects := []client.Object{
		account,
		pullSecret("of-pod", corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey),
		pullSecret("of-account", corev1.SecretTypeDockercfg, corev1.DockerConfigKey),
		pullSecret("opaque", corev1.SecretTypeOpaque, corev1.DockerConfigJsonKey),
	}
	forbidden := interceptor.NewClient(clientWith(t), interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
			return apierrors.NewForbidden(schema.GroupResource{}, key.Name, nil)
		},
	})
	for name, tc := range map[string]struct {
		live    client.Client
		account string
		names   []string
		want    []string
	}{
		"PodAndAccount": {clientWith(t, objects...), "account", []string{"of-pod"}, []string{
			"of-pod kubernetes.io/dockerconfigjson config of of-pod", "of-account kubernetes.io/dockercfg config of of-account",
		}},
		"NoDockerConfiguration": {clientWith(t, objects...), "account", []string{"opaque", "of-pod", "of-account"}, []string{
			`pull secret "opaque" holds no Docker configuration`,
			"of-pod kubernetes.io/dockerconfigjson config of of-pod", "of-account kubernetes.io/dockercfg config of of-account",
		}},
		"Absent":    {clientWith(t, objects...), "nobody", []string{"absent"}, []string{`pull secret "absent" does not exist`, `service account "nobody" does not exist`}},
		"Forbidden": {forbidden, "account", []string{"of-pod"}, []string{`pull secret "of-pod" is in a namespace where the Env Injector may not read it`, `service account "account" is in a namespace where the Env Injector may not read it`}},
		"Outage":    {failing(t), "account", []string{"of-pod"}, []string{`pull secret "of-pod" could not be read just now`, `service account "account" could not be read just now`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, s := range kube.NewFrom(tc.live, nil, broker).PullSecrets(t.Context(), "default", tc.account, tc.names) {
				if s.Unusable != "" {
					got = append(got, s.Unusable)
				} else {
					got = append(got, s.Name+" "+string(s.Type)+" "+string(s.Config.Reveal()))
				}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// What is in memory may be of a moment ago.
func TestSecretNow(t *testing.T) {
	t.Parallel()
	of := func(vault string) client.Object {
		akvs := &v2beta1.AzureKeyVaultSecret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "my-secret"}}
		akvs.Spec.Vault.Name = vault
		return akvs
	}
	got, err := kube.NewFrom(clientWith(t, of("new")), clientWith(t, of("old")), broker).SecretNow(t.Context(), "default", "my-secret")
	if err != nil || got == nil || got.Spec.Vault.Name != "new" {
		t.Errorf("SecretNow() = %v, %v", got, err)
	}
	if got, err := kube.NewFrom(clientWith(t), clientWith(t, of("old")), broker).SecretNow(t.Context(), "default", "my-secret"); got != nil || err != nil {
		t.Errorf("of one that is gone: %v, %v", got, err)
	}
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

func TestAccount(t *testing.T) {
	t.Parallel()
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "app", Annotations: map[string]string{
		"azure.workload.identity/client-id": "client", "azure.workload.identity/tenant-id": "tenant",
	}}}
	forbidding := interceptor.NewClient(clientWith(t), interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "serviceaccounts"}, "app", errBoom)
		},
	})
	for name, tc := range map[string]struct {
		live client.Client
		want inject.Account
		fail bool
	}{
		"There":     {clientWith(t, sa), inject.Account{Name: "app", ClientID: "client", TenantID: "tenant"}, false},
		"Absent":    {clientWith(t), inject.Account{Name: "app", Unreadable: inject.Missing}, false},
		"Forbidden": {forbidding, inject.Account{Name: "app", Unreadable: inject.Unreadable}, false},
		"Outage":    {failing(t), inject.Account{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := kube.NewFrom(tc.live, nil, broker).Account(t.Context(), "default", "app")
			if d := cmp.Diff(tc.want, got); d != "" || (err != nil) != tc.fail {
				t.Errorf("error %v, -want +got\n%s", err, d)
			}
		})
	}
}
