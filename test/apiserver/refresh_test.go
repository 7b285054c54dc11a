// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// reads are how often the vault was asked for this object.
func (s *stage) reads(name string) int {
	n := 0
	for _, ref := range s.vault.Reads() {
		if ref.Name == name {
			n++
		}
	}
	return n
}

// asks wants a refresh of db.
func (s *stage) asks(t *testing.T, request string) {
	t.Helper()
	s.edit(t, "db", func(akvs *v2beta1.AzureKeyVaultSecret) {
		metav1.SetMetaDataAnnotation(&akvs.ObjectMeta, "spv.no/refresh", request)
	})
}

func refreshing(policy v2beta1.RefreshPolicy) func(*v2beta1.AzureKeyVaultSecretSpec) {
	return func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Refresh = &v2beta1.Refresh{Policy: policy} }
}

func pinned(version string) func(*v2beta1.AzureKeyVaultSecretSpec) {
	return func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Vault.Object.Version = version }
}

const (
	firstVersion  = "00000000000000000000000000000001"
	secondVersion = "00000000000000000000000000000002"
)

// What is not polled is read once; a person's word has it read once more.
func TestWhenTheVaultIsAsked(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*v2beta1.AzureKeyVaultSecretSpec)
		polled bool
		after  string // what a refresh gives once there is a new version
	}{
		"Default":  {func(*v2beta1.AzureKeyVaultSecretSpec) {}, true, "two"},
		"Periodic": {refreshing(v2beta1.RefreshPeriodic), true, "two"},
		"OnChange": {refreshing(v2beta1.RefreshOnChange), false, "two"},
		"Once":     {refreshing(v2beta1.RefreshOnce), false, "two"},
		"Pinned":   {pinned(firstVersion), false, "one"},
		"PeriodicPinned": {func(spec *v2beta1.AzureKeyVaultSecretSpec) {
			refreshing(v2beta1.RefreshPeriodic)(spec)
			pinned(firstVersion)(spec)
		}, false, "one"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, often)
			out := s.secretOf("out")
			s.put("db", "one")
			s.put("clock", "x")
			s.apply(t, "clock", outputTo("clock", "key"))
			s.apply(t, "db", tc.change)
			s.ready(t, "db", "True Synced")
			s.data(t, out, "password=one")
			s.put("db", "two")
			if tc.polled {
				s.data(t, out, "password=two")
				return
			}
			s.clock(t, 5)
			if n := s.reads("db"); n != 1 {
				t.Errorf("read %d times without being asked to", n)
			}
			s.same(t, out)
			s.asks(t, "now")
			s.refreshed(t, "db", "now")
			s.data(t, out, "password="+tc.after)
			s.clock(t, 5)
			if n := s.reads("db"); n != 2 {
				t.Errorf("read %d times, want once more", n)
			}
			s.asks(t, "again")
			s.refreshed(t, "db", "again")
			if n := s.reads("db"); n != 3 {
				t.Errorf("read %d times, want once more", n)
			}
		})
	}
}

// clock waits until what is polled has been polled n times more.
func (s *stage) clock(t *testing.T, n int) {
	t.Helper()
	before := len(s.vault.Lists())
	eventually(t, "time passes", func() error {
		if got := len(s.vault.Lists()) - before; got < n {
			return fmt.Errorf("%d of %d times", got, n)
		}
		return nil
	})
}

// What somebody does to an output is put right under each policy: with the newest
// version, or, for Once, with the one that was first in it.
func TestWhatRepairsAnOutput(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*v2beta1.AzureKeyVaultSecretSpec)
		want   string
	}{
		"OnChange": {refreshing(v2beta1.RefreshOnChange), "two"},
		"Once":     {refreshing(v2beta1.RefreshOnce), "one"},
		"Pinned":   {pinned(firstVersion), "one"},
	} {
		for how, disturb := range map[string]func(*testing.T, *stage){
			"Edited": func(t *testing.T, s *stage) { t.Helper(); s.patched(t, `{"data":{"password":"eA=="}}`) },
			"Deleted": func(t *testing.T, s *stage) {
				t.Helper()
				if err := admin.Delete(t.Context(), s.secretOf("out")); err != nil {
					t.Fatal(err)
				}
			},
		} {
			t.Run(name+how, func(t *testing.T) {
				t.Parallel()
				s := newStage(t, often)
				s.put("db", "one")
				s.apply(t, "db", tc.change)
				s.ready(t, "db", "True Synced")
				s.put("db", "two")
				disturb(t, s)
				s.data(t, s.secretOf("out"), "password="+tc.want)
				s.ready(t, "db", "True Synced")
			})
		}
	}
}

