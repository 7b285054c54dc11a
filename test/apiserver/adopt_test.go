// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// adopting asks for an object that exists.
func adopting(spec *v2beta1.AzureKeyVaultSecretSpec) {
	if spec.Output.Secret != nil {
		spec.Output.Secret.Adopt = true
	} else {
		spec.Output.ConfigMap.Adopt = true
	}
}

// A foreign object, of which everything has to survive.
func (s *stage) foreign(kind string, annotations map[string]string) client.Object {
	var o client.Object
	if kind == "ConfigMap" {
		c := s.configMapOf("out")
		c.Data = map[string]string{"theirs": "x", "password": "theirs too"}
		o = c
	} else {
		c := s.secretOf("out")
		c.Data = map[string][]byte{"theirs": []byte("x"), "password": []byte("theirs too")}
		o = c
	}
	o.SetLabels(map[string]string{"team": "x"})
	o.SetAnnotations(annotations)
	return o
}

func TestAForeignOutputNeedsTheConsentOfBoth(t *testing.T) {
	t.Parallel()
	const taken, consent = "Secret out: it exists already: delete it, choose another name, or adopt it",
		"Secret out: it exists already, and its annotation spv.no/adopt-by does not name this resource"
	for name, tc := range map[string]struct {
		annotation string
		adopt      bool
		message    string // empty, it is adopted
	}{
		"Neither":        {"", false, taken},
		"HandedOverOnly": {"db", false, taken},
		"AskedForOnly":   {"", true, consent},
		"ToAnother":      {"dbx", true, consent},
		"ToSomeOthers":   {"x,d b", true, consent},
		"ToEverybody":    {"*", true, consent},
		"ToUs":           {"db", true, ""},
		"ToUsToo":        {"x, db ,y", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, often)
			s.put("db", "one")
			out := s.foreign("Secret", map[string]string{"spv.no/adopt-by": tc.annotation})
			s.here(t, out, "kubectl")
			s.apply(t, "db", func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Output.Secret.Adopt = tc.adopt })
			if tc.message == "" {
				s.ready(t, "db", "True Synced")
				s.data(t, out, "password=one theirs=x")
				return
			}
			if got := s.ready(t, "db", "False OutputTaken"); got != tc.message {
				t.Errorf("message %q", got)
			}
			s.looks(t, 2)
			s.same(t, out)
			// What the message says is what helps.
			s.respec(t, "db", adopting)
			s.merged(t, out, `{"metadata":{"annotations":{"spv.no/adopt-by":"db"}}}`)
			s.ready(t, "db", "True Synced")
			s.data(t, out, "password=one theirs=x")
		})
	}
}

