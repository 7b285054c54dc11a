// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"strings"

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
type Variable struct{ Name, Placeholder string }

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
			fmt.Fprintf(&b, "  %s from %s\n", v.Name, v.Placeholder)
		}
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}

// shown bounds how many problems one message tells.
const shown = 5

// Refusal says why a pod must not be created as it is. Its text is for the
// person who applied the pod and quotes names and field paths only: a text that
// is not quite a placeholder may hold a password.
type Refusal struct{ Problems []string }

func (r Refusal) Error() string {
	if len(r.Problems) <= shown {
		return strings.Join(r.Problems, "; ")
	}
	return fmt.Sprintf("%s; and %d more problems of this kind", strings.Join(r.Problems[:shown], "; "), len(r.Problems)-shown)
}

// warnings tells what will keep a container from starting, but may be put right
// before it does.
func warnings(in *injection) []string {
	var out []string
	for _, t := range in.targets {
		for _, e := range t.Env {
			if e.Name == envDisableAuth {
				out = append(out, fmt.Sprintf("container %q: %s has no effect, values always come from the broker", t.Name, e.Name))
			}
			if ph, err := placeholder.Parse(e.Value); err == nil {
				out = append(out, in.doubt(t.Name, e.Name, ph)...)
			}
		}
	}
	return out
}

// doubt is at most one warning about one placeholder.
func (in *injection) doubt(container, variable string, ph placeholder.Placeholder) []string {
	akvs, known := in.facts.Secrets[ph.Name]
	if !known {
		return nil
	}
	where := fmt.Sprintf("container %q, variable %s, placeholder %s: ", container, variable, ph)
	if akvs == nil {
		return []string{where + fmt.Sprintf("namespace %q has no AzureKeyVaultSecret of this name yet; the container cannot start without it", in.facts.Namespace)}
	}
	if _, err := render.EnvReference(akvs.Spec, ph.Query); err != nil {
		return []string{where + fmt.Sprintf("the query fits no part of a vault object of type %s; the container cannot start with it", akvs.Spec.Vault.Object.Type)}
	}
	return nil
}

// envDisableAuth asked the original to use credentials of the container's own.
const envDisableAuth = brokerapi.EnvPrefix + "DISABLE_AUTH_SERVICE"
