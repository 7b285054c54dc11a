// SPDX-License-Identifier: Apache-2.0

package seed_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

func TestParseFillsDefaultsIn(t *testing.T) {
	t.Parallel()
	got, err := seed.Parse([]byte(`
principals:
  - name: app
    clientId: c1
    federated: [{issuer: https://i, subject: s, jwksFile: jwks.json}]
vaults:
  - name: my-kv
    permissions: [{principal: app, roles: [Key Vault Secrets User], scopes: [secrets/db]}]
    secrets: [{name: db, value: v}]
    certificates: [{name: crt, chain: 3}]
    keys: [{name: k, type: EC, curve: P-256K}]
    faults: [{kind: latency, latency: 250ms}]
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := seed.Seed{
		Tenant: seed.DefaultTenant,
		Principals: []seed.Principal{{
			Name: "app", Tenant: seed.DefaultTenant, ClientID: "c1",
			Federated: []seed.Federated{{Issuer: "https://i", Subject: "s", Audience: "api://AzureADTokenExchange", JWKSFile: "jwks.json"}},
		}},
		Vaults: []seed.Vault{{
			Name: "my-kv", Tenant: seed.DefaultTenant, DNSSuffix: "vault.azure.net", Access: seed.AccessRBAC, PFX: seed.TripleDES,
			Permissions:  []seed.Permission{{Principal: "app", Roles: []string{"Key Vault Secrets User"}, Scopes: []string{"secrets/db"}}},
			Secrets:      []seed.Secret{{Meta: seed.Meta{Name: "db"}, Value: "v"}},
			Certificates: []seed.Certificate{{Meta: seed.Meta{Name: "crt"}, Chain: 3, Order: seed.OrderService, PFX: seed.TripleDES}},
			Keys:         []seed.Key{{Meta: seed.Meta{Name: "k"}, Type: "EC", Curve: "P-256K"}},
			Faults:       []seed.Fault{{Kind: seed.FaultLatency, Latency: seed.Duration(250 * time.Millisecond)}},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLimitHasTheServicesNumbers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   string
		want *seed.Limit
	}{
		"Absent":  {"", nil},
		"Empty":   {", limit: {}", &seed.Limit{Transactions: 4000, Per: seed.Duration(10 * time.Second)}},
		"Partial": {", limit: {transactions: 5}", &seed.Limit{Transactions: 5, Per: seed.Duration(10 * time.Second)}},
		"Full":    {", limit: {transactions: 5, per: 1m}", &seed.Limit{Transactions: 5, Per: seed.Duration(time.Minute)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := seed.Parse([]byte("vaults: [{name: my-kv"+tc.in+"}]"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.Vaults[0].Limit); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGenerateStandsForManySecrets(t *testing.T) {
	t.Parallel()
	got, err := seed.Parse([]byte("vaults: [{name: my-kv, secrets: [{name: a, value: x}], generate: {prefix: s-, count: 2}}]"), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []seed.Secret{
		{Meta: seed.Meta{Name: "a"}, Value: "x"}, {Meta: seed.Meta{Name: "s-0"}, Value: "s-0"}, {Meta: seed.Meta{Name: "s-1"}, Value: "s-1"},
	}
	if diff := cmp.Diff(want, got.Vaults[0].Secrets); diff != "" {
		t.Error(diff)
	}
}

func TestParseSaysWhatAndWhere(t *testing.T) {
	t.Parallel()
	const vault = "vaults: [{name: my-kv, "
	for name, tc := range map[string]struct{ in, want string }{
		"UnknownField":        {"vaults:\n  - name: my-kv\n    secret: []\n", "line 3: field secret not found"},
		"VaultName":           {"vaults: [{name: x}]", "vaults[0] (x): name must be"},
		"VaultTwice":          {"vaults: [{name: my-kv}, {name: My-KV}]", "vaults[1] (My-KV): the name is taken"},
		"SecretName":          {vault + "secrets: [{name: a_b, value: x}]}]", "vaults[0] (my-kv): secrets[0] (a_b): name must be"},
		"SecretTwice":         {vault + "secrets: [{name: a, value: x}, {name: A, value: y}]}]", "secrets[1] (A): the vault already has secrets/a"},
		"SecretAndCert":       {vault + "certificates: [{name: a}], secrets: [{name: a, value: y}]}]", "secrets[0] (a): the vault already has secrets/a"},
		"BothValues":          {vault + "secrets: [{name: a, value: x, valueFile: f}]}]", "value and valueFile exclude each other"},
		"NoSuchFile":          {vault + "secrets: [{name: a, valueFile: none}]}]", "secrets[0] (a): valueFile: file none cannot be read"},
		"ImportedAndMade":     {vault + "certificates: [{name: a, data: x, keyType: EC}]}]", "an imported certificate cannot also"},
		"Order":               {vault + "certificates: [{name: a, order: best}]}]", "order: must be one of service, leaf-first"},
		"KeySize":             {vault + "keys: [{name: a, size: 1024}]}]", "keys[0] (a): an RSA key has 2048"},
		"Role":                {"principals: [{name: p, clientId: c}]\n" + vault + "permissions: [{principal: p, roles: [Owner]}]}]", `role "Owner" is none of Key Vault Administrator`},
		"RolesWithPolicy":     {"principals: [{name: p, clientId: c}]\n" + vault + "access: policy, permissions: [{principal: p, roles: [Key Vault Reader]}]}]", "roles and scopes need access: rbac"},
		"PermissionUnknown":   {"principals: [{name: p, clientId: c}]\n" + vault + "access: policy, permissions: [{principal: p, secrets: [read]}]}]", `secrets has no permission "read"`},
		"PrincipalUnknown":    {vault + "permissions: [{principal: q, roles: [Key Vault Reader]}]}]", "permissions[0] (q): no principal has this name"},
		"FaultKind":           {vault + "faults: [{kind: boom}]}]", "kind: must be one of throttle"},
		"FaultOfSignIn":       {"signIn: {faults: [{kind: forbid}]}", "signIn: faults[0] (forbid): kind: must be one of throttle"},
		"FaultObjects":        {"signIn: {faults: [{kind: hang, objects: [secrets/a]}]}", "a sign-in knows no objects"},
		"FaultSlow":           {vault + "faults: [{kind: slow}]}]", "faults[0] (slow): latency is missing"},
		"FaultProbability":    {vault + "faults: [{kind: reset, probability: 20}]}]", "probability must be above 0 and up to 1"},
		"FaultDNS":            {vault + "faults: [{kind: dns, operations: [secrets/get]}]}]", "leave operations and objects out"},
		"Limit":               {vault + "limit: {transactions: -1}}]", "limit: transactions and per are not negative"},
		"GenerateNone":        {vault + "generate: {prefix: s-}}]", "generate: count must be 1 to"},
		"GenerateName":        {vault + "generate: {prefix: s_, count: 1}}]", "generate: prefix and number must be"},
		"GenerateTaken":       {vault + "secrets: [{name: s1, value: x}], generate: {prefix: s, count: 2}}]", "secrets[2] (s1): the vault already has secrets/s1"},
		"Duration":            {vault + "faults: [{kind: latency, latency: soon}]}]", "is not a duration"},
		"Version":             {vault + "secrets: [{name: a, value: x, version: 12}]}]", "version must be 32"},
		"FederatedWithoutKey": {"principals: [{name: p, clientId: c, federated: [{issuer: i, subject: s}]}]", "federated[0]: exactly one of"},
		"TwoDocuments":        {"tenant: a\n---\ntenant: b\n", "more than one document"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := seed.Parse([]byte(tc.in), func(string) ([]byte, error) { return nil, errors.New("boom") })
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to say %q", err, tc.want)
			}
		})
	}
}

func TestParseNeverQuotesValues(t *testing.T) {
	t.Parallel()
	const canary = "CANARY-hunter2"
	for name, in := range map[string]string{
		"WrongType":  "vaults: [{name: my-kv, secrets: " + canary + "}]",
		"WrongDate":  "vaults: [{name: my-kv, secrets: [{name: a, value: " + canary + ", expires: " + canary + "}]}]",
		"TooLarge":   "vaults: [{name: my-kv, secrets: [{name: a, value: " + strings.Repeat(canary, 3000) + "}]}]",
		"WrongBool":  "vaults: [{name: my-kv, secrets: [{name: a, enabled: " + canary + "}]}]",
		"BadImport":  "vaults: [{name: my-kv, certificates: [{name: a, data: " + canary + ", subject: x}]}]",
		"Anchor":     "vaults: [{name: my-kv, secrets: [{name: a, value: *" + canary + "}]}]",
		"BrokenYAML": "vaults: [{name: my-kv, secrets: [{name: a, value: \"" + canary + "}]}]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := seed.Parse([]byte(in), nil)
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error quotes the value: %v", err)
			}
		})
	}
}

func TestLoadReadsFilesBesideTheSeed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"seed.yaml": "vaults: [{name: my-kv, secrets: [{name: a, valueFile: v.txt}]}]", "v.txt": "from a file",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := seed.Load(filepath.Join(dir, "seed.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if value := got.Vaults[0].Secrets[0].Value; value != "from a file" {
		t.Errorf("got %q", value)
	}
}

func TestAllows(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		permission       seed.Permission
		kind, what, name string
		want             bool
	}{
		"RoleGet":        {seed.Permission{Roles: []string{"Key Vault Secrets User"}}, "secrets", "get", "a", true},
		"RoleSet":        {seed.Permission{Roles: []string{"Key Vault Secrets User"}}, "secrets", "set", "a", false},
		"RoleOtherKind":  {seed.Permission{Roles: []string{"Key Vault Secrets User"}}, "certificates", "get", "a", false},
		"ReaderNoValue":  {seed.Permission{Roles: []string{"Key Vault Reader"}}, "secrets", "get", "a", false},
		"ScopeMatches":   {seed.Permission{Roles: []string{"Key Vault Secrets User"}, Scopes: []string{"secrets/A"}}, "secrets", "get", "a", true},
		"ScopeOther":     {seed.Permission{Roles: []string{"Key Vault Secrets User"}, Scopes: []string{"secrets/a"}}, "secrets", "get", "b", false},
		"ScopeNoList":    {seed.Permission{Roles: []string{"Key Vault Secrets User"}, Scopes: []string{"secrets/a"}}, "secrets", "list", "", false},
		"PolicyGet":      {seed.Permission{Secrets: []string{"Get"}}, "secrets", "get", "a", true},
		"PolicyList":     {seed.Permission{Secrets: []string{"get"}}, "secrets", "list", "", false},
		"PolicyAll":      {seed.Permission{Keys: []string{"all"}}, "keys", "sign", "a", true},
		"NothingGranted": {seed.Permission{}, "secrets", "get", "a", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tc.permission.Allows(tc.kind, tc.what, tc.name); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("vaults: [{name: my-kv, secrets: [{name: a, value: x}]}]")
	f.Add("tenant: 1\n---\n")
	f.Fuzz(func(_ *testing.T, in string) { _, _ = seed.Parse([]byte(in), nil) })
}
