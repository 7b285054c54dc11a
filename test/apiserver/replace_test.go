// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
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

func TestAReplacementThatMustNotBe(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		hinder func(*testing.T, *stage)
		ready  string
		text   string
		mend   func(*testing.T, *stage)
	}{
		"ForeignKey": {
			func(t *testing.T, s *stage) { t.Helper(); s.patched(t, `{"data":{"theirs":"eA=="}}`) },
			"False OutputConflict", "Secret out: it has another type and holds what is not ours; delete it to have it made anew",
			func(t *testing.T, s *stage) { t.Helper(); s.patched(t, `{"data":{"theirs":null}}`) },
		},
		"Shared": {
			func(t *testing.T, s *stage) {
				t.Helper()
				s.put("db", "one")
				s.apply(t, "db", outputTo("out", "other"))
				s.ready(t, "db", "True Synced")
			},
			"False OutputConflict", "Secret out: it has another type and holds what is not ours; delete it to have it made anew",
			func(t *testing.T, s *stage) { t.Helper(); s.remove(t, "db") },
		},
		"Outage": {
			func(_ *testing.T, s *stage) { s.vault.Fail(vault.Reference{}, vault.ErrUnavailable) },
			"False VaultUnavailable", "my-kv/test-cert: the vault did not answer; it is tried again",
			func(_ *testing.T, s *stage) { s.vault.Fail(vault.Reference{}, nil) },
		},
		"Policy": {
			func(t *testing.T, s *stage) { t.Helper(); s.forbid(t, "object.type != 'kubernetes.io/tls'") },
			"False ApplyFailed", "Secret out: the API server, a quota or an admission policy refuses it",
			func(t *testing.T, s *stage) { t.Helper(); s.allow(t) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, often)
			out := s.secretOf("out")
			s.vault.Put(testCert, vault.Object{Value: secret.New([]byte(certificate(t, "one", true)))})
			s.apply(t, "web", asType(corev1.SecretTypeOpaque))
			s.ready(t, "web", "True Synced")
			tc.hinder(t, s)
			if err := admin.Get(t.Context(), client.ObjectKeyFromObject(out), out); err != nil {
				t.Fatal(err)
			}
			s.respec(t, "web", asType(corev1.SecretTypeTLS))
			if got := s.settled(t, "web", tc.ready); got != tc.text {
				t.Errorf("message %q", got)
			}
			s.looks(t, 2)
			s.same(t, out)
			tc.mend(t, s)
			eventually(t, "it is replaced after all", func() error {
				after, err := s.secret(t.Context(), "out")
				if err == nil && (after.Type != corev1.SecretTypeTLS || after.UID == out.UID) {
					err = fmt.Errorf("a %s", after.Type)
				}
				return err
			})
			s.settled(t, "web", "True Synced")
		})
	}
}

// forbid has an admission policy refuse all new Secrets of the namespace that do
// not fulfil the condition.
func (s *stage) forbid(t *testing.T, condition string) {
	t.Helper()
	deny := admissionv1.Fail
	policy := &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: s.namespace},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &deny,
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"secrets"}},
			}}}},
			Validations: []admissionv1.Validation{{Expression: condition, Message: canary}},
		},
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: s.namespace},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: s.namespace, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
			MatchResources: &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": s.namespace}}},
		},
	}
	for _, o := range []client.Object{policy, binding} {
		if err := admin.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the policy is in force", func() error {
		probe := s.secretOf("probe")
		probe.Type, probe.Data = corev1.SecretTypeTLS, map[string][]byte{"tls.crt": nil, "tls.key": nil}
		if err := admin.Create(t.Context(), probe, client.DryRunAll); err == nil {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}

func (s *stage) allow(t *testing.T) {
	t.Helper()
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
	if err := admin.Delete(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
}
