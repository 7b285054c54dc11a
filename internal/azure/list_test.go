// SPDX-License-Identifier: Apache-2.0

package azure_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/emulator/emulatortest"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
	"github.com/akv2k8s/akv2k8s/internal/azure"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

func secrets() vault.Collection { return vault.Collection{Vault: "my-kv", Kind: vault.KindSecret} }

// TestLinksElsewhere: a link in an answer must not lead our token to another host, nor
// to the vault in plain text. Only the vault's own, port named or not, is followed.
func TestLinksElsewhere(t *testing.T) {
	for name, tc := range map[string]struct {
		link string
		ok   bool
	}{
		"Own":             {"https://my-kv.vault.azure.net/secrets?page=2", true},
		"OwnWithPort":     {"https://my-kv.vault.azure.net:443/secrets?page=2", true},
		"OwnInUpperCase":  {"https://MY-KV.vault.azure.net/secrets?page=2", true},
		"AnotherVault":    {"https://other.vault.azure.net/secrets?page=2", false},
		"AnotherHost":     {"https://other.vault.example/secrets?page=2", false},
		"AnotherPort":     {"https://my-kv.vault.azure.net:444/secrets?page=2", false},
		"UserInfo":        {"https://my-kv.vault.azure.net@other.vault.azure.net/secrets", false},
		"OwnWithUserInfo": {"https://other@my-kv.vault.azure.net/secrets", false},
		"Suffix":          {"https://my-kv.vault.azure.net.other.vault.azure.net/secrets", false},
		"PlainText":       {"http://my-kv.vault.azure.net/secrets?page=2", false},
		"NoScheme":        {"//other.vault.azure.net/secrets", false},
		"Relative":        {"/secrets?page=2", false},
		"Backslash":       {`https://other.vault.azure.net\@my-kv.vault.azure.net/secrets`, false},
		"Nonsense":        {"::" + canary, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.set(func(w *azureWorld) {
				w.vault = w.answering(http.StatusOK, fmt.Sprintf(`{"value":[],"nextLink":%q}`, tc.link), nil)
			})
			log, out := newLog()
			reader := newReader(t, w.credential(t, nil), azure.Options{Log: log})
			page, err := reader.List(t.Context(), secrets(), "")
			if err != nil || page.Next != tc.link {
				t.Fatalf("the first page leads to %q, %v", page.Next, err)
			}
			before := w.count()
			_, err = reader.List(t.Context(), secrets(), page.Next)
			if (err == nil) != tc.ok || err != nil && err.Error() != vault.ErrUnavailable.Error() {
				t.Errorf("the next page: %v", err)
			}
			if n := w.count() - before; (n != 0) != tc.ok {
				t.Errorf("%d requests for it", n)
			}
			if n := w.count() - w.count("my-kv.vault.azure.net/") - w.count("my-kv.vault.azure.net:443/") - w.count("MY-KV.vault.azure.net/") - w.count("login."); n != 0 {
				t.Errorf("%d requests to others", n)
			}
			if strings.Contains(out.String(), canary) {
				t.Error("the link is in the log")
			}
		})
	}
}

// TestListingResumes where a page did not come: the link stays good.
func TestListingResumes(t *testing.T) {
	emulator := emulatortest.Start(t, contractSeed)
	reader := emulatorReader(t, emulator)
	want := map[string]bool{}
	for i := range 60 {
		name := fmt.Sprintf("object-%02d", i)
		emulator.SetSecret("my-kv", name, "v")
		want[name] = true
	}
	got, next := map[string]bool{}, ""
	for n := 1; ; n++ {
		emulator.SetFaults("my-kv", seed.Fault{Kind: seed.FaultError, Count: 1})
		page, err := reader.List(t.Context(), secrets(), next)
		if !errors.Is(err, vault.ErrUnavailable) || len(page.Items) != 0 {
			t.Fatalf("page %d with a fault: %d items, %v", n, len(page.Items), err)
		}
		if page, err = reader.List(t.Context(), secrets(), next); err != nil {
			t.Fatalf("page %d again: %v", n, err)
		}
		for _, item := range page.Items {
			got[item.Name] = true
		}
		if next = page.Next; next == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	if requests := emulator.Requests("secrets/list", http.StatusOK); requests != 3 {
		t.Errorf("%d requests that succeeded, want one for each of three pages", requests)
	}
}

// TestOddItems: what does not say what it is about is left out, and harms nothing.
func TestOddItems(t *testing.T) {
	w := newWorld(t)
	w.set(func(w *azureWorld) {
		w.vault = w.answering(http.StatusOK, `{"value":[null,{},{"id":"https://my-kv.vault.azure.net/secrets/a"},
			{"id":"https://my-kv.vault.azure.net/secrets/b","attributes":{}},
			{"id":"https://my-kv.vault.azure.net/secrets/c","attributes":{"enabled":false,"updated":1700000001}}]}`, nil)
	})
	page, err := newReader(t, w.credential(t, nil), azure.Options{}).List(t.Context(), secrets(), "")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, item := range page.Items {
		got[item.Name] = fmt.Sprint(item.Enabled, item.Updated.IsZero())
	}
	if diff := cmp.Diff(map[string]string{"b": "true true", "c": "false false"}, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
}

// A certificate that was requested and is not issued yet is an answer: five of them in a
// row must not look like a vault that does not answer.
func TestAPendingCertificate(t *testing.T) {
	w := newWorld(t)
	body := `{"id":"https://my-kv.vault.azure.net/certificates/web/` + version + `","attributes":{"enabled":false}}`
	w.set(func(w *azureWorld) { w.vault = w.answering(200, body, nil) })
	reader := newReader(t, w.credential(t, nil), azure.Options{})
	_, err := reader.Read(t.Context(), vault.Reference{Vault: "my-kv", Kind: vault.KindCertificate, Name: "web"})
	if !errors.Is(err, vault.ErrPending) || vault.IsOutage(err) {
		t.Errorf("got %v", err)
	}
}