// Another spec is another question, whatever the policy.
func TestAnotherSpecIsReadAnew(t *testing.T) {
	t.Parallel()
	for _, policy := range []v2beta1.RefreshPolicy{v2beta1.RefreshOnChange, v2beta1.RefreshOnce} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, often)
			s.put("db", "one")
			s.put("db", "two")
			s.apply(t, "db", refreshing(policy))
			s.ready(t, "db", "True Synced")
			s.data(t, s.secretOf("out"), "password=two")
			s.respec(t, "db", pinned(firstVersion))
			s.data(t, s.secretOf("out"), "password=one")
			s.follows(t, "db", firstVersion)
			s.respec(t, "db", pinned(secondVersion))
			s.data(t, s.secretOf("out"), "password=two")
			s.settled(t, "db", "True Synced")
		})
	}
}

// A refresh during an outage is made good once the vault is back.
func TestARefreshIsNotForgotten(t *testing.T) {
	t.Parallel()
	s := newStage(t, often)
	s.put("db", "one")
	s.apply(t, "db", refreshing(v2beta1.RefreshOnChange))
	s.ready(t, "db", "True Synced")
	s.vault.Fail(vault.Reference{}, vault.ErrUnavailable)
	s.put("db", "two")
	s.asks(t, strings.Repeat("ä", 100)) // of which the first 64 characters count
	s.looks(t, 1)
	if got := s.get(t, "db").Status.HandledRefresh; got != "" {
		t.Errorf("handled %q although the vault is silent", got)
	}
	s.ready(t, "db", "True Synced")
	s.vault.Fail(vault.Reference{}, nil)
	s.data(t, s.secretOf("out"), "password=two")
	s.refreshed(t, "db", strings.Repeat("ä", 64))
}

// The vault gives an object before and after its validity, and so do we; a person
// hears of it.
func TestValidity(t *testing.T) {
	t.Parallel()
	now := time.Now()
	day := 24 * time.Hour
	for name, tc := range map[string]struct {
		notBefore, expires time.Time
		want               string
		text               string
	}{
		"Valid":       {now.Add(-day), now.Add(365 * day), "True Valid", "my-kv/db: it is valid until "},
		"NearExpiry":  {time.Time{}, now.Add(day), "True NearExpiry", "my-kv/db: it expires on "},
		"Expired":     {time.Time{}, now.Add(-day), "False Expired", "my-kv/db: it expired on "},
		"NotYetValid": {now.Add(day), now.Add(365 * day), "False NotYetValid", "my-kv/db: it is not valid before "},
		"Unlimited":   {time.Time{}, time.Time{}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, never)
			s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "db"}, vault.Object{Value: value(canary), NotBefore: tc.notBefore, Expires: tc.expires})
			s.apply(t, "db")
			s.ready(t, "db", "True Synced")
			s.data(t, s.secretOf("out"), "password=")
			if got := s.valid(t); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
			if tc.want == "" || tc.want == "True Valid" {
				return
			}
			reason := strings.Fields(tc.want)[1]
			if got := s.event(t, "db", reason); !strings.HasPrefix(got, tc.text) {
				t.Errorf("event %q", got)
			}
		})
	}
}

// valid is what the condition says, and sees to it that the status has the dates.
func (s *stage) valid(t *testing.T) string {
	t.Helper()
	st := s.get(t, "db").Status
	c := meta.FindStatusCondition(st.Conditions, v2beta1.ConditionValid)
	if (c == nil) != (st.Expires == nil && st.NotBefore == nil) {
		t.Errorf("status %+v", st)
	}
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%s %s", c.Status, c.Reason)
}

// An object that expires while nothing else happens says so in time, and a new
// version of it says that all is well again.
func TestExpiryComesByItself(t *testing.T) {
	t.Parallel()
	s := newStage(t, never)
	put := func(left time.Duration) {
		s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "db"}, vault.Object{Value: value(canary), Expires: time.Now().Add(left)})
	}
	is := func(want string) {
		t.Helper()
		eventually(t, "it is "+want, func() error {
			if got := s.valid(t); got != want {
				return fmt.Errorf("%s", got)
			}
			return nil
		})
	}
	put(4 * time.Second)
	s.apply(t, "db")
	is("True NearExpiry")
	is("False Expired")
	s.event(t, "db", "Expired")
	s.ready(t, "db", "True Synced")
	put(365 * 24 * time.Hour)
	s.asks(t, "renewed")
	is("True Valid")
}
