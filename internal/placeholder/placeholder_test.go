// SPDX-License-Identifier: Apache-2.0

package placeholder_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// Each text is a placeholder from its first byte to its last.
func TestWhole(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		text string
		want placeholder.Placeholder
	}{
		"Name":            {"my-secret@azurekeyvault", placeholder.Placeholder{Name: "my-secret"}},
		"OneLetter":       {"a@azurekeyvault", placeholder.Placeholder{Name: "a"}},
		"DigitFirst":      {"1a@azurekeyvault", placeholder.Placeholder{Name: "1a"}},
		"Dots":            {"my.secret.v1@azurekeyvault", placeholder.Placeholder{Name: "my.secret.v1"}},
		"Query":           {"my-cert@azurekeyvault?tls.key", placeholder.Placeholder{Name: "my-cert", Query: "tls.key"}},
		"QueryWithDash":   {"my-kv@azurekeyvault?db-password", placeholder.Placeholder{Name: "my-kv", Query: "db-password"}},
		"QueryWithDigit":  {"my-kv@azurekeyvault?1_A", placeholder.Placeholder{Name: "my-kv", Query: "1_A"}},
		"LongestName":     {strings.Repeat("a", 253) + "@azurekeyvault", placeholder.Placeholder{Name: strings.Repeat("a", 253)}},
		"LongestQuery":    {"a@azurekeyvault?" + strings.Repeat("q", 253), placeholder.Placeholder{Name: "a", Query: strings.Repeat("q", 253)}},
		"Optional":        {"a@azurekeyvault;optional", placeholder.Placeholder{Name: "a", Absence: placeholder.Omit}},
		"QueryOptional":   {"a@azurekeyvault?q;optional", placeholder.Placeholder{Name: "a", Query: "q", Absence: placeholder.Omit}},
		"Default":         {"a@azurekeyvault;default=none yet", placeholder.Placeholder{Name: "a", Absence: placeholder.Default, Default: "none yet"}},
		"DefaultEmpty":    {"a@azurekeyvault?q;default=", placeholder.Placeholder{Name: "a", Query: "q", Absence: placeholder.Default}},
		"DefaultOfEach":   {"a@azurekeyvault;default=;optional=?\n$(X)", placeholder.Placeholder{Name: "a", Absence: placeholder.Default, Default: ";optional=?\n$(X)"}},
		"File":            {"a@azurekeyvault;file", placeholder.Placeholder{Name: "a", Form: placeholder.File}},
		"FileOfAPart":     {"a@azurekeyvault?tls.key;file", placeholder.Placeholder{Name: "a", Query: "tls.key", Form: placeholder.File}},
		"FileOptional":    {"a@azurekeyvault?q;file;optional", placeholder.Placeholder{Name: "a", Query: "q", Form: placeholder.File, Absence: placeholder.Omit}},
		"FileDefault":     {"a@azurekeyvault;file;default=;file", placeholder.Placeholder{Name: "a", Form: placeholder.File, Absence: placeholder.Default, Default: ";file"}},
		"DefaultNoFile":   {"a@azurekeyvault;default=x;file", placeholder.Placeholder{Name: "a", Absence: placeholder.Default, Default: "x;file"}},
		"Directory":       {"a@azurekeyvault;directory", placeholder.Placeholder{Name: "a", Form: placeholder.Directory}},
		"DirectoryOrNone": {"a@azurekeyvault;directory;optional", placeholder.Placeholder{Name: "a", Form: placeholder.Directory, Absence: placeholder.Omit}},
		"DotsInText":      {"a@azurekeyvault?..", placeholder.Placeholder{Name: "a", Query: ".."}},
		"DefaultWithAtIn": {"a@azurekeyvault;default=x@y", placeholder.Placeholder{Name: "a", Absence: placeholder.Default, Default: "x@y"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := placeholder.Read(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			got, whole := text.Whole()
			if d := cmp.Diff(tc.want, got); d != "" || !whole || got.String() != tc.text || !placeholder.In(tc.text) {
				t.Errorf("Whole() = %q, %t, -want +got\n%s", got, whole, d)
			}
			if d := cmp.Diff([]placeholder.Placeholder{tc.want}, text.Placeholders()); d != "" {
				t.Error(d)
			}
		})
	}
}

