// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
)

const said = `=== RUN   TestA
--- PASS: TestA (0.00s)
--- PASS: TestB (0.00s)
    --- PASS: TestB/one (0.00s)
    --- SKIP: TestB/two (0.00s)
--- FAIL: TestC (0.00s)
    --- PASS: TestC/one (0.00s)
`

func TestJudge(t *testing.T) {
	t.Parallel()
	two := exclusion{"s", "TestB/two", "self", "why"}
	for name, tc := range map[string]struct {
		excluded []exclusion
		failed   []string
		passed   int
	}{
		"SkipNeedsALine":   {nil, []string{"TestB/two was skipped without being excluded", "TestC"}, 3},
		"Excluded":         {[]exclusion{two}, []string{"TestC"}, 3},
		"NeverExists":      {[]exclusion{two, {"s", "TestD", "never", "why"}}, []string{"TestC"}, 3},
		"NeverIsGone":      {[]exclusion{two, {"s", "TestE", "never", "why"}}, []string{"TestE is excluded and does not exist", "TestC"}, 3},
		"SelfIsGone":       {[]exclusion{two, {"s", "TestE/x", "self", "why"}}, []string{"TestE/x is excluded and does not exist", "TestC"}, 3},
		"SelfNoLongerSkip": {[]exclusion{two, {"s", "TestB/one", "self", "why"}}, []string{"TestB/one is excluded but does not skip itself: PASS", "TestC"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := judge(parseResults(said), tc.excluded, []string{"TestA", "TestB", "TestC", "TestD"})
			if !slices.Equal(got.failed, tc.failed) || got.passed != tc.passed {
				t.Errorf("got %d passed, failed %q", got.passed, got.failed)
			}
		})
	}
}

func TestParseExclusionsRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"azkeys TestA never", "azkeys TestA maybe why", "azkeys TestA/b never why"} {
		if _, err := parseExclusions(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
