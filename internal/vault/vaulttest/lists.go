// SPDX-License-Identifier: Apache-2.0

package vaulttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// checkAnyCase: Key Vault takes names in any case.
func checkAnyCase(t *testing.T, s Stage) {
	t.Helper()
	version := s.SetSecret("there", "v", "")
	for _, ref := range []vault.Reference{
		{Vault: strings.ToUpper(s.Vault), Kind: vault.KindSecret, Name: "there"},
		{Vault: s.Vault, Kind: vault.KindSecret, Name: "THERE"},
		{Vault: s.Vault, Kind: vault.KindSecret, Name: "There", Version: version},
	} {
		if obj, err := s.Reader.Read(t.Context(), ref); err != nil || obj.Version != version {
			t.Errorf("reading %+v: version %q, %v", ref, obj.Version, err)
		}
	}
	page, err := s.Reader.List(t.Context(), vault.Collection{Vault: strings.ToUpper(s.Vault), Kind: vault.KindSecret}, "")
	if err != nil || len(page.Items) != 1 {
		t.Errorf("listing with the vault's name in upper case: %d items, %v", len(page.Items), err)
	}
}

// checkList: what is there is listed in its collection and whether it is enabled, the
// secrets behind certificates among the secrets; what is deleted is not.
func checkList(t *testing.T, s Stage) {
	t.Helper()
	for _, kind := range []vault.Kind{vault.KindSecret, vault.KindCertificate, vault.KindKey} {
		if got := list(t, s, kind); len(got) != 0 {
			t.Errorf("an empty vault lists %v as %s", got, kind)
		}
	}
	s.SetSecret("on", "v", "")
	s.SetSecret("off", "v", "")
	s.Disable(vault.Reference{Vault: s.Vault, Kind: vault.KindSecret, Name: "off"})
	old := s.SetSecret("old-off", "v", "")
	s.SetSecret("old-off", "w", "")
	s.Disable(vault.Reference{Vault: s.Vault, Kind: vault.KindSecret, Name: "old-off", Version: old})
	s.SetSecret("deleted", "v", "")
	s.Delete(vault.Reference{Vault: s.Vault, Kind: vault.KindSecret, Name: "deleted"})
	s.CreateCertificate("certificate")
	s.CreateCertificate("certificate-off")
	s.Disable(vault.Reference{Vault: s.Vault, Kind: vault.KindCertificate, Name: "certificate-off"})
	s.CreateKey("key", true)
	for kind, want := range map[vault.Kind]map[string]bool{
		vault.KindSecret:      {"on": true, "off": false, "old-off": true, "certificate": true, "certificate-off": false},
		vault.KindCertificate: {"certificate": true, "certificate-off": false},
		vault.KindKey:         {"key": true},
	} {
		got := map[string]bool{}
		for _, item := range list(t, s, kind) {
			if kind == vault.KindKey && item.Name != "key" {
				continue // the keys behind certificates: nobody looks for them there
			}
			got[item.Name] = item.Enabled
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the list of %ss and what is enabled (-want +got):\n%s", kind, diff)
		}
	}
}

func checkListPages(t *testing.T, s Stage) {
	t.Helper()
	want := map[string]int{}
	for i := range 60 {
		name := fmt.Sprintf("object-%02d", i)
		s.SetSecret(name, "v", "")
		want[name] = 1
	}
	of := vault.Collection{Vault: s.Vault, Kind: vault.KindSecret}
	got, sizes, links := map[string]int{}, []int{}, []string{""}
	for next, more := "", true; more; {
		page, err := s.Reader.List(t.Context(), of, next)
		if err != nil {
			t.Fatalf("page %d: %v", len(sizes)+1, err)
		}
		for _, item := range page.Items {
			got[item.Name]++
		}
		sizes = append(sizes, len(page.Items))
		next, more = page.Next, page.Next != ""
		links = append(links, next)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("how often each was listed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{25, 25, 10}, sizes); diff != "" {
		t.Errorf("items of the pages (-want +got):\n%s", diff)
	}
	// A page can be asked for again, as after a failure.
	page, err := s.Reader.List(t.Context(), of, links[1])
	if err != nil || len(page.Items) != 25 || page.Next != links[2] {
		t.Errorf("the second page again: %d items, %v", len(page.Items), err)
	}
}

// checkListUpdated: a list and a read tell the same time, to the second.
func checkListUpdated(t *testing.T, s Stage) {
	t.Helper()
	s.SetSecret("secret", "one", "")
	s.SetSecret("secret", "two", "")
	s.CreateCertificate("certificate")
	s.CreateKey("key", false)
	for _, ref := range []vault.Reference{
		{Kind: vault.KindSecret, Name: "secret"},
		{Kind: vault.KindCertificate, Name: "certificate"},
		{Kind: vault.KindCertificate, Name: "certificate", PrivateKey: true},
		{Kind: vault.KindKey, Name: "key"},
	} {
		obj := read(t, s, ref)
		items := list(t, s, ref.Collection().Kind)
		i := slices.IndexFunc(items, func(p vault.Properties) bool { return p.Name == ref.Name })
		if i < 0 {
			t.Errorf("%+v is not listed", ref)
			continue
		}
		if got := items[i].Updated; !got.Equal(obj.Updated) || got.Nanosecond() != 0 {
			t.Errorf("%+v: listed as updated at %v, read as updated at %v", ref, got, obj.Updated)
		}
	}
}

func checkListRefused(t *testing.T, s Stage) {
	t.Helper()
	for _, name := range []string{"no-such-vault", "evil.example", "evil:443", "user@evil", "evil/x", "ab", "evil#x", ""} {
		of := vault.Collection{Vault: name, Kind: vault.KindSecret}
		page, err := s.Reader.List(t.Context(), of, "")
		refused(t, of, page, err, vault.ErrNoVault)
	}
}

func checkListFaults(t *testing.T, s Stage) {
	t.Helper()
	s.SetSecret("there", "v", "")
	of := vault.Collection{Vault: s.Vault, Kind: vault.KindSecret}
	for name, tc := range faults {
		t.Run(name, func(t *testing.T) {
			s.Break(tc.fault, tc.retryAfter)
			page, err := s.Reader.List(t.Context(), of, "")
			refused(t, of, page, err, tc.want)
			s.Break(FaultNone, 0)
			if items := list(t, s, vault.KindSecret); len(items) != 1 {
				t.Errorf("%d items afterwards, want 1", len(items))
			}
		})
	}
}

func checkListCanceled(t *testing.T, s Stage) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Reader.List(ctx, vault.Collection{Vault: s.Vault, Kind: vault.KindSecret}, "")
	if !errors.Is(err, vault.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v and %v", err, vault.ErrUnavailable, context.Canceled)
	}
}

// list is all pages, by name.
func list(t *testing.T, s Stage, kind vault.Kind) []vault.Properties {
	t.Helper()
	found := map[string]vault.Properties{}
	for next, more := "", true; more; {
		page, err := s.Reader.List(t.Context(), vault.Collection{Vault: s.Vault, Kind: kind}, next)
		if err != nil {
			t.Fatalf("listing %ss: %v", kind, err)
		}
		for _, item := range page.Items {
			found[item.Name] = item
		}
		next, more = page.Next, page.Next != ""
	}
	out := make([]vault.Properties, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[name])
	}
	return out
}
