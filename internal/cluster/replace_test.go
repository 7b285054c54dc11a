// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/akv2k8s/akv2k8s/internal/cluster"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// replacement makes the Secret out anew, with what it had of others.
func replacement(change ...func(*plan.Write)) plan.Write {
	w := write(func(w *plan.Write) {
		w.UID, w.ResourceVersion = "uid-x", "5"
		w.Replace = &plan.Replace{
			Labels: map[string]string{"team": "theirs"}, Annotations: map[string]string{"note": "theirs"},
			Owners: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "uid-theirs"}},
		}
	})
	for _, c := range change {
		c(&w)
	}
	return w
}

func TestReplace(t *testing.T) {
	t.Parallel()
	const rehearse, remove, create = "rehearse by akv2k8s-carrier", "delete uid-x upon 5", "apply by akv2k8s-carrier"
	secrets := schema.GroupResource{Resource: "secrets"}
	invalid := apierrors.NewInvalid(schema.GroupKind{Kind: "Secret"}, canary, nil)
	for name, tc := range map[string]struct {
		fail   map[string]error
		joined bool
		want   error
		asked  []string
	}{
		"Well":               {nil, false, nil, []string{rehearse, remove, create}},
		"RefusedInRehearsal": {map[string]error{"rehearse": invalid}, false, plan.ErrRefused, []string{rehearse}},
		"NotAllowed":         {map[string]error{"rehearse": apierrors.NewForbidden(secrets, "out", errBoom)}, false, plan.ErrNotAllowed, []string{rehearse}},
		"NoAnswer":           {map[string]error{"rehearse": errBoom}, false, plan.ErrWrite, []string{rehearse}},
		"Changed":            {map[string]error{"delete": apierrors.NewConflict(secrets, "out", errBoom)}, false, plan.ErrChanged, []string{rehearse, remove}},
		"Gone":               {map[string]error{"delete": apierrors.NewNotFound(secrets, "out")}, false, plan.ErrChanged, []string{rehearse, remove}},
		"MayNotDelete":       {map[string]error{"delete": apierrors.NewForbidden(secrets, "out", errBoom)}, false, plan.ErrNotAllowed, []string{rehearse, remove}},
		"GapOfAnOutage":      {map[string]error{"apply": errBoom}, false, plan.ErrGap, []string{rehearse, remove, create}},
		"GapOfAQuota":        {map[string]error{"apply": apierrors.NewForbidden(secrets, "out", errBoom)}, false, plan.ErrGap, []string{rehearse, remove, create}},
		"NotGoneYet":         {map[string]error{"apply": apierrors.NewConflict(secrets, "out", errBoom)}, false, plan.ErrChanged, []string{rehearse, remove, create}},
		"SomebodyWasFaster":  {nil, true, plan.ErrChanged, []string{rehearse, remove, create, create}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{fail: tc.fail, joined: tc.joined}
			err := s.outputs().Apply(t.Context(), replacement())
			if !errors.Is(err, tc.want) || tc.want == nil && err != nil {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if gap := errors.Is(err, plan.ErrGap); gap != errors.Is(tc.want, plan.ErrGap) {
				t.Errorf("error %v, a gap: %t", err, gap)
			}
			saysNothing(t, err)
			if diff := cmp.Diff(tc.asked, s.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

// Nothing is deleted when the rehearsal succeeds: then there is nothing to delete.
func TestReplaceOfWhatIsGone(t *testing.T) {
	t.Parallel()
	s := &script{gone: true}
	if err := s.outputs().Apply(t.Context(), replacement()); !errors.Is(err, plan.ErrChanged) || len(s.asked) != 1 {
		t.Errorf("error %v, asked %v", err, s.asked)
	}
}

// What is rehearsed is what is made.
func TestReplaceTakesAlongWhatIsOthers(t *testing.T) {
	t.Parallel()
	s := &script{}
	long := strings.Repeat("n", 253)
	if err := s.outputs().Apply(t.Context(), replacement(func(w *plan.Write) {
		w.Name, w.Immutable = long, true
		w.Labels["team"] = "ours" // it was decided that it is
	})); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": true, "data": map[string]any{"k": "b25l"},
		"metadata": map[string]any{
			"name": long, "namespace": "ns",
			"labels":      map[string]any{"spv.no/output-of": "AzureKeyVaultSecret", "team": "ours"},
			"annotations": map[string]any{"note": "theirs"},
			"ownerReferences": []any{
				map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "uid-theirs"},
				map[string]any{"apiVersion": "spv.no/v2beta1", "kind": "AzureKeyVaultSecret", "name": "a", "uid": "uid-a", "controller": false, "blockOwnerDeletion": true},
			},
		},
	}
	if diff := cmp.Diff(want, s.sent[1]); diff != "" {
		t.Errorf("made (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, s.sent[0]); diff != "" {
		t.Errorf("rehearsed (-want +got):\n%s", diff)
	}
}

// Once it is deleted, our own end does not keep it from being made.
func TestReplaceClosesTheGap(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var made error
	s := &script{then: func(asked string, ctx context.Context) {
		switch {
		case strings.HasPrefix(asked, "delete"):
			cancel()
		case strings.HasPrefix(asked, "apply"):
			made = ctx.Err()
		}
	}}
	if err := s.outputs().Apply(ctx, replacement()); err != nil || made != nil || len(s.asked) != 3 {
		t.Errorf("error %v, made with %v, asked %v", err, made, s.asked)
	}
}

func TestDrop(t *testing.T) {
	t.Parallel()
	const keep, drop = "apply by akv2k8s-released upon 5", "apply by akvs-uid-a upon 5"
	bare := func(kind string) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": "out", "namespace": "ns", "uid": "uid-x", "resourceVersion": "5"}}
	}
	kept := func(kind string, more map[string]any) map[string]any {
		out := bare(kind)
		maps.Copy(out, more)
		return out
	}
	stay := []string{"k"}
	for name, tc := range map[string]struct {
		kind              render.Kind
		typ               corev1.SecretType
		stay              []string
		fail              map[string]error
		want              error
		asked             []string
		sent              []map[string]any
		binary, immutable bool
	}{
		"All":         {kind: render.Secret, typ: corev1.SecretTypeOpaque, asked: []string{drop}, sent: []map[string]any{bare("Secret")}},
		"OfConfigMap": {kind: render.ConfigMap, asked: []string{drop}, sent: []map[string]any{bare("ConfigMap")}},
		"Stay": {
			kind: render.Secret, typ: corev1.SecretTypeOpaque, stay: stay, asked: []string{keep, drop},
			sent: []map[string]any{kept("Secret", map[string]any{"type": "Opaque", "data": map[string]any{"k": "b25l"}}), bare("Secret")},
		},
		"StayInConfigMap": {
			kind: render.ConfigMap, stay: stay, asked: []string{keep, drop},
			sent: []map[string]any{kept("ConfigMap", map[string]any{"data": map[string]any{"k": "one"}}), bare("ConfigMap")},
		},
		"BinaryInConfigMap": {
			kind: render.ConfigMap, stay: stay, binary: true, asked: []string{keep, drop},
			sent: []map[string]any{kept("ConfigMap", map[string]any{"binaryData": map[string]any{"k": "/w=="}}), bare("ConfigMap")},
		},
		"TypeStays": { // or it would go with the last who had it
			kind: render.Secret, typ: corev1.SecretTypeTLS, asked: []string{keep, drop},
			sent: []map[string]any{kept("Secret", map[string]any{"type": "kubernetes.io/tls"}), bare("Secret")},
		},
		"ImmutableStays": {
			kind: render.Secret, typ: corev1.SecretTypeOpaque, immutable: true, stay: stay, asked: []string{keep, drop},
			sent: []map[string]any{kept("Secret", map[string]any{"type": "Opaque", "immutable": true, "data": map[string]any{"k": "b25l"}}), bare("Secret")},
		},
		"NothingKeptNothingDropped": {
			kind: render.Secret, typ: corev1.SecretTypeOpaque, stay: stay, want: plan.ErrChanged, asked: []string{keep},
			fail: map[string]error{"apply by akv2k8s-released": apierrors.NewConflict(schema.GroupResource{Resource: "secrets"}, "out", errBoom)},
			sent: []map[string]any{kept("Secret", map[string]any{"type": "Opaque", "data": map[string]any{"k": "b25l"}})},
		},
		"NoAnswer": {
			kind: render.Secret, typ: corev1.SecretTypeOpaque, want: plan.ErrWrite, asked: []string{drop},
			fail: map[string]error{"apply": errBoom}, sent: []map[string]any{bare("Secret")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			value := []byte("one")
			if tc.binary {
				value = []byte{0xff}
			}
			s := &script{fail: tc.fail}
			seen := &plan.Observed{UID: "uid-x", ResourceVersion: "5", Type: tc.typ, Immutable: tc.immutable, Data: map[string]secret.Value{"k": secret.New(value), "gone": secret.New([]byte("x"))}}
			err := s.outputs().Drop(t.Context(), tc.kind, key, seen, plan.Drop{Manager: "akvs-uid-a", Stay: tc.stay})
			if !errors.Is(err, tc.want) || tc.want == nil && err != nil {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			saysNothing(t, err)
			if diff := cmp.Diff(tc.asked, s.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.sent, s.sent); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ err, want error }{
		"Well":    {nil, nil},
		"Changed": {apierrors.NewConflict(schema.GroupResource{Resource: "secrets"}, "out", errBoom), plan.ErrChanged},
		"Gone":    {apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, "out"), plan.ErrChanged},
		"Broken":  {errBoom, plan.ErrWrite},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{}
			if tc.err != nil {
				s.fail = map[string]error{"delete": tc.err}
			}
			err := s.outputs().Delete(t.Context(), render.ConfigMap, key, &plan.Observed{UID: "uid-x", ResourceVersion: "5"})
			if !errors.Is(err, tc.want) || tc.want == nil && err != nil {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			saysNothing(t, err)
			if diff := cmp.Diff([]string{"delete uid-x upon 5"}, s.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

// What is text is text in a ConfigMap, and what is not is bytes; one may become the
// other.
func TestConfigMapsHoldTextAndBytes(t *testing.T) {
	t.Parallel()
	c := newClient(interceptor.Funcs{})
	outputs := cluster.NewOutputs(c, c)
	for i, tc := range []struct {
		data   map[string]string
		text   map[string]string
		binary map[string][]byte
	}{
		{map[string]string{"k": "blåbær\n", "empty": "", "nul": "a\x00b"}, map[string]string{"k": "blåbær\n", "empty": "", "nul": "a\x00b"}, nil},
		{map[string]string{"k": "\xff\xfe", "other": "x"}, map[string]string{"other": "x"}, map[string][]byte{"k": []byte("\xff\xfe")}},
		{map[string]string{"k": "again"}, map[string]string{"k": "again"}, nil},
	} {
		w := write(func(w *plan.Write) {
			w.Payload = render.Payload{Kind: render.ConfigMap, Data: map[string]secret.Value{}}
			for name, value := range tc.data {
				w.Payload.Data[name] = secret.New([]byte(value))
			}
		})
		if seen, err := outputs.Get(t.Context(), render.ConfigMap, key); err != nil {
			t.Fatal(err)
		} else if seen != nil {
			w.UID, w.ResourceVersion = seen.UID, seen.ResourceVersion
		}
		if err := outputs.Apply(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		var got corev1.ConfigMap
		if err := c.Get(t.Context(), key, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.text, got.Data); diff != "" {
			t.Errorf("%d: text (-want +got):\n%s", i, diff)
		}
		if diff := cmp.Diff(tc.binary, got.BinaryData); diff != "" {
			t.Errorf("%d: bytes (-want +got):\n%s", i, diff)
		}
		seen, err := outputs.Get(t.Context(), render.ConfigMap, key)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range tc.data {
			if !seen.Data[name].Equal(secret.New([]byte(value))) {
				t.Errorf("%d: %s is not observed as it is", i, name)
			}
		}
	}
}
