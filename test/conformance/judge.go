// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// exclusion is a line of the list.
type exclusion struct{ suite, test, how, reason string }

type exclusions []exclusion

func (e exclusions) of(suite string) []exclusion {
	return slices.DeleteFunc(slices.Clone(e), func(one exclusion) bool { return one.suite != suite })
}

func parseExclusions(text string) (exclusions, error) {
	var out exclusions
	for i, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 4 || fields[2] != "never" && fields[2] != "self" {
			return nil, fmt.Errorf("exclusions, line %d: not of the form: suite test never|self reason", i+1)
		}
		if fields[2] == "never" && strings.Contains(fields[1], "/") {
			return nil, fmt.Errorf("exclusions, line %d: only a whole test can never be run", i+1)
		}
		out = append(out, exclusion{fields[0], fields[1], fields[2], strings.Join(fields[3:], " ")})
	}
	return out, nil
}

// skipPattern matches the tests that are never run, and nothing when there are none.
func skipPattern(list []exclusion) string {
	names := []string{"-"}
	for _, one := range list {
		if one.how == "never" {
			names = append(names, regexp.QuoteMeta(one.test))
		}
	}
	return "^(" + strings.Join(names, "|") + ")$"
}

var resultLine = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): (\S+)`)

// parseResults reads what a test binary says with -test.v: name to PASS, FAIL or SKIP, without tests that only hold
// subtests.
func parseResults(said string) map[string]string {
	out := map[string]string{}
	for _, found := range resultLine.FindAllStringSubmatch(said, -1) {
		out[found[2]] = found[1]
	}
	for name := range maps.Clone(out) {
		for at := strings.LastIndex(name, "/"); at > 0; at = strings.LastIndex(name[:at], "/") {
			if out[name[:at]] != "FAIL" {
				delete(out, name[:at])
			}
		}
	}
	return out
}

// report is the outcome of a suite.
type report struct {
	passed   int
	failed   []string // with what is wrong
	excluded []exclusion
}

// judge compares results with exclusions; listed are the tests that the binary has.
func judge(results map[string]string, excluded []exclusion, listed []string) report {
	var out report
	isExcluded := map[string]bool{}
	for _, one := range excluded {
		isExcluded[one.test] = true
		switch {
		case one.how == "never" && !slices.Contains(listed, one.test):
			out.failed = append(out.failed, one.test+" is excluded and does not exist")
		case one.how == "self" && results[one.test] == "":
			out.failed = append(out.failed, one.test+" is excluded and does not exist")
		case one.how == "self" && results[one.test] != "SKIP":
			out.failed = append(out.failed, one.test+" is excluded but does not skip itself: "+results[one.test])
		default:
			out.excluded = append(out.excluded, one)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		switch {
		case isExcluded[name]:
		case results[name] == "PASS":
			out.passed++
		case results[name] == "SKIP":
			out.failed = append(out.failed, name+" was skipped without being excluded")
		default:
			out.failed = append(out.failed, name)
		}
	}
	if out.passed == 0 {
		out.failed = append(out.failed, "no test passed at all")
	}
	return out
}

func (r report) print(out io.Writer, suite string) {
	_, _ = fmt.Fprintf(out, "%s: %d passed, %d failed, %d excluded\n", suite, r.passed, len(r.failed), len(r.excluded))
	for _, name := range r.failed {
		_, _ = fmt.Fprintf(out, "  failed    %s\n", name)
	}
	for _, one := range r.excluded {
		_, _ = fmt.Fprintf(out, "  excluded  %-34s %s\n", one.test, one.reason)
	}
}
