// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"strings"

	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// texts refuses what merely looks like a placeholder, and a placeholder that
// Kubernetes would copy elsewhere by $(VAR): the wrapper fills variables that
// are a placeholder from their first byte to their last, and nothing else.
func texts(in *injection) {
	for _, t := range in.targets {
		pending := in.envTexts(t)
		for i, text := range t.Command {
			in.argument(t, t.field("command", i), text, pending)
		}
		for i, text := range t.Args {
			in.argument(t, t.field("args", i), text, pending)
		}
		for i, m := range t.VolumeMounts {
			in.mountPath(t, t.field("volumeMounts", i)+".subPathExpr", m.SubPathExpr, pending)
		}
	}
}

// envTexts walks the variables in order, as the kubelet does: $(VAR) sees those
// before it, and a later one of the same name replaces an earlier one. It
// returns the variables that are placeholders in the end.
func (in *injection) envTexts(t target) map[string]bool {
	pending := map[string]bool{}
	for i, e := range t.Env {
		for _, name := range references(e.Value) {
			if pending[name] {
				in.refuse("container %q: %s uses $(%s), which is a placeholder and has no value yet: give the variable a placeholder of its own",
					t.Name, t.field("env", i)+".value", name)
			}
		}
		if placeholder.In(e.Value) {
			in.wellFormed(t, i)
		}
		pending[e.Name] = placeholder.In(e.Value)
	}
	return pending
}

func (in *injection) wellFormed(t target, i int) {
	if _, err := placeholder.Parse(t.Env[i].Value); err != nil {
		in.refuse("container %q: %s of variable %s holds %s but is not a placeholder: write NAME%s or NAME%s?QUERY and nothing else, where NAME is an AzureKeyVaultSecret of this namespace",
			t.Name, t.field("env", i)+".value", t.Env[i].Name, placeholder.Marker, placeholder.Marker, placeholder.Marker)
	}
}

func (in *injection) argument(t target, field, text string, pending map[string]bool) {
	for _, name := range references(text) {
		if pending[name] {
			in.refuse("container %q: %s uses $(%s), which is a placeholder and has no value when arguments are made: let the program read the variable, or a shell (sh -c 'exec program \"$%s\"')",
				t.Name, field, name, name)
		}
	}
}

func (in *injection) mountPath(t target, field, text string, pending map[string]bool) {
	for _, name := range references(text) {
		if pending[name] {
			in.refuse("container %q: %s uses $(%s), which is a placeholder and has no value when volumes are mounted: use another variable",
				t.Name, field, name)
		}
	}
}

// references lists the variables that Kubernetes replaces in a text: NAME of
// $(NAME). "$$" is a plain "$", whatever follows it.
func references(text string) []string {
	var names []string
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i+1 >= len(text) {
			return names
		}
		rest := text[i+2:]
		if text[i+1] == '(' {
			end := strings.IndexByte(rest, ')')
			if end < 0 {
				return names // nor does any later one end; looking again for each would take minutes
			}
			names, rest = append(names, rest[:end]), rest[end+1:]
		}
		text = rest
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
