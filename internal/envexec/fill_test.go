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

// said is an answer of the broker: key and value in turn, of which an absent one is
// "-".
func said(pairs ...string) brokerapi.Response {
	r := brokerapi.Response{Values: map[string][]byte{}}
	for i := 0; i < len(pairs); i += 2 {
		key := pairs[i]
		if pairs[i+1] == "-" {
			r.Absent = append(r.Absent, key)
			continue
		}
		r.Values[key] = []byte(pairs[i+1])
	}
	return r
}

// saidFiles is an answer with the directory of x, which has name and content of each
// file in turn, that are values too; there is no y.
func saidFiles(pairs ...string) brokerapi.Response {
	r := said("y@azurekeyvault;directory", "-")
	files := map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		files[pairs[i]] = []byte(pairs[i+1])
		r.Values["x@azurekeyvault?"+pairs[i]] = []byte(pairs[i+1])
	}
	r.Directories = map[string]map[string][]byte{"x@azurekeyvault;directory": files}
	return r
}

func TestFill(t *testing.T) {
	t.Parallel()
	x := said("x@azurekeyvault", "1")
	cases := map[string]struct {
		environ []string
		answer  brokerapi.Response
		want    []string
	}{
		"Nothing":               {nil, said(), []string{}},
		"OnePlaceholder":        {[]string{"A=x@azurekeyvault"}, x, []string{"A=1"}},
		"Query":                 {[]string{"A=x@azurekeyvault?tls.key"}, said("x@azurekeyvault?tls.key", "1"), []string{"A=1"}},
		"EqualsSignInValue":     {[]string{"A=x@azurekeyvault"}, said("x@azurekeyvault", "k=v=w"), []string{"A=k=v=w"}},
		"EmptyValue":            {[]string{"A=x@azurekeyvault"}, said("x@azurekeyvault", ""), []string{"A="}},
		"ValueLikeAPlaceholder": {[]string{"A=x@azurekeyvault", "B=<x@azurekeyvault>!"}, said("x@azurekeyvault", "<y@azurekeyvault>"), []string{"A=<y@azurekeyvault>", "B=<y@azurekeyvault>!"}},
		"Inline": {
			[]string{"URL=p://u:<x@azurekeyvault>@h?<y@azurekeyvault?q>=<x@azurekeyvault>"},
			said("x@azurekeyvault", "1", "y@azurekeyvault?q", "2"),
			[]string{"URL=p://u:1@h?2=1"},
		},
		"Escaped":         {[]string{"A=ops@@azurekeyvault.example", "B=@@@azurekeyvault"}, said(), []string{"A=ops@azurekeyvault.example", "B=@@azurekeyvault"}},
		"OptionalThere":   {[]string{"A=x@azurekeyvault;optional", "B=x@azurekeyvault;default=2"}, x, []string{"A=1", "B=1"}},
		"OptionalAbsent":  {[]string{"A=x@azurekeyvault;optional", "B=(<x@azurekeyvault;optional>)", "C=3"}, said("x@azurekeyvault", "-"), []string{"B=()", "C=3"}},
		"DefaultAbsent":   {[]string{"A=x@azurekeyvault;default=a=b;c", "B=(<x@azurekeyvault;default=d>)"}, said("x@azurekeyvault", "-"), []string{"A=a=b;c", "B=(d)"}},
		"DefaultIsAsMade": {[]string{"A=x@azurekeyvault;default="}, said("x@azurekeyvault", "-"), []string{"A="}},
		"File":            {[]string{"A=x@azurekeyvault?q;file", "B=x@azurekeyvault;file", "C=x@azurekeyvault"}, said("x@azurekeyvault?q", "\x00", "x@azurekeyvault", "1"), []string{"A=/files/x/q", "B=/files/x/value", "C=1"}},
		"FileInline":      {[]string{"A=--key=<x@azurekeyvault;file>,<x@azurekeyvault>"}, x, []string{"A=--key=/files/x/value,1"}},
		"FileAbsent":      {[]string{"A=x@azurekeyvault;file;optional", "B=(<x@azurekeyvault;file;optional>)", "C=x@azurekeyvault;file;default=d"}, said("x@azurekeyvault", "-"), []string{"B=()", "C=/files/x/value"}},
		"Directory":       {[]string{"A=x@azurekeyvault;directory", "B=<x@azurekeyvault;directory>/a", "C=y@azurekeyvault;directory;optional"}, saidFiles("a", "1"), []string{"A=/files/x", "B=/files/x/a"}},
		"FileOfDirectory": {[]string{"A=x@azurekeyvault;directory", "B=x@azurekeyvault?a;file"}, saidFiles("a", "1"), []string{"A=/files/x", "B=/files/x/a"}},
		"OrderAndDuplicatesStay": {
			[]string{"B=2", "A=x@azurekeyvault", "B=3", "A=x@azurekeyvault", "C"},
			x,
			[]string{"B=2", "A=1", "B=3", "A=1", "C"},
		},
		"OwnVariablesGo":       {[]string{"ENV_INJECTOR_", "ENV_INJECTOR_X=1", "A=2", "ENV_INJECTOR_FOR_A=<x@azurekeyvault>", "MY_ENV_INJECTOR_X=3"}, said(), []string{"A=2", "MY_ENV_INJECTOR_X=3"}},
		"NotAPlaceholderStays": {[]string{"A=plain", "B=a=b", "C=", "D=@azurekey"}, x, []string{"A=plain", "B=a=b", "C=", "D=@azurekey"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := envexec.Fill(tc.environ, tc.answer)
			if d := cmp.Diff(tc.want, got); d != "" || err != nil {
				t.Errorf("Fill(): %v, -want +got\n%s", err, d)
			}
		})
	}
}

