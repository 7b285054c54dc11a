// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// SourceKind is what a Source is.
type SourceKind string

// The kinds of Source.
const (
	ConfigMap SourceKind = "ConfigMap"
	Secret    SourceKind = "Secret"
	// annotation is one of the pod's own: nobody needs to be asked.
	annotation SourceKind = "annotation"
)

// Source is an object of the pod's namespace that a container's env or envFrom takes
// texts from.
type Source struct {
	Kind SourceKind
	Name string
}

// Sources are the texts of sources by key; one without a placeholder may be left empty. A nil entry was looked for and does not
// exist; a source without entry was not looked for, and nothing is known of it.
type Sources map[Source]map[string]string

// Sources lists those of the pod's containers, each once, in the order in which they
// appear. Containers that are opted out do not count.
func (p *Pod) Sources() []Source {
	var list []Source
	seen := map[Source]bool{}
	add := func(s Source, is bool) {
		if is && !seen[s] && len(validation.IsDNS1123Subdomain(s.Name)) == 0 { // the API server refuses others
			seen[s] = true
			list = append(list, s)
		}
	}
	for _, t := range p.candidates() {
		for _, from := range t.EnvFrom {
			add(everyKey(from))
		}
		for _, e := range t.Env {
			s, _, is := oneKey(e)
			add(s, is)
		}
	}
	return list
}

// Learn completes the pod with what its sources hold.
func (p *Pod) Learn(found Sources) {
	if len(found) > 0 {
		p.sources = found
		p.found = p.look()
	}
}

func everyKey(from corev1.EnvFromSource) (Source, bool) {
	switch {
	case from.ConfigMapRef != nil:
		return Source{ConfigMap, from.ConfigMapRef.Name}, true
	case from.SecretRef != nil:
		return Source{Secret, from.SecretRef.Name}, true
	default:
		return Source{}, false
	}
}

func oneKey(e corev1.EnvVar) (Source, string, bool) {
	switch from := e.ValueFrom; {
	case from == nil || e.Value != "": // the kubelet prefers the value
		return Source{}, "", false
	case from.ConfigMapKeyRef != nil:
		return Source{ConfigMap, from.ConfigMapKeyRef.Name}, from.ConfigMapKeyRef.Key, true
	case from.SecretKeyRef != nil:
		return Source{Secret, from.SecretKeyRef.Name}, from.SecretKeyRef.Key, true
	default:
		return Source{}, "", false
	}
}

// annotationOf is the annotation of the pod that a variable takes its text from.
func annotationOf(e corev1.EnvVar) (string, bool) {
	if e.Value != "" || e.ValueFrom == nil || e.ValueFrom.FieldRef == nil {
		return "", false
	}
	key, is := strings.CutPrefix(e.ValueFrom.FieldRef.FieldPath, "metadata.annotations['")
	key, ends := strings.CutSuffix(key, "']")
	return key, is && ends
}

// variable is one that the kubelet gives to a container, as far as admission knows it.
type variable struct {
	name string
	// text as env[].value would have it: in the kubelet's eyes a source's text holds
	// no references, so its dollar signs are escaped.
	text    string
	at      int // its index in env; envFrom has none
	source  Source
	key     string // of the source
	missing bool   // the source or the key does not exist as yet
	// shadowed is one of envFrom that env replaces: the kubelet still replaces
	// references to it that come first.
	shadowed bool
}

const inEnvFrom = -1

func (v variable) literal() bool { return v.source == Source{} }

