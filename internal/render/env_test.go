// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

const several = `{"raw":"1","tls.crt":"2","-a._B":"3","empty":""}`

func TestEnv(t *testing.T) {
	t.Parallel()
	pfx, whole, public, chain := kept().pfx, kept().pem, pemOf(kept().server), pemOf(kept().root, kept().server)
	der := vault.Object{Certificate: kept().server.Raw}
	rsa, ec, other := vault.Object{Key: vaultKeys["rsa"]}, vault.Object{Key: vaultKeys["p256"]}, vault.Object{Key: vaultKeys["p256k"]}
	json, yaml := content(v2beta1.ContentJSON), content(v2beta1.ContentYAML)
	for name, tc := range map[string]struct {
		object  v2beta1.ObjectType
		query   string
		changes []change
		answer  vault.Object
		want    func(string) bool
		err     error
	}{
		"Secret":            {v2beta1.ObjectSecret, "", nil, object("v"), is("v"), nil},
		"SecretRaw":         {v2beta1.ObjectSecret, "raw", nil, object(" v\n"), is(" v\n"), nil},
		"SecretUser":        {v2beta1.ObjectSecret, "username", nil, object("u:p:w"), is("u"), nil},
		"SecretPassword":    {v2beta1.ObjectSecret, "password", nil, object("u:p:w"), is("p:w"), nil},
		"SecretNoPassword":  {v2beta1.ObjectSecret, "password", nil, object("u:"), is(""), nil},
		"SecretNoUser":      {v2beta1.ObjectSecret, "username", nil, object("p"), nil, render.ErrBasicAuth},
		"SecretCertificate": {v2beta1.ObjectSecret, "tls.crt", nil, object(pfx), is(chain), nil},
		"SecretKey":         {v2beta1.ObjectSecret, "tls.key", nil, object(pfx), isPEM("EC PRIVATE KEY"), nil},
		"SecretPEM":         {v2beta1.ObjectSecret, "tls.crt", nil, object(whole), is(pemOf(kept().server, kept().root)), nil},
		"SecretPEMKey":      {v2beta1.ObjectSecret, "tls.key", nil, object(whole), isPEM("EC PRIVATE KEY"), nil},
		"SecretServerFirst": {v2beta1.ObjectSecret, "tls.crt", []change{serverFirst}, object(pfx), is(pemOf(kept().server, kept().root)), nil},
		"SecretNoChain":     {v2beta1.ObjectSecret, "tls.crt", []change{serverFirst}, object(whole + pemOf(kept().other)), nil, render.ErrChain},
		"SecretNoKey":       {v2beta1.ObjectSecret, "tls.key", nil, object(public), nil, render.ErrCertificate},
		"SecretNoPair":      {v2beta1.ObjectSecret, "tls.crt", nil, object("v"), nil, render.ErrCertificate},
		"SecretOther":       {v2beta1.ObjectSecret, "tls.pem", nil, object("v"), nil, render.ErrQuery},
		"SecretStar":        {v2beta1.ObjectSecret, "*", nil, object("v"), nil, render.ErrQuery},

		"Certificate":          {v2beta1.ObjectCertificate, "", nil, der, is(public), nil},
		"CertificatePublic":    {v2beta1.ObjectCertificate, "tls.crt", nil, der, is(public), nil},
		"CertificateKey":       {v2beta1.ObjectCertificate, "tls.key", nil, object(pfx), isPEM("EC PRIVATE KEY"), nil},
		"CertificateKeyLocked": {v2beta1.ObjectCertificate, "tls.key", nil, object(public), nil, render.ErrNotExportable},
		"CertificateBroken":    {v2beta1.ObjectCertificate, "tls.key", nil, object("x"), nil, render.ErrCertificate},
		"CertificateNoDER":     {v2beta1.ObjectCertificate, "", nil, object("x"), nil, render.ErrCertificate},
		"CertificateRaw":       {v2beta1.ObjectCertificate, "raw", nil, object(pfx), is(pfx), nil},
		"CertificateRawPEM":    {v2beta1.ObjectCertificate, "raw", nil, object(whole), is(whole), nil},
		"CertificateRawLocked": {v2beta1.ObjectCertificate, "raw", nil, object(public), nil, render.ErrNotExportable},
		"CertificateRawBroken": {v2beta1.ObjectCertificate, "raw", nil, object("x"), nil, render.ErrCertificate},
		"CertificateOther":     {v2beta1.ObjectCertificate, "tls.pem", nil, der, nil, render.ErrQuery},
		"CertificateUser":      {v2beta1.ObjectCertificate, "username", nil, object("u:p"), nil, render.ErrQuery},

		"Key":            {v2beta1.ObjectKey, "", nil, rsa, is(wantKey("rsa.modulus")), nil},
		"KeyAsOutput":    {v2beta1.ObjectKey, "", []change{format(v2beta1.FormatPEM)}, rsa, is(wantKey("rsa.pem")), nil},
		"KeyPEM":         {v2beta1.ObjectKey, "pem", nil, ec, is(wantKey("p256.pem")), nil},
		"KeyJWK":         {v2beta1.ObjectKey, "jwk", []change{format(v2beta1.FormatPEM)}, ec, is(wantKey("p256.jwk")), nil},
		"KeyModulus":     {v2beta1.ObjectKey, "modulus", []change{format(v2beta1.FormatPEM)}, rsa, is(wantKey("rsa.modulus")), nil},
		"KeyRaw":         {v2beta1.ObjectKey, "raw", []change{format(v2beta1.FormatPEM)}, ec, is(wantKey("p256.jwk")), nil},
		"KeyNoModulus":   {v2beta1.ObjectKey, "", nil, ec, nil, render.ErrKeyFormat},
		"KeyOtherCurve":  {v2beta1.ObjectKey, "pem", nil, other, nil, render.ErrCurve},
		"KeyNone":        {v2beta1.ObjectKey, "jwk", nil, vault.Object{}, nil, render.ErrKey},
		"KeyOther":       {v2beta1.ObjectKey, "tls.key", nil, rsa, nil, render.ErrQuery},
		"KeyOtherFormat": {v2beta1.ObjectKey, "", []change{format("der")}, rsa, nil, render.ErrUnsupported},

		"Several":          {v2beta1.ObjectMultiKeyValue, "-a._B", []change{json}, object(several), is("3"), nil},
		"SeveralRaw":       {v2beta1.ObjectMultiKeyValue, "raw", []change{json}, object(several), is("1"), nil},
		"SeveralPair":      {v2beta1.ObjectMultiKeyValue, "tls.crt", []change{json}, object(several), is("2"), nil},
		"SeveralEmpty":     {v2beta1.ObjectMultiKeyValue, "empty", []change{json}, object(several), is(""), nil},
		"SeveralYAML":      {v2beta1.ObjectMultiKeyValue, "a", []change{yaml}, object("a: 1.50"), is("1.50"), nil},
		"SeveralUntouched": {v2beta1.ObjectMultiKeyValue, "a", []change{yaml, transforms("base64encode")}, object("a: b"), is("b"), nil},
		"SeveralAbsent":    {v2beta1.ObjectMultiKeyValue, "b", []change{yaml}, object("a: 1"), nil, render.ErrNoEntry},
		"SeveralCase":      {v2beta1.ObjectMultiKeyValue, "A", []change{yaml}, object("a: 1"), nil, render.ErrNoEntry},
		"SeveralNoNames":   {v2beta1.ObjectMultiKeyValue, "password", []change{json}, object(`{}`), nil, render.ErrNoEntry},
		"SeveralBroken":    {v2beta1.ObjectMultiKeyValue, "a", []change{json}, object(`{"a":"b"`), nil, render.ErrEntries},
		"SeveralNested":    {v2beta1.ObjectMultiKeyValue, "a", []change{json}, object(`{"a":"b","c":{}}`), nil, render.ErrEntryValue},
		"SeveralUnnamed":   {v2beta1.ObjectMultiKeyValue, "", []change{json}, object(several), nil, render.ErrQuery},
		"SeveralStar":      {v2beta1.ObjectMultiKeyValue, "*", nil, object(several), nil, render.ErrQuery},
		"SeveralDots":      {v2beta1.ObjectMultiKeyValue, "..a", []change{json}, object(`{"..a":"b"}`), nil, render.ErrQuery},
		"SeveralUntyped":   {v2beta1.ObjectMultiKeyValue, "a", nil, object(several), nil, render.ErrContentType},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec(tc.object, "", "", tc.changes...)
			_, errRef := render.EnvReference(s, tc.query)
			for _, never := range []error{render.ErrQuery, render.ErrContentType} {
				if errors.Is(tc.err, never) != errors.Is(errRef, never) {
					t.Errorf("reference: error %v, want %v", errRef, tc.err)
				}
			}
			got, err := render.Open(s, tc.answer).Env(tc.query)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if tc.want != nil && !tc.want(string(got.Reveal())) {
				t.Error("another value than expected")
			}
			if err != nil && render.Explain(err).Text != err.Error() {
				t.Errorf("%q is explained as %+v", err, render.Explain(err))
			}
			far, farErr := render.Open(carried(t, s), tc.answer).Env(tc.query)
			if !far.Equal(got) || !errors.Is(farErr, tc.err) {
				t.Errorf("by the spec as it is carried: another value, or %v", farErr)
			}
		})
	}
}

