// SPDX-License-Identifier: Apache-2.0

package keyvault_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/emulator/keyvault"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := start(t)
	const caller = "Caller: appid=app-stranger;oid=oid-stranger;iss=https://sts.windows.net/tenant-1/\r\n"
	for name, tc := range map[string]struct {
		token, what, body string
		status            int
		code, says        string
	}{
		"NoToken":         {"", "GET /secrets/plain", "", 401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token."},
		"ForgedToken":     {forged, "GET /secrets/plain", "", 401, "Unauthorized", "AKV10046: "},
		"ExpiredToken":    {expired, "GET /secrets/plain", "", 401, "Unauthorized", "[TokenExpired] Error validating token: 'S2S12086'."},
		"WrongAudience":   {wrongService, "GET /secrets/plain", "", 401, "Unauthorized", "AKV10022: Invalid audience. Expected https://vault.azure.net, found: https://management.azure.com/."},
		"WrongTenant":     {otherTenant, "GET /secrets/plain", "", 401, "Unauthorized", "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/tenant-1/, found https://sts.windows.net/tenant-2/."},
		"NoVersion":       {admin, "GET /secrets/plain?", "", 400, "BadParameter", "api-version must be specified"},
		"UnknownVersion":  {admin, "GET /secrets/plain?api-version=6.0", "", 400, "BadParameter", "The specified version (6.0) is not recognized."},
		"RBAC":            {stranger, "GET /secrets/plain", "", 403, "Forbidden/ForbiddenByRbac", caller + "Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\nResource: '/subscriptions/"},
		"RBACList":        {scoped, "GET /secrets", "", 403, "Forbidden/ForbiddenByRbac", "secrets/readMetadata/action"},
		"RBACSet":         {reader, "PUT /secrets/plain", `{"value":"x"}`, 403, "Forbidden/ForbiddenByRbac", "secrets/setSecret/action"},
		"RBACScope":       {scoped, "GET /secrets/off", "", 403, "Forbidden/ForbiddenByRbac", "secrets/off'"},
		"Policy":          {stranger, "GET policy-kv:/secrets/plain", "", 403, "Forbidden/ForbiddenByPolicy", "does not have secrets get permission on key vault 'policy-kv;location="},
		"PolicyList":      {reader, "GET policy-kv:/secrets", "", 403, "Forbidden/ForbiddenByPolicy", "does not have secrets list permission"},
		"Missing":         {admin, "GET /secrets/none", "", 404, "SecretNotFound", "A secret with (name/id) none was not found in this key vault."},
		"MissingVersion":  {admin, "GET /secrets/plain/ffffffffffffffffffffffffffffffff", "", 404, "SecretNotFound", "(name/id) plain/ffffffffffffffffffffffffffffffff"},
		"MissingKey":      {admin, "GET /keys/none", "", 404, "KeyNotFound", "A key with (name/id) none"},
		"MissingCert":     {admin, "GET /certificates/none", "", 404, "CertificateNotFound", "A certificate with (name/id) none"},
		"MissingDeleted":  {admin, "GET /deletedsecrets/none", "", 404, "SecretNotFound", "Deleted Secret not found: none"},
		"Disabled":        {admin, "GET /secrets/off", "", 403, "Forbidden/SecretDisabled", "Operation get is not allowed on a disabled secret."},
		"Name":            {admin, "GET /secrets/a_b", "", 400, "BadParameter", "The request URI contains an invalid name: a_b"},
		"LongName":        {admin, "GET /secrets/" + strings.Repeat("a", 128), "", 400, "BadParameter", "invalid name"},
		"PageSize":        {admin, "GET /secrets?api-version=7.4&maxresults=26", "", 400, "BadParameter", "maxresults"},
		"SkipToken":       {admin, "GET /secrets?api-version=7.4&$skiptoken=x", "", 400, "BadParameter", "skiptoken"},
		"NoBody":          {admin, "PUT /secrets/n", "", 400, "BadParameter", "The request body is missing."},
		"NoValue":         {admin, "PUT /secrets/n", "{}", 400, "BadParameter", "value is missing"},
		"TooLarge":        {admin, "PUT /secrets/n", `{"value":"` + strings.Repeat("x", 25*1024+1) + `"}`, 400, "BadParameter", "too large"},
		"TooManyTags":     {admin, "PUT /secrets/n", `{"value":"x","tags":{` + manyTags(16) + `}}`, 400, "BadParameter", "Too many tags"},
		"LongContentType": {admin, "PUT /secrets/n", `{"value":"x","contentType":"` + strings.Repeat("x", 256) + `"}`, 400, "BadParameter", "contentType"},
		"NotConvertible":  {admin, "GET /secrets/plain?api-version=2025-07-01&outContentType=application/x-pem-file", "", 400, "BadParameter", "The 'Unsupported' to 'PEM' transformation is not supported."},
		"Method":          {admin, "POST /secrets", "{}", 405, "MethodNotAllowed", "not supported"},
		"Path":            {admin, "GET /storage", "", 404, "NotFound", "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ask(t, s, tc.token, tc.what, tc.body)
			if got.status != tc.status || got.code() != tc.code || !strings.Contains(got.message(), tc.says) {
				t.Errorf("got %d %s", got.status, got.text)
			}
			if strings.Contains(got.text, "canary") {
				t.Error("the refusal holds the value")
			}
		})
	}
}

