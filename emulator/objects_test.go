// SPDX-License-Identifier: Apache-2.0

package emulator_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// Permissions are taken away by a fault, which works for both models, or by what the model itself has for it.
func TestPermissionsWithdrawn(t *testing.T) {
	t.Parallel()
	const getSecret, list = "Microsoft.KeyVault/vaults/secrets/getSecret/action", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"
	rbac := func(action, resource string) string {
		return fmt.Sprintf(refusedRBAC, action, resource)
	}
	policy := func(permission string) string { return fmt.Sprintf(refusedPolicy, permission) }
	type change func(s *session)
	faults := func(vault string, f seed.Fault) change {
		f.Kind = seed.FaultForbid
		return func(s *session) { s.SetFaults(vault, f) }
	}
	permissions := func(vault string, list ...seed.Permission) change {
		return func(s *session) { s.SetPermissions(vault, list...) }
	}
	for name, tc := range map[string]struct {
		vault   string
		change  change
		refused map[string]string // request: body
		allowed []string
	}{
		"FaultListRBAC": {
			"my-kv", faults("my-kv", seed.Fault{Operations: []string{"secrets/list"}}),
			map[string]string{"secrets": rbac(list, "")},
			[]string{"secrets/db", "secrets/db/versions", "certificates"},
		},
		"FaultListPolicy": {
			"policy-kv", faults("policy-kv", seed.Fault{Operations: []string{"secrets/list"}}),
			map[string]string{"secrets": policy("secrets list")},
			[]string{"secrets/db", "certificates"},
		},
		"FaultObjectRBAC": {
			"my-kv", faults("my-kv", seed.Fault{Objects: []string{"secrets/db"}}),
			map[string]string{"secrets/db": rbac(getSecret, "/secrets/db")},
			[]string{"secrets", "secrets/other"},
		},
		"FaultObjectPolicy": {
			"policy-kv", faults("policy-kv", seed.Fault{Objects: []string{"secrets/db"}}),
			map[string]string{"secrets/db": policy("secrets get")},
			[]string{"secrets"},
		},
		"FaultAllRBAC": {
			"my-kv", faults("my-kv", seed.Fault{}),
			map[string]string{"secrets/db": rbac(getSecret, "/secrets/db"), "secrets": rbac(list, "")},
			nil,
		},
		"PermissionsListRBAC": { // with roles on single objects, lists are forbidden
			"my-kv", permissions("my-kv", seed.Permission{
				Principal: "app", Roles: []string{"Key Vault Secrets User"}, Scopes: []string{"secrets/db", "secrets/other"},
			}),
			map[string]string{"secrets": rbac(list, "")},
			[]string{"secrets/db", "secrets/other"},
		},
		"PermissionsListPolicy": {
			"policy-kv", permissions("policy-kv", seed.Permission{Principal: "app", Secrets: []string{"get"}}),
			map[string]string{"secrets": policy("secrets list")},
			[]string{"secrets/db"},
		},
		"PermissionsGetRBAC": {
			"my-kv", permissions("my-kv", seed.Permission{Principal: "app", Roles: []string{"Key Vault Reader"}}),
			map[string]string{"secrets/db": rbac(getSecret, "/secrets/db")},
			[]string{"secrets", "certificates/crt"},
		},
		"PermissionsObjectRBAC": {
			"my-kv", permissions("my-kv", seed.Permission{
				Principal: "app", Roles: []string{"Key Vault Secrets User"}, Scopes: []string{"secrets/other"},
			}),
			map[string]string{"secrets/db": rbac(getSecret, "/secrets/db")},
			[]string{"secrets/other"},
		},
		"PermissionsAllRBAC": {
			"my-kv", permissions("my-kv"),
			map[string]string{"secrets/db": rbac(getSecret, "/secrets/db"), "secrets": rbac(list, "")},
			nil,
		},
		"PermissionsAllPolicy": {
			"policy-kv", permissions("policy-kv"),
			map[string]string{"secrets/db": policy("secrets get"), "secrets": policy("secrets list")},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begin(t, faultSeed)
			tc.change(s)
			for path, body := range tc.refused {
				got := s.ask("GET "+tc.vault+"/"+path, "")
				if diff := cmp.Diff(body+"\n", got.text); got.status != 403 || diff != "" {
					t.Errorf("%s: %d %s", path, got.status, diff)
				}
			}
			for _, path := range tc.allowed {
				if got := s.ask("GET "+tc.vault+"/"+path, ""); got.status != 200 {
					t.Errorf("%s: %d %s", path, got.status, got.text)
				}
			}
		})
	}
}

// listed is an object as a list shows it.
type listed struct {
	Enabled, Managed bool
	Updated          time.Duration // since the start
	Tags             map[string]string
}

func (s *session) list(path string, start time.Time) map[string]listed {
	s.t.Helper()
	var page struct {
		Value []struct {
			ID         string `json:"id"`
			KeyID      string `json:"kid"`
			Managed    bool   `json:"managed"`
			Attributes struct {
				Enabled bool  `json:"enabled"`
				Updated int64 `json:"updated"`
			} `json:"attributes"`
			Tags map[string]string `json:"tags"`
		} `json:"value"`
	}
	if err := json.Unmarshal([]byte(s.ask("GET my-kv/"+path, "").text), &page); err != nil {
		s.t.Fatal(err)
	}
	out := map[string]listed{}
	for _, it := range page.Value {
		id := it.ID + it.KeyID // keys have the one, all others the other
		out[id[strings.LastIndex(id, "/")+1:]] = listed{
			it.Attributes.Enabled, it.Managed, time.Unix(it.Attributes.Updated, 0).Sub(start).Round(time.Hour), it.Tags,
		}
	}
	return out
}

