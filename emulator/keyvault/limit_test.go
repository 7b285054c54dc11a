// SPDX-License-Identifier: Apache-2.0

package keyvault_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/emulator/keyvault"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// The bucket of a vault with the service's limit empties and refills as time goes by.
func TestTheLimitRefills(t *testing.T) {
	t.Parallel()
	at := now
	s, err := keyvault.New(keyvault.Config{
		Vaults: []seed.Vault{{Name: "my-kv", Tenant: "tenant-1", DNSSuffix: "vault.azure.net"}},
		Verify: verify, Now: func() time.Time { return at },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetLimit("my-kv", &seed.Limit{}); err != nil {
		t.Fatal(err)
	}
	// answered asks until it is refused; without permission, answers are cheap and count all the same.
	answered := func() int {
		n := 0
		for ask(t, s, admin, "GET /secrets/none", "").status != 429 {
			n++
		}
		return n
	}
	got := []int{answered()}
	for _, wait := range []time.Duration{0, time.Second, 5 * time.Second, time.Hour} {
		at = at.Add(wait)
		got = append(got, answered())
	}
	if diff := cmp.Diff([]int{4000, 0, 400, 2000, 4000}, got); diff != "" {
		t.Error(diff)
	}
}

// The sorted names of a vault stay right through everything that changes them.
func TestListsStaySorted(t *testing.T) {
	t.Parallel()
	s := start(t)
	names := func(path string) string {
		t.Helper()
		var out []string
		items, _ := must(t, s, "GET "+path, "").body["value"].([]any)
		for _, each := range items {
			fields, _ := each.(map[string]any)
			id, _ := fields["id"].(string)
			out = append(out, id[strings.LastIndex(id, "/")+1:])
		}
		return strings.Join(out, " ")
	}
	for i, step := range []struct{ what, live, deleted string }{
		{"GET /secrets/plain", "future off plain", ""},
		{"PUT /secrets/New", "future New off plain", ""},
		{"PUT /secrets/new", "future New off plain", ""},
		{"PUT /secrets/aaa", "aaa future New off plain", ""},
		{"DELETE /secrets/off", "aaa future New plain", "off"},
		{"DELETE /secrets/Aaa", "future New plain", "aaa off"},
		{"POST /deletedsecrets/off/recover", "future New off plain", "aaa"},
		{"DELETE /deletedsecrets/aaa", "future New off plain", ""},
		{"PUT /secrets/zzz", "future New off plain zzz", ""},
	} {
		must(t, s, step.what, `{"value":"v"}`)
		if diff := cmp.Diff([]string{step.live, step.deleted}, []string{names("/secrets"), names("/deletedsecrets")}); diff != "" {
			t.Errorf("%d, %s: %s", i, step.what, diff)
		}
	}
}

// A page that ends before a certificate that is still being made has the right link.
func TestPendingCertificatesBetweenPages(t *testing.T) {
	t.Parallel()
	s := start(t)
	const pending = `{"policy":{"issuer":{"name":"Unknown"},"x509_props":{"subject":"CN=c"},"key_props":{"kty":"EC","crv":"P-256"}}}`
	for i := range 6 {
		body := pending
		if i%3 == 0 {
			body = strings.Replace(pending, "Unknown", "Self", 1)
		}
		must(t, s, fmt.Sprintf("POST /certificates/c%d/create", i), body)
	}
	for query, want := range map[string][]int{"": {2}, "&maxresults=1": {1, 1}, "&maxresults=4&includePending=true": {4, 2}} {
		var got []int
		for path := "/certificates?api-version=7.4" + query; path != ""; {
			page := must(t, s, "GET "+path, "")
			items, _ := page.body["value"].([]any)
			got = append(got, len(items))
			path = strings.TrimPrefix(page.str("nextLink"), "https://my-kv.vault.azure.net:443")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
}