// carried is a spec as a process has it that cannot ask the API server.
func carried(t interface {
	Helper()
	Fatal(args ...any)
}, s specOf,
) specOf {
	t.Helper()
	read, err := render.ReadSpecs(render.WriteSpecs(map[string]*v2beta1.AzureKeyVaultSecret{"it": {Spec: s}}))
	if err != nil {
		t.Fatal(err)
	}
	return read["it"].Spec
}

func TestSpecs(t *testing.T) {
	t.Parallel()
	full := spec(v2beta1.ObjectSecret, "kubernetes.io/tls", "", serverFirst, transforms("trim"), func(s *specOf) {
		s.Refresh = &v2beta1.Refresh{Policy: v2beta1.RefreshOnce}
		s.Vault.AzureIdentity = &v2beta1.AzureIdentity{Name: "somebody"}
		s.Output.Secret.Labels = map[string]string{"team": "blue"}
		s.Output.ConfigMap = &v2beta1.ConfigMapOutput{Name: "out"}
	})
	text := render.WriteSpecs(map[string]*v2beta1.AzureKeyVaultSecret{"b": {Spec: full}, "a": {Spec: spec(v2beta1.ObjectKey, "", "")}})
	want := `{"a":{"vault":{"name":"my-kv","object":{"name":"thing","type":"key","version":"` + version + `"}}},` +
		`"b":{"vault":{"name":"my-kv","object":{"name":"thing","type":"secret","version":"` + version + `"}},` +
		`"output":{"secret":{"name":"","type":"kubernetes.io/tls","chainOrder":"ensureserverfirst"},"transform":["trim"]}}}`
	if d := cmp.Diff(want, text); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if _, err := render.ReadSpecs("{hunter2"); !errors.Is(err, render.ErrSpecs) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a broken text: %v", err)
	}
}

