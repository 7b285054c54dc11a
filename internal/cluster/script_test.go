// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/akv2k8s/akv2k8s/internal/cluster"
)

var errBoom = errors.New("boom " + canary)

// A script is an API server that notes what it is asked, and answers as it is told.
type script struct {
	object  *corev1.Secret              // what Get finds
	entries []metav1.ManagedFieldsEntry // what the last patch makes of its managed fields
	sent    []map[string]any            // what was applied
	asked   []string
	fail    map[string]error // by the beginning of what is asked
	joined  bool             // others have fields in what is applied
	gone    bool             // there is nothing to replace
	then    func(asked string, ctx context.Context)
}

func (s *script) outputs() *cluster.Outputs {
	c := newClient(interceptor.Funcs{Get: s.get, Patch: s.patch, Apply: s.apply, Create: s.create, Delete: s.delete})
	return cluster.NewOutputs(c, c)
}

func (s *script) note(ctx context.Context, what string) error {
	s.asked = append(s.asked, what)
	if s.then != nil {
		s.then(what, ctx)
	}
	for prefix, err := range s.fail {
		if strings.HasPrefix(what, prefix) {
			return err
		}
	}
	return nil
}

func (s *script) get(ctx context.Context, _ client.WithWatch, _ client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	if err := s.note(ctx, "get"); err != nil {
		return err
	}
	switch o := object.(type) {
	case *corev1.Secret:
		s.object.DeepCopyInto(o)
	case *corev1.ConfigMap:
		s.object.ObjectMeta.DeepCopyInto(&o.ObjectMeta)
	}
	return nil
}

func (s *script) patch(ctx context.Context, _ client.WithWatch, object client.Object, patch client.Patch, opts ...client.PatchOption) error {
	var o client.PatchOptions
	o.ApplyOptions(opts)
	if err := s.note(ctx, "patch by "+o.FieldManager); err != nil {
		return err
	}
	data, err := patch.Data(object)
	if err != nil {
		return err
	}
	var steps []struct {
		Path  string          `json:"path"`
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(data, &steps); err != nil {
		return err
	}
	for _, step := range steps {
		switch step.Path {
		case "/metadata/managedFields":
			err = json.Unmarshal(step.Value, &s.entries)
		case "/metadata/resourceVersion":
			err = s.note(ctx, "upon "+string(step.Value))
		default:
			err = fmt.Errorf("an unexpected change of %s", step.Path)
		}
		if err != nil {
			return err
		}
	}
	object.SetResourceVersion("6")
	return nil
}

func (s *script) apply(ctx context.Context, _ client.WithWatch, config runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	var o client.ApplyOptions
	o.ApplyOptions(opts)
	u := unstructuredOf(config)
	s.sent = append(s.sent, u.DeepCopy().Object)
	what := fmt.Sprintf("apply by %s", o.FieldManager)
	if o.Force != nil && *o.Force {
		what += " with force"
	}
	if u.GetResourceVersion() != "" {
		what += " upon " + u.GetResourceVersion()
	}
	if err := s.note(ctx, what); err != nil {
		return err
	}
	u.SetUID("uid-new")
	managed := []metav1.ManagedFieldsEntry{{Manager: o.FieldManager, Operation: metav1.ManagedFieldsOperationApply}}
	if s.joined {
		managed = append(managed, metav1.ManagedFieldsEntry{Manager: "kubectl", Operation: metav1.ManagedFieldsOperationUpdate})
	}
	u.SetManagedFields(managed)
	return nil
}

// unstructuredOf reaches the object within, so that the answer is in it as well.
func unstructuredOf(config runtime.ApplyConfiguration) *unstructured.Unstructured {
	u, ok := config.(interface {
		runtime.ApplyConfiguration
		UnstructuredContent() map[string]any
	})
	if !ok {
		panic(fmt.Sprintf("an unexpected %T", config))
	}
	return &unstructured.Unstructured{Object: u.UnstructuredContent()}
}

// create is a rehearsal, of which the name is all that is wrong.
func (s *script) create(ctx context.Context, _ client.WithWatch, object client.Object, opts ...client.CreateOption) error {
	var o client.CreateOptions
	o.ApplyOptions(opts)
	u, ok := object.(*unstructured.Unstructured)
	if !ok || len(o.DryRun) == 0 {
		return fmt.Errorf("an unexpected creation of %T", object)
	}
	s.sent = append(s.sent, u.DeepCopy().Object)
	if err := s.note(ctx, "rehearse by "+o.FieldManager); err != nil {
		return err
	}
	if s.gone {
		return nil
	}
	return apierrors.NewAlreadyExists(schema.GroupResource{Resource: "secrets"}, "out")
}

func (s *script) delete(ctx context.Context, _ client.WithWatch, _ client.Object, opts ...client.DeleteOption) error {
	var o client.DeleteOptions
	o.ApplyOptions(opts)
	what := "delete"
	if p := o.Preconditions; p != nil && p.UID != nil && p.ResourceVersion != nil {
		what += fmt.Sprintf(" %s upon %s", *p.UID, *p.ResourceVersion)
	}
	return s.note(ctx, what)
}

// saysNothing holds that no text of the API server is in an error.
func saysNothing(t *testing.T, err error) {
	t.Helper()
	if err != nil && strings.Contains(err.Error(), canary) {
		t.Errorf("the API server's text gets out: %v", err)
	}
}
