// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// What is not asked for any more goes, and nothing is taken away before what is
// asked for instead is there.
func TestWhatIsAskedForNoLongerGoes(t *testing.T) {
	t.Parallel()
	both := func(spec *v2beta1.AzureKeyVaultSecretSpec) {
		spec.Output.ConfigMap = &v2beta1.ConfigMapOutput{Name: "map", DataKey: "key"}
	}
	for name, tc := range map[string]struct {
		before, after func(*v2beta1.AzureKeyVaultSecretSpec)
		stays, goes   func(*stage) client.Object
		ready         string
	}{
		"Renamed": {
			after: outputTo("renamed", "password"), ready: "True Synced",
			stays: func(s *stage) client.Object { return s.secretOf("renamed") }, goes: func(s *stage) client.Object { return s.secretOf("out") },
		},
		"SecretToConfigMap": {
			after: toConfigMap("out", "password"), ready: "True Synced",
			stays: func(s *stage) client.Object { return s.configMapOf("out") }, goes: func(s *stage) client.Object { return s.secretOf("out") },
		},
		"ConfigMapToSecret": {
			before: toConfigMap("out", "password"), ready: "True Synced",
			after: func(spec *v2beta1.AzureKeyVaultSecretSpec) {
				spec.Output = v2beta1.Output{Secret: &v2beta1.SecretOutput{Name: "out", DataKey: "password"}}
			},
			stays: func(s *stage) client.Object { return s.secretOf("out") }, goes: func(s *stage) client.Object { return s.configMapOf("out") },
		},
		"OneOfTwo": {
			before: both, after: func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Output.ConfigMap = nil }, ready: "True Synced",
			stays: func(s *stage) client.Object { return s.secretOf("out") }, goes: func(s *stage) client.Object { return s.configMapOf("map") },
		},
		"All": {
			after: noOutput, ready: "True NoOutput",
			goes: func(s *stage) client.Object { return s.secretOf("out") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, never)
			s.put("db", "one")
			if tc.before == nil {
				tc.before = func(*v2beta1.AzureKeyVaultSecretSpec) {}
			}
			s.apply(t, "db", tc.before)
			s.ready(t, "db", "True Synced")
			s.respec(t, "db", tc.after)
			s.gone(t, tc.goes(s))
			s.settled(t, "db", tc.ready)
			if tc.stays != nil {
				s.data(t, tc.stays(s), "password=one")
			}
			if st := s.get(t, "db").Status; name == "All" && st.SecretName+st.SecretHash+st.ObjectVersion != "" {
				t.Errorf("status %+v", st)
			}
		})
	}
}

func TestARenameWaitsForWhatTakesItsPlace(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		hinder, mend func(*testing.T, *stage)
		meanwhile    string
	}{
		"Outage": {
			func(_ *testing.T, s *stage) { s.vault.Fail(vault.Reference{}, vault.ErrUnavailable) },
			func(_ *testing.T, s *stage) { s.vault.Fail(vault.Reference{}, nil) },
			"False VaultUnavailable",
		},
		"Taken": {
			func(t *testing.T, s *stage) { t.Helper(); s.here(t, s.secretOf("renamed"), "kubectl") },
			func(t *testing.T, s *stage) {
				t.Helper()
				if err := admin.Delete(t.Context(), s.secretOf("renamed")); err != nil {
					t.Fatal(err)
				}
			},
			"False OutputTaken",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, often)
			out, renamed := s.secretOf("out"), s.secretOf("renamed")
			s.put("db", "one")
			s.apply(t, "db")
			s.ready(t, "db", "True Synced")
			s.data(t, out, "password=one")
			tc.hinder(t, s)
			s.respec(t, "db", outputTo("renamed", "password"))
			s.settled(t, "db", tc.meanwhile)
			s.looks(t, 2)
			s.same(t, out)
			tc.mend(t, s)
			s.data(t, renamed, "password=one")
			s.gone(t, out)
		})
	}
}

// Of an output that others have a part in, only what is ours goes.
func TestOthersPartsSurviveADeletion(t *testing.T) {
	t.Parallel()
	s := newStage(t, never)
	out := s.secretOf("out")
	s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "login"}, vault.Object{Value: secret.New([]byte("user:" + canary))})
	s.apply(t, "login", func(spec *v2beta1.AzureKeyVaultSecretSpec) {
		spec.Output.Secret = &v2beta1.SecretOutput{Name: "out", Type: string(corev1.SecretTypeBasicAuth)}
		spec.Output.Secret.Labels = map[string]string{"ours": "x"}
	})
	s.ready(t, "login", "True Synced")
	s.merged(t, out, `{"data":{"theirs":"eA=="},"metadata":{"labels":{"team":"x"}}}`)
	s.remove(t, "login")
	// The API server would refuse a basic-auth without these two.
	note := s.event(t, "out", "Released")
	s.data(t, out, "password= theirs=x username=user")
	if out.Type != corev1.SecretTypeBasicAuth || !strings.Contains(note, "keys that this type of Secret needs are left") {
		t.Errorf("a %s; %q", out.Type, note)
	}
	if diff := fmt.Sprint(out.Labels); diff != "map[team:x]" {
		t.Errorf("labels %s", diff)
	}
	for _, entry := range out.ManagedFields {
		if strings.HasPrefix(entry.Manager, "akvs-") {
			t.Errorf("manager %s has a part in it", entry.Manager)
		}
	}
}