// wantKey is what an output of this format holds.
func wantKey(name string) string {
	return string(must(os.ReadFile("testdata/keys/" + name + ".golden")))
}

func is(want string) func(string) bool { return func(got string) bool { return got == want } }

func isPEM(kind string) func(string) bool {
	return func(got string) bool {
		block, rest := pem.Decode([]byte(got))
		return block != nil && block.Type == kind && len(rest) == 0
	}
}

// Nothing is read with the private key but what has it in it.
func TestEnvReference(t *testing.T) {
	t.Parallel()
	private := []string{"certificate tls.key", "certificate raw"}
	kinds := map[v2beta1.ObjectType]vault.Kind{
		v2beta1.ObjectSecret: vault.KindSecret, v2beta1.ObjectCertificate: vault.KindCertificate,
		v2beta1.ObjectKey: vault.KindKey, v2beta1.ObjectMultiKeyValue: vault.KindSecret,
	}
	for of, kind := range kinds {
		for _, query := range queriesOf(of) {
			want := vault.Reference{
				Vault: "my-kv", Kind: kind, Name: "thing", Version: version,
				PrivateKey: slices.Contains(private, string(of)+" "+query),
			}
			got, err := render.EnvReference(spec(of, "", "", content(v2beta1.ContentJSON)), query)
			if d := cmp.Diff(want, got); d != "" || err != nil {
				t.Errorf("%s, query %q: error %v, -want +got\n%s", of, query, err, d)
			}
		}
	}
}

var objectTypes = []v2beta1.ObjectType{
	v2beta1.ObjectSecret, v2beta1.ObjectCertificate, v2beta1.ObjectKey, v2beta1.ObjectMultiKeyValue,
}

// queriesOf are the queries that fit, with some names for entries.
func queriesOf(t v2beta1.ObjectType) []string {
	var out []string
	for _, q := range render.Queries(t) {
		switch q {
		case "none":
			out = append(out, "")
		case "the names of its entries":
			out = append(out, "host", "raw", "tls.key", "-._9")
		default:
			out = append(out, q)
		}
	}
	return out
}

