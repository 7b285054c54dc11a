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
		if holds(word) {
			in.refuse("container %q: %s holds a placeholder, which is filled in env only: put it into a variable and let the program read that, or a shell (sh -c 'exec program \"$NAME\"')",
				t.Name, t.field(list, i))
		}
	}
}

// holds says whether a text has a placeholder in it, be it well-formed or not. A
// doubled at sign is the text itself.
func holds(text string) bool {
	return strings.Contains(strings.ReplaceAll(text, "@"+placeholder.Marker, ""), placeholder.Marker)
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
	var warnings []string
	more := 0
	walk(json.NewDecoder(bytes.NewReader(p.raw)), "", func(path, text string) {
		switch {
		case !holds(text) || covered.MatchString(path):
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

// walk visits each text of a JSON value with the path of its field. What is read
// has been read as a pod before, so it is neither malformed nor endlessly deep.
func walk(d *json.Decoder, path string, visit func(path, text string)) {
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
			walk(d, member(path, fmt.Sprint(key)), visit)
		}
		_, _ = d.Token()
	case json.Delim('['):
		for i := 0; d.More(); i++ {
			walk(d, path+"["+strconv.Itoa(i)+"]", visit)
		}
		_, _ = d.Token()
	default:
		if text, is := token.(string); is {
			visit(path, text)
		}
	}
}

// ordinary are the names of Kubernetes' own fields.
var ordinary = regexp.MustCompile(`\A[a-zA-Z][a-zA-Z0-9]{0,62}\z`)

// member writes a path as people do. A key that a person chose is quoted, and cut
// where no key of a label or annotation is as long.
func member(path, key string) string {
	switch {
	case !ordinary.MatchString(key):
		return path + "[" + strconv.Quote(key[:min(len(key), maxKey)]) + "]"
	case path == "":
		return key
	default:
		return path + "." + key
	}
}

// maxKey is a prefix of 253, a slash and a name of 63.
const maxKey = 253 + 1 + 63
