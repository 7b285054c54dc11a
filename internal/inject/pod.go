// SPDX-License-Identifier: Apache-2.0

package inject

import (
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
	object corev1.Pod
	raw    []byte
}

// Read takes the pod's JSON. Fields that are unknown here are passed over, which
// is harmless: nothing is ever written back from what was read.
func Read(raw []byte) (*Pod, error) {
	p := &Pod{raw: raw}
	if err := json.Unmarshal(raw, &p.object); err != nil {
		return nil, ErrPod // the parser's words may quote the pod
	}
	return p, nil
}

// target is a container that has a placeholder.
type target struct {
	*corev1.Container
	list  string // containers or initContainers
	index int
}

// path is the JSON pointer of a member of the container.
func (t target) path(member string) string {
	return fmt.Sprintf("/spec/%s/%d/%s", t.list, t.index, member)
}

// field names an element of a list of the container, as people write it.
func (t target) field(list string, i int) string {
	return fmt.Sprintf("spec.%s[%d].%s[%d]", t.list, t.index, list, i)
}

func (p *Pod) targets() []target {
	spec := &p.object.Spec
	return append(targetsOf("initContainers", spec.InitContainers), targetsOf("containers", spec.Containers)...)
}

func targetsOf(list string, containers []corev1.Container) []target {
	var found []target
	for i := range containers {
		if hasPlaceholder(containers[i]) {
			found = append(found, target{&containers[i], list, i})
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

// HasPlaceholder says whether there is anything to inject, or to say of a
// placeholder that nothing fills.
func (p *Pod) HasPlaceholder() bool { return p.mentions() || len(p.targets()) > 0 }

// Secrets names each AzureKeyVaultSecret that a well-formed placeholder of the
// pod names, once, in the order in which they appear.
func (p *Pod) Secrets() []string {
	var names []string
	seen := map[string]bool{} // a pod can name so many that searching the list would take minutes
	for _, t := range p.targets() {
		for _, e := range t.Env {
			ph, err := placeholder.Parse(e.Value)
			if err == nil && !seen[ph.Name] {
				seen[ph.Name], names = true, append(names, ph.Name)
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
	for _, t := range p.targets() {
		if len(t.Command) == 0 && !seen[t.Image] {
			seen[t.Image], images = true, append(images, t.Image)
		}
	}
	return images
}

// Architecture is the one that the pod asks for (as kubernetes.io/arch), or
// empty.
func (p *Pod) Architecture() string { return p.object.Spec.NodeSelector[corev1.LabelArchStable] }

// mirror says that the pod only shows what a kubelet runs already.
func (p *Pod) mirror() bool {
	_, is := p.object.Annotations[corev1.MirrorPodAnnotationKey]
	return is
}

// wrapped says that the container runs the wrapper already. A webhook that comes
// after ours may have put a program of its own before it: wrapped twice, the
// inner wrapper would miss the variables that the outer one removes.
func (t target) wrapped() bool {
	return len(t.Command) > 0 && slices.Contains(slices.Concat(t.Command, t.Args), brokerapi.Binary)
}