// Whoever asks for what cannot be learns what can.
func TestQuerySaysWhatIsPossible(t *testing.T) {
	t.Parallel()
	for of, want := range map[v2beta1.ObjectType]string{
		v2beta1.ObjectSecret:        "none, raw, username, password, tls.crt, tls.key",
		v2beta1.ObjectCertificate:   "none, tls.crt, tls.key, raw",
		v2beta1.ObjectKey:           "none, pem, jwk, modulus, raw",
		v2beta1.ObjectMultiKeyValue: "the names of its entries",
	} {
		_, err := render.EnvReference(spec(of, "", ""), "..")
		if text := render.Explain(err).Text; text != render.ErrQuery.Error()+", of type "+string(of)+"; possible are: "+want {
			t.Errorf("%s: %s", of, text)
		}
	}
}

// A name that an entry lacks is told back, and nothing that the value holds.
func TestNoEntry(t *testing.T) {
	t.Parallel()
	_, err := render.Open(spec(v2beta1.ObjectMultiKeyValue, "", "", content(v2beta1.ContentJSON)), object(several)).Env("host")
	want := render.Fault{Reason: v2beta1.ReasonPlaceholderQuery, Text: "its value has no entry of the name host"}
	if d := cmp.Diff(want, render.Explain(err)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestEnvTransforms(t *testing.T) {
	t.Parallel()
	both := transforms("trim", "base64decode")
	encode := func(text string) string { return " " + base64.StdEncoding.EncodeToString([]byte(text)) + "\n" }
	for query, want := range map[string]string{
		"": "u:p", "raw": encode("u:p"), "username": "u", "password": "p",
	} {
		got, err := render.Open(spec(v2beta1.ObjectSecret, "", "", both), object(encode("u:p"))).Env(query)
		if err != nil || string(got.Reveal()) != want {
			t.Errorf("query %q: error %v, or another value", query, err)
		}
	}
	if _, err := render.Open(carried(t, spec(v2beta1.ObjectSecret, "", "", both)), object(encode(kept().pem))).Env("tls.key"); err != nil {
		t.Errorf("a pair in base64: %v", err)
	}
	if _, err := render.Open(spec(v2beta1.ObjectSecret, "", "", both), object("!")).Env(""); !errors.Is(err, render.ErrTransform) {
		t.Errorf("error %v, want %v", err, render.ErrTransform)
	}
	if _, err := render.Open(spec(v2beta1.ObjectSecret, "", "", both), object("!")).Env("raw"); err != nil {
		t.Errorf("raw, of what no transform fits: %v", err)
	}
}

// A twin is a query, and the output that holds the same under a key.
type twin struct {
	object     v2beta1.ObjectType
	query      string
	secretType string
	key        string
	change     change // what only the output's spec says
}

// twins are one for each query. A certificate's raw is text where the output may
// be bytes.
var twins = []twin{
	{v2beta1.ObjectSecret, "", "", "k", nil},
	{v2beta1.ObjectSecret, "raw", "", "k", transforms()},
	{v2beta1.ObjectSecret, "username", "kubernetes.io/basic-auth", "username", nil},
	{v2beta1.ObjectSecret, "password", "kubernetes.io/basic-auth", "password", nil},
	{v2beta1.ObjectSecret, "tls.crt", "kubernetes.io/tls", "tls.crt", nil},
	{v2beta1.ObjectSecret, "tls.key", "kubernetes.io/tls", "tls.key", nil},
	{v2beta1.ObjectCertificate, "", "", "k", nil},
	{v2beta1.ObjectCertificate, "tls.crt", "", "k", nil},
	{v2beta1.ObjectCertificate, "tls.key", "kubernetes.io/tls", "tls.key", nil},
	{v2beta1.ObjectCertificate, "raw", "Opaque", "k", nil},
	{v2beta1.ObjectKey, "", "", "k", nil},
	{v2beta1.ObjectKey, "pem", "", "k", format(v2beta1.FormatPEM)},
	{v2beta1.ObjectKey, "jwk", "", "k", format(v2beta1.FormatJWK)},
	{v2beta1.ObjectKey, "modulus", "", "k", format(v2beta1.FormatModulus)},
	{v2beta1.ObjectKey, "raw", "", "k", format(v2beta1.FormatJWK)},
	{v2beta1.ObjectMultiKeyValue, "host", "", "host", nil},
	{v2beta1.ObjectMultiKeyValue, "raw", "", "raw", nil},
	{v2beta1.ObjectMultiKeyValue, "tls.key", "", "tls.key", nil},
	{v2beta1.ObjectMultiKeyValue, "-._9", "", "-._9", nil},
}

func TestEveryQueryHasItsTwin(t *testing.T) {
	t.Parallel()
	for _, of := range objectTypes {
		for _, query := range queriesOf(of) {
			if !slices.ContainsFunc(twins, func(each twin) bool { return each.object == of && each.query == query }) {
				t.Errorf("%s, query %q: compared with no output", of, query)
			}
		}
	}
}

// A container and a Secret get the same of one object, or neither gets any.
func TestEnvIsWhatOutputWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		each := rapid.SampledFrom(twins).Draw(t, "query")
		changes := drawChanges(t, each.object)
		asked := spec(each.object, each.secretType, "k", changes...)
		if each.change != nil {
			changes = append(changes, each.change)
		}
		obj := drawObject(t)
		want, errOut := render.Output(spec(each.object, each.secretType, "k", changes...), render.Secret, obj)
		got, err := render.Open(asked, obj).Env(each.query)
		value, there := want.Data[each.key]
		switch {
		case errOut != nil:
			if err == nil || render.Explain(err).Reason != render.Explain(errOut).Reason {
				t.Fatalf("error %v, the output's is %v", err, errOut)
			}
		case !there:
			if !errors.Is(err, render.ErrNoEntry) {
				t.Fatalf("error %v, want %v", err, render.ErrNoEntry)
			}
		case err != nil:
			t.Fatal(err)
		case string(each.file(got)) != string(value.Reveal()):
			t.Fatal("another value than the output's")
		}
	})
}

