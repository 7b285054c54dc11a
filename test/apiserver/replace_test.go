// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// asType changes the type of the Secret, as which a certificate can be kept.
func asType(t corev1.SecretType) func(*v2beta1.AzureKeyVaultSecretSpec) {
	return func(spec *v2beta1.AzureKeyVaultSecretSpec) {
		spec.Vault.Object = v2beta1.VaultObject{Name: "test-cert", Type: v2beta1.ObjectCertificate}
		spec.Output.Secret.Type = string(t)
		spec.Output.Secret.Labels = map[string]string{"ours": strings.ReplaceAll(string(t), "/", "-")}
	}
}

// theirs is what a person added to an output of ours.
const theirs = `{"metadata":{"labels":{"team":"x"},"annotations":{"note":"y"},"ownerReferences":[` +
	`{"apiVersion":"v1","kind":"ConfigMap","name":"theirs","uid":"0-0-0"}]}}`

// anew waits until the object is another one, in this state.
func (s *stage) anew(t *testing.T, out client.Object, uid, want string) {
	t.Helper()
	eventually(t, out.GetName()+" is made anew", func() error {
		if err := admin.Get(t.Context(), client.ObjectKeyFromObject(out), out); err != nil {
			return err
		}
		if string(out.GetUID()) == uid || describe(out) != want {
			return fmt.Errorf("%s", describe(out))
		}
		return nil
	})
}

// describe is all of an object that a replacement might lose, but for values.
func describe(o client.Object) string {
	var names []string
	for key := range o.GetLabels() {
		names = append(names, key+":"+o.GetLabels()[key])
	}
	for key := range o.GetAnnotations() {
		names = append(names, key+":"+o.GetAnnotations()[key])
	}
	slices.Sort(names)
	kind, immutable := corev1.SecretType("ConfigMap"), false
	switch o := o.(type) {
	case *corev1.Secret:
		kind, immutable = o.Type, o.Immutable != nil && *o.Immutable
	case *corev1.ConfigMap:
		immutable = o.Immutable != nil && *o.Immutable
	}
	return fmt.Sprintf("%s %v %v owned by %s", kind, immutable, names, owners(o))
}

func TestATypeChangesThereAndBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, often)
	out := s.secretOf("out")
	pfx, der, _ := pairOf(t)
	s.vault.Put(testCert, vault.Object{Value: secret.New([]byte(pfx)), Certificate: der})
	s.apply(t, "web", asType(corev1.SecretTypeOpaque))
	s.ready(t, "web", "True Synced")
	s.merged(t, out, strings.Replace(theirs, "[{", "["+ownerOf(s.get(t, "web"))+",{", 1))
	for _, kind := range []corev1.SecretType{corev1.SecretTypeTLS, corev1.SecretTypeOpaque, "example.com/x"} {
		s.respec(t, "web", asType(kind))
		label := "ours:" + strings.ReplaceAll(string(kind), "/", "-")
		s.anew(t, out, string(out.UID), fmt.Sprintf("%s false [note:y %s spv.no/output-of:AzureKeyVaultSecret team:x] owned by theirs web", kind, label))
		s.settled(t, "web", "True Synced")
		want := "f:data.f:password f:metadata.f:labels.f:ours f:metadata.f:labels.f:spv.no/output-of f:metadata.f:ownerReferences.k: f:type"
		if kind == corev1.SecretTypeTLS {
			want = strings.Replace(want, "f:data.f:password", "f:data.f:tls.crt f:data.f:tls.key", 1)
		}
		s.managedLike(t, out, "web", want)
	}
	if got := s.event(t, "web", "Synced"); got == "" {
		t.Error("no event")
	}
	// What is ours still follows, and what is not still stays.
	uid := out.UID
	s.respec(t, "web", func(spec *v2beta1.AzureKeyVaultSecretSpec) {
		spec.Output.Secret.Labels = map[string]string{"now": "z"}
		spec.Output.Secret.DataKey = "renamed"
	})
	eventually(t, "it follows", func() error {
		if err := admin.Get(t.Context(), client.ObjectKeyFromObject(out), out); err != nil {
			return err
		}
		if got := describe(out); got != "example.com/x false [note:y now:z spv.no/output-of:AzureKeyVaultSecret team:x] owned by theirs web" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	if len(out.Data) != 1 || len(out.Data["renamed"]) == 0 || out.UID != uid {
		t.Errorf("%d keys, UID %s", len(out.Data), out.UID)
	}
}

// managedLike wants the resource's manager to own these fields by apply, and that
// nobody else owns one of them but the type.
func (s *stage) managedLike(t *testing.T, out client.Object, name, want string) {
	t.Helper()
	mine := "akvs-" + string(s.get(t, name).UID)
	eventually(t, "managers", func() error {
		if err := admin.Get(t.Context(), client.ObjectKeyFromObject(out), out); err != nil {
			return err
		}
		all := map[string][]string{}
		for _, entry := range out.GetManagedFields() {
			all[entry.Manager+" "+string(entry.Operation)] = paths(t, entry)
		}
		if diff := cmp.Diff(want, strings.Join(all[mine+" Apply"], " ")); diff != "" {
			return fmt.Errorf("(-want +got):\n%s%v", diff, all)
		}
		delete(all, mine+" Apply")
		for manager, fields := range all {
			for _, f := range fields {
				if strings.HasPrefix(f, "f:data") || strings.HasSuffix(f, ":ours") || strings.HasSuffix(f, "output-of") {
					return fmt.Errorf("%s owns %s", manager, f)
				}
			}
		}
		return nil
	})
}

// paths are the fields of an entry, without the values of keys and those within an
// owner reference.
func paths(t *testing.T, entry metav1.ManagedFieldsEntry) []string {
	t.Helper()
	set := fieldpath.NewSet()
	if err := set.FromJSON(strings.NewReader(string(entry.FieldsV1.GetRawBytes()))); err != nil {
		t.Fatal(err)
	}
	var out []string
	set.Leaves().Iterate(func(p fieldpath.Path) {
		var words []string
		for _, e := range p {
			if e.FieldName != nil {
				words = append(words, "f:"+*e.FieldName)
			} else {
				words = append(words, "k:")
				break
			}
		}
		out = append(out, strings.Join(words, "."))
	})
	slices.Sort(out)
	return slices.Compact(out)
}

func TestWhatIsImmutableFollowsAllTheSame(t *testing.T) {
	t.Parallel()
	for kind, of := range shared {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, often)
			out := of.object(s)
			locked := func(yes bool) func(*v2beta1.AzureKeyVaultSecretSpec) {
				return func(spec *v2beta1.AzureKeyVaultSecretSpec) {
					if spec.Output.Secret != nil {
						spec.Output.Secret.Immutable = yes
					} else {
						spec.Output.ConfigMap.Immutable = yes
					}
				}
			}
			s.put("db", "one")
			s.apply(t, "db", of.to("key"))
			s.data(t, out, "key=one")
			uid := out.GetUID()
			s.respec(t, "db", locked(true))
			s.settled(t, "db", "True Synced")
			if s.data(t, out, "key=one"); !strings.Contains(describe(out), " true ") || out.GetUID() != uid {
				t.Errorf("%s", describe(out))
			}
			for _, value := range []string{"two", "three"} {
				uid := out.GetUID()
				s.put("db", value)
				s.data(t, out, "key="+value)
				if !strings.Contains(describe(out), " true ") || out.GetUID() == uid {
					t.Errorf("%s", describe(out))
				}
			}
			s.settled(t, "db", "True Synced")
			s.merged(t, out, `{"metadata":{"labels":{"team":"x"}}}`)
			s.respec(t, "db", of.to("renamed"), locked(true))
			s.data(t, out, "renamed=three")
			s.respec(t, "db", locked(false))
			eventually(t, "it can be edited again", func() error {
				if s.data(t, out, "renamed=three"); strings.Contains(describe(out), " true ") {
					return fmt.Errorf("%s", describe(out))
				}
				return nil
			})
			uid = out.GetUID()
			s.put("db", "four")
			s.data(t, out, "renamed=four")
			if out.GetUID() != uid || out.GetLabels()["team"] != "x" || owners(out) != "db" {
				t.Errorf("%s", describe(out))
			}
		})
	}
}