// differing has a file that is not as it is by itself.
func differing() brokerapi.Response {
	r := saidFiles("a", "hunter2")
	r.Values["x@azurekeyvault?a"] = []byte("hunter3")
	return r
}

func TestFillRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		environ []string
		answer  brokerapi.Response
		says    string
		never   string
	}{
		"Unfilled":        {[]string{"B=x@azurekeyvault", "A=x@azurekeyvault", "A=x@azurekeyvault"}, said(), "A, B: ", "A, A"},
		"UnfilledBeside":  {[]string{"A=x@azurekeyvault", "B=y@azurekeyvault"}, said("x@azurekeyvault", "hunter2"), "B: ", "hunter2"},
		"UnfilledInline":  {[]string{"A=hunter2 <x@azurekeyvault>"}, said(), "A: ", "hunter2"},
		"OtherQuery":      {[]string{"A=x@azurekeyvault?q"}, said("x@azurekeyvault", "hunter2"), "A: ", "hunter2"},
		"OptionalUnknown": {[]string{"A=x@azurekeyvault;optional"}, said("y@azurekeyvault", "-"), "A: ", "hunter2"},
		"DefaultUnknown":  {[]string{"A=x@azurekeyvault;default=hunter2"}, said(), "A: ", "hunter2"},
		"NeededAbsent":    {[]string{"A=x@azurekeyvault"}, said("x@azurekeyvault", "-"), "A: ", "hunter2"},
		"Malformed":       {[]string{"A=p://u:hunter2@azurekeyvault"}, said(), "A: not a placeholder", "hunter2"},
		"ZeroByte":        {[]string{"A=<x@azurekeyvault>"}, said("x@azurekeyvault", "hunter2\x00"), "A has a zero byte, which an environment variable cannot hold: ask for a file", "hunter2"},
		"UnfilledFile":    {[]string{"A=x@azurekeyvault;file"}, saidFiles("a", "hunter2"), "A: the placeholder there is not among those", "hunter2"},
		"UnfilledDir":     {[]string{"A=x@azurekeyvault;directory"}, said("x@azurekeyvault", "hunter2"), "A: the placeholder there is not among those", "hunter2"},
		"DirAbsent":       {[]string{"A=y@azurekeyvault;directory"}, saidFiles("a", "hunter2"), "A: the placeholder there is not among those", "hunter2"},
		"TwoDefaults":     {[]string{"A=x@azurekeyvault;file;default=hunter2", "B=x@azurekeyvault;file;default=2"}, said("x@azurekeyvault", "-"), "A (x@azurekeyvault;file;default=) and B (x@azurekeyvault;file;default=) ask for the same file, x/value, ", "hunter2"},
		"FileAndOther":    {[]string{"A=x@azurekeyvault?a;file", "B=x@azurekeyvault;directory"}, differing(), "A (x@azurekeyvault?a;file) and B (x@azurekeyvault;directory) ask for the same file, x/a, ", "hunter2"},
		"FileElsewhere":   {[]string{"A=x@azurekeyvault;directory"}, saidFiles("../a", "hunter2"), "could not be read", "hunter2"},
		"FileOfNoName":    {[]string{"A=x@azurekeyvault;directory"}, saidFiles("..", "hunter2"), "could not be read", "hunter2"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := envexec.Fill(tc.environ, tc.answer)
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
		rapid.StringMatching(`[A-C]=[a-z]?<[a-c]@azurekeyvault>[a-z]?`),
		rapid.StringMatching(`ENV_INJECTOR_[A-C]=[a-z]{0,2}`),
		rapid.String(),
	)
	rapid.Check(t, func(t *rapid.T) {
		environ := rapid.SliceOf(entry).Draw(t, "environ")
		values := rapid.MapOf(rapid.StringMatching(`[a-c]@azurekeyvault(\?k)?`), rapid.SliceOf(rapid.Byte())).Draw(t, "values")
		got, err := envexec.Fill(environ, brokerapi.Response{Values: values})
		if err != nil {
			if got != nil {
				t.Fatalf("an environment beside %v", err)
			}
			return
		}
		want := slices.DeleteFunc(slices.Clone(environ), func(e string) bool { return strings.HasPrefix(e, brokerapi.EnvPrefix) })
		for i, e := range want {
			name, text, _ := strings.Cut(e, "=")
			if start, end := strings.Index(text, "<"), strings.Index(text, ">"); placeholder.In(text) && start >= 0 {
				want[i] = name + "=" + text[:start] + string(values[text[start+1:end]]) + text[end+1:]
			} else if placeholder.In(text) {
				want[i] = name + "=" + string(values[text])
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
