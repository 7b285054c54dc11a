// SPDX-License-Identifier: Apache-2.0

package azure_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/internal/azure"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

func TestReadIsFrugal(t *testing.T) {
	w := newWorld(t)
	reader := newReader(t, w.credential(t, nil), azure.Options{})
	for range 3 {
		obj, err := reader.Read(t.Context(), greeting())
		if err != nil {
			t.Fatal(err)
		}
		if got := string(obj.Value.Reveal()); got != "s3cret" || obj.Version != version || obj.Updated.Unix() != 1700000001 {
			t.Errorf("got %q of version %s, updated %v", got, obj.Version, obj.Updated)
		}
	}
	got := map[string]int{
		"challenges": w.count("my-kv.vault.azure.net/") - w.count("my-kv.vault.azure.net/", "+token"),
		"reads":      w.count("my-kv.vault.azure.net/", "+token"),
		"sign-ins":   w.count("POST", "/oauth2/v2.0/token"),
	}
	if diff := cmp.Diff(map[string]int{"challenges": 1, "reads": 3, "sign-ins": 1}, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestTranslation has a row for each answer that means something to us. None may
// let remote text out, neither to people nor to the log.
func TestTranslation(t *testing.T) {
	const yearsAhead = "999999999"
	for name, tc := range map[string]struct {
		status int
		body   string
		header map[string]string
		want   error
		logs   string
	}{
		"NoSecret":          {404, errorBody("SecretNotFound", ""), nil, vault.ErrNotFound, `"code":"SecretNotFound"`},
		"NoCertificate":     {404, errorBody("CertificateNotFound", ""), nil, vault.ErrNotFound, `"status":404`},
		"NoKey":             {404, errorBody("KeyNotFound", ""), nil, vault.ErrNotFound, `"status":404`},
		"SomebodyElses404":  {404, "<html>" + canary, nil, vault.ErrUnavailable, `"status":404`},
		"SecretDisabled":    {403, errorBody("Forbidden", "SecretDisabled"), nil, vault.ErrDisabled, `"innerCode":"SecretDisabled"`},
		"CertDisabled":      {403, errorBody("Forbidden", "CertificateDisabled"), nil, vault.ErrDisabled, `"innerCode":"CertificateDisabled"`},
		"KeyDisabled":       {403, errorBody("Forbidden", "KeyDisabled"), nil, vault.ErrDisabled, `"innerCode":"KeyDisabled"`},
		"RBAC":              {403, errorBody("Forbidden", "ForbiddenByRbac"), nil, vault.ErrForbidden, `"requestID":"11112222-3333-4444-5555-666677778888"`},
		"Policy":            {403, errorBody("Forbidden", "ForbiddenByPolicy"), nil, vault.ErrForbidden, `"innerCode":"ForbiddenByPolicy"`},
		"PlainForbidden":    {403, canary, nil, vault.ErrForbidden, `"status":403`},
		"Firewall":          {403, errorBody("Forbidden", "ForbiddenByFirewall"), nil, vault.ErrFirewall, `"innerCode":"ForbiddenByFirewall"`},
		"PrivateLink":       {403, errorBody("Forbidden", "ForbiddenByConnection"), nil, vault.ErrFirewall, `"innerCode":"ForbiddenByConnection"`},
		"Throttled":         {429, errorBody("Throttled", ""), nil, vault.Throttled{}, `"status":429`},
		"ThrottledFor":      {429, errorBody("Throttled", ""), map[string]string{"Retry-After": "120"}, vault.Throttled{RetryAfter: 2 * time.Minute}, `"status":429`},
		"ThrottledForYears": {429, errorBody("Throttled", ""), map[string]string{"Retry-After": yearsAhead}, vault.Throttled{RetryAfter: 10 * time.Minute}, `"status":429`},
		"ThrottledOddly":    {429, canary, map[string]string{"Retry-After": canary}, vault.Throttled{}, `"status":429`},
		"BadRequest":        {400, errorBody("BadParameter", ""), nil, vault.ErrUnavailable, `"code":"BadParameter"`},
		"Server":            {500, errorBody("InternalServerError", ""), nil, vault.ErrUnavailable, `"status":500`},
		"Gateway":           {502, canary, nil, vault.ErrUnavailable, `"status":502`},
		"Redirect":          {307, canary, map[string]string{"Location": "https://other.vault.azure.net/" + canary}, vault.ErrUnavailable, `"status":307`},
		"NotJSON":           {200, canary, nil, vault.ErrUnavailable, `"level":"WARN"`},
		"NoValue":           {200, `{"id":"https://my-kv.vault.azure.net/secrets/greeting/` + version + `"}`, nil, vault.ErrUnavailable, "lacks what was asked for"},
		"WordsAsCode":       {403, errorBody(canary+" with spaces", canary+" too"), nil, vault.ErrForbidden, `"status":403`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.set(func(w *azureWorld) { w.vault = w.answering(tc.status, tc.body, tc.header) })
			log, out := newLog()
			reader := newReader(t, w.credential(t, log), azure.Options{Log: log})
			expect(t, reader, greeting(), tc.want)
			if n := w.count("my-kv.vault.azure.net/", "+token"); n != 1 {
				t.Errorf("%d attempts, want 1: retrying is not this package's", n)
			}
			if w.count("other.vault.azure.net") != 0 {
				t.Error("a redirect was followed")
			}
			expectOneLine(t, out, tc.logs)
		})
	}
}

func TestVaultOfAnotherTenant(t *testing.T) {
	w := newWorld(t)
	w.set(func(w *azureWorld) {
		w.vault = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			w.challenge(rw, `Bearer authorization="https://login.microsoftonline.com/99999999-9999-9999-9999-999999999999", resource="https://vault.azure.net"`)
		})
	})
	log, out := newLog()
	expect(t, newReader(t, w.credential(t, nil), azure.Options{Log: log}), greeting(), vault.ErrSignIn)
	expectOneLine(t, out, "sign-in refused")
}