// What changes an object shows in its "updated", and what changes a certificate shows in its secret and key as well:
// this is what a client that polls lists relies on.
func TestChangesShowInLists(t *testing.T) {
	t.Parallel()
	type object struct{ kind, name string }
	all := []object{{"secrets", "db"}, {"certificates", "crt"}, {"keys", "key"}}
	behind := map[object][]object{{"certificates", "crt"}: {{"secrets", "crt"}, {"keys", "crt"}}}
	for name, tc := range map[string]struct {
		change func(s *session, o object)
		want   listed
		gone   bool
	}{
		"Nothing":   {func(*session, object) {}, listed{Enabled: true}, false},
		"Disabled":  {func(s *session, o object) { s.SetEnabled("my-kv", o.kind, o.name, false) }, listed{Updated: time.Hour}, false},
		"Tagged":    {func(s *session, o object) { s.SetTags("my-kv", o.kind, o.name, map[string]string{"a": "b"}) }, listed{Enabled: true, Updated: time.Hour, Tags: map[string]string{"a": "b"}}, false},
		"Deleted":   {func(s *session, o object) { s.Delete("my-kv", o.kind, o.name) }, listed{}, true},
		"Recovered": {func(s *session, o object) { s.Delete("my-kv", o.kind, o.name); s.Recover("my-kv", o.kind, o.name) }, listed{Enabled: true}, false},
		"EnabledAgain": {func(s *session, o object) {
			s.SetEnabled("my-kv", o.kind, o.name, false)
			s.SetClock("my-kv", 2*time.Hour)
			s.SetEnabled("my-kv", o.kind, o.name, true)
		}, listed{Enabled: true, Updated: 2 * time.Hour}, false},
		"DisabledByAClient": {func(s *session, o object) {
			s.ask("PATCH my-kv/"+o.kind+"/"+o.name+"/", `{"attributes":{"enabled":false}}`)
		}, listed{Updated: time.Hour}, false},
		"TaggedByAClient": {func(s *session, o object) {
			s.ask("PATCH my-kv/"+o.kind+"/"+o.name+"/", `{"tags":{"a":"b"}}`)
		}, listed{Enabled: true, Updated: time.Hour, Tags: map[string]string{"a": "b"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begin(t, faultSeed)
			start := date(s.ask("GET my-kv/secrets/db", ""))
			s.SetClock("my-kv", time.Hour)
			for _, o := range all {
				tc.change(s, o)
			}
			for _, o := range all {
				for _, each := range append([]object{o}, behind[o]...) {
					want := tc.want
					want.Managed = each.kind != o.kind
					got, there := s.list(each.kind, start)[each.name]
					if there == tc.gone {
						t.Errorf("%v is listed: %v", each, there)
					}
					if diff := cmp.Diff(want, got); there && diff != "" {
						t.Errorf("%v: %s", each, diff)
					}
					if _, there := s.list("deleted"+each.kind, start)[each.name]; there != tc.gone {
						t.Errorf("%v is listed among the deleted: %v", each, there)
					}
				}
			}
		})
	}
}

// Disabled objects cannot be read, but for certificates, whose secret and key cannot.
func TestDisabledObjectsCannotBeRead(t *testing.T) {
	t.Parallel()
	s := begin(t, faultSeed)
	for _, each := range []struct{ kind, name string }{{"secrets", "db"}, {"certificates", "crt"}, {"keys", "key"}} {
		s.SetEnabled("my-kv", each.kind, each.name, false)
	}
	const refused = `{"error":{"code":"Forbidden","message":"Operation get is not allowed on a disabled %s.","innererror":{"code":"%sDisabled"}}}` + "\n"
	for path, want := range map[string]string{
		"secrets/db": fmt.Sprintf(refused, "secret", "Secret"), "secrets/crt": fmt.Sprintf(refused, "secret", "Secret"),
		"keys/key": fmt.Sprintf(refused, "key", "Key"), "keys/crt": fmt.Sprintf(refused, "key", "Key"),
	} {
		if got := s.ask("GET my-kv/"+path, ""); got.status != 403 || got.text != want {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
	if got := s.ask("GET my-kv/certificates/crt", ""); got.status != 200 || !strings.Contains(got.text, `"enabled":false`) {
		t.Errorf("got %d %s", got.status, got.text)
	}
}

func TestTenThousandSecrets(t *testing.T) {
	t.Parallel()
	const count = 10_000
	s := begin(t, fmt.Sprintf("%s    generate: { prefix: s-, count: %d }\n", faultSeed, count))
	seen := map[string]bool{}
	for next := "secrets"; next != ""; {
		var page struct {
			Value []struct {
				ID string `json:"id"`
			} `json:"value"`
			NextLink string `json:"nextLink"`
		}
		if err := json.Unmarshal([]byte(s.ask("GET policy-kv/"+next, "").text), &page); err != nil {
			t.Fatal(err)
		}
		for _, it := range page.Value {
			seen[it.ID] = true
		}
		next = strings.TrimPrefix(page.NextLink, "https://policy-kv.vault.azure.net:443/")
	}
	if len(seen) != count+1 || s.Requests("secrets/list", 200) != count/25+1 {
		t.Errorf("saw %d secrets on %d pages", len(seen), s.Requests("secrets/list", 200))
	}
	if got := s.ask("GET policy-kv/secrets/s-9999", ""); !strings.Contains(got.text, `"value":"s-9999"`) {
		t.Errorf("got %s", got.text)
	}
}
