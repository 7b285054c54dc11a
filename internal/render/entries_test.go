// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
)

var contents = map[string]v2beta1.ContentType{"json": v2beta1.ContentJSON, "yaml": v2beta1.ContentYAML}

func TestEntries(t *testing.T) {
	t.Parallel()
	for ending, contentType := range contents {
		for name, text := range inputs(t, "entries/*."+ending) {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				got := mustRender(t, spec(v2beta1.ObjectMultiKeyValue, "example.com/x", "ignored", content(contentType)), render.Secret, object(text))
				golden(t, "entries/"+name+".golden", listed(got))
				inConfigMap := mustRender(t, spec(v2beta1.ObjectMultiKeyValue, "", "", content(contentType), toConfigMap("")), render.ConfigMap, object(text))
				if diff := cmp.Diff(got, inConfigMap); diff != "" {
					t.Errorf("(-Secret +ConfigMap):\n%s", diff)
				}
			})
		}
	}
}

func listed(data map[string]string) string {
	var out strings.Builder
	for _, key := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(&out, "%s %q\n", key, data[key])
	}
	return out.String()
}

func TestEntriesRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 254)
	for name, tc := range map[string]struct {
		contentType v2beta1.ContentType
		text        string
		want        error
		said        string // empty: the error's own text
	}{
		"JSONEmpty":        {v2beta1.ContentJSON, "", render.ErrEntries, ""},
		"JSONText":         {v2beta1.ContentJSON, `"a"`, render.ErrEntries, ""},
		"JSONNull":         {v2beta1.ContentJSON, "null", render.ErrEntries, ""},
		"JSONList":         {v2beta1.ContentJSON, `[{"a":"b"}]`, render.ErrEntries, ""},
		"JSONCut":          {v2beta1.ContentJSON, `{"a":"b"`, render.ErrEntries, ""},
		"JSONTrailing":     {v2beta1.ContentJSON, `{"a":"b"} {"c":"d"}`, render.ErrEntries, ""},
		"JSONTrailing2":    {v2beta1.ContentJSON, `{"a":"b"}}`, render.ErrEntries, ""},
		"JSONComma":        {v2beta1.ContentJSON, `{"a":"b",}`, render.ErrEntries, ""},
		"JSONNumber":       {v2beta1.ContentJSON, `{"a":01}`, render.ErrEntries, ""},
		"JSONBytes":        {v2beta1.ContentJSON, "{\"a\":\"\xff\"}", render.ErrEntries, ""},
		"JSONIsYAML":       {v2beta1.ContentJSON, "a: b", render.ErrEntries, ""},
		"JSONNested":       {v2beta1.ContentJSON, `{"a":"b","c":{"d":1}}`, render.ErrEntryValue, "entry 2: "},
		"JSONNestedList":   {v2beta1.ContentJSON, `{"a":[]}`, render.ErrEntryValue, "entry 1: "},
		"JSONHalfPair":     {v2beta1.ContentJSON, `{"a":"\ud83d"}`, render.ErrEntryValue, "entry 1: "},
		"JSONTwice":        {v2beta1.ContentJSON, `{"a":"1","b":"2","\u0061":"3"}`, render.ErrEntryTwice, "entry 3: "},
		"JSONName":         {v2beta1.ContentJSON, `{"a":"1","b c":"2"}`, render.ErrEntryName, "entry 2: "},
		"JSONNoName":       {v2beta1.ContentJSON, `{"":"1"}`, render.ErrEntryName, "entry 1: "},
		"JSONNameDot":      {v2beta1.ContentJSON, `{".":"1"}`, render.ErrEntryName, "entry 1: "},
		"JSONNameDots":     {v2beta1.ContentJSON, `{"..a":"1"}`, render.ErrEntryName, "entry 1: "},
		"JSONNameLong":     {v2beta1.ContentJSON, `{"` + long + `":"1"}`, render.ErrEntryName, "entry 1: "},
		"JSONDeep":         {v2beta1.ContentJSON, `{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "}", render.ErrEntries, ""},
		"JSONLarge":        {v2beta1.ContentJSON, `{"a":"` + strings.Repeat("x", 256<<10) + `"}`, render.ErrEntriesSize, ""},
		"YAMLEmpty":        {v2beta1.ContentYAML, "", render.ErrEntries, ""},
		"YAMLComment":      {v2beta1.ContentYAML, "# a\n", render.ErrEntries, ""},
		"YAMLText":         {v2beta1.ContentYAML, "hunter2", render.ErrEntries, ""},
		"YAMLList":         {v2beta1.ContentYAML, "- a: b", render.ErrEntries, ""},
		"YAMLBroken":       {v2beta1.ContentYAML, "a: b: c", render.ErrEntries, ""},
		"YAMLDocuments":    {v2beta1.ContentYAML, "a: b\n---\nc: d\n", render.ErrEntries, ""},
		"YAMLBytes":        {v2beta1.ContentYAML, "a: \xff", render.ErrEntries, ""},
		"YAMLNoAnchor":     {v2beta1.ContentYAML, "a: *x", render.ErrEntries, ""},
		"YAMLNested":       {v2beta1.ContentYAML, "a: b\nc:\n  d: e\n", render.ErrEntryValue, "entry 2: "},
		"YAMLNestedList":   {v2beta1.ContentYAML, "a: [b]", render.ErrEntryValue, "entry 1: "},
		"YAMLNestedAlias":  {v2beta1.ContentYAML, "a: b\nc: &x [d]\ne: *x\n", render.ErrEntryValue, "entry 2: "},
		"YAMLMerge":        {v2beta1.ContentYAML, "a: &x b\n<<: *x\n", render.ErrEntryName, "entry 2: "},
		"YAMLTwice":        {v2beta1.ContentYAML, "a: 1\n'a': 2\n", render.ErrEntryTwice, "entry 2: "},
		"YAMLName":         {v2beta1.ContentYAML, "a b: 1\n", render.ErrEntryName, "entry 1: "},
		"YAMLNameNull":     {v2beta1.ContentYAML, "~: 1\n", render.ErrEntryName, "entry 1: "},
		"YAMLNameNested":   {v2beta1.ContentYAML, "? [a]\n: 1\n", render.ErrEntryName, "entry 1: "},
		"YAMLBinary":       {v2beta1.ContentYAML, "a: !!binary AP8", render.ErrEntryBinary, "entry 1: "},
		"YAMLBomb":         {v2beta1.ContentYAML, bomb(), render.ErrEntryValue, "entry 2: "},
		"YAMLManyAliases":  {v2beta1.ContentYAML, manyAliases(), render.ErrSize, ""},
		"YAMLDeep":         {v2beta1.ContentYAML, strings.Repeat("[", 20000), render.ErrEntries, ""},
		"YAMLLarge":        {v2beta1.ContentYAML, "a: " + strings.Repeat("x", 256<<10), render.ErrEntriesSize, ""},
		"NoContentType":    {"", `{"a":"b"}`, render.ErrContentType, ""},
		"OtherContentType": {"text/plain", `{"a":"b"}`, render.ErrContentType, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			s := spec(v2beta1.ObjectMultiKeyValue, "", "", content(tc.contentType))
			_, err := render.Output(s, render.Secret, object(tc.text))
			if !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			if want := tc.said + tc.want.Error(); err.Error() != want || render.Explain(err).Text != want {
				t.Errorf("error %q, want %q", err, want)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// bomb would be 9⁹ values if aliases were followed.
func bomb() string {
	text := "a: &a0 x\n"
	for i := range 9 {
		text += fmt.Sprintf("b%d: &a%d [%s*a%d]\n", i, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 8), i)
	}
	return text
}

// manyAliases is 40 MB in 60 KB.
func manyAliases() string {
	var out strings.Builder
	out.WriteString("a: &a " + strings.Repeat("x", 10_000) + "\n")
	for i := range 4000 {
		fmt.Fprintf(&out, "k%d: *a\n", i)
	}
	return out.String()
}

// Entries may be what a type of Secret demands, or not.
func TestEntriesOfType(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		secretType, text string
		want             error
	}{
		"TLS":            {"kubernetes.io/tls", `{"tls.crt":"c","tls.key":"k","ca.crt":"a"}`, nil},
		"TLSHalf":        {"kubernetes.io/tls", `{"tls.crt":"c"}`, render.ErrRequired},
		"BasicAuth":      {"kubernetes.io/basic-auth", `{"username":"u"}`, nil},
		"BasicAuthOther": {"kubernetes.io/basic-auth", `{"user":"u"}`, render.ErrRequired},
		"Docker":         {"kubernetes.io/dockerconfigjson", `{".dockerconfigjson":"{}"}`, nil},
		"DockerBroken":   {"kubernetes.io/dockerconfigjson", `{".dockerconfigjson":"{"}`, render.ErrDockerConfig},
		"DockerMissing":  {"kubernetes.io/dockerconfigjson", `{".dockercfg":"{}"}`, render.ErrRequired},
		"SSH":            {"kubernetes.io/ssh-auth", `{"ssh-privatekey":"k"}`, nil},
		"SSHEmpty":       {"kubernetes.io/ssh-auth", `{"ssh-privatekey":null}`, render.ErrSSHKey},
		"Nothing":        {"", `{}`, nil},
		"NothingTLS":     {"kubernetes.io/tls", `{}`, render.ErrRequired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := render.Output(spec(v2beta1.ObjectMultiKeyValue, tc.secretType, "", content(v2beta1.ContentJSON)), render.Secret, object(tc.text))
			if !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			if err == nil && tc.secretType != "" && string(got.Type) != tc.secretType {
				t.Errorf("type %s", got.Type)
			}
		})
	}
}
