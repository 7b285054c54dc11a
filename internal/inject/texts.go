// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// texts looks at whatever Kubernetes makes with variables that hold placeholders. In
// another variable, $(VAR) becomes the placeholder's inline form, which the wrapper
// fills; in an argument the path of a file, which is known; anywhere else the placeholder
// itself would arrive.
func texts(in *injection) {
	for i := range in.targets {
		t := &in.targets[i]
		pending := in.envTexts(*t)
		own := *t.Container // the pod is not ours to change
		own.Command, own.Args = in.arguments(*t, "command", t.Command, pending), in.arguments(*t, "args", t.Args, pending)
		t.Container = &own
		for i, m := range t.VolumeMounts {
			in.mountPath(*t, t.field("volumeMounts", i)+".subPathExpr", m.SubPathExpr, pending)
		}
		for _, h := range t.handlers() {
			for i, text := range h.command {
				in.argument(*t, fmt.Sprintf("the command of %s, text %d,", h.name, i), text, pending)
			}
		}
	}
}

// pending are the variables that hold placeholders, by name, with the text that stands
// for one in another variable: the inline form of one that is a placeholder throughout,
// and nothing for others, because the kubelet's own replacement is right for those.
type pending map[string]string

// unspeakable stands for a placeholder whose default is in a Secret: no text can be made
// with it that would not show that.
const unspeakable = "\x00"

// envTexts walks the variables in order, as the kubelet does: $(VAR) sees those
// before it, and a later one of the same name replaces an earlier one. It
// returns the variables that hold placeholders in the end.
func (in *injection) envTexts(t target) pending {
	p := pending{}
	for i := range t.variables {
		v := &t.variables[i]
		if v.missing {
			continue
		}
		if v.literal() {
			in.unspeakable(p, t, *v)
		}
		if text, replaced := p.inlined(v.text); replaced && v.literal() {
			v.text = text
			in.replaceVariable(t, v.at, corev1.EnvVar{Name: v.name, Value: text})
		}
		in.remember(p, t, *v)
	}
	return p
}

// remember notes a variable, and refuses a text that cannot be read.
func (in *injection) remember(p pending, t target, v variable) {
	copied := v.literal() && slices.ContainsFunc(references(v.text), p.has) // by the kubelet
	delete(p, v.name)
	if !placeholder.In(v.text) {
		if copied {
			p[v.name] = ""
		}
		return
	}
	read, err := placeholder.Read(v.text)
	if err != nil {
		in.refuse("container %q: %s: %s", t.Name, v.where(t), err)
	}
	switch whole, is := read.Whole(); {
	case is && v.stays():
		p[v.name] = unspeakable
	case is:
		p[v.name] = whole.Inline()
	default:
		p[v.name] = ""
	}
}

func (in *injection) unspeakable(p pending, t target, v variable) {
	for _, name := range references(v.text) {
		if p[name] == unspeakable {
			in.refuse("container %q: %s uses $(%s), a placeholder whose default is in a Secret and would be seen: give the variable a placeholder of its own", t.Name, v.where(t), name)
		}
	}
}

func (p pending) has(name string) bool { _, is := p[name]; return is }

// where names the place of the variable's text, for the person who can change it.
func (v variable) where(t target) string {
	if v.literal() {
		return t.field("env", v.at) + ".value of variable " + v.name
	}
	if v.source.Kind == annotation {
		return fmt.Sprintf("variable %s from annotation %s", v.name, v.key)
	}
	return fmt.Sprintf("variable %s from key %s of %s %s", v.name, v.key, v.source.Kind, v.source.Name)
}

// inlined replaces the references that have a text of their own for it.
func (p pending) inlined(text string) (string, bool) {
	by := func(name string) (string, bool) { return p[name], p[name] != "" && p[name] != unspeakable }
	if !slices.ContainsFunc(references(text), func(name string) bool { _, is := by(name); return is }) {
		return text, false
	}
	return replaceReferences(text, by), true
}

// arguments have the path of its file for each reference to a variable that is one.
func (in *injection) arguments(t target, list string, texts []string, p pending) []string {
	out := slices.Clone(texts)
	for i, text := range out {
		out[i] = replaceReferences(text, p.path)
		in.argument(t, t.field(list, i), out[i], p)
	}
	if t.wrapped() && !slices.Equal(out, texts) { // else it becomes a part of what the wrapper runs
		in.set(t.path(list), out)
	}
	return out
}

// path is that of the file which a variable names in any case, and names alone.
func (p pending) path(name string) (string, bool) {
	text, _ := placeholder.Read(p[name])
	list := text.Placeholders()
	if len(list) != 1 || list[0].Form == placeholder.InText || list[0].Absence == placeholder.Omit {
		return "", false
	}
	return brokerapi.FilesDir + "/" + list[0].Path(), true
}

func (in *injection) argument(t target, field, text string, p pending) {
	for _, name := range references(text) {
		if p.has(name) {
			in.refuse("container %q: %s uses $(%s), which holds a placeholder and has no value when arguments are made: let the program read the variable or a file, or use a shell (sh -c 'exec program \"$%s\"')",
				t.Name, field, name, name)
		}
	}
}

func (in *injection) mountPath(t target, field, text string, p pending) {
	for _, name := range references(text) {
		if p.has(name) {
			in.refuse("container %q: %s uses $(%s), which holds a placeholder and has no value when volumes are mounted: use another variable",
				t.Name, field, name)
		}
	}
}

// references lists the variables that Kubernetes replaces in a text: NAME of
// $(NAME). "$$" is a plain "$", whatever follows it.
func references(text string) []string {
	var names []string
	replaceReferences(text, func(name string) (string, bool) {
		names = append(names, name)
		return "", false
	})
	return names
}

// replaceReferences replaces those references for which by has a text.
func replaceReferences(text string, by func(name string) (string, bool)) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i+1 >= len(text) {
			b.WriteString(text)
			return b.String()
		}
		end := i + 2 // "$$", or "$" and what it does not concern
		if text[i+1] == '(' {
			n := strings.IndexByte(text[end:], ')')
			if n < 0 { // nor does any later one end; looking again for each would take minutes
				b.WriteString(text)
				return b.String()
			}
			end += n + 1
			if with, is := by(text[i+2 : end-1]); is {
				b.WriteString(text[:i] + with)
				text = text[end:]
				continue
			}
		}
		b.WriteString(text[:end])
		text = text[end:]
	}
}

// escape writes a text so that Kubernetes' replacement gives it back unchanged.
// A single "$" is left alone unless it begins something, so that a shell's
// variables in an image's command stay readable.
func escape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		run := len(text[i:]) - len(strings.TrimLeft(text[i:], "$"))
		if run == 0 {
			b.WriteByte(text[i])
			i++
			continue
		}
		i += run
		if run > 1 || strings.HasPrefix(text[i:], "(") {
			run *= 2
		}
		b.WriteString(strings.Repeat("$", run))
	}
	return b.String()
}
