// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// ErrPod is an object that is not a pod.
var ErrPod = errors.New("the object cannot be read as a pod")

// Pod is a pod as admission sends it.
type Pod struct {
	object  corev1.Pod
	raw     []byte
	sources Sources // as far as they were learned
	found   []target
}

// Read takes the pod's JSON. Fields that are unknown here are passed over, which
// is harmless: nothing is ever written back from what was read.
func Read(raw []byte) (*Pod, error) {
	p := &Pod{raw: raw}
	if err := json.Unmarshal(raw, &p.object); err != nil {
		return nil, ErrPod // the parser's words may quote the pod
	}
	p.found = p.look()
	return p, nil
}

// Name is what a person may know the pod by: its own name is not made yet for most.
func (p *Pod) Name() string { return cmp.Or(p.object.Name, p.object.GenerateName) }

// target is a container that must run the wrapper.
type target struct {
	*corev1.Container

	list      string // containers or initContainers
	index     int
	variables []variable
}

// path is the JSON pointer of a member of the container.
func (t target) path(member string) string {
	return fmt.Sprintf("/spec/%s/%d/%s", t.list, t.index, member)
}

// field names an element of a list of the container, as people write it.
func (t target) field(list string, i int) string {
	return fmt.Sprintf("spec.%s[%d].%s[%d]", t.list, t.index, list, i)
}

// candidates are the containers that are not opted out, nor ours.
func (p *Pod) candidates() []target {
	return slices.DeleteFunc(p.all(), func(t target) bool {
		return p.object.Annotations[AnnotationInject+t.Name] == "false" || isInstallerName(*t.Container) && isInstaller(*t.Container)
	})
}

// all lists init containers and containers. Ephemeral ones come later, if ever.
func (p *Pod) all() []target {
	spec := &p.object.Spec
	list := make([]target, 0, p.Containers())
	for i := range spec.InitContainers {
		list = append(list, target{Container: &spec.InitContainers[i], list: "initContainers", index: i})
	}
	for i := range spec.Containers {
		list = append(list, target{Container: &spec.Containers[i], list: "containers", index: i})
	}
	return list
}

// targets are the caller's own to change.
func (p *Pod) targets() []target {
	own := slices.Clone(p.found)
	for i := range own {
		own[i].variables = slices.Clone(own[i].variables)
	}
	return own
}

func (p *Pod) look() []target {
	var found []target
	for _, t := range p.candidates() {
		t.variables = p.variables(t.Container)
		if slices.ContainsFunc(t.variables, variable.concerns) {
			found = append(found, t)
		}
	}
	return found
}

func hasPlaceholder(c corev1.Container) bool { return slices.ContainsFunc(c.Env, isPlaceholder) }

func isPlaceholder(e corev1.EnvVar) bool { return placeholder.In(e.Value) }

// Containers counts the pod's init containers and containers.
func (p *Pod) Containers() int {
	return len(p.object.Spec.InitContainers) + len(p.object.Spec.Containers)
}

// HasPlaceholder says whether a container must be injected, as far as sources were
// learned.
func (p *Pod) HasPlaceholder() bool { return len(p.found) > 0 }

// Secrets names each AzureKeyVaultSecret that a well-formed placeholder of the
// pod names, once, in the order in which they appear.
func (p *Pod) Secrets() []string {
	var names []string
	seen := map[string]bool{} // a pod can name so many that searching the list would take minutes
	for _, t := range p.found {
		for _, v := range t.variables {
			text, _ := placeholder.Read(v.text)
			for _, ph := range text.Placeholders() {
				if !seen[ph.Name] {
					seen[ph.Name], names = true, append(names, ph.Name)
				}
			}
		}
	}
	return names
}

// Images lists each image whose registry must be asked, because the pod does not
// say what to run, once.
func (p *Pod) Images() []string {
	var images []string
	seen := map[string]bool{}
	for _, t := range p.found {
		_, given := p.object.Annotations[AnnotationEntrypoint+t.Name]
		if len(t.Command) == 0 && !given && !seen[t.Image] {
			seen[t.Image], images = true, append(images, t.Image)
		}
	}
	return images
}

// mirror says that the pod only shows what a kubelet runs already.
func (p *Pod) mirror() bool {
	_, is := p.object.Annotations[corev1.MirrorPodAnnotationKey]
	return is
}

// wrapped says that the container runs the wrapper already. A webhook that comes
// after ours may have put a program of its own before it: wrapped twice, the
// inner wrapper would miss the variables that the outer one removes.
func (t target) wrapped() bool {
	words := slices.Concat(t.Command, t.Args)
	at := slices.Index(words, brokerapi.Binary)
	return len(t.Command) > 0 && at >= 0 && at+1 < len(words) // it has a program to run
}
