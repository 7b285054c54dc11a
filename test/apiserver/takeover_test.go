// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

const original = "azure-keyvault-controller"

func value(text string) secret.Value { return secret.New([]byte(text)) }

// tooled is what kubectl, Argo CD and a person put on a resource.
var (
	tooledLabels = map[string]string{"app": "shop", "argocd.argoproj.io/instance": "shop", "app.kubernetes.io/managed-by": "Helm"}
	tooledNotes  = map[string]string{
		"kubectl.kubernetes.io/last-applied-configuration": "{}", "argocd.argoproj.io/tracking-id": "shop:x", "note": "y",
	}
)

// inherited writes an output as the original did: a create and an update by its
// program's name, owned, with all labels and annotations of the resources.
func (s *stage) inherited(t *testing.T, o client.Object, data string, by ...string) {
	t.Helper()
	o.SetNamespace(s.namespace)
	o.SetLabels(maps.Clone(tooledLabels))
	o.SetAnnotations(maps.Clone(tooledNotes))
	no, yes := false, true
	var refs []metav1.OwnerReference
	for _, name := range by {
		akvs := s.get(t, name)
		refs = append(refs, metav1.OwnerReference{APIVersion: "spv.no/v2beta1", Kind: "AzureKeyVaultSecret", Name: name, UID: akvs.UID, Controller: &no, BlockOwnerDeletion: &yes})
		now := metav1.Now()
		const md5 = "900150983cd24fb0d6963f7d28e17f72"
		if _, isSecret := o.(*corev1.Secret); isSecret {
			akvs.Status.SecretName, akvs.Status.SecretHash = o.GetName(), md5
		} else {
			akvs.Status.ConfigMapName, akvs.Status.ConfigMapHash = o.GetName(), md5
		}
		akvs.Status.LastAzureUpdate = &now
		if err := admin.Status().Update(t.Context(), akvs, client.FieldOwner(original)); err != nil {
			t.Fatal(err)
		}
	}
	o.SetOwnerReferences(refs)
	s.here(t, o, original)
	for pair := range strings.SplitSeq(data, " ") {
		key, text, _ := strings.Cut(pair, "=")
		switch o := o.(type) {
		case *corev1.Secret:
			if o.Data == nil {
				o.Data = map[string][]byte{}
			}
			o.Data[key] = []byte(text)
		case *corev1.ConfigMap:
			if o.Data == nil {
				o.Data = map[string]string{}
			}
			o.Data[key] = text
		}
	}
	if err := admin.Update(t.Context(), o, client.FieldOwner(original)); err != nil {
		t.Fatal(err)
	}
}

// tooledAs creates a resource with the labels and annotations of tools.
func (s *stage) tooledAs(t *testing.T, version, name, spec string) {
	t.Helper()
	s.written(t, version, name, spec)
	s.edit(t, name, func(akvs *v2beta1.AzureKeyVaultSecret) { akvs.Labels, akvs.Annotations = tooledLabels, tooledNotes })
}

func TestOutputsOfTheOriginalAreTakenOver(t *testing.T) {
	t.Parallel()
	const object = "vault: {name: my-kv, object: {name: %s}}\noutput: {%s}"
	rows := map[string]struct {
		object, output string
		kind           corev1.SecretType // empty for a ConfigMap
		old            string            // as the original left it
		want           string            // with a key of a person's
	}{
		"opaque":   {"db, type: secret", "secret: {name: opaque, dataKey: key}", "Opaque", "key=old stale=x", "key= theirs=x"},
		"binary":   {"rsa, type: key", "secret: {name: binary, dataKey: key}", "Opaque", "key=\x01\x02", "key=AQEB theirs=x"},
		"login":    {"login, type: secret", "secret: {name: login, type: kubernetes.io/basic-auth}", corev1.SecretTypeBasicAuth, "username=u password=old", "password=:more theirs=x username=user"},
		"docker":   {"docker, type: secret", "secret: {name: docker, type: kubernetes.io/dockerconfigjson}", corev1.SecretTypeDockerConfigJson, ".dockerconfigjson={}", ".dockerconfigjson=" + config + " theirs=x"},
		"entries":  {"json, type: multi-key-value-secret, contentType: application/x-json", "secret: {name: entries}", "Opaque", "a=old removed=x", "a= b=true n=1.50 nil= theirs=x"},
		"text":     {"db, type: secret", "configMap: {name: text, dataKey: key}", "", "key=old stale=x", "key= theirs=x"},
		"same":     {"db, type: secret", "secret: {name: same, dataKey: key}", "Opaque", "key=" + canary, "key= theirs=x"},
		"repinned": {"db, type: secret, version: '00000000000000000000000000000001'", "secret: {name: repinned, dataKey: key}", "Opaque", "key=" + canary, "key= theirs=x"},
	}
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := emptyStage(t, never)
			s.fill(t)
			s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindKey, Name: "rsa"}, vault.Object{Key: vault.Key{Type: "RSA", N: []byte{1, 1, 1}, E: []byte{1, 0, 1}}})
			before := map[string]client.Object{}
			for name, row := range rows {
				s.tooledAs(t, version, name, fmt.Sprintf(object, row.object, row.output))
				var o client.Object = s.configMapOf(name)
				text := "x"
				if row.kind != "" {
					out := s.secretOf(name)
					out.Type, text = row.kind, "eA=="
					out.Data = map[string][]byte{}
					for pair := range strings.SplitSeq(row.old, " ") {
						key, v, _ := strings.Cut(pair, "=")
						out.Data[key] = []byte(v)
					}
					o = out
				}
				s.inherited(t, o, row.old, name)
				s.merged(t, o, `{"data":{"theirs":"`+text+`"},"metadata":{"labels":{"team":"x"}}}`)
				before[name] = o
			}
			s.start(t, "")
			for name, row := range rows {
				s.ready(t, name, "True Synced")
				o, _ := before[name].DeepCopyObject().(client.Object)
				s.data(t, o, row.want)
				s.takenOver(t, before[name], o)
			}
			writes := s.writes.Load()
			for name := range rows { // a second look finds nothing to do
				s.edit(t, name, func(akvs *v2beta1.AzureKeyVaultSecret) {
					akvs.Annotations = map[string]string{"spv.no/refresh": "1", "note": "y"}
				})
			}
			for name := range rows {
				s.refreshed(t, name, "1")
			}
			if n := s.writes.Load() - writes; n != int64(len(rows)) { // one of the status each
				t.Errorf("%d writes for %d statuses", n, len(rows))
			}
		})
	}
}

