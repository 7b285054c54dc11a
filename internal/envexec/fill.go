// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// unfilledError names variables that would reach the program as placeholders.
type unfilledError struct{ names []string }

func (e *unfilledError) Error() string {
	return fmt.Sprintf("the broker gave no value for the placeholder in %s: "+
		"it fills what the container's own env lists in the pod's spec, as literal values", list(e.names))
}

// nulError names variables whose value no environment can hold.
type nulError struct{ names []string }

func (e *nulError) Error() string {
	return fmt.Sprintf("the value for %s has a zero byte, which an environment variable cannot hold: "+
		"store it in the vault as text, base64 for example", list(e.names))
}

// fill puts each value where its placeholder is, and drops the wrapper's own
// variables. Order and duplicates stay; a value that is no placeholder stays
// even where the broker answered its name, because the runtime's word on a
// variable is later than the pod's spec.
func fill(environ []string, values map[string][]byte) ([]string, error) {
	out := make([]string, 0, len(environ))
	var unfilled, nul []string
	for _, entry := range environ {
		if strings.HasPrefix(entry, brokerapi.EnvPrefix) {
			continue
		}
		name, text, _ := strings.Cut(entry, "=")
		if _, err := placeholder.Parse(text); err != nil {
			out = append(out, entry)
			continue
		}
		value, ok := values[name]
		switch {
		case !ok:
			unfilled = append(unfilled, name)
		case bytes.IndexByte(value, 0) >= 0:
			nul = append(nul, name)
		default:
			out = append(out, name+"="+string(value))
		}
	}
	if len(unfilled) > 0 {
		return nil, &unfilledError{names: unfilled}
	}
	if len(nul) > 0 {
		return nil, &nulError{names: nul}
	}
	return out, nil
}

// list is for people: sorted, each name once.
func list(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}
