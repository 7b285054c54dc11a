// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// The old object stays as it is until the new one may come.
func TestAReplacementThatMustNotBe(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		hinder func(*testing.T, *stage)
		ready  string
		text   string
		mend   func(*testing.T, *stage)
	}{
		"ForeignKey": {
			func(t *testing.T, s *stage) {
				t.Helper()
				s.patched(t, `{"data":{"theirs":"eA=="}}`)
				eventually(t, "the output has a guest", func() error {
					out, err := s.secret(t.Context(), "out")
					if err == nil && out.Labels[v2beta1.GuestsLabel] == "" {
						err = fmt.Errorf("labels %v", out.Labels)
					}
					return err
				})
			},
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
			func(t *testing.T, s *stage) {
				t.Helper()
				s.forbid(t, "!(object.metadata.name in ['out', 'probe']) || object.type != 'kubernetes.io/tls'")
			},
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