func TestWhatIsAdoptedStaysTheirs(t *testing.T) {
	t.Parallel()
	for kind, of := range shared {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, often)
			s.put("db", "one")
			out := s.foreign(kind, map[string]string{"spv.no/adopt-by": "db", "note": "y"})
			s.here(t, out, "kubectl")
			uid := out.GetUID()
			s.merged(t, out, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"theirs","uid":"0-0-0"}]}}`)
			s.apply(t, "db", of.to("password"), adopting)
			s.ready(t, "db", "True Synced")
			is := func(data, names string) {
				t.Helper()
				s.data(t, out, data)
				if got := describe(out); !strings.HasSuffix(got, " false ["+names+"] owned by theirs") || out.GetUID() != uid {
					t.Errorf("%s", got)
				}
			}
			const marks = "note:y spv.no/adopt-by:db spv.no/adopted:true spv.no/output-of:AzureKeyVaultSecret team:x"
			is("password=one theirs=x", marks)
			s.put("db", "two")
			is("password=two theirs=x", marks)
			s.respec(t, "db", of.to("ours"), adopting)
			is("ours=two theirs=x", marks)
			s.merged(t, out, `{"metadata":{"labels":{"spv.no/adopted":null}}}`)
			eventually(t, "the label is back", func() error {
				if s.data(t, out, "ours=two theirs=x"); out.GetLabels()["spv.no/adopted"] == "" {
					return fmt.Errorf("%s", describe(out))
				}
				return nil
			})
			is("ours=two theirs=x", marks)
			// Who takes the consent back, and the label or not, is left alone from then on.
			s.merged(t, out, `{"metadata":{"labels":{"spv.no/adopted":null},"annotations":{"spv.no/adopt-by":null}}}`)
			s.ready(t, "db", "False OutputTaken")
			s.put("db", "three")
			s.looks(t, 2)
			is("ours=two theirs=x", "note:y spv.no/output-of:AzureKeyVaultSecret team:x")
			s.merged(t, out, `{"metadata":{"annotations":{"spv.no/adopt-by":"db"}}}`)
			s.ready(t, "db", "True Synced")
			is("ours=three theirs=x", marks)
			s.merged(t, out, `{"metadata":{"annotations":{"spv.no/adopt-by":null}}}`)
			s.ready(t, "db", "False OutputTaken")
			is("ours=three theirs=x", strings.Replace(marks, "spv.no/adopt-by:db ", "", 1))
			s.remove(t, "db")
			eventually(t, "our marks go", func() error {
				if s.data(t, out, "theirs=x"); out.GetLabels()["spv.no/output-of"] != "" {
					return fmt.Errorf("%s", describe(out))
				}
				return nil
			})
			is("theirs=x", "note:y team:x")
		})
	}
}

// Even deleted on purpose with its data, of an adopted output ours goes alone: it
// has an owner who can tell.
func TestAnAdoptedOutputThatIsNotAskedForAnyMore(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*testing.T, *stage){
		"Deleted": func(t *testing.T, s *stage) { t.Helper(); s.remove(t, "db") },
		"Renamed": func(t *testing.T, s *stage) { t.Helper(); s.respec(t, "db", outputTo("elsewhere", "password")) },
		"Dropped": func(t *testing.T, s *stage) { t.Helper(); s.respec(t, "db", noOutput) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, never)
			s.put("db", "one")
			out := s.secretOf("out")
			out.Annotations = map[string]string{"spv.no/adopt-by": "db"} // nothing else is in it
			s.here(t, out, "kubectl")
			uid := out.UID
			s.apply(t, "db", adopting)
			s.ready(t, "db", "True Synced")
			s.data(t, out, "password=one")
			leave(t, s)
			s.data(t, out, "")
			if out.UID != uid {
				t.Error("it was made anew")
			}
		})
	}
}

// What a type needs stays in an adopted Secret whoever wrote it last.
func TestAnAdoptedSecretOfATypeStaysValid(t *testing.T) {
	t.Parallel()
	s := newStage(t, never)
	s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "login"}, vault.Object{Value: value("u:two")})
	out := s.secretOf("out")
	out.Type, out.Data = corev1.SecretTypeBasicAuth, map[string][]byte{"username": []byte("u"), "password": []byte("one"), "theirs": []byte("x")}
	out.Annotations = map[string]string{"spv.no/adopt-by": "login"}
	s.here(t, out, "kubectl")
	s.apply(t, "login", adopting, func(spec *v2beta1.AzureKeyVaultSecretSpec) {
		spec.Output.Secret.Type, spec.Output.Secret.DataKey = string(corev1.SecretTypeBasicAuth), ""
	})
	s.ready(t, "login", "True Synced")
	s.data(t, out, "password=two theirs=x username=u")
	s.remove(t, "login")
	s.event(t, "out", "Released")
	s.data(t, out, "password=two theirs=x username=u")
}

// Nothing of theirs is ever deleted to be made anew.
func TestAnAdoptedOutputIsNeverReplaced(t *testing.T) {
	t.Parallel()
	yes := true
	for name, tc := range map[string]struct {
		shape   func(*corev1.Secret)
		message string
	}{
		"Type":      {func(out *corev1.Secret) { out.Type = "example.com/x" }, "Secret out: it has another type and holds what is not ours; delete it to have it made anew"},
		"Immutable": {func(out *corev1.Secret) { out.Immutable = &yes }, "Secret out: it is immutable and holds what is not ours; delete it to have it made anew"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, often)
			s.put("db", "one")
			out := s.secretOf("out")
			out.Annotations = map[string]string{"spv.no/adopt-by": "db"}
			tc.shape(out)
			s.here(t, out, "kubectl")
			s.apply(t, "db", adopting)
			if got := s.ready(t, "db", "False OutputConflict"); got != tc.message {
				t.Errorf("message %q", got)
			}
			s.looks(t, 2)
			s.same(t, out)
		})
	}
}