// TestOddChallenges: a vault's first answer steers the SDK, so it must neither end
// the process nor lead our tokens elsewhere.
func TestOddChallenges(t *testing.T) {
	for name, header := range map[string]string{
		"Panics":        `Bearer authorization="x", resource="https://vault.azure.net"`,
		"OtherResource": `Bearer authorization="https://login.microsoftonline.com/t", resource="https://evil.example"`,
		"OtherParent":   `Bearer authorization="https://login.microsoftonline.com/t", resource="https://azure.example"`,
		"Empty":         ``,
		"Nonsense":      canary,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			good := w.vault
			w.set(func(w *azureWorld) {
				w.vault = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { w.challenge(rw, header) })
			})
			log, out := newLog()
			reader := newReader(t, w.credential(t, log), azure.Options{Log: log})
			for range 2 {
				if _, err := reader.Read(t.Context(), greeting()); !errors.Is(err, vault.ErrUnavailable) && !errors.Is(err, vault.ErrSignIn) {
					t.Errorf("got %v", err)
				}
			}
			if n := w.count("POST", "/token"); n != 0 {
				t.Errorf("%d tokens were asked for", n)
			}
			if strings.Contains(out.String(), canary) {
				t.Errorf("the log holds remote text: %s", out)
			}
			w.set(func(w *azureWorld) { w.vault = good })
			if _, err := reader.Read(t.Context(), greeting()); err != nil {
				t.Errorf("after the vault came to its senses: %v", err)
			}
		})
	}
}

func TestSlowVault(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	w.set(func(w *azureWorld) {
		w.vault = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		})
	})
	log, out := newLog()
	expect(t, newReader(t, w.credential(t, nil), azure.Options{Log: log, Timeout: 50 * time.Millisecond}), greeting(), vault.ErrUnavailable)
	expectOneLine(t, out, `"reason":"timeout"`)
}