func manyTags(n int) string {
	var tags []string
	for i := range n {
		tags = append(tags, fmt.Sprintf(`"t%d":"v"`, i))
	}
	return strings.Join(tags, ",")
}

func TestChallengeAndHeaders(t *testing.T) {
	t.Parallel()
	s := start(t)
	got := ask(t, s, "", "GET /secrets/plain", "")
	want := `Bearer authorization="https://login.microsoftonline.com/tenant-1", resource="https://vault.azure.net"`
	if have := got.header.Get("WWW-Authenticate"); have != want {
		t.Errorf("challenge: %s", have)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-cache", "Expires": "-1", "X-Ms-Keyvault-Region": "westeurope",
	} {
		if have := got.header.Get(name); have != value {
			t.Errorf("%s: %q", name, have)
		}
	}
	if got.header.Get("X-Ms-Request-Id") == "" || got.header.Get("Etag") != "" {
		t.Error("a request id is missing, or there is an ETag, which the service never sends")
	}
}

// Clients write the same request in several ways.
func TestSpellingsOfARequest(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, what := range map[string]string{
		"Plain":          "GET /secrets/plain?api-version=7.4",
		"TrailingSlash":  "GET /secrets/plain/?api-version=7.4",
		"EncodedKey":     "GET /secrets/plain?api%2Dversion=7.4",
		"OtherCase":      "GET /Secrets/PLAIN?api-version=7.4",
		"ExplicitVerson": "GET /secrets/plain/0123456789abcdef0123456789abcdef?api-version=7.4",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := must(t, s, what, "")
			want := map[string]any{
				"value": "canary", "contentType": "text/plain", "tags": map[string]any{"a": "b"},
				"id": "https://my-kv.vault.azure.net/secrets/plain/0123456789abcdef0123456789abcdef",
				"attributes": map[string]any{
					"enabled": true, "created": float64(now.Unix()), "updated": float64(now.Unix()),
					"recoveryLevel": "CustomizedRecoverable+Purgeable", "recoverableDays": 7.0,
				},
			}
			if diff := cmp.Diff(want, got.body); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNotBeforeDoesNotBlockReading(t *testing.T) {
	t.Parallel()
	if got := must(t, start(t), "GET /secrets/future", ""); got.str("value") != "canary" {
		t.Errorf("got %s", got.text)
	}
}

func TestAllAPIVersionsAreAnswered(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, version := range keyvault.APIVersions {
		must(t, s, "GET /secrets/plain?api-version="+version, "")
	}
}

func TestPaging(t *testing.T) {
	t.Parallel()
	s := start(t)
	const count = 60
	for i := range count {
		must(t, s, fmt.Sprintf("PUT /secrets/s%02d", i), `{"value":"v"}`)
	}
	for size, pages := range map[int][]int{0: {25, 25, 13}, 25: {25, 25, 13}, 20: {20, 20, 20, 3}} {
		t.Run(fmt.Sprint("Size", size), func(t *testing.T) {
			t.Parallel()
			path := "GET /secrets?api-version=7.3"
			if size > 0 {
				path += fmt.Sprint("&maxresults=", size)
			}
			seen := map[string]bool{}
			for i, want := range pages {
				got := must(t, s, path, "")
				items, _ := got.body["value"].([]any)
				if len(items) != want {
					t.Fatalf("page %d has %d items, want %d", i, len(items), want)
				}
				for _, each := range items {
					fields, _ := each.(map[string]any)
					if _, has := fields["value"]; has {
						t.Fatal("a list holds a value")
					}
					seen[fields["id"].(string)] = true
				}
				link, more := got.body["nextLink"].(string)
				if more != (i < len(pages)-1) {
					t.Fatalf("page %d: nextLink %q", i, link)
				}
				rest, is := strings.CutPrefix(link, "https://my-kv.vault.azure.net:443")
				if more && (!is || !strings.Contains(rest, "$skiptoken=") || strings.Contains(rest, "s24")) {
					t.Fatalf("the link is not opaque with an explicit port: %s", link)
				}
				if _, err := url.Parse(link); err != nil {
					t.Fatal(err)
				}
				path = "GET " + rest
			}
			if len(seen) != count+3 {
				t.Errorf("saw %d different secrets", len(seen))
			}
		})
	}
}

// What is added or deleted between pages neither repeats nor hides what stays.
func TestPagingWhileObjectsChange(t *testing.T) {
	t.Parallel()
	s := start(t)
	for i := range 30 {
		must(t, s, fmt.Sprintf("PUT /secrets/s%02d", i), `{"value":"v"}`)
	}
	first := must(t, s, "GET /secrets", "")
	must(t, s, "DELETE /secrets/s00", "")
	must(t, s, "PUT /secrets/aaa", `{"value":"v"}`)
	rest := strings.TrimPrefix(first.str("nextLink"), "https://my-kv.vault.azure.net:443")
	second := must(t, s, "GET "+rest, "")
	if items, _ := second.body["value"].([]any); len(items) != 33-25 {
		t.Errorf("the second page has %d items", len(items))
	}
}

func TestSecretLife(t *testing.T) {
	t.Parallel()
	s := start(t)
	v1 := must(t, s, "PUT /secrets/n", `{"value":"one"}`).str("id")
	v2 := must(t, s, "PUT /secrets/n", `{"value":"two"}`).str("id")
	if v1 == v2 {
		t.Fatal("two versions have one id")
	}
	if got := must(t, s, "GET /secrets/n", "").str("value"); got != "two" {
		t.Errorf("the newest is %q", got)
	}
	if got := must(t, s, "GET "+strings.TrimPrefix(v1, "https://my-kv.vault.azure.net"), "").str("value"); got != "one" {
		t.Errorf("the first version is %q", got)
	}
	patched := must(t, s, "PATCH /secrets/n", `{"attributes":{"enabled":false},"tags":{"x":"y"}}`)
	if _, has := patched.body["value"]; has {
		t.Error("an update answers with the value")
	}
	if got := ask(t, s, admin, "GET /secrets/n", ""); got.code() != "Forbidden/SecretDisabled" {
		t.Errorf("got %s", got.text)
	}
	gone := must(t, s, "DELETE /secrets/n", "")
	if gone.str("recoveryId") != "https://my-kv.vault.azure.net/deletedsecrets/n" || strings.Contains(gone.text, "two") {
		t.Errorf("got %s", gone.text)
	}
	if got := ask(t, s, admin, "GET /secrets/n", ""); got.status != 404 {
		t.Errorf("got %s", got.text)
	}
	if got := ask(t, s, admin, "PUT /secrets/n", `{"value":"x"}`); got.code() != "Conflict/ObjectIsDeletedButRecoverable" {
		t.Errorf("got %s", got.text)
	}
	must(t, s, "POST /deletedsecrets/n/recover", "")
	if got := must(t, s, "GET /secrets/n/versions", ""); strings.Count(got.text, `"id"`) != 2 {
		t.Errorf("got %s", got.text)
	}
	must(t, s, "DELETE /secrets/n", "")
	if got := must(t, s, "DELETE /deletedsecrets/n", ""); got.status != 204 || got.text != "" {
		t.Errorf("got %d %s", got.status, got.text)
	}
	must(t, s, "PUT /secrets/n", `{"value":"reborn"}`)
}

func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	s := start(t)
	blob := must(t, s, "POST /secrets/plain/backup", "").str("value")
	restore := `{"value":"` + blob + `"}`
	if got := ask(t, s, admin, "POST /secrets/restore", restore); got.status != 409 {
		t.Errorf("restoring over what is there: %s", got.text)
	}
	must(t, s, "DELETE /secrets/plain", "")
	must(t, s, "DELETE /deletedsecrets/plain", "")
	must(t, s, "POST /secrets/restore", restore)
	if got := must(t, s, "GET /secrets/plain", "").str("value"); got != "canary" {
		t.Errorf("got %q", got)
	}
	if got := ask(t, s, admin, "POST /keys/restore", restore); got.status != 400 {
		t.Errorf("a secret's backup restored as a key: %s", got.text)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault      seed.Fault
		status     int
		code       string
		retryAfter string
	}{
		"Throttle":      {seed.Fault{Kind: seed.FaultThrottle}, 429, "Throttled", ""},
		"ThrottleAfter": {seed.Fault{Kind: seed.FaultThrottle, RetryAfter: 7}, 429, "Throttled", "7"},
		"Error":         {seed.Fault{Kind: seed.FaultError}, 503, "ServiceUnavailable", ""},
		"Error500":      {seed.Fault{Kind: seed.FaultError, Status: 500}, 500, "InternalServerError", ""},
		"Firewall":      {seed.Fault{Kind: seed.FaultFirewall}, 403, "Forbidden/ForbiddenByFirewall", ""},
		"Forbid":        {seed.Fault{Kind: seed.FaultForbid}, 403, "Forbidden/ForbiddenByRbac", ""},
		"Latency":       {seed.Fault{Kind: seed.FaultLatency, Latency: 1}, 200, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			tc.fault.Count, tc.fault.Operations, tc.fault.Objects = 2, []string{"secrets/get"}, []string{"secrets/plain"}
			if err := s.SetFaults("my-kv", []seed.Fault{tc.fault}); err != nil {
				t.Fatal(err)
			}
			must(t, s, "GET /secrets", "")        // another operation
			must(t, s, "GET /secrets/future", "") // another object
			for range 2 {
				got := ask(t, s, admin, "GET /secrets/plain", "")
				if got.status != tc.status || got.code() != tc.code || got.header.Get("Retry-After") != tc.retryAfter {
					t.Errorf("got %d %s %v", got.status, got.text, got.header)
				}
			}
			must(t, s, "GET /secrets/plain", "") // used up
		})
	}
}