// Each text has its placeholders filled with their own names in brackets.
func TestInline(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"Plain":           {"my-secret", "my-secret"},
		"Empty":           {"", ""},
		"Alone":           {"<a@azurekeyvault>", "[a]"},
		"Within":          {"postgres://u:<db@azurekeyvault?password>@h/x", "postgres://u:[db?password]@h/x"},
		"Several":         {"<a@azurekeyvault><b@azurekeyvault>,<a@azurekeyvault?q>", "[a][b],[a?q]"},
		"Brackets":        {"<<a@azurekeyvault>>", "<[a]>"},
		"OtherBrackets":   {"a<b> < <a@azurekeyvault> > c>", "a<b> < [a] > c>"},
		"Optional":        {"x<a@azurekeyvault;optional>y", "x[a;optional]y"},
		"Default":         {"x<a@azurekeyvault?q;default=a b=c;>y", "x[a?q;default=a b=c;]y"},
		"File":            {"--key=<a@azurekeyvault?q;file>,<b@azurekeyvault;directory;optional>", "--key=[a?q;file],[b;directory;optional]"},
		"Semicolons":      {"Server=db;Password=<a@azurekeyvault>;Encrypt=true", "Server=db;Password=[a];Encrypt=true"},
		"Escaped":         {"a@@azurekeyvault", "a@azurekeyvault"},
		"EscapedInline":   {"<a@@azurekeyvault>", "<a@azurekeyvault>"},
		"EscapedTwice":    {"a@@@azurekeyvault", "a@@azurekeyvault"},
		"EscapedAlone":    {"@@azurekeyvault", "@azurekeyvault"},
		"EscapedAndOne":   {"ops@@azurekeyvault.example <a@azurekeyvault>", "ops@azurekeyvault.example [a]"},
		"OtherMarker":     {"a@azurekey", "a@azurekey"},
		"UpperMarker":     {"a@AzureKeyVault", "a@AzureKeyVault"},
		"DollarsAreOther": {"$(A) $$ ${B} {{ .C }} <a@azurekeyvault>", "$(A) $$ ${B} {{ .C }} [a]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := placeholder.Read(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			if _, whole := text.Whole(); whole {
				t.Error("it is a whole placeholder")
			}
			got := text.Fill(func(p placeholder.Placeholder) string {
				return "[" + strings.Replace(p.String(), placeholder.Marker, "", 1) + "]"
			})
			if got != tc.want {
				t.Errorf("Fill() = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		want error
	}{
		"NoName":          {"@azurekeyvault", placeholder.ErrMalformed},
		"EmptyQuery":      {"my-secret@azurekeyvault?", placeholder.ErrQuery},
		"OtherMarker":     {"my-secret@azurekeyvaults", placeholder.ErrMalformed},
		"SpaceBefore":     {" my-secret@azurekeyvault", placeholder.ErrMalformed},
		"SpaceAfter":      {"my-secret@azurekeyvault ", placeholder.ErrMalformed},
		"Newline":         {"my-secret@azurekeyvault\n", placeholder.ErrMalformed},
		"TwoLines":        {"x\nmy-secret@azurekeyvault", placeholder.ErrMalformed},
		"Prefix":          {"https://my-secret@azurekeyvault", placeholder.ErrMalformed},
		"Suffix":          {"my-secret@azurekeyvault/path", placeholder.ErrMalformed},
		"Twice":           {"a@azurekeyvault@azurekeyvault", placeholder.ErrMalformed},
		"TwoQueries":      {"a@azurekeyvault?b?c", placeholder.ErrQuery},
		"Underscore":      {"my_secret@azurekeyvault", placeholder.ErrName},
		"Upper":           {"My-secret@azurekeyvault", placeholder.ErrName},
		"LeadingDash":     {"-my-secret@azurekeyvault", placeholder.ErrName},
		"TrailingDash":    {"my-secret-@azurekeyvault", placeholder.ErrName},
		"TrailingDot":     {"my-secret.@azurekeyvault", placeholder.ErrName},
		"TwoDots":         {"my..secret@azurekeyvault", placeholder.ErrName},
		"DashDot":         {"my-.secret@azurekeyvault", placeholder.ErrName},
		"Slash":           {"other-namespace/my-secret@azurekeyvault", placeholder.ErrMalformed},
		"QuerySlash":      {"my-secret@azurekeyvault?../x", placeholder.ErrQuery},
		"NotASCII":        {"mÿ-secret@azurekeyvault", placeholder.ErrMalformed},
		"NameTooLong":     {strings.Repeat("a", 254) + "@azurekeyvault", placeholder.ErrName},
		"QueryTooLong":    {"a@azurekeyvault?" + strings.Repeat("q", 254), placeholder.ErrQuery},
		"Reference":       {"$(NAME)@azurekeyvault", placeholder.ErrMalformed},
		"NulByte":         {"my-secret@azurekeyvault\x00", placeholder.ErrMalformed},
		"PasswordInURL":   {"postgres://app:hunter2@azurekeyvault", placeholder.ErrMalformed},
		"OtherModifier":   {"a@azurekeyvault;hunter2", placeholder.ErrModifier},
		"FileAndMore":     {"a@azurekeyvault;files", placeholder.ErrModifier},
		"FileTwice":       {"a@azurekeyvault;file;file", placeholder.ErrModifier},
		"FileAfter":       {"a@azurekeyvault;optional;file", placeholder.ErrModifier},
		"FileOfDot":       {"a@azurekeyvault?.;file", placeholder.ErrForm},
		"FileOfDots":      {"a@azurekeyvault?..;file;default=x", placeholder.ErrForm},
		"FileQueryBehind": {"a@azurekeyvault;file?q", placeholder.ErrModifier},
		"DirectoryOfPart": {"a@azurekeyvault?q;directory", placeholder.ErrForm},
		"DirectoryOfText": {"a@azurekeyvault;directory;default=x", placeholder.ErrForm},
		"InlineDirectory": {"x<a@azurekeyvault?q;directory>", placeholder.ErrForm},
		"DefaultOfOne":    {"a@azurekeyvault;default=b@azurekeyvault", placeholder.ErrModifier},
		"DefaultOfText":   {"a@azurekeyvault;default=<b>", placeholder.ErrModifier},
		"InlineOpen":      {"x <a@azurekeyvault", placeholder.ErrMalformed},
		"InlineClosed":    {"x a@azurekeyvault>", placeholder.ErrMalformed},
		"InlineName":      {"x<A@azurekeyvault>", placeholder.ErrName},
		"InlineQuery":     {"x<a@azurekeyvault?>", placeholder.ErrQuery},
		"InlineModifier":  {"x<a@azurekeyvault;opt>", placeholder.ErrModifier},
		"InlineSpace":     {"x< a@azurekeyvault >", placeholder.ErrMalformed},
		"InlineAndBare":   {"x<a@azurekeyvault> b@azurekeyvault", placeholder.ErrMalformed},
		"InlineNested":    {"<a@azurekeyvault;default=<b@azurekeyvault>>", placeholder.ErrModifier},
		"EscapedAndWrong": {"a@@azurekeyvault b@azurekeyvault", placeholder.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := placeholder.Read(tc.text)
			if !errors.Is(err, tc.want) {
				t.Fatalf("Read() = %v, %v, want %v", got, err, tc.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the text is in the error")
			}
		})
	}
}

func draw(t *rapid.T) placeholder.Placeholder {
	p := placeholder.Placeholder{
		Name:    rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,9}[a-z0-9])?(\.[a-z0-9]{1,5})?`).Draw(t, "name"),
		Query:   rapid.StringMatching(`[-._a-zA-Z0-9]{0,20}`).Draw(t, "query"),
		Absence: rapid.SampledFrom([]placeholder.Absence{placeholder.Fail, placeholder.Omit, placeholder.Default}).Draw(t, "absence"),
	}
	switch p.Form = rapid.SampledFrom([]placeholder.Form{placeholder.InText, placeholder.File, placeholder.Directory}).Draw(t, "form"); {
	case p.Form == placeholder.File && p.Query != "" && !placeholder.IsFileName(p.Query):
		p.Query = "..."
	case p.Form == placeholder.Directory:
		p.Query, p.Absence = "", min(p.Absence, placeholder.Omit)
	}
	if p.Absence == placeholder.Default {
		p.Default = rapid.StringMatching(`[^<>@]{0,9}`).Draw(t, "default")
	}
	return p
}

// What is written is read, in both forms, whatever stands around it once it is
// escaped.
func TestReadReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := draw(t)
		text, err := placeholder.Read(want.String())
		if got, whole := text.Whole(); err != nil || !whole || got != want {
			t.Fatalf("Read(%q) = %+v, %v", want, text, err)
		}
		word := rapid.StringMatching(`([<>@a; $()]|@azurekeyvault){0,6}`)
		before, after := word.Draw(t, "before"), word.Draw(t, "after")
		escape := func(s string) string { return strings.ReplaceAll(s, placeholder.Marker, "@"+placeholder.Marker) }
		text, err = placeholder.Read(escape(before) + want.Inline() + escape(after))
		if err != nil {
			t.Fatalf("%q, %q: %v", before, after, err)
		}
		if d := cmp.Diff([]placeholder.Placeholder{want}, text.Placeholders()); d != "" {
			t.Fatal(d)
		}
		if got := text.Fill(placeholder.Placeholder.String); got != before+want.String()+after {
			t.Fatalf("Fill() = %q, want %q%q%q", got, before, want, after)
		}
	})
}

// The paths are the contract with applications, and no two placeholders of different
// values that an object can have share one.
func TestPath(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a.b@azurekeyvault?tls.key":                           "",
		"a.b@azurekeyvault?tls.key;file":                      "a.b/tls.key",
		"a.b@azurekeyvault?...;file;optional":                 "a.b/...",
		"a.b@azurekeyvault;file;default=x":                    "a.b/value",
		"a.b@azurekeyvault;directory":                         "a.b",
		"a.b@azurekeyvault;directory;optional":                "a.b",
		strings.Repeat("a", 253) + "@azurekeyvault;directory": strings.Repeat("a", 253),
	} {
		read, err := placeholder.Read(text)
		if p, whole := read.Whole(); err != nil || !whole || p.Path() != want {
			t.Errorf("%s: %q, %v, want %q", text, p.Path(), err, want)
		}
	}
}

// A file's value is that of the same placeholder in a text; a directory's is another.
func TestKey(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a@azurekeyvault?q;file;default=x":   "a@azurekeyvault?q",
		"a@azurekeyvault;file":               "a@azurekeyvault",
		"a@azurekeyvault;directory;optional": "a@azurekeyvault;directory",
	} {
		read, err := placeholder.Read(text)
		if p, _ := read.Whole(); err != nil || p.Key() != want {
			t.Errorf("%s: %q, %v, want %q", text, p.Key(), err, want)
		}
	}
}

// FuzzRead: what is read has the text that it was, and an error is one of ours.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"my-secret@azurekeyvault", "my-cert@azurekeyvault?tls.key;optional", "a@azurekeyvault?", "@azurekeyvault", "x y@azurekeyvault\n",
		"p://u:<a@azurekeyvault?b;default=c>@h", "<<a@azurekeyvault>>", "a@@azurekeyvault<b@azurekeyvault>",
		"a@azurekeyvault?tls.key;file;optional", "--ca=<a@azurekeyvault;directory>", "a@azurekeyvault?..;file", "a@azurekeyvault;file;default=x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		text, err := placeholder.Read(in)
		if err != nil {
			known := errors.Is(err, placeholder.ErrMalformed) || errors.Is(err, placeholder.ErrName) ||
				errors.Is(err, placeholder.ErrQuery) || errors.Is(err, placeholder.ErrModifier) || errors.Is(err, placeholder.ErrForm)
			if !known || !placeholder.In(in) {
				t.Errorf("Read(%q): %v", in, err)
			}
			return
		}
		for _, p := range text.Placeholders() {
			if path := p.Path(); path != "" && (!filepath.IsLocal(path) || filepath.Clean(path) != path) {
				t.Errorf("Read(%q) has the path %q", in, path)
			}
		}
		_, whole := text.Whole()
		again := text.Fill(func(p placeholder.Placeholder) string {
			if whole {
				return p.String()
			}
			return p.Inline()
		})
		if again != strings.ReplaceAll(in, "@"+placeholder.Marker, placeholder.Marker) {
			t.Errorf("Read(%q) reads %q", in, again)
		}
	})
}
