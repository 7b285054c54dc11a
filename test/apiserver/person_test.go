// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
)

// What people do on a stage, and what they look at.

// written creates an AzureKeyVaultSecret as somebody wrote it in YAML.
func (s *stage) written(t *testing.T, version, name, spec string) {
	t.Helper()
	text := "kind: AzureKeyVaultSecret\nmetadata: {name: " + name + "}\nspec:\n  " + strings.ReplaceAll(strings.TrimSpace(spec), "\n", "\n  ")
	if err := admin.Create(t.Context(), manifest(t, text, version, s.namespace), client.FieldValidation("Strict")); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// edit changes an AzureKeyVaultSecret as kubectl edit would.
func (s *stage) edit(t *testing.T, name string, change func(*v2beta1.AzureKeyVaultSecret)) {
	t.Helper()
	akvs := s.get(t, name)
	before := akvs.DeepCopy()
	change(akvs)
	if err := admin.Patch(t.Context(), akvs, client.MergeFrom(before), client.FieldOwner("kubectl-edit")); err != nil {
		t.Fatal(err)
	}
}

// respec changes the spec alone.
func (s *stage) respec(t *testing.T, name string, changes ...func(*v2beta1.AzureKeyVaultSecretSpec)) {
	t.Helper()
	s.edit(t, name, func(akvs *v2beta1.AzureKeyVaultSecret) {
		for _, change := range changes {
			change(&akvs.Spec)
		}
	})
}

// outputTo is a change of the Secret's name and key.
func outputTo(secret, key string) func(*v2beta1.AzureKeyVaultSecretSpec) {
	return func(spec *v2beta1.AzureKeyVaultSecretSpec) {
		spec.Output.Secret.Name, spec.Output.Secret.DataKey = secret, key
	}
}

// toConfigMap asks for a ConfigMap instead of the Secret.
func toConfigMap(name, key string) func(*v2beta1.AzureKeyVaultSecretSpec) {
	return func(spec *v2beta1.AzureKeyVaultSecretSpec) {
		spec.Output = v2beta1.Output{ConfigMap: &v2beta1.ConfigMapOutput{Name: name, DataKey: key}}
	}
}

func (s *stage) remove(t *testing.T, name string, options ...client.DeleteOption) {
	t.Helper()
	if err := admin.Delete(t.Context(), s.get(t, name), options...); err != nil {
		t.Fatal(err)
	}
}

// orphan deletes with --cascade=orphan. No garbage collection runs here, so its
// part is played: the owner goes from the dependents, then the finalizer.
func (s *stage) orphan(t *testing.T, name string, dependents ...client.Object) {
	t.Helper()
	s.remove(t, name, client.PropagationPolicy(metav1.DeletePropagationOrphan))
	akvs := s.get(t, name)
	for _, o := range dependents {
		s.disowned(t, o, akvs.UID)
	}
	akvs.Finalizers = nil
	if err := admin.Update(t.Context(), akvs); err != nil {
		t.Fatal(err)
	}
}

// disowned takes one owner away.
func (s *stage) disowned(t *testing.T, o client.Object, uid types.UID) {
	t.Helper()
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	left := slices.DeleteFunc(o.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return ref.UID == uid })
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"ownerReferences": left}})
	if err != nil {
		t.Fatal(err)
	}
	s.merged(t, o, string(patch))
}

// merged changes any object as kubectl edit would.
func (s *stage) merged(t *testing.T, o client.Object, patch string) {
	t.Helper()
	if err := admin.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner("kubectl-edit")); err != nil {
		t.Fatal(err)
	}
}

// here makes an object of a person's.
func (s *stage) here(t *testing.T, o client.Object, manager string) {
	t.Helper()
	o.SetNamespace(s.namespace)
	if err := admin.Create(t.Context(), o, client.FieldOwner(manager)); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) secretOf(name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
}

func (s *stage) configMapOf(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
}

// data waits until a Secret or ConfigMap has exactly this data, written as
// "key=value key=value", and reads it into o.
func (s *stage) data(t *testing.T, o client.Object, want string) {
	t.Helper()
	eventually(t, o.GetName()+" holds "+want, func() error {
		if err := admin.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if got := pairs(o); got != want {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
}

// pairs leaves out the canary, which every value begins with.
func pairs(o client.Object) string {
	var out []string
	add := func(key string, value []byte) { out = append(out, key+"="+strings.TrimPrefix(string(value), canary)) }
	switch o := o.(type) {
	case *corev1.Secret:
		for key, value := range o.Data {
			add(key, value)
		}
	case *corev1.ConfigMap:
		for key, value := range o.BinaryData {
			add(key, value)
		}
		for key, value := range o.Data {
			add(key, []byte(value))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// gone waits until there is no such object.
func (s *stage) gone(t *testing.T, o client.Object) {
	t.Helper()
	eventually(t, o.GetName()+" is gone", func() error {
		err := admin.Get(t.Context(), client.ObjectKeyFromObject(o), o)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("there, with %s (%w)", pairs(o), err)
	})
}

// same says whether nobody has written to the object since it was read.
func (s *stage) same(t *testing.T, before client.Object) {
	t.Helper()
	after, ok := before.DeepCopyObject().(client.Object)
	if !ok {
		t.Fatal("not an object")
	}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(before), after); err != nil {
		t.Errorf("%s: %v", before.GetName(), err)
		return
	}
	if before.GetUID() != after.GetUID() || before.GetResourceVersion() != after.GetResourceVersion() {
		t.Errorf("%s was touched: %s, now %s", before.GetName(), pairs(before), pairs(after))
	}
}

// settled waits until the resource is in this state for the spec as it is now.
func (s *stage) settled(t *testing.T, name, want string) string {
	t.Helper()
	eventually(t, name+" is looked at", func() error {
		akvs := s.get(t, name)
		c := meta.FindStatusCondition(akvs.Status.Conditions, v2beta1.ConditionReady)
		switch {
		case c == nil:
			return errors.New("without a condition")
		case akvs.Status.ObservedGeneration != akvs.Generation:
			return fmt.Errorf("generation %d of %d", akvs.Status.ObservedGeneration, akvs.Generation)
		case fmt.Sprintf("%s %s", c.Status, c.Reason) != want:
			return fmt.Errorf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
		return nil
	})
	return s.ready(t, name, want)
}

// owners are the names of the owners, sorted.
func owners(o client.Object) string {
	var out []string
	for _, ref := range o.GetOwnerReferences() {
		out = append(out, ref.Name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// ownerOf is the owner reference of an output, in JSON.
func ownerOf(akvs *v2beta1.AzureKeyVaultSecret) string {
	return `{"apiVersion":"spv.no/v2beta1","kind":"AzureKeyVaultSecret","name":"` + akvs.Name + `","uid":"` + string(akvs.UID) + `","controller":false,"blockOwnerDeletion":true}`
}
