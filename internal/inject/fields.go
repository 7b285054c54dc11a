// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// fields tells of placeholders where nothing fills them. In a command or its
// arguments that is refused: a program would take the placeholder for its
// password. Elsewhere it is a warning: what the text does there is not ours to
// know, and the API server refuses most of it.
func fields(in *injection) {
	for _, t := range in.facts.Pod.candidates() {
		if !t.wrapped() { // else its arguments were looked at before, and the image's are among them
			in.words(t, "command", t.Command)
			in.words(t, "args", t.Args)
		}
	}
	in.report.Warnings = append(in.report.Warnings, in.facts.Pod.elsewhere()...)
}

func (in *injection) words(t target, list string, words []string) {
	for i, word := range words {
		if placeholder.In(word) { // nor is a doubled at sign undone there
			in.refuse("container %q: %s holds a placeholder, which is filled in env only: put it into a variable and let the program read that, or a shell (sh -c 'exec program \"$NAME\"')",
				t.Name, t.field(list, i))
		}
	}
}

// covered are the fields that other steps look at, and those that repeat what the
// pod says elsewhere.
var covered = regexp.MustCompile(`\Aspec\.(initContainers|containers)\[\d+\]\.(env\[\d+\]\.value|command\[\d+\]|args\[\d+\])\z` +
	`|\Ametadata\.(managedFields\[|annotations\["kubectl\.kubernetes\.io/last-applied-configuration"\]\z)` +
	`|\Astatus\.`)

// elsewhere warns of placeholders in all other fields, those that these types do
// not know among them. It reads the pod word by word: one of 3 MiB would take a
// hundred as a tree.
func (p *Pod) elsewhere() []string {
	if bytes.Count(p.raw, []byte(placeholder.Marker)) == p.expected() {
		return nil
	}
	used := p.annotationsUsed()
	var warnings []string
	more := 0
	walk(json.NewDecoder(bytes.NewReader(p.raw)), nil, func(parts []string, text string) {
		if !placeholder.Meant(text) {
			return
		}
		switch path := strings.TrimPrefix(strings.Join(parts, ""), "."); {
		case covered.MatchString(path), used[path]:
		case len(warnings) < shown:
			warnings = append(warnings, path+" holds a placeholder, which is filled in the env of containers only: here it stays as it is")
		default:
			more++
		}
	})
	if more > 0 {
		warnings = append(warnings, fmt.Sprintf("so do %d more fields", more))
	}
	return warnings
}

// annotationsUsed are the paths of those that variables take their texts from.
func (p *Pod) annotationsUsed() map[string]bool {
	used := map[string]bool{}
	for _, t := range p.all() {
		for _, e := range t.Env {
			if key, is := annotationOf(e); is {
				used["metadata.annotations"+member(key)] = true
			}
		}
	}
	return used
}

// expected counts the markers where the other steps look.
func (p *Pod) expected() int {
	n := 0
	count := func(text string) { n += strings.Count(text, placeholder.Marker) }
	for _, t := range p.all() {
		for _, e := range t.Env {
			count(e.Value)
		}
		for _, word := range t.Command {
			count(word)
		}
		for _, word := range t.Args {
			count(word)
		}
	}
	return n
}

// walk visits each text of a JSON value with the parts of its field's path. What is
// read has been read as a pod before, so it is neither malformed nor endlessly deep.
// The parts are joined by who needs them: of deep values the paths alone would fill the
// memory.
func walk(d *json.Decoder, parts []string, visit func(parts []string, text string)) {
	token, err := d.Token()
	if err != nil {
		return
	}
	switch token {
	case json.Delim('{'):
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return
			}
			walk(d, append(parts, member(fmt.Sprint(key))), visit)
		}
		_, _ = d.Token()
	case json.Delim('['):
		for i := 0; d.More(); i++ {
			walk(d, append(parts, "["+strconv.Itoa(i)+"]"), visit)
		}
		_, _ = d.Token()
	default:
		if text, is := token.(string); is {
			visit(parts, text)
		}
	}
}

// ordinary are the names of Kubernetes' own fields.
var ordinary = regexp.MustCompile(`\A[a-zA-Z][a-zA-Z0-9]{0,62}\z`)

// member is a part of a path as people write it. A key that a person chose is quoted,
// and cut where no key of a label or annotation is as long.
func member(key string) string {
	if !ordinary.MatchString(key) {
		return "[" + strconv.Quote(key[:min(len(key), maxKey)]) + "]"
	}
	return "." + key
}

// maxKey is a prefix of 253, a slash and a name of 63.
const maxKey = 253 + 1 + 63
