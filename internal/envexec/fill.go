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
	return fmt.Sprintf("%s: the placeholder there is not among those that the pod was created with, which are all that it may have: "+
		"create the pod again if a ConfigMap or Secret has changed or come since; of what the image sets, repeat it in the container's env", list(e.names))
}

// malformedError names variables that hold what is nearly a placeholder.
type malformedError struct{ names []string }

func (e *malformedError) Error() string {
	return fmt.Sprintf("%s: %s", list(e.names), placeholder.ErrMalformed)
}

// nulError names variables whose value no environment can hold.
type nulError struct{ names []string }

func (e *nulError) Error() string {
	return fmt.Sprintf("the value for %s has a zero byte, which an environment variable cannot hold: "+
		"store it in the vault as text, base64 for example", list(e.names))
}

// filling is an environment in the making.
type filling struct {
	answer                   brokerapi.Response
	environ                  []string
	unfilled, malformed, nul []string
}

// fill puts each value where its placeholder is, and drops the wrapper's own
// variables. Order and duplicates stay. It goes by the texts as the kubelet has made
// them, with $(VAR) replaced; which values there may be was decided by the pod's spec.
func fill(environ []string, answer brokerapi.Response) ([]string, error) {
	f := filling{answer: answer, environ: make([]string, 0, len(environ))}
	for _, entry := range environ {
		if !strings.HasPrefix(entry, brokerapi.EnvPrefix) {
			f.add(entry)
		}
	}
	switch {
	case len(f.malformed) > 0:
		return nil, &malformedError{f.malformed}
	case len(f.unfilled) > 0:
		return nil, &unfilledError{f.unfilled}
	case len(f.nul) > 0:
		return nil, &nulError{f.nul}
	}
	return f.environ, nil
}

func (f *filling) add(entry string) {
	name, before, _ := strings.Cut(entry, "=")
	if !placeholder.In(before) {
		f.environ = append(f.environ, entry)
		return
	}
	text, err := placeholder.Read(before)
	if err != nil {
		f.malformed = append(f.malformed, name)
		return
	}
	if p, whole := text.Whole(); whole && p.Absence == placeholder.Omit && f.absent(p) {
		return
	}
	f.environ = append(f.environ, name+"="+text.Fill(func(p placeholder.Placeholder) string { return f.value(name, p) }))
}

// value is what goes in the place of a placeholder; where there is none, the name of
// the variable is noted.
func (f *filling) value(name string, p placeholder.Placeholder) string {
	value, ok := f.answer.Values[p.Key()]
	switch {
	case ok && bytes.IndexByte(value, 0) >= 0:
		f.nul = append(f.nul, name)
	case !ok && p.Absence != placeholder.Fail && f.absent(p):
		return p.Default
	case !ok:
		f.unfilled = append(f.unfilled, name)
	}
	return string(value)
}

func (f *filling) absent(p placeholder.Placeholder) bool {
	return slices.Contains(f.answer.Absent, p.Key())
}

// list is for people: sorted, each name once.
func list(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}
