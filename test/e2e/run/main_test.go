// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lines are those of `go test -json`, of which "ACTION NAME" is enough here.
func lines(short ...string) string {
	var b strings.Builder
	for _, line := range short {
		action, test, _ := strings.Cut(line, " ")
		b.WriteString(`{"Action":"` + action + `","Test":"` + test + "\"}\n")
	}
	return b.String()
}

func TestFollowCountsStories(t *testing.T) {
	t.Parallel()
	for name, each := range map[string]struct {
		run  []string
		want tally
		good bool
	}{
		"Nothing":     {[]string{"pass "}, tally{}, false},
		"NoSuchStory": {[]string{"pass TestStories/Together/Injector", "pass TestStories/Together", "pass TestStories", "pass "}, tally{}, false},
		"NoSuchGroup": {[]string{"pass TestStories/Together", "pass TestStories", "pass "}, tally{}, false},
		"Stories": {[]string{
			"pass TestStories/Together/Injector/CommandGiven", "pass TestStories/Together/Injector", "pass TestStories/Together",
			"pass TestStories/Disruption/NoBroker", "skip TestStories/Canary/Etcd", "pass TestStories", "pass ",
		}, tally{passed: 2, skipped: 1}, true},
		"Failures": {[]string{"fail TestStories/Disruption/NoBroker", "fail TestStories/Disruption", "fail TestStories", "fail "}, tally{failed: 1}, false},
		"Skipped":  {[]string{"skip TestStories/Canary/Etcd", "pass TestStories", "pass "}, tally{skipped: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var shown bytes.Buffer
			got := follow(strings.NewReader(lines(each.run...)), &shown)
			if d := cmp.Diff(each.want, got, cmp.AllowUnexported(tally{})); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			if n := strings.Count(shown.String(), "\n"); n != got.all() {
				t.Errorf("%d lines for %d stories:\n%s", n, got.all(), shown.String())
			}
			if err := got.verdict("X"); (err == nil) != each.good || err != nil && !strings.Contains(err.Error(), "RUN=X") {
				t.Errorf("verdict %v", err)
			}
		})
	}
}