func TestUnknownVault(t *testing.T) {
	w := newWorld(t)
	w.set(func(w *azureWorld) { w.absent = true })
	log, out := newLog()
	reader := newReader(t, w.credential(t, log), azure.Options{Log: log})
	expect(t, reader, greeting(), vault.ErrNoVault)
	expectOneLine(t, out, "no such host")
	w.set(func(w *azureWorld) { w.absent = false })
	if _, err := reader.Read(t.Context(), greeting()); err != nil {
		t.Errorf("after the vault was made: %v", err)
	}
}

// TestNetworkFaults meets them where there is no proxy.
func TestNetworkFaults(t *testing.T) {
	const host = "my-kv.vault.azure.net"
	for name, tc := range map[string]struct {
		fault error
		want  error
		logs  string
	}{
		"NoSuchHost":     {&net.DNSError{Err: canary, Name: host, IsNotFound: true}, vault.ErrNoVault, "DNS lookup of " + host},
		"NoSuchProxy":    {&net.DNSError{Err: canary, Name: "proxy.example", IsNotFound: true}, vault.ErrUnavailable, "DNS lookup of proxy.example"},
		"DNSDown":        {&net.DNSError{Err: canary, Name: host, IsTemporary: true}, vault.ErrUnavailable, "DNS lookup"},
		"Refused":        {&net.OpError{Op: "dial", Net: "tcp", Err: errors.New(canary)}, vault.ErrUnavailable, "network fault during dial"},
		"NotTrusted":     {&tls.CertificateVerificationError{Err: errors.New(canary)}, vault.ErrUnavailable, "not trusted"},
		"SomethingElse":  {errors.New(canary), vault.ErrUnavailable, "unexpected error"},
		"DeadlineInside": {context.DeadlineExceeded, vault.ErrUnavailable, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			client := &http.Client{Transport: &http.Transport{
				DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, tc.fault },
			}}
			log, out := newLog()
			cred, err := azure.NewCredential(azure.SignIn{Method: azure.MethodEnvironment, Getenv: func(string) string { return "" }, HTTP: client})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, newReader(t, cred, azure.Options{Log: log}), greeting(), tc.want)
			expectOneLine(t, out, tc.logs)
		})
	}
}

func TestSuffixes(t *testing.T) {
	w := newWorld(t)
	cred := w.credential(t, nil)
	for name, tc := range map[string]struct {
		suffix, host string // no host: refused
	}{
		"Default":  {"", "my-kv.vault.azure.net"},
		"Own":      {"vault.example", "my-kv.vault.example"},
		"Dot":      {".vault.example", "my-kv.vault.example"},
		"Path":     {"vault.example/x", ""},
		"User":     {"user@vault.example", ""},
		"Fragment": {"vault.example#", ""},
		"OneLabel": {"localhost", ""},
	} {
		t.Run(name, func(t *testing.T) {
			reader, err := azure.NewReader(cred, azure.Options{VaultSuffix: tc.suffix})
			if tc.host == "" {
				if err == nil {
					t.Error("accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_, _ = reader.Read(t.Context(), greeting())
			if w.count(tc.host+"/") == 0 {
				t.Errorf("%s was not asked", tc.host)
			}
		})
	}
}

// expect demands the sentinel and its own text.
func expect(t *testing.T, reader *azure.Reader, ref vault.Reference, want error) {
	t.Helper()
	_, err := reader.Read(t.Context(), ref)
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
	if err.Error() != want.Error() {
		t.Errorf("people would read %q, want %q", err, want)
	}
}

// expectOneLine demands one log line with this part and without remote text.
func expectOneLine(t *testing.T, out *logged, part string) {
	t.Helper()
	text := out.String()
	if strings.Count(text, "\n") != 1 || !strings.Contains(text, part) {
		t.Errorf("want one log line with %s, got:\n%s", part, text)
	}
	for _, never := range []string{canary, "api-version", "Bearer", password} {
		if strings.Contains(text, never) {
			t.Errorf("the log holds %q:\n%s", never, text)
		}
	}
}
