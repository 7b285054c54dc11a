// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/cluster"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// canary stands for what an API server or a policy might quote.
const canary = "c4n4ry-value"

var key = types.NamespacedName{Namespace: "ns", Name: "out"}

func newClient(f interceptor.Funcs) client.Client {
	return fake.NewClientBuilder().WithScheme(cluster.Scheme()).WithReturnManagedFields().
		WithInterceptorFuncs(f).Build()
}

func write(change ...func(*plan.Write)) plan.Write {
	no, yes := false, true
	w := plan.Write{
		Namespace: "ns", Name: "out", Manager: "akvs-uid-a",
		Owner:   &metav1.OwnerReference{APIVersion: "spv.no/v2beta1", Kind: "AzureKeyVaultSecret", Name: "a", UID: "uid-a", Controller: &no, BlockOwnerDeletion: &yes},
		Labels:  map[string]string{v2beta1.OutputLabel: v2beta1.OutputLabelValue},
		Payload: render.Payload{Kind: render.Secret, Type: corev1.SecretTypeOpaque, Data: map[string]secret.Value{"k": secret.New([]byte("one"))}},
	}
	for _, c := range change {
		c(&w)
	}
	return w
}

func TestApplyThenGet(t *testing.T) {
	t.Parallel()
	c := newClient(interceptor.Funcs{})
	outputs := cluster.NewOutputs(c, c)
	if o, err := outputs.Get(t.Context(), render.Secret, key); o != nil || err != nil {
		t.Fatalf("a Secret that does not exist: %v, %v", o, err)
	}
	if err := outputs.Apply(t.Context(), write()); err != nil {
		t.Fatal(err)
	}
	o, err := outputs.Get(t.Context(), render.Secret, key)
	if err != nil {
		t.Fatal(err)
	}
	if o.Labels[v2beta1.OutputLabel] != v2beta1.OutputLabelValue || len(o.Owners) != 1 || o.Owners[0].UID != "uid-a" || o.Type != corev1.SecretTypeOpaque {
		t.Errorf("observed %+v", o)
	}
	if diff := cmp.Diff(map[string][]string{"k": {"akvs-uid-a"}}, o.Managers); diff != "" {
		t.Errorf("managers (-want +got):\n%s", diff)
	}
	err = outputs.Apply(t.Context(), write(func(w *plan.Write) {
		w.ResourceVersion = o.ResourceVersion
		w.UID = o.UID
		w.Payload.Data = map[string]secret.Value{"other": secret.New([]byte("two"))}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if o, err = outputs.Get(t.Context(), render.Secret, key); err != nil {
		t.Fatal(err)
	}
	if _, still := o.Data["k"]; still || !o.Data["other"].Equal(secret.New([]byte("two"))) {
		t.Errorf("the key of before is still there: %v, or the new one is wrong", still)
	}
}

func TestApplyTranslatesErrors(t *testing.T) {
	t.Parallel()
	secrets := schema.GroupResource{Resource: "secrets"}
	for name, tc := range map[string]struct {
		err  error
		want error
		says string
	}{
		"Conflict":   {apierrors.NewConflict(secrets, "out", errors.New(canary)), plan.ErrChanged, "status 409, reason Conflict"},
		"Forbidden":  {apierrors.NewForbidden(secrets, "out", errors.New(canary)), plan.ErrNotAllowed, "status 403, reason Forbidden"},
		"Invalid":    {apierrors.NewInvalid(schema.GroupKind{Kind: "Secret"}, canary, nil), plan.ErrRefused, "status 422, reason Invalid"},
		"TooLarge":   {apierrors.NewRequestEntityTooLargeError(canary), plan.ErrRefused, "status 413"},
		"Busy":       {apierrors.NewTooManyRequests(canary, 1), plan.ErrWrite, "status 429"},
		"Broken":     {apierrors.NewInternalError(errors.New(canary)), plan.ErrWrite, "status 500"},
		"PolicyWord": {&apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusBadRequest, Reason: canary, Message: canary}}, plan.ErrRefused, "status 400"},
		"NoAnswer":   {errors.New("dial " + canary), plan.ErrWrite, "no answer"},
		"Canceled":   {context.Canceled, plan.ErrWrite, "canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(interceptor.Funcs{Apply: func(context.Context, client.WithWatch, runtime.ApplyConfiguration, ...client.ApplyOption) error {
				return tc.err
			}})
			err := cluster.NewOutputs(c, c).Apply(t.Context(), write())
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, want %v saying %q", err, tc.want, tc.says)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the API server's text gets out: %v", err)
			}
		})
	}
}

func TestGetKeepsTheAPIServersTextIn(t *testing.T) {
	t.Parallel()
	c := newClient(interceptor.Funcs{Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
		return errors.New(canary)
	}})
	if _, err := cluster.NewOutputs(c, c).Get(t.Context(), render.Secret, key); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("error %v", err)
	}
}

// Somebody makes a Secret of that name between our looking and our writing: it
// must be as they made it afterwards.
func TestApplyReleasesWhatAppearedMeanwhile(t *testing.T) {
	t.Parallel()
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "out"}, Data: map[string][]byte{"theirs": []byte("x")}}
	c := newClient(interceptor.Funcs{})
	if err := c.Create(t.Context(), theirs, client.FieldOwner("kubectl-create")); err != nil {
		t.Fatal(err)
	}
	if err := cluster.NewOutputs(c, c).Apply(t.Context(), write()); !errors.Is(err, plan.ErrChanged) {
		t.Fatalf("error %v, want %v", err, plan.ErrChanged)
	}
	var got corev1.Secret
	if err := c.Get(t.Context(), key, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]byte{"theirs": []byte("x")}, got.Data); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	if len(got.OwnerReferences) != 0 || len(got.Labels) != 0 {
		t.Errorf("marks of ours are left: %v %v", got.OwnerReferences, got.Labels)
	}
}

func TestConfig(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := cluster.Config("", ""); err == nil || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("error %v, want one that says how", err)
	}
	cfg, err := cluster.Config("", "http://127.0.0.1:1")
	if err != nil || cfg.Host != "http://127.0.0.1:1" {
		t.Fatalf("config %v, error %v", cfg, err)
	}
	// client-go's default, 5 per second, would be the slowest part of all.
	if cfg.QPS >= 0 {
		t.Errorf("%v requests per second: the API server knows better", cfg.QPS)
	}
}
