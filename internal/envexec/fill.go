// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"bytes"
	"fmt"
	"path"
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
		"ask for a file of it (NAME@azurekeyvault;file), or store it in the vault as text, base64 for example", list(e.names))
}

// filling is an environment in the making.
type filling struct {
	answer                   brokerapi.Response
	environ                  []string
	root                     string // of the files
	files                    files
	clash                    error
	unfilled, malformed, nul []string
}

// fill puts each value where its placeholder is, or the path of its file below root,
// and drops the wrapper's own variables. Order and duplicates stay. It goes by the texts
// as the kubelet has made them, with $(VAR) replaced; which values there may be was
// decided by the pod's spec.
func fill(environ []string, answer brokerapi.Response, root string) ([]string, files, error) {
	f := filling{answer: answer, root: root, environ: make([]string, 0, len(environ))}
	for _, entry := range environ {
		if !strings.HasPrefix(entry, brokerapi.EnvPrefix) {
			f.add(entry)
		}
	}
	switch {
	case len(f.malformed) > 0:
		return nil, files{}, &malformedError{f.malformed}
	case len(f.unfilled) > 0:
		return nil, files{}, &unfilledError{f.unfilled}
	case f.clash != nil:
		return nil, files{}, f.clash
	case len(f.nul) > 0:
		return nil, files{}, &nulError{f.nul}
	}
	return f.environ, f.files, nil
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
	for _, p := range text.Placeholders() {
		f.files.asked = f.files.asked || p.Form != placeholder.InText
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
	entries, several := f.answer.Directories[p.Key()]
	switch there := ok || several; {
	case !there && p.Absence == placeholder.Omit && f.absent(p):
		return ""
	case !there && p.Absence == placeholder.Default && f.absent(p):
		value = []byte(p.Default)
	case !there:
		f.unfilled = append(f.unfilled, name)
		return ""
	}
	switch {
	case p.Form == placeholder.Directory:
		return f.put(name, p, entries)
	case p.Form == placeholder.File:
		return f.put(name, p, map[string][]byte{path.Base(p.Path()): value})
	case bytes.IndexByte(value, 0) >= 0:
		f.nul = append(f.nul, name)
	}
	return string(value)
}

// put is the path that goes in the place of a placeholder.
func (f *filling) put(name string, p placeholder.Placeholder, entries map[string][]byte) string {
	if err := f.files.add(name, p, entries); err != nil && f.clash == nil {
		f.clash = err
	}
	return f.root + "/" + p.Path()
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