func drawChanges(t *rapid.T, of v2beta1.ObjectType) []change {
	steps := [][]v2beta1.Transform{nil, {"trim"}, {"base64encode"}, {"trim", "base64decode"}}
	out := []change{
		transforms(rapid.SampledFrom(steps).Draw(t, "transforms")...),
		format(rapid.SampledFrom([]v2beta1.KeyFormat{"", v2beta1.FormatPEM, v2beta1.FormatJWK}).Draw(t, "format")),
		content(rapid.SampledFrom([]v2beta1.ContentType{v2beta1.ContentJSON, v2beta1.ContentYAML}).Draw(t, "content type")),
	}
	if of == v2beta1.ObjectSecret && rapid.Bool().Draw(t, "server first") {
		out = append(out, serverFirst)
	}
	return out
}

func drawObject(t *rapid.T) vault.Object {
	texts := []string{
		"v", "", " u:p:w\n", "dTpwCg==", kept().pfx, kept().pem, pemOf(kept().server), kept().pem + pemOf(kept().other),
		`{"host":"h","raw":1,"tls.key":null}`, "-._9: x\nhost: y", `{"host":[]}`,
	}
	return vault.Object{
		Value:       secret.New([]byte(rapid.SampledFrom(texts).Draw(t, "value"))),
		Certificate: rapid.SampledFrom([][]byte{kept().server.Raw, []byte("x")}).Draw(t, "certificate"),
		Key:         vaultKeys[rapid.SampledFrom([]string{"rsa", "p256", "p256k", "none"}).Draw(t, "key")],
	}
}

// file is the value as an output has it: of an export that is the bytes of a PFX.
func (w twin) file(v secret.Value) []byte {
	if w.object != v2beta1.ObjectCertificate || w.query != "raw" {
		return v.Reveal()
	}
	if file, err := base64.StdEncoding.AppendDecode(nil, v.Reveal()); err == nil {
		return file
	}
	return v.Reveal()
}

// The page for people has a row for each query, and none for another.
func TestQueriesAreDocumented(t *testing.T) {
	t.Parallel()
	page := string(must(os.ReadFile("../../docs/placeholder-queries.md")))
	var want, got []string
	for _, of := range objectTypes {
		for _, q := range render.Queries(of) {
			want = append(want, string(of)+" "+q)
		}
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (?:`\\?([^`]+)`|([^|`]+)) \\|")
	for _, m := range row.FindAllStringSubmatch(page, -1) {
		got = append(got, m[1]+" "+m[2]+strings.TrimSpace(m[3]))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-render +page\n%s", d)
	}
}