func TestRevokedTokens(t *testing.T) {
	t.Parallel()
	s := start(t)
	must(t, s, "GET /secrets/plain", "")
	if err := s.SetFaults("my-kv", []seed.Fault{{Kind: seed.FaultRevoke}}); err != nil {
		t.Fatal(err)
	}
	got := ask(t, s, admin, "GET /secrets/plain", "")
	if got.status != 401 || !strings.Contains(got.header.Get("WWW-Authenticate"), `error="insufficient_claims", claims="`) {
		t.Errorf("a token from before is accepted: %s", got.text)
	}
	if got := ask(t, s, reader, "GET /secrets/plain", ""); got.status != 200 {
		t.Errorf("a token from after is refused: %s", got.text)
	}
}

func TestCounters(t *testing.T) {
	t.Parallel()
	s := start(t)
	ask(t, s, "", "GET /secrets/plain", "")
	must(t, s, "GET /secrets/plain", "")
	must(t, s, "GET /secrets/plain", "")
	ask(t, s, admin, "GET policy-kv:/secrets/none", "")
	want := []keyvault.Count{
		{Vault: "my-kv", Operation: "challenge", Status: 401, Count: 1},
		{Vault: "my-kv", Operation: "secrets/get", Status: 200, Count: 2},
		{Vault: "policy-kv", Operation: "secrets/get", Status: 404, Count: 1},
	}
	if diff := cmp.Diff(want, s.Counters()); diff != "" {
		t.Error(diff)
	}
	s.ResetCounters()
	if got := s.Counters(); len(got) != 0 {
		t.Errorf("after a reset: %v", got)
	}
}