// variables lists a container's in the order in which the kubelet makes them: those of
// envFrom with placeholders, of which a later source replaces an earlier one and env
// replaces both, then those of env.
func (p *Pod) variables(c *corev1.Container) []variable {
	own := map[string]bool{}
	for _, e := range c.Env {
		own[e.Name] = true
	}
	withPlaceholder := map[string]variable{}
	var list []variable
	for _, from := range c.EnvFrom {
		s, is := everyKey(from)
		data, known := p.sources[s]
		if !is || !known {
			continue
		}
		if data == nil {
			list = append(list, variable{at: inEnvFrom, source: s, missing: true})
		}
		for key, text := range data {
			switch name := from.Prefix + key; {
			case placeholder.In(text):
				withPlaceholder[name] = variable{name: name, text: escape(text), at: inEnvFrom, source: s, key: key, shadowed: own[name]}
			case len(withPlaceholder) > 0:
				delete(withPlaceholder, name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(withPlaceholder)) {
		list = append(list, withPlaceholder[name])
	}
	for i, e := range c.Env {
		list = append(list, p.variable(e, i))
	}
	return list
}

func (p *Pod) variable(e corev1.EnvVar, at int) variable {
	v := variable{name: e.Name, text: e.Value, at: at}
	if key, is := annotationOf(e); is {
		v.text, v.source, v.key = escape(p.object.Annotations[key]), Source{Kind: annotation}, key
		return v
	}
	s, key, is := oneKey(e)
	data, known := p.sources[s]
	if !is || !known {
		return v
	}
	text, there := data[key]
	v.text, v.source, v.key, v.missing = escape(text), s, key, !there
	return v
}

// concerns says that the container must run the wrapper because of the variable: for
// its placeholder, or because nobody knows what will be in it when the container starts.
func (v variable) concerns() bool { return v.missing || placeholder.In(v.text) }

// sources writes what was found behind references into the pod's own env, so that the
// pod's spec, which cannot change, lists all that the pod may ask for.
//
// A text of a Secret that has more in it than a placeholder stays where it is, because
// the rest of it may be secret too; only its placeholders are written, under a name of
// ours.
func sources(in *injection) {
	written := 0
	for _, t := range in.targets {
		listed, declared := t.listed(), map[string]string{}
		for _, v := range t.variables {
			if v.literal() || v.missing || !placeholder.In(v.text) {
				continue
			}
			if written += len(v.name) + len(v.text); written > maxWritten {
				in.refuse("what the ConfigMaps and Secrets behind the env and envFrom of its containers hold in placeholders is more than a pod can: container %q is one of those", t.Name)
				return
			}
			switch {
			case v.shadowed:
				declared[v.name] += v.declaration(listed)
			case v.stays(), v.at == inEnvFrom && len(validation.IsEnvVarName(v.name)) > 0: // before 1.32 no pod may name it
				declared[v.name] += v.declaration(nil)
			case v.at == inEnvFrom:
				in.grow(t.path("env"), t.Env != nil, corev1.EnvVar{Name: v.name, Value: v.text})
			default:
				in.replaceVariable(t, v.at, corev1.EnvVar{Name: v.name, Value: v.text})
			}
		}
		for _, name := range slices.Sorted(maps.Keys(declared)) {
			if text := declared[name]; text != "" {
				in.variable(t, corev1.EnvVar{Name: brokerapi.EnvFor + name, Value: text})
			}
		}
	}
}

// maxWritten bounds the patch. A pod of more than 1.5 MiB cannot be stored.
const maxWritten = 1 << 20

// stays says that the text must not be written into the pod: it is a Secret's, and
// there is more in it than what it asks for.
func (v variable) stays() bool {
	text, _ := placeholder.Read(v.text)
	p, whole := text.Whole()
	return v.source.Kind == Secret && (!whole || p.Default != "")
}

// listed are the keys of the placeholders that the container's env lists under the
// variables' own names, once it is injected.
func (t target) listed() map[string]bool {
	keys := map[string]bool{}
	for _, v := range t.variables {
		if v.shadowed || v.stays() || strings.HasPrefix(v.name, brokerapi.EnvFor) {
			continue
		}
		text, _ := placeholder.Read(v.text)
		for _, p := range text.Placeholders() {
			keys[p.Key()] = true
		}
	}
	return keys
}

// declaration writes the text's placeholders, but for those listed, without what is
// around them.
func (v variable) declaration(listed map[string]bool) string {
	text, _ := placeholder.Read(v.text)
	var b strings.Builder
	for _, p := range text.Placeholders() {
		if !listed[p.Key()] {
			p.Default = ""
			b.WriteString(p.Inline())
		}
	}
	return b.String()
}
