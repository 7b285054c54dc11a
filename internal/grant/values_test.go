// SPDX-License-Identifier: Apache-2.0

package grant_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/grant"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

var errBoom = errors.New("boom s3cr3t")

func akvs(t v2beta1.ObjectType, name string) *v2beta1.AzureKeyVaultSecret {
	return &v2beta1.AzureKeyVaultSecret{Spec: v2beta1.AzureKeyVaultSecretSpec{
		Vault: v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Type: t, Name: name}},
	}}
}

func reference(kind vault.Kind, name string, private bool) vault.Reference {
	return vault.Reference{Vault: "my-kv", Kind: kind, Name: name, PrivateKey: private}
}

// needs resolves variables over a plain secret "db" and a certificate "tls".
func needs(t interface {
	Helper()
	Fatalf(string, ...any)
}, variables ...grant.Variable,
) []grant.Need {
	t.Helper()
	got, values := grant.Resolve(variables, map[string]*v2beta1.AzureKeyVaultSecret{
		"db": akvs(v2beta1.ObjectSecret, "db"), "tls": akvs(v2beta1.ObjectCertificate, "tls"),
	})
	if len(values.Problems) > 0 {
		t.Fatalf("Resolve(): %v", values.Problems)
	}
	return got
}

func TestNames(t *testing.T) {
	t.Parallel()
	got := grant.Names([]grant.Variable{
		{Name: "A", Text: "b@azurekeyvault"}, {Name: "B", Text: "a@azurekeyvault?x"}, {Name: "C", Text: "b@azurekeyvault?y"}, {Name: "D", Text: "not c@azurekeyvault"}, {Name: "E", Text: "x<a@azurekeyvault><d@azurekeyvault;optional>"},
	})
	if d := cmp.Diff([]string{"a", "b", "d"}, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// Each object is asked for once, and a private key only by who names it.
func TestReferences(t *testing.T) {
	t.Parallel()
	got := grant.References(needs(t,
		grant.Variable{Name: "A", Text: "db@azurekeyvault"}, grant.Variable{Name: "B", Text: "db@azurekeyvault"},
		grant.Variable{Name: "C", Text: "tls@azurekeyvault"}, grant.Variable{Name: "D", Text: "tls@azurekeyvault?tls.crt"},
		grant.Variable{Name: "E", Text: "tls@azurekeyvault?tls.key"},
	))
	want := []vault.Reference{
		reference(vault.KindSecret, "db", false), reference(vault.KindCertificate, "tls", false), reference(vault.KindCertificate, "tls", true),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// However many variables hold a placeholder, it is needed once; one that must have it
// outweighs those that need not.
func TestResolve(t *testing.T) {
	t.Parallel()
	secrets := map[string]*v2beta1.AzureKeyVaultSecret{"db": akvs(v2beta1.ObjectSecret, "db"), "tls": akvs(v2beta1.ObjectCertificate, "tls")}
	type verdict struct{ Needs, Absent, Problems []string }
	cases := map[string]struct {
		texts []string
		want  verdict
	}{
		"Whole":           {[]string{"db@azurekeyvault"}, verdict{Needs: []string{"db@azurekeyvault of A"}}},
		"Inline":          {[]string{"x<db@azurekeyvault><db@azurekeyvault>", "db@azurekeyvault"}, verdict{Needs: []string{"db@azurekeyvault of A"}}},
		"Escaped":         {[]string{"x@@azurekeyvault"}, verdict{}},
		"Malformed":       {[]string{"x db@azurekeyvault"}, verdict{Problems: []string{" of A"}}},
		"Optional":        {[]string{"db@azurekeyvault;optional"}, verdict{Needs: []string{"db@azurekeyvault of A"}}},
		"Absent":          {[]string{"no@azurekeyvault;optional", "<no@azurekeyvault;default=x>"}, verdict{Absent: []string{"no@azurekeyvault"}}},
		"AbsentButNeeded": {[]string{"no@azurekeyvault;optional", "no@azurekeyvault"}, verdict{Problems: []string{"no@azurekeyvault of B"}}},
		"FileAndText":     {[]string{"<db@azurekeyvault;file>", "db@azurekeyvault"}, verdict{Needs: []string{"db@azurekeyvault of A"}}},
		"FileOptional":    {[]string{"no@azurekeyvault;file;optional", "no@azurekeyvault;default=x"}, verdict{Absent: []string{"no@azurekeyvault"}}},
		"FileNeeded":      {[]string{"no@azurekeyvault;optional", "no@azurekeyvault;file"}, verdict{Problems: []string{"no@azurekeyvault of B"}}},
		"Directory":       {[]string{"tls@azurekeyvault;directory", "tls@azurekeyvault?tls.key;file"}, verdict{Needs: []string{"tls@azurekeyvault;directory of A", "tls@azurekeyvault?tls.key of B"}}},
		"DirectoryOrNone": {[]string{"no@azurekeyvault;directory;optional"}, verdict{Absent: []string{"no@azurekeyvault;directory"}}},
		"NoDirectory":     {[]string{"db@azurekeyvault;directory;optional"}, verdict{Problems: []string{"db@azurekeyvault;directory of A"}}},
		"TwoQueries":      {[]string{"no@azurekeyvault?a;optional", "no@azurekeyvault?b;optional"}, verdict{Absent: []string{"no@azurekeyvault?a", "no@azurekeyvault?b"}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var variables []grant.Variable
			for i, text := range tc.texts {
				variables = append(variables, grant.Variable{Name: string(rune('A' + i)), Text: text})
			}
			ns, values := grant.Resolve(variables, secrets)
			got := verdict{Absent: values.Absent}
			for _, n := range ns {
				got.Needs = append(got.Needs, n.Key+" of "+n.Variable)
			}
			for _, p := range values.Problems {
				got.Problems = append(got.Problems, p.Placeholder+" of "+p.Variable)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// Only what does not exist is done without.
func TestFillAbsent(t *testing.T) {
	t.Parallel()
	optional := needs(t, grant.Variable{Name: "A", Text: "db@azurekeyvault;optional"})
	needed := needs(t, grant.Variable{Name: "A", Text: "db@azurekeyvault;optional"}, grant.Variable{Name: "B", Text: "db@azurekeyvault"})
	for name, tc := range map[string]struct {
		needs  []grant.Need
		err    error
		absent bool
	}{
		"NotFound":     {optional, fmt.Errorf("x: %w", vault.ErrNotFound), true},
		"NeededBeside": {needed, vault.ErrNotFound, false},
		"NoVault":      {optional, vault.ErrNoVault, false},
		"Disabled":     {optional, vault.ErrDisabled, false},
		"Forbidden":    {optional, vault.ErrForbidden, false},
		"Unavailable":  {optional, vault.ErrUnavailable, false},
		"Unknown":      {optional, errBoom, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := grant.Fill(tc.needs, grant.Values{Absent: []string{"z@azurekeyvault"}}, map[vault.Reference]grant.Read{tc.needs[0].Reference: {Err: tc.err}})
			want := []string{"db@azurekeyvault", "z@azurekeyvault"}
			if tc.absent != (len(got.Problems) == 0) || tc.absent && !slices.Equal(got.Absent, want) || !tc.absent && got.Absent != nil {
				t.Errorf("Fill() = %+v", got)
			}
		})
	}
}

func TestTorn(t *testing.T) {
	t.Parallel()
	public, private := reference(vault.KindCertificate, "tls", false), reference(vault.KindCertificate, "tls", true)
	at := func(version string) grant.Read { return grant.Read{Object: vault.Object{Version: version}} }
	pinned := public
	pinned.Version = "2"
	cases := map[string]struct {
		reads map[vault.Reference]grant.Read
		want  map[vault.Reference]vault.Reference
	}{
		"SameVersion":  {map[vault.Reference]grant.Read{public: at("1"), private: at("1")}, nil},
		"Renewed":      {map[vault.Reference]grant.Read{public: at("1"), private: at("2")}, map[vault.Reference]vault.Reference{public: pinned}},
		"PublicAlone":  {map[vault.Reference]grant.Read{public: at("1")}, nil},
		"PrivateAlone": {map[vault.Reference]grant.Read{private: at("1")}, nil},
		"PublicFailed": {map[vault.Reference]grant.Read{public: {Err: errBoom}, private: at("2")}, nil},
		"KeyFailed":    {map[vault.Reference]grant.Read{public: at("1"), private: {Err: errBoom}}, nil},
		"KeptPair":     {map[vault.Reference]grant.Read{reference(vault.KindSecret, "tls", false): at("1"), public: at("2")}, nil},
		"PlainSecret":  {map[vault.Reference]grant.Read{reference(vault.KindSecret, "tls", false): at("1"), private: at("2")}, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tc.want, grant.Torn(tc.reads), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestFillReasons(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		err    error
		reason string
		retry  bool
		after  time.Duration
	}{
		"NoVault":     {vault.ErrNoVault, v2beta1.ReasonVaultNotFound, false, 0},
		"NotFound":    {fmt.Errorf("s3cr3t: %w", vault.ErrNotFound), v2beta1.ReasonObjectNotFound, false, 0},
		"Disabled":    {vault.ErrDisabled, v2beta1.ReasonObjectDisabled, false, 0},
		"Forbidden":   {vault.ErrForbidden, v2beta1.ReasonForbidden, false, 0},
		"Firewall":    {vault.ErrFirewall, v2beta1.ReasonNetworkDenied, false, 0},
		"SignIn":      {vault.ErrSignIn, v2beta1.ReasonSignInFailed, false, 0},
		"Unavailable": {vault.ErrUnavailable, v2beta1.ReasonVaultUnavailable, true, 0},
		"Throttled":   {fmt.Errorf("s3cr3t: %w", vault.Throttled{RetryAfter: time.Minute}), v2beta1.ReasonVaultUnavailable, true, time.Minute},
		"Unknown":     {errBoom, v2beta1.ReasonVaultUnavailable, true, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := needs(t, grant.Variable{Name: "A", Text: "db@azurekeyvault"})
			got := grant.Fill(ns, grant.Values{}, map[vault.Reference]grant.Read{ns[0].Reference: {Err: tc.err}})
			if len(got.Problems) != 1 || got.Values != nil || got.Retry != tc.retry || got.RetryAfter != tc.after {
				t.Fatalf("Fill() = %+v", got)
			}
			p := got.Problems[0]
			if p.Reason != tc.reason || p.Variable != "A" || !strings.HasPrefix(p.Message, "secret db in vault my-kv: ") {
				t.Errorf("problem %+v", p)
			}
		})
	}
}

// certificateAlone is what the vault gives for a key that must not leave it.
func certificateAlone(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Whatever is asked of a certificate comes from two reads, which Torn makes one
// version of; of a secret, all parts come from one.
func TestPairsComeFromFewReads(t *testing.T) {
	t.Parallel()
	got := grant.References(needs(t,
		grant.Variable{Name: "A", Text: "tls@azurekeyvault?raw"}, grant.Variable{Name: "B", Text: "tls@azurekeyvault?tls.key"},
		grant.Variable{Name: "C", Text: "tls@azurekeyvault?tls.crt"},
		grant.Variable{Name: "D", Text: "db@azurekeyvault?tls.crt"}, grant.Variable{Name: "E", Text: "db@azurekeyvault?tls.key"},
		grant.Variable{Name: "H", Text: "tls@azurekeyvault;directory"}, grant.Variable{Name: "I", Text: "tls@azurekeyvault?tls.crt;file"},
		grant.Variable{Name: "F", Text: "db@azurekeyvault?raw"}, grant.Variable{Name: "G", Text: "db@azurekeyvault?password"},
	))
	want := []vault.Reference{
		reference(vault.KindCertificate, "tls", true), reference(vault.KindCertificate, "tls", false), reference(vault.KindSecret, "db", false),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// What can never fit is said before anything is read, each with its reason.
func TestResolveRefusesQueries(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, reason, says string }{
		"NoSuchPart": {"db@azurekeyvault?nope", v2beta1.ReasonPlaceholderQuery, "AzureKeyVaultSecret db: " + render.ErrQuery.Error() + ", of type secret; possible are: none, raw"},
		"NoName":     {"many@azurekeyvault", v2beta1.ReasonPlaceholderQuery, "a multi-key-value-secret has no value of its own: name an entry"},
		"NoParts":    {"db@azurekeyvault;directory", v2beta1.ReasonPlaceholderQuery, "AzureKeyVaultSecret db: " + render.ErrDirectory.Error() + ", of type secret: ask for a file"},
		"NoEntries":  {"many@azurekeyvault;directory", v2beta1.ReasonOutputInvalid, render.ErrContentType.Error()},
		"NoFormat":   {"many@azurekeyvault?a", v2beta1.ReasonOutputInvalid, render.ErrContentType.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, values := grant.Resolve([]grant.Variable{{Name: "A", Text: tc.text}}, map[string]*v2beta1.AzureKeyVaultSecret{
				"db": akvs(v2beta1.ObjectSecret, "db"), "many": akvs(v2beta1.ObjectMultiKeyValue, "many"),
			})
			if problems := values.Problems; len(got) != 0 || len(problems) != 1 || problems[0].Reason != tc.reason || !strings.Contains(problems[0].Message, tc.says) {
				t.Errorf("Resolve() = %+v, %+v", got, problems)
			}
		})
	}
}

// What the object turns out to be is a person's affair too.
func TestFillUnrenderable(t *testing.T) {
	t.Parallel()
	ns := needs(t, grant.Variable{Name: "A", Text: "tls@azurekeyvault?tls.key"})
	for name, tc := range map[string]struct {
		value  string
		reason string
		says   string
	}{
		"Garbage":       {"s3cr3t", v2beta1.ReasonOutputInvalid, render.ErrCertificate.Error()},
		"Truncated":     {"-----BEGIN CERTIFICATE-----\nczNjcjN0\n-----END CERTIFICATE-----\n", v2beta1.ReasonOutputInvalid, render.ErrCertificate.Error()},
		"NotExportable": {certificateAlone(t), v2beta1.ReasonNotExportable, render.ErrNotExportable.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := grant.Fill(ns, grant.Values{}, map[vault.Reference]grant.Read{ns[0].Reference: {Object: vault.Object{Value: secret.New([]byte(tc.value))}}})
			if len(got.Problems) != 1 || got.Problems[0].Reason != tc.reason || !strings.HasSuffix(got.Problems[0].Message, tc.says) || got.Retry {
				t.Errorf("Fill() = %+v", got)
			}
		})
	}
}

// A container has all of its values or none; what is said is sorted, carries
// nothing of a value, and asks for a retry only where a retry is all it takes.
func TestFillAllOrNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		errs := []error{nil, vault.ErrNotFound, vault.ErrUnavailable, vault.Throttled{}, errBoom}
		variables := rapid.SliceOfN(rapid.StringMatching(`[A-Z]{1,3}`), 0, 6).Draw(t, "variables")
		slices.Sort(variables)
		var ns []grant.Need
		reads := map[vault.Reference]grant.Read{}
		broken, permanent := 0, 0
		for i, name := range slices.Compact(variables) {
			object := fmt.Sprintf("o%d", i)
			got, _ := grant.Resolve([]grant.Variable{{Name: name, Text: object + "@azurekeyvault"}},
				map[string]*v2beta1.AzureKeyVaultSecret{object: akvs(v2beta1.ObjectSecret, object)})
			ns = append(ns, got...)
			err := rapid.SampledFrom(errs).Draw(t, "err")
			if err != nil {
				broken++
			}
			if errors.Is(err, vault.ErrNotFound) {
				permanent++
			}
			reads[got[0].Reference] = grant.Read{Object: vault.Object{Value: secret.New([]byte("s3cr3t"))}, Err: err}
		}
		got := grant.Fill(ns, grant.Values{}, reads)
		if len(got.Problems) != broken || (broken == 0) != (got.Values != nil) || got.Values != nil && len(got.Values) != len(ns) {
			t.Fatalf("Fill() = %+v with %d broken of %d", got, broken, len(ns))
		}
		if got.Retry != (broken > 0 && permanent == 0) {
			t.Fatalf("retry %t with %d broken, %d for a person", got.Retry, broken, permanent)
		}
		if text := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(text, "s3cr3t") {
			t.Fatalf("leak: %s", text)
		}
	})
}

// An object of many entries is taken apart once for all who ask for one: a hundred
// placeholders must not cost a hundred times what one does.
func TestFillTakesApartOnce(t *testing.T) {
	many := akvs(v2beta1.ObjectMultiKeyValue, "many")
	many.Spec.Vault.Object.ContentType = v2beta1.ContentYAML
	var text strings.Builder
	var variables []grant.Variable
	for i := range 500 {
		fmt.Fprintf(&text, "entry%d: value\n", i)
		variables = append(variables, grant.Variable{Name: fmt.Sprintf("V%d", i), Text: fmt.Sprintf("many@azurekeyvault?entry%d", i)})
	}
	all, _ := grant.Resolve(variables, map[string]*v2beta1.AzureKeyVaultSecret{"many": many})
	reads := map[vault.Reference]grant.Read{all[0].Reference: {Object: vault.Object{Value: secret.New([]byte(text.String()))}}}
	allocations := func(needs []grant.Need) float64 {
		return testing.AllocsPerRun(3, func() {
			if got := grant.Fill(needs, grant.Values{}, reads); len(got.Values) != len(needs) {
				t.Fatalf("Fill() = %+v", got)
			}
		})
	}
	if one, hundred := allocations(all[:1]), allocations(all[:100]); hundred > 2*one {
		t.Errorf("%v allocations for one placeholder, %v for a hundred", one, hundred)
	}
}

// Two AzureKeyVaultSecrets of one object take what each of them says.
func TestFillKeepsSecretsApart(t *testing.T) {
	t.Parallel()
	trimmed := akvs(v2beta1.ObjectSecret, "db")
	trimmed.Spec.Output.Transform = []v2beta1.Transform{"trim"}
	ns, _ := grant.Resolve([]grant.Variable{{Name: "A", Text: "db@azurekeyvault"}, {Name: "B", Text: "trimmed@azurekeyvault"}},
		map[string]*v2beta1.AzureKeyVaultSecret{"db": akvs(v2beta1.ObjectSecret, "db"), "trimmed": trimmed})
	got := grant.Fill(ns, grant.Values{}, map[vault.Reference]grant.Read{
		reference(vault.KindSecret, "db", false): {Object: vault.Object{Value: secret.New([]byte(" v "))}},
	})
	if string(got.Values["db@azurekeyvault"].Reveal()) != " v " || string(got.Values["trimmed@azurekeyvault"].Reveal()) != "v" {
		t.Errorf("%d values, %+v", len(got.Values), got.Problems)
	}
}

// A directory is there with all of its files, may be done without like a value, and
// fails like one.
func TestFillDirectories(t *testing.T) {
	t.Parallel()
	many := akvs(v2beta1.ObjectMultiKeyValue, "many")
	many.Spec.Vault.Object.ContentType = v2beta1.ContentJSON
	ns, _ := grant.Resolve([]grant.Variable{{Name: "A", Text: "many@azurekeyvault;directory;optional"}, {Name: "B", Text: "many@azurekeyvault?a;file"}},
		map[string]*v2beta1.AzureKeyVaultSecret{"many": many})
	fill := func(text string, err error) grant.Values {
		return grant.Fill(ns, grant.Values{}, map[vault.Reference]grant.Read{ns[0].Reference: {Object: vault.Object{Value: secret.New([]byte(text))}, Err: err}})
	}
	got := fill(`{"a":"1","b":"2"}`, nil)
	files := got.Directories["many@azurekeyvault;directory"]
	if len(got.Values) != 1 || len(files) != 2 || string(files["b"].Reveal()) != "2" || !files["a"].Equal(got.Values["many@azurekeyvault?a"]) {
		t.Errorf("%d values, %d files, %+v", len(got.Values), len(files), got.Problems)
	}
	if got := fill(`{"b":"2"}`, nil); got.Directories != nil || got.Values != nil || len(got.Problems) != 1 || got.Problems[0].Variable != "B" {
		t.Errorf("without an entry that is needed: %+v", got)
	}
	if got := fill(`{"a":[]}`, nil); len(got.Problems) != 2 || got.Problems[0].Placeholder != "many@azurekeyvault;directory" || got.Problems[0].Reason != v2beta1.ReasonOutputInvalid {
		t.Errorf("broken: %+v", got)
	}
	if got := fill("", vault.ErrNotFound); len(got.Problems) != 1 || got.Problems[0].Variable != "B" { // the directory may be done without
		t.Errorf("absent: %+v", got)
	}
}

// What is too much for a container is not rendered to its end, and nobody gets a part.
func TestFillEndsWhereItIsTooMuch(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&text, "k%d: v\n", i)
	}
	secrets, variables := map[string]*v2beta1.AzureKeyVaultSecret{}, []grant.Variable{}
	for i := range 100 {
		name := fmt.Sprintf("many%d", i)
		secrets[name] = akvs(v2beta1.ObjectMultiKeyValue, "many")
		secrets[name].Spec.Vault.Object.ContentType = v2beta1.ContentYAML
		variables = append(variables, grant.Variable{Name: fmt.Sprintf("V%d", i), Text: name + "@azurekeyvault;directory"})
	}
	ns, _ := grant.Resolve(variables, secrets)
	fill := func(n int) grant.Values {
		return grant.Fill(ns[:n], grant.Values{}, map[vault.Reference]grant.Read{ns[0].Reference: {Object: vault.Object{Value: secret.New([]byte(text.String()))}}})
	}
	one := fill(1)
	if len(one.Directories) != 1 || one.Bytes < 2000 {
		t.Errorf("one: %d directories, %d bytes", len(one.Directories), one.Bytes)
	}
	if all := fill(100); all.Directories != nil || all.Values != nil || all.Bytes <= grant.MaxBytes || all.Bytes > grant.MaxBytes+one.Bytes {
		t.Errorf("all: %d directories, %d bytes", len(all.Directories), all.Bytes)
	}
}

// It does not matter in which order an environment names its AzureKeyVaultSecrets.
func TestFillTakesApartOnceInAnyOrder(t *testing.T) {
	secrets, variables := map[string]*v2beta1.AzureKeyVaultSecret{}, []grant.Variable{}
	for _, name := range []string{"one", "two"} {
		secrets[name] = akvs(v2beta1.ObjectMultiKeyValue, "many")
		secrets[name].Spec.Vault.Object.ContentType = v2beta1.ContentYAML
	}
	var text strings.Builder
	for i := range 300 {
		fmt.Fprintf(&text, "k%d: v\n", i)
		variables = append(variables, grant.Variable{Name: fmt.Sprintf("V%d", i), Text: fmt.Sprintf("%s@azurekeyvault?k%d", []string{"one", "two"}[i%2], i)})
	}
	ns, _ := grant.Resolve(variables, secrets)
	reads := map[vault.Reference]grant.Read{ns[0].Reference: {Object: vault.Object{Value: secret.New([]byte(text.String()))}}}
	allocations := func(n int) float64 {
		return testing.AllocsPerRun(3, func() { grant.Fill(ns[:n], grant.Values{}, reads) })
	}
	if few, many := allocations(2), allocations(300); many > 2*few {
		t.Errorf("%v allocations for two placeholders, %v for 300", few, many)
	}
}
