// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// line is the one audit line of a request.
func (s *stage) line(t *testing.T) map[string]any {
	t.Helper()
	var found map[string]any
	for text := range strings.Lines(s.log.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		if line["msg"] != "request" {
			continue
		}
		if found != nil {
			t.Fatalf("two lines:\n%s", s.log)
		}
		found = line
	}
	if found == nil {
		t.Fatal("no line")
	}
	for _, key := range []string{"time", "duration"} {
		if found[key] == "" || found[key] == nil {
			t.Errorf("no %s", key)
		}
		delete(found, key)
	}
	return found
}

type members = map[string]any

// audited is a line with its usual words, changed.
func audited(changes members) members {
	line := members{
		"level": "WARN", "msg": "request", "result": "", "rule": "", "reason": []any{}, "source": "127.0.0.1",
		"namespace": "", "serviceAccount": "", "pod": "", "podUID": "", "container": "",
		"azureKeyVaultSecrets": []any{}, "objects": []any{}, "placeholders": 0.0, "requests": 1.0,
	}
	maps.Copy(line, changes)
	return line
}

func known(changes members) members {
	line := members{"namespace": "team", "serviceAccount": "web-account", "pod": "web", "podUID": "web-uid"}
	maps.Copy(line, changes)
	return audited(line)
}

// Each answer has one line, which says who asked for what and how it ended.
func TestAudit(t *testing.T) {
	version := strings.Repeat("0", 31) + "1"
	object := func(secret, kind, name string) members {
		return members{"azureKeyVaultSecret": secret, "vault": "my-kv", "kind": kind, "object": name, "version": version}
	}
	private := object("tls", "certificate", "tls")
	private["privateKey"] = true
	broken := object("db", "secret", "db")
	broken["version"], broken["reason"] = "", "VaultForbidden"
	claim := members{"namespace": "team", "serviceAccount": "web-account", "pod": "web", "podUID": "web-uid"}
	for name, tc := range map[string]struct {
		prepare func(*stage)
		ask     func(*testing.T, *stage)
		want    members
	}{
		"Answered": {nil, asking("good", "app"), known(members{
			"level": "INFO", "result": "answered", "rule": "OwnPod", "container": "app", "placeholders": 4.0,
			"azureKeyVaultSecrets": []any{"db", "tls"}, "objects": []any{object("db", "secret", "db"), object("tls", "certificate", "tls"), private},
		})},
		"Nothing": {nil, asking("good", "idle"), known(members{"level": "INFO", "result": "answered", "rule": "OwnPod", "container": "idle"})},
		"Refused": {func(s *stage) { s.vault.Fail(vault.Reference{}, vault.ErrForbidden) }, asking("good", "init"), known(members{
			"result": "refused", "rule": "OwnPod", "reason": []any{"VaultForbidden"}, "container": "init", "placeholders": 1.0,
			"azureKeyVaultSecrets": []any{"db"}, "objects": []any{broken},
		})},
		"NoSuchSecret": {nil, asking("good", "foreign"), known(members{
			"result": "refused", "rule": "OwnPod", "reason": []any{"AzureKeyVaultSecretNotFound"}, "container": "foreign", "placeholders": 1.0,
			"azureKeyVaultSecrets": []any{"theirs"},
		})},
		"Denied":      {nil, asking("good", "nosuch"), known(members{"result": "denied", "rule": "NoSuchContainer", "container": "nosuch"})},
		"Rejected":    {nil, asking("bad", "app"), audited(members{"result": "unauthenticated", "rule": "TokenRejected", "container": "app", "claimed": claim})},
		"Screened":    {nil, asking("good", "app", func(c members) { c["exp"] = 1 }), audited(members{"result": "unauthenticated", "rule": "TokenExpired", "container": "app", "claimed": claim})},
		"NoToken":     {nil, sending("", "{}"), audited(members{"result": "unauthenticated", "rule": "TokenMalformed"})},
		"BadRequest":  {nil, sending("Bearer "+token("good"), "x"), audited(members{"result": "bad_request"})},
		"NoReview":    {func(s *stage) { s.fail["TokenReview"] = errBoom }, asking("good", "app"), audited(members{"result": "unavailable", "container": "app", "claimed": claim})},
		"NoPod":       {func(s *stage) { s.fail["Pod"] = errBoom }, asking("good", "app"), known(members{"result": "unavailable", "container": "app"})},
		"PanicInside": {func(s *stage) { s.fail["Pod"] = panicking{} }, asking("good", "app"), audited(members{"result": "failed"})},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			if tc.prepare != nil {
				tc.prepare(s)
			}
			tc.ask(t, s)
			if d := cmp.Diff(tc.want, s.line(t)); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func asking(name, container string, change ...func(members)) func(*testing.T, *stage) {
	return sending("Bearer "+token(name, change...), `{"container":"`+container+`"}`)
}

func sending(authorization, body string) func(*testing.T, *stage) {
	return func(t *testing.T, s *stage) {
		t.Helper()
		s.send(t, http.MethodPost, authorization, body)
	}
}

// The page about the audit has a row for each key, and one for each rule and result.
func TestAuditPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Za-z_.]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		rows = append(rows, m[1])
	}
	want := []string{"time", "duration", "claimed"}
	want = slices.AppendSeq(want, maps.Keys(audited(nil)))
	want = append(want, namesOf(t, "outcome.go", `result\w+ +result = "(\w+)"`)...)
	want = append(want, namesOf(t, "../grant/grant.go", `Rule\w+ +Rule = "(\w+)"`)...)
	slices.Sort(want)
	slices.Sort(rows)
	if d := cmp.Diff(want, rows); d != "" {
		t.Errorf("the line and docs/audit.md differ, -line +page\n%s", d)
	}
}

func namesOf(t *testing.T, file, pattern string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	if len(names) < 5 {
		t.Fatalf("%s: the test looks in the wrong place", file)
	}
	return names
}