// Who keeps the data on purpose keeps it; nothing in it speaks of us any more.
func TestCascadeOrphanLeavesTheData(t *testing.T) {
	t.Parallel()
	for kind, of := range shared {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, never)
			out := of.object(s)
			s.put("db", "one")
			s.apply(t, "db", of.to("password"))
			s.ready(t, "db", "True Synced")
			s.orphan(t, "db", out)
			eventually(t, "the label goes", func() error {
				if err := admin.Get(t.Context(), client.ObjectKeyFromObject(out), out); err != nil {
					return err
				}
				if len(out.GetLabels()) > 0 {
					return fmt.Errorf("labels %v", out.GetLabels())
				}
				return nil
			})
			s.data(t, out, "password=one")
			if len(out.GetOwnerReferences()) != 0 {
				t.Errorf("owners %v", out.GetOwnerReferences())
			}
			if got := s.event(t, "out", "Released"); !strings.Contains(got, "its data is left as it is") {
				t.Errorf("event %q", got)
			}
			// It is a person's now.
			s.apply(t, "db", of.to("password"))
			s.ready(t, "db", "False OutputTaken")
			s.data(t, out, "password=one")
		})
	}
}

func TestWhatHappenedWhileNobodyRanIsFound(t *testing.T) {
	t.Parallel()
	s := emptyStage(t, never)
	stop := s.start(t, "")
	for _, name := range []string{"gone", "left", "kept", "orphaned", "dropped", "shared", "stripped"} {
		s.put(name, name)
		s.apply(t, name, outputTo(name, "key"))
	}
	s.put("sharer", "sharer")
	s.apply(t, "sharer", outputTo("shared", "other"))
	for _, name := range []string{"gone", "left", "kept", "orphaned", "dropped", "shared", "stripped", "sharer"} {
		s.ready(t, name, "True Synced")
	}
	stop()
	kept := s.secretOf("kept")
	s.data(t, kept, "key=kept")
	s.remove(t, "gone")
	s.respec(t, "left", outputTo("left-for", "key"))
	s.orphan(t, "orphaned", s.secretOf("orphaned"))
	s.respec(t, "dropped", noOutput)
	s.remove(t, "shared")
	s.disowned(t, s.secretOf("stripped"), s.get(t, "stripped").UID)
	s.start(t, "")
	s.gone(t, s.secretOf("gone"))
	s.gone(t, s.secretOf("left"))
	s.gone(t, s.secretOf("dropped"))
	s.data(t, s.secretOf("left-for"), "key=left")
	s.data(t, s.secretOf("shared"), "other=sharer")
	s.event(t, "orphaned", "Released")
	s.data(t, s.secretOf("orphaned"), "key=orphaned")
	eventually(t, "the owner is back", func() error {
		out, err := s.secret(t.Context(), "stripped")
		if err == nil && owners(out) != "stripped" {
			err = fmt.Errorf("owners %q", owners(out))
		}
		return err
	})
	s.same(t, kept)
}

// A Controller that cares for some labels lets the outputs of all others be.
func TestControllersForOtherLabelsDoNotRelease(t *testing.T) {
	t.Parallel()
	s := emptyStage(t, often)
	of := func(who string) func(*v2beta1.AzureKeyVaultSecret) {
		return func(akvs *v2beta1.AzureKeyVaultSecret) { akvs.Labels = map[string]string{"of": who} }
	}
	s.start(t, "of=one")
	stopOther := s.start(t, "of=other")
	for name, who := range map[string]string{"mine": "one", "theirs": "other", "with-mine": "other"} {
		s.put(name, name)
		key := strings.TrimPrefix(name, "with-")
		s.apply(t, name, outputTo(key, "of-"+name))
		s.edit(t, name, of(who))
		s.ready(t, name, "True Synced")
	}
	mine, theirs := s.secretOf("mine"), s.secretOf("theirs")
	s.data(t, mine, "of-mine=mine of-with-mine=with-mine")
	s.data(t, theirs, "of-theirs=theirs")
	stopOther()
	s.respec(t, "theirs", outputTo("renamed", "key")) // nobody who runs cares
	s.merged(t, theirs, `{"metadata":{"labels":{"x":"y"}}}`)
	s.merged(t, mine, `{"metadata":{"labels":{"x":"y"}}}`)
	s.looks(t, 4)
	s.same(t, mine)
	s.same(t, theirs)
	s.remove(t, "mine")
	s.data(t, mine, "of-with-mine=with-mine")
	s.start(t, "of=other")
	s.data(t, s.secretOf("renamed"), "key=theirs")
	s.gone(t, s.secretOf("theirs"))
}

// Owners that somebody strips are put back, and stripping them deletes nothing.
func TestStrippedOwnersArePutBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, never)
	out := s.secretOf("out")
	s.put("db", "one")
	s.put("user", "two")
	s.apply(t, "db")
	s.apply(t, "user", outputTo("out", "user"))
	s.data(t, out, "password=one user=two")
	for range 2 {
		uid := out.UID
		s.merged(t, out, `{"metadata":{"ownerReferences":null}}`)
		eventually(t, "both own it again", func() error {
			if err := admin.Get(t.Context(), client.ObjectKeyFromObject(out), out); err != nil {
				return err
			}
			if owners(out) != "db user" || out.UID != uid {
				return fmt.Errorf("owners %q", owners(out))
			}
			return nil
		})
	}
}
