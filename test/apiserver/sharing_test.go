// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// shared are outputs of one kind, and how to ask for them.
var shared = map[string]struct {
	object func(*stage) client.Object
	to     func(key string) func(*v2beta1.AzureKeyVaultSecretSpec)
}{
	"Secret": {
		func(s *stage) client.Object { return s.secretOf("out") },
		func(key string) func(*v2beta1.AzureKeyVaultSecretSpec) { return outputTo("out", key) },
	},
	"ConfigMap": {
		func(s *stage) client.Object { return s.configMapOf("out") },
		func(key string) func(*v2beta1.AzureKeyVaultSecretSpec) { return toConfigMap("out", key) },
	},
}

func TestThreeShareAnOutput(t *testing.T) {
	t.Parallel()
	for kind, of := range shared {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, never)
			out := of.object(s)
			for _, name := range []string{"one", "two", "three"} { // all at once
				s.put(name, name)
				s.apply(t, name, of.to(name))
			}
			s.data(t, out, "one=one three=three two=two")
			for _, name := range []string{"one", "two", "three"} {
				s.ready(t, name, "True Synced")
			}
			if got := owners(out); got != "one three two" {
				t.Errorf("owners %q", got)
			}
			s.merged(t, out, `{"data":{"theirs":"`+map[string]string{"Secret": "eA==", "ConfigMap": "x"}[kind]+`"}}`)
			s.respec(t, "two", of.to("renamed"))
			s.data(t, out, "one=one renamed=two theirs=x three=three")
			s.remove(t, "three")
			s.data(t, out, "one=one renamed=two theirs=x")
			s.remove(t, "one")
			s.data(t, out, "renamed=two theirs=x")
			s.remove(t, "two")
			s.data(t, out, "theirs=x")
			if label := out.GetLabels()["spv.no/output-of"]; label != "" {
				t.Error("it is marked as ours although it is not any more")
			}
		})
	}
}

func TestTheYoungerYieldsAContestedKey(t *testing.T) {
	t.Parallel()
	for kind, of := range shared {
		for name, leave := range map[string]func(*testing.T, *stage){
			"Deleted":      func(t *testing.T, s *stage) { t.Helper(); s.remove(t, "elder") },
			"OtherKey":     func(t *testing.T, s *stage) { t.Helper(); s.respec(t, "elder", of.to("other")) },
			"OutputGone":   func(t *testing.T, s *stage) { t.Helper(); s.respec(t, "elder", noOutput) },
			"OtherOutput":  func(t *testing.T, s *stage) { t.Helper(); s.respec(t, "elder", outputTo("elsewhere", "key")) },
			"OtherOutputs": func(t *testing.T, s *stage) { t.Helper(); s.respec(t, "elder", toConfigMap("elsewhere", "key")) },
		} {
			if name == "OtherOutput" && kind == "ConfigMap" {
				continue // its spec has no Secret to rename
			}
			t.Run(kind+name, func(t *testing.T) {
				t.Parallel()
				s := newStage(t, never)
				out := of.object(s)
				s.put("elder", "elder's")
				s.put("heir", "heir's") // created in the same second it is older by name
				s.apply(t, "elder", of.to("key"))
				s.ready(t, "elder", "True Synced")
				s.apply(t, "heir", of.to("key"))
				want := kind + " out: AzureKeyVaultSecret elder, which is older, keeps the same key in it; choose another key or name"
				if got := s.ready(t, "heir", "False OutputConflict"); got != want {
					t.Errorf("message %q", got)
				}
				s.event(t, "heir", "ErrResourceExists")
				if got := s.event(t, "elder", "OutputConflict"); !strings.HasPrefix(got, "AzureKeyVaultSecret heir: ") {
					t.Errorf("the elder is told %q", got)
				}
				s.data(t, out, "key=elder's")
				leave(t, s)
				s.ready(t, "heir", "True Synced")
				if name == "OtherKey" {
					s.data(t, out, "key=heir's other=elder's")
				} else {
					s.data(t, out, "key=heir's")
				}
			})
		}
	}
}

func noOutput(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Output = v2beta1.Output{} }

// Who was first at the key does not matter, only who was created first.
func TestAnOlderResourceTakesTheKeyOfAYoungerOne(t *testing.T) {
	t.Parallel()
	for kind, of := range shared {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, never)
			out := of.object(s)
			s.put("elder", "elder's")
			s.put("a-younger", "younger's")
			s.apply(t, "elder", of.to("its-own"))
			s.ready(t, "elder", "True Synced")
			time.Sleep(1100 * time.Millisecond) // a creation has the precision of a second
			s.apply(t, "a-younger", of.to("key"))
			s.data(t, out, "its-own=elder's key=younger's")
			s.respec(t, "elder", of.to("key"))
			s.data(t, out, "key=elder's")
			s.settled(t, "elder", "True Synced")
			s.settled(t, "a-younger", "False OutputConflict")
			s.event(t, "elder", "OutputConflict")
			s.respec(t, "a-younger", of.to("other")) // what a person is told to do
			s.data(t, out, "key=elder's other=younger's")
			s.settled(t, "a-younger", "True Synced")
		})
	}
}

