// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"strings"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
	"github.com/akv2k8s/akv2k8s/internal/render"
)

// Report says what was decided, for people.
type Report struct {
	Delivery   Delivery // that of this pod, never DeliveryAuto
	Containers []Container
	Warnings   []string // sentences
}

// Container is one that will be filled.
type Container struct {
	Name      string
	FromImage bool // its command came from the image
	Variables []Variable
}

// Variable is one that will be filled.
type Variable struct {
	Name         string
	Placeholders []string // as they are written, but for their defaults
}

// String writes a line per container, variable and warning.
func (r Report) String() string {
	var b strings.Builder
	for _, c := range r.Containers {
		from := "pod"
		if c.FromImage {
			from = "image"
		}
		fmt.Fprintf(&b, "container %s, command from the %s\n", c.Name, from)
		for _, v := range c.Variables {
			fmt.Fprintf(&b, "  %s from %s\n", v.Name, strings.Join(v.Placeholders, " and "))
		}
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}

// shown bounds how many problems one message tells, maxProblem the bytes of each.
const (
	shown      = 5
	maxProblem = 2 << 10
)

// Refusal says why a pod must not be created as it is. Its text is for the
// person who applied the pod and quotes names and field paths only: a text that
// is not quite a placeholder may hold a password.
type Refusal struct{ Problems []string }

func (r Refusal) Error() string {
	var words []string
	for _, p := range r.Problems[:min(len(r.Problems), shown)] {
		words = append(words, strings.ToValidUTF8(p[:min(len(p), maxProblem)], "")) // a name may have any length
	}
	text := strings.Join(words, "; ")
	if more := len(r.Problems) - shown; more > 0 {
		text += fmt.Sprintf("; and %d more problems of this kind", more)
	}
	return text
}

// leftAlone tells of placeholders that stay what they are because somebody wants it.
func (in *injection) leftAlone() {
	for _, t := range in.all {
		if in.annotations[AnnotationInject+t.Name] == "false" && hasPlaceholder(*t.Container) {
			in.warn("container %q starts with its placeholders as they are: annotation %s says so", t.Name, AnnotationInject+t.Name)
		}
	}
}

// doubts tell what will keep a container from starting, but may be put right before it
// does.
func (in *injection) doubts() {
	for _, t := range in.targets {
		if in.annotations[AnnotationCoreDumps+t.Name] != "" {
			in.warn("container %q may dump its memory, values and all, to the node's disk: annotation %s allows it", t.Name, AnnotationCoreDumps+t.Name)
		}
		for _, v := range t.variables {
			if v.name == envDisableAuth && in.settings.Direct == nil {
				in.warn("container %q: %s has no effect, values come from the broker: the namespace, not the container, chooses otherwise (label env-injector.spv.no/auth: direct)", t.Name, v.name)
			}
			if v.missing {
				in.warn("container %q: %s: create the pod again if a placeholder comes to be there, or the container will not start", t.Name, v.lack())
			}
			text, _ := placeholder.Read(v.text)
			for _, ph := range text.Placeholders() {
				in.doubt(t.Name, v.name, ph)
			}
		}
	}
}

// lack says what does not exist yet.
func (v variable) lack() string {
	if v.key == "" {
		return fmt.Sprintf("there is no %s %s yet", v.source.Kind, v.source.Name)
	}
	return fmt.Sprintf("there is no key %s in a %s %s yet", v.key, v.source.Kind, v.source.Name)
}

// doubt is at most one warning about one placeholder.
func (in *injection) doubt(container, variable string, ph placeholder.Placeholder) {
	akvs, known := in.facts.Secrets[ph.Name]
	if !known {
		return
	}
	where := fmt.Sprintf("container %q, variable %s, placeholder %s: ", container, variable, ph.Key())
	if akvs == nil {
		if ph.Absence == placeholder.Fail {
			in.warn("%snamespace %q has no AzureKeyVaultSecret of this name yet; the container cannot start without it", where, in.facts.Namespace)
		}
		return
	}
	if err := renderable(akvs.Spec, ph); err != nil {
		in.warn("%s%v; the container cannot start with it", where, err)
	}
}

func renderable(spec v2beta1.AzureKeyVaultSecretSpec, ph placeholder.Placeholder) error {
	if ph.Form == placeholder.Directory {
		_, err := render.DirectoryReference(spec)
		return err
	}
	_, err := render.EnvReference(spec, ph.Query)
	return err
}

// envDisableAuth asked the original to use credentials of the container's own.
const envDisableAuth = brokerapi.EnvPrefix + "DISABLE_AUTH_SERVICE"
