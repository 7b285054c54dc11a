// SPDX-License-Identifier: Apache-2.0

package placeholder_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

func TestParse(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		text string
		want placeholder.Placeholder
	}{
		"Name":           {"my-secret@azurekeyvault", placeholder.Placeholder{Name: "my-secret"}},
		"OneLetter":      {"a@azurekeyvault", placeholder.Placeholder{Name: "a"}},
		"Dots":           {"my.secret.v1@azurekeyvault", placeholder.Placeholder{Name: "my.secret.v1"}},
		"Query":          {"my-cert@azurekeyvault?tls.key", placeholder.Placeholder{Name: "my-cert", Query: "tls.key"}},
		"QueryWithDash":  {"my-kv@azurekeyvault?db-password", placeholder.Placeholder{Name: "my-kv", Query: "db-password"}},
		"QueryWithDigit": {"my-kv@azurekeyvault?1_A", placeholder.Placeholder{Name: "my-kv", Query: "1_A"}},
		"LongestName":    {strings.Repeat("a", 253) + "@azurekeyvault", placeholder.Placeholder{Name: strings.Repeat("a", 253)}},
		"LongestQuery":   {"a@azurekeyvault?" + strings.Repeat("q", 253), placeholder.Placeholder{Name: "a", Query: strings.Repeat("q", 253)}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := placeholder.Parse(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got); d != "" || got.String() != tc.text || !placeholder.In(tc.text) {
				t.Errorf("String() = %q, -want +got\n%s", got.String(), d)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"Empty":         "",
		"Plain":         "my-secret",
		"NoName":        "@azurekeyvault",
		"EmptyQuery":    "my-secret@azurekeyvault?",
		"OtherMarker":   "my-secret@azurekeyvaults",
		"UpperMarker":   "my-secret@AzureKeyVault",
		"SpaceBefore":   " my-secret@azurekeyvault",
		"SpaceAfter":    "my-secret@azurekeyvault ",
		"Newline":       "my-secret@azurekeyvault\n",
		"TwoLines":      "x\nmy-secret@azurekeyvault",
		"Prefix":        "https://my-secret@azurekeyvault",
		"Suffix":        "my-secret@azurekeyvault/path",
		"Twice":         "a@azurekeyvault@azurekeyvault",
		"TwoQueries":    "a@azurekeyvault?b?c",
		"Underscore":    "my_secret@azurekeyvault",
		"LeadingDash":   "-my-secret@azurekeyvault",
		"TrailingDash":  "my-secret-@azurekeyvault",
		"TrailingDot":   "my-secret.@azurekeyvault",
		"Slash":         "other-namespace/my-secret@azurekeyvault",
		"QuerySlash":    "my-secret@azurekeyvault?../x",
		"NotASCII":      "mÿ-secret@azurekeyvault",
		"NameTooLong":   strings.Repeat("a", 254) + "@azurekeyvault",
		"QueryTooLong":  "a@azurekeyvault?" + strings.Repeat("q", 254),
		"Reference":     "$(NAME)@azurekeyvault",
		"NulByte":       "my-secret@azurekeyvault\x00",
		"PasswordInURL": "postgres://app:hunter2@azurekeyvault",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := placeholder.Parse(text)
			if !errors.Is(err, placeholder.ErrMalformed) {
				t.Fatalf("Parse() = %v, %v", got, err)
			}
			if text != "" && strings.Contains(err.Error(), "hunter2") {
				t.Error("the text is in the error")
			}
		})
	}
}

func TestParseReadsWhatStringWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := placeholder.Placeholder{
			Name:  rapid.StringMatching(`[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?`).Draw(t, "name"),
			Query: rapid.StringMatching(`[-._a-zA-Z0-9]{0,20}`).Draw(t, "query"),
		}
		got, err := placeholder.Parse(want.String())
		if err != nil || got != want {
			t.Fatalf("Parse(%q) = %+v, %v", want, got, err)
		}
	})
}

// FuzzParse: what is read is written as it was, and nothing is read that In does
// not see.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"my-secret@azurekeyvault", "my-cert@azurekeyvault?tls.key", "a@azurekeyvault?", "@azurekeyvault", "x y@azurekeyvault\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := placeholder.Parse(text)
		switch {
		case err == nil && (p.String() != text || !placeholder.In(text) || p.Name == ""):
			t.Errorf("Parse(%q) = %+v", text, p)
		case err != nil && !errors.Is(err, placeholder.ErrMalformed):
			t.Errorf("Parse(%q): %v", text, err)
		case err != nil && p != placeholder.Placeholder{}:
			t.Errorf("Parse(%q) = %+v with an error", text, p)
		}
	})
}
