// SPDX-License-Identifier: Apache-2.0

package envexec_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/envexec"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

func TestFill(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		environ []string
		values  map[string][]byte
		want    []string
	}{
		"Nothing":               {nil, nil, []string{}},
		"OnePlaceholder":        {[]string{"A=x@azurekeyvault"}, map[string][]byte{"A": []byte("1")}, []string{"A=1"}},
		"Query":                 {[]string{"A=x@azurekeyvault?tls.key"}, map[string][]byte{"A": []byte("1")}, []string{"A=1"}},
		"EqualsSignInValue":     {[]string{"A=x@azurekeyvault"}, map[string][]byte{"A": []byte("k=v=w")}, []string{"A=k=v=w"}},
		"EmptyValue":            {[]string{"A=x@azurekeyvault"}, map[string][]byte{"A": {}}, []string{"A="}},
		"ValueLikeAPlaceholder": {[]string{"A=x@azurekeyvault"}, map[string][]byte{"A": []byte("y@azurekeyvault")}, []string{"A=y@azurekeyvault"}},
		"OrderAndDuplicatesStay": {
			[]string{"B=2", "A=x@azurekeyvault", "B=3", "A=x@azurekeyvault", "C"},
			map[string][]byte{"A": []byte("1")},
			[]string{"B=2", "A=1", "B=3", "A=1", "C"},
		},
		"OwnVariablesGo":          {[]string{"ENV_INJECTOR_", "ENV_INJECTOR_X=1", "A=2", "MY_ENV_INJECTOR_X=3"}, nil, []string{"A=2", "MY_ENV_INJECTOR_X=3"}},
		"NotAPlaceholderStays":    {[]string{"A=plain", "B=a=b", "C="}, map[string][]byte{"A": []byte("1")}, []string{"A=plain", "B=a=b", "C="}},
		"PartOfATextStays":        {[]string{"A=me@azurekeyvault.example.com"}, nil, []string{"A=me@azurekeyvault.example.com"}},
		"PlaceholderWithoutAName": {[]string{"A=@azurekeyvault"}, nil, []string{"A=@azurekeyvault"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := envexec.Fill(tc.environ, tc.values)
			if d := cmp.Diff(tc.want, got); d != "" || err != nil {
				t.Errorf("Fill(): %v, -want +got\n%s", err, d)
			}
		})
	}
}

func TestFillRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		environ []string
		values  map[string][]byte
		says    string
		never   string
	}{
		"Unfilled":       {[]string{"B=x@azurekeyvault", "A=x@azurekeyvault", "A=x@azurekeyvault"}, nil, "A, B", "A, A"},
		"UnfilledBeside": {[]string{"A=x@azurekeyvault", "B=y@azurekeyvault"}, map[string][]byte{"A": []byte("hunter2")}, "in B:", "hunter2"},
		"ZeroByte":       {[]string{"A=x@azurekeyvault"}, map[string][]byte{"A": []byte("hunter2\x00")}, "zero byte", "hunter2"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := envexec.Fill(tc.environ, tc.values)
			if err == nil || got != nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), tc.never) {
				t.Errorf("Fill() = %q, %v", got, err)
			}
		})
	}
}

// Whatever comes in, nothing of the wrapper's and no unfilled placeholder goes
// out, and what is not a placeholder goes out as it came, in its place.
func TestFillKeepsEverythingElse(t *testing.T) {
	t.Parallel()
	entry := rapid.OneOf(
		rapid.StringMatching(`[A-C]=[a-z=]{0,4}`),
		rapid.StringMatching(`[A-C]=[a-c]@azurekeyvault(\?k)?`),
		rapid.StringMatching(`ENV_INJECTOR_[A-C]=[a-z]{0,2}`),
		rapid.String(),
	)
	rapid.Check(t, func(t *rapid.T) {
		environ := rapid.SliceOf(entry).Draw(t, "environ")
		values := rapid.MapOf(rapid.StringMatching(`[A-C]`), rapid.SliceOf(rapid.Byte())).Draw(t, "values")
		got, err := envexec.Fill(environ, values)
		if err != nil {
			if got != nil {
				t.Fatalf("an environment beside %v", err)
			}
			return
		}
		want := slices.DeleteFunc(slices.Clone(environ), func(e string) bool { return strings.HasPrefix(e, brokerapi.EnvPrefix) })
		for i, e := range want {
			name, text, _ := strings.Cut(e, "=")
			if _, err := placeholder.Parse(text); err == nil {
				want[i] = name + "=" + string(values[name])
			}
		}
		if !slices.Equal(want, got) {
			t.Fatalf("Fill(%q) = %q, want %q", environ, got, want)
		}
	})
}

func TestLastWord(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	cases := map[string]struct {
		err  error
		want string
	}{
		"Plain":       {boom, "azure-keyvault-env: boom"},
		"Joined":      {errors.Join(boom, boom), "azure-keyvault-env: boom; boom"},
		"Escape":      {errors.New("a\x1b[31mb\rc\x00"), "azure-keyvault-env: a[31mbc"},
		"NotUnicode":  {errors.New("a\xffb"), "azure-keyvault-env: a?b"},
		"CutAtARune":  {errors.New(strings.Repeat("ä", 4096)), "azure-keyvault-env: " + strings.Repeat("ä", (4096-20-3)/2) + "…"},
		"FitsExactly": {errors.New(strings.Repeat("x", 4096-20)), "azure-keyvault-env: " + strings.Repeat("x", 4096-20)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := envexec.LastWord(tc.err)
			if d := cmp.Diff(tc.want, got); d != "" || len(got) > 4096 {
				t.Errorf("%d bytes, -want +got\n%s", len(got), d)
			}
		})
	}
}
