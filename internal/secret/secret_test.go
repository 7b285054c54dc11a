// SPDX-License-Identifier: Apache-2.0

package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"
	yaml3 "go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// places are where a Value may sit when somebody prints what is around it.
type places struct {
	Exported  secret.Value
	hidden    secret.Value
	Pointer   *secret.Value
	hiddenMap map[string]secret.Value
	Slice     []secret.Value
	Any       any
	inner     struct{ deeper secret.Value }
}

func everywhere(v secret.Value) places {
	p := places{
		Exported: v, hidden: v, Pointer: &v, hiddenMap: map[string]secret.Value{"k": v},
		Slice: []secret.Value{v}, Any: v,
	}
	p.inner.deeper = v
	return p
}

// traces are what must be in no output: the bytes, and how printers write them.
func traces(raw []byte) []string {
	return []string{
		string(raw), fmt.Sprintf("%q", raw)[1 : len(fmt.Sprintf("%q", raw))-1],
		strings.Trim(fmt.Sprintf("%d", raw), "[]"), strings.Trim(fmt.Sprintf("%x", raw), "[]"),
		hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw),
		strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", raw), "[]byte{"), "}"),
	}
}

func mustNotHold(t interface {
	Helper()
	Fatalf(string, ...any)
}, what, text string, raw []byte,
) {
	t.Helper()
	for _, trace := range traces(raw) {
		if strings.Contains(text, trace) {
			t.Fatalf("%s holds the value as %q: %s", what, trace, text)
		}
	}
}

// Long enough, and of letters that no marker and no address has.
func values() *rapid.Generator[[]byte] {
	return rapid.SliceOfN(rapid.SampledFrom([]byte("QZ~%\"\\\n\x00\xff")), 12, 40)
}

func TestPrintingShowsNothing(t *testing.T) {
	t.Parallel()
	verbs := []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%c", "%U", "%o", "%b", "%t", "%e", "%p", "%T", "%100.50v", "%!z"}
	rapid.Check(t, func(t *rapid.T) {
		raw := values().Draw(t, "value")
		v := secret.New(raw)
		for _, verb := range verbs {
			for _, subject := range []any{v, &v, everywhere(v), []any{v}, map[string]any{"k": v}} {
				mustNotHold(t, verb, fmt.Sprintf(verb, subject), raw)
			}
		}
		mustNotHold(t, "Sprint", fmt.Sprint(v, &v, everywhere(v)), raw)
		mustNotHold(t, "Sprintln", fmt.Sprintln(v), raw)
		mustNotHold(t, "Errorf", fmt.Errorf("reading %v: %w", everywhere(v), errors.New("boom")).Error(), raw)
		mustNotHold(t, "a panic", panicText(everywhere(v)), raw)
	})
}

func panicText(v any) string {
	out := ""
	func() {
		defer func() { out = fmt.Sprint(recover()) }()
		panic(v)
	}()
	return out
}

func TestLoggingShowsNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := values().Draw(t, "value")
		v := secret.New(raw)
		var out bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).With("with", v).WithGroup("g").Info("message",
				"value", v, "pointer", &v, "places", everywhere(v), "slice", []secret.Value{v},
				"map", map[string]secret.Value{"k": v}, slog.Group("group", "value", v), "error", fmt.Errorf("x %v", v))
		}
		mustNotHold(t, "the log", out.String(), raw)
	})
}

func TestMarshallingRefuses(t *testing.T) {
	t.Parallel()
	raw := []byte("QZ~QZ~QZ~QZ~")
	v := secret.New(raw)
	exported := struct{ V secret.Value }{v}
	cases := map[string]func(any) ([]byte, error){
		"JSON":     json.Marshal,
		"YAML":     yaml.Marshal,
		"OtherYML": yaml3.Marshal,
		"XML":      xml.Marshal,
		"Gob": func(x any) ([]byte, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(x)
			return b.Bytes(), err
		},
	}
	for name, marshal := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, subject := range []any{v, &v, exported, []secret.Value{v}} {
				out, err := marshal(subject)
				if err == nil {
					t.Errorf("%T: no error", subject)
				}
				mustNotHold(t, name, string(out), raw)
				if err != nil {
					mustNotHold(t, "the error", err.Error(), raw)
				}
			}
		})
	}
	if _, err := json.Marshal(v); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("json.Marshal(): %v, want %v", err, secret.ErrMarshal)
	}
}

func TestTemplatesAndDiffsShowNothing(t *testing.T) {
	t.Parallel()
	raw := []byte("QZ~QZ~QZ~QZ~")
	v := secret.New(raw)
	var out bytes.Buffer
	if err := template.Must(template.New("").Parse(`{{.V}} {{printf "%s" .V}}`)).Execute(&out, map[string]any{"V": v}); err != nil {
		t.Fatal(err)
	}
	mustNotHold(t, "a template", out.String(), raw)
	type object struct{ Value secret.Value }
	diff := cmp.Diff(object{v}, object{secret.New([]byte("other"))})
	mustNotHold(t, "a diff", diff, raw)
	if diff == "" {
		t.Error("no difference between two values")
	}
}

func TestValue(t *testing.T) {
	t.Parallel()
	var zero secret.Value
	a, b := secret.New([]byte("a")), secret.New([]byte("b"))
	switch {
	case zero.Len() != 0 || zero.Reveal() != nil || !zero.Equal(secret.New([]byte{})):
		t.Error("the zero Value is not empty")
	case !reflect.ValueOf(secret.New(nil)).IsZero():
		t.Error("no bytes make another Value than the zero one")
	case string(a.Reveal()) != "a" || a.Len() != 1:
		t.Error("Reveal() is not what went in")
	case a.Equal(b) || a.Equal(zero) || !a.Equal(secret.New([]byte("a"))):
		t.Error("Equal() does not compare bytes")
	case reflect.TypeFor[secret.Value]().Comparable():
		t.Error("== compiles and compares addresses")
	}
	if fmt.Sprint(a) != secret.Redacted || a.String() != secret.Redacted || a.GoString() != secret.Redacted {
		t.Error("a Value does not print as the marker")
	}
}