func FuzzRequests(f *testing.F) {
	for _, each := range []string{
		"PUT /secrets/n {\"value\":\"x\"}", "POST /certificates/n/import {\"value\":\"x\"}", "PUT /keys/n {\"key\":{\"kty\":\"EC\"}}",
		"POST /keys/n/sign {\"alg\":\"ES256\"}", "GET /secrets {}", "PATCH /certificates/n/policy {}", "POST /secrets/restore {\"value\":\"\"}",
	} {
		f.Add(each)
	}
	f.Fuzz(func(t *testing.T, in string) {
		parts := strings.SplitN(in, " ", 3)
		if len(parts) != 3 || strings.HasSuffix(parts[1], "/create") {
			t.Skip("not of the form: METHOD path body, or slow because it makes a key")
		}
		if _, err := url.ParseRequestURI("https://my-kv.vault.azure.net" + parts[1]); err != nil || strings.ContainsAny(parts[1], "?# \t\r\n:") {
			t.Skip("not a path")
		}
		for _, r := range parts[0] {
			if r < 'A' || r > 'Z' {
				t.Skip("not a method")
			}
		}
		if parts[0] == "" || !strings.HasPrefix(parts[1], "/") {
			t.Skip("not a request")
		}
		ask(t, start(t), admin, parts[0]+" "+parts[1], parts[2])
	})
}