// Labels are not worth a value: who cannot have a label goes without.
func TestADisputeOverMetadataHoldsUpNoData(t *testing.T) {
	t.Parallel()
	s := newStage(t, never)
	out := s.secretOf("out")
	marked := func(key, team string) func(*v2beta1.AzureKeyVaultSecretSpec) {
		return func(spec *v2beta1.AzureKeyVaultSecretSpec) {
			spec.Output.Secret.DataKey = key
			spec.Output.Secret.Labels = map[string]string{"team": team, "of-" + key: "x"}
			spec.Output.Secret.Annotations = map[string]string{"example.com/team": team}
		}
	}
	team := func() string { return out.Labels["team"] + " " + out.Annotations["example.com/team"] }
	s.put("elder", "one")
	s.put("heir", "two")
	s.apply(t, "elder", marked("a", "first"))
	s.ready(t, "elder", "True Synced")
	s.apply(t, "heir", marked("b", "second"))
	s.data(t, out, "a=one b=two")
	s.ready(t, "heir", "True Synced")
	if got := team(); got != "first first" || out.Labels["of-a"] != "x" || out.Labels["of-b"] != "x" {
		t.Errorf("labels %v, annotations %v", out.Labels, out.Annotations)
	}
	s.merged(t, out, `{"metadata":{"labels":{"team":"person"}}}`)
	s.respec(t, "heir", marked("c", "third"))
	s.data(t, out, "a=one c=two")
	s.settled(t, "heir", "True Synced")
	s.ready(t, "elder", "True Synced")
	if got := team(); got != "person first" {
		t.Errorf("the label and annotation are %q", got)
	}
	s.remove(t, "elder")
	eventually(t, "what the elder let go of is the heir's", func() error {
		if err := admin.Get(t.Context(), client.ObjectKeyFromObject(out), out); err != nil {
			return err
		}
		if got := team(); got != "person third" || pairs(out) != "c=two" {
			return fmt.Errorf("%s, %s", got, pairs(out))
		}
		return nil
	})
}

func TestEntriesComeAndGo(t *testing.T) {
	t.Parallel()
	for kind, of := range shared {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, often)
			out := of.object(s)
			entries := func(text string) {
				s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "multi"}, vault.Object{Value: secret.New([]byte(text))})
			}
			s.put("db", "db")
			s.apply(t, "db", of.to("password"))
			s.ready(t, "db", "True Synced")
			entries(`{"a":"1","b":"2"}`)
			s.apply(t, "multi", of.to(""), func(spec *v2beta1.AzureKeyVaultSecretSpec) {
				spec.Vault.Object.Type, spec.Vault.Object.ContentType = v2beta1.ObjectMultiKeyValue, v2beta1.ContentJSON
			})
			s.data(t, out, "a=1 b=2 password=db")
			s.merged(t, out, `{"data":{"theirs":"`+map[string]string{"Secret": "eA==", "ConfigMap": "x"}[kind]+`"}}`)
			entries(`{"b":"3","c":"4"}`)
			s.data(t, out, "b=3 c=4 password=db theirs=x")
			entries(`{"c":"4","password":"not yours"}`)
			s.ready(t, "multi", "False OutputConflict")
			s.data(t, out, "c=4 password=db theirs=x")
			entries(`{}`)
			s.data(t, out, "password=db theirs=x")
			s.ready(t, "multi", "True Synced")
			entries(`{"d":"5"}`)
			s.data(t, out, "d=5 password=db theirs=x")
			if _, isSecret := out.(*corev1.Secret); isSecret && owners(out) != "" { // for what is theirs
				t.Errorf("owners %q", owners(out))
			}
		})
	}
}

// A ConfigMap keeps text and bytes apart, and a value may go from one to the other.
func TestAValueTurnsFromTextToBytesAndBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, often)
	out := s.configMapOf("out")
	s.apply(t, "db", toConfigMap("out", "k"))
	for _, text := range []string{"text", noText, "text again"} {
		s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "db"}, vault.Object{Value: value(text)})
		s.data(t, out, "k="+text)
		if len(out.Data)+len(out.BinaryData) != 1 || (len(out.Data) == 1) != (text != noText) {
			t.Errorf("%d texts, %d values of bytes", len(out.Data), len(out.BinaryData))
		}
	}
	s.ready(t, "db", "True Synced")
}