// takenOver looks at what should be as before, what should not, and the status.
func (s *stage) takenOver(t *testing.T, before, after client.Object) {
	t.Helper()
	name := before.GetName()
	akvs := s.get(t, name)
	if before.GetUID() != after.GetUID() || !before.GetCreationTimestamp().Time.Equal(after.GetCreationTimestamp().Time) {
		t.Errorf("%s was made anew", name)
	}
	// A person keeps a key in it, so that it is nobody's to delete.
	if got := describe(after); !strings.HasSuffix(got, " false [app:shop note:y spv.no/guests:true spv.no/output-of:AzureKeyVaultSecret team:x] owned by ") {
		t.Errorf("%s", got)
	}
	for _, entry := range after.GetManagedFields() {
		if entry.Manager == original {
			t.Errorf("%s: the original still has %s", name, entry.FieldsV1)
		}
	}
	st := akvs.Status
	if st.SecretName+st.ConfigMapName != name || len(st.SecretHash+st.ConfigMapHash) != 32 || strings.HasPrefix(st.SecretHash+st.ConfigMapHash, "90015098") ||
		st.ObjectVersion == "" || st.ObservedGeneration != akvs.Generation || st.LastAzureUpdate == nil {
		t.Errorf("%s: status %+v", name, st)
	}
}

// refreshed waits until a refresh was acted upon.
func (s *stage) refreshed(t *testing.T, name, request string) {
	t.Helper()
	eventually(t, name+" is refreshed", func() error {
		if got := s.get(t, name).Status.HandledRefresh; got != request {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
}

// Of what several share, each takes its own keys; what nobody asks for goes when
// the last has taken its part.
func TestASharedOutputOfTheOriginalLosesNoKey(t *testing.T) {
	t.Parallel()
	for name, stripped := range map[string]bool{"Owned": false, "Stripped": true} {
		for kind, of := range shared {
			t.Run(kind+name, func(t *testing.T) {
				t.Parallel()
				s := emptyStage(t, often)
				out := of.object(s)
				for _, name := range []string{"one", "three", "two"} {
					s.put(name, name)
					s.apply(t, name, of.to(name))
				}
				s.vault.Fail(vault.Reference{Name: "two"}, vault.ErrUnavailable)
				s.inherited(t, out, "one=old stale=x three=old two=old", "one", "three", "two")
				uid := out.GetUID()
				if stripped {
					s.merged(t, out, `{"metadata":{"ownerReferences":null}}`)
				}
				s.start(t, "")
				s.ready(t, "one", "True Synced")
				s.ready(t, "three", "True Synced")
				s.data(t, out, "one=one stale=x three=three two=old")
				s.vault.Fail(vault.Reference{}, nil)
				s.ready(t, "two", "True Synced")
				s.data(t, out, "one=one three=three two=two")
				eventually(t, "all own it", func() error {
					if s.data(t, out, "one=one three=three two=two"); owners(out) != "one three two" {
						return fmt.Errorf("%s", owners(out))
					}
					return nil
				})
				if out.GetUID() != uid || out.GetAnnotations()["argocd.argoproj.io/tracking-id"] != "" {
					t.Errorf("%s", describe(out))
				}
			})
		}
	}
}

// Some operators strip owners: whose it is, the status still says.
func TestAStrippedOutputOfTheOriginalIsTakenOver(t *testing.T) {
	t.Parallel()
	s := emptyStage(t, often)
	out, foreign := s.secretOf("out"), s.secretOf("foreign")
	s.put("db", "one")
	s.apply(t, "db")
	s.inherited(t, out, "password=old stale=x", "db")
	s.merged(t, out, `{"metadata":{"ownerReferences":null}}`)
	s.put("thief", "two") // whose status does not name it
	s.apply(t, "thief", outputTo("foreign", "password"))
	s.inherited(t, foreign, "password=old")
	uid := out.UID
	s.start(t, "")
	s.data(t, out, "password=one")
	if owners(out) != "db" || out.UID != uid {
		t.Errorf("%s", describe(out))
	}
	s.ready(t, "thief", "False OutputTaken")
	s.same(t, foreign)
}

// During the outage of a vault at the time of the upgrade everything stays.
func TestAnOutageAtTheTakeOver(t *testing.T) {
	t.Parallel()
	s := emptyStage(t, often)
	out := s.secretOf("out")
	s.put("db", "one")
	s.apply(t, "db")
	s.inherited(t, out, "password=old stale=x", "db")
	for _, err := range []error{vault.ErrUnavailable, vault.ErrForbidden, vault.ErrSignIn, vault.Throttled{RetryAfter: time.Second}, errors.New("boom")} {
		s.vault.Fail(vault.Reference{}, err)
		stop := s.start(t, "")
		s.looks(t, 1)
		stop()
		s.same(t, out)
	}
	s.vault.Fail(vault.Reference{}, nil)
	s.start(t, "")
	s.data(t, out, "password=one")
}
