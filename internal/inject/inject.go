// SPDX-License-Identifier: Apache-2.0

// Package inject decides what admission changes in a pod so that its
// placeholders are filled when its containers start: pod, image commands and
// settings go in, a JSON patch and a report come out. It performs no I/O.
//
// The patch names exactly what is added, against the object as it was sent.
// Marshalling a changed pod and comparing would lose every field that these
// types do not know yet.
//
// Start at checks and steps: each looks at the pod as it is and adds only what is missing,
// so deciding again about an injected pod changes nothing. A pod without a
// placeholder is never touched.
package inject

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
)

// ErrNotReady is a decision without a broker to send the containers to.
var ErrNotReady = errors.New("the Env Injector is starting and cannot inject yet; try again in a moment")

// Facts is all that a decision depends on.
type Facts struct {
	Pod *Pod
	// Namespace of the pod; a pod in admission may not name it yet.
	Namespace string
	// Commands holds an answer for each of Pod.Images, by image.
	Commands map[string]Command
	// Secrets holds what was found under the names of Pod.Secrets. A nil entry
	// was looked for and does not exist; a name without entry was not looked for.
	Secrets map[string]*v2beta1.AzureKeyVaultSecret
	// Account is what the pod's service account says of its identity. Settings.Direct alone
	// depends on it.
	Account Account
	// Nodes of the cluster. DeliveryAuto alone depends on them; without any it is DeliveryInitContainer.
	Nodes []Node
}

// Settings is what the operator decided and what the cluster gave us.
type Settings struct {
	Image      string // that holds the wrapper
	PullPolicy corev1.PullPolicy
	Delivery   Delivery // empty is DeliveryInitContainer
	// Resources of the container that copies the wrapper, as far as the pod's QoS
	// class allows.
	Resources corev1.ResourceRequirements

	Brokers    []string // address:port, in the order in which they are tried
	ServerName string   // in the broker's certificate
	CABundle   string   // PEM

	// Direct has pods read their vaults themselves; then there need be no broker. Nil has
	// them ask the broker.
	Direct *Direct
}

// A step completes one aspect of the pod. Run again over its own result it adds
// nothing.
type step func(*injection)

// checks are of every pod, steps of those with a container to inject. All of them
// run, in this order, so that a person sees every problem at once.
var (
	checks = []step{
		annotations, // they are understood
		fields,      // a placeholder stands where it is filled
	}
	steps = []step{
		system,       // the wrapper is a Linux program
		delivery,     // how it gets in
		sameWay,      // and values as before, in a pod that was injected already
		texts,        // every placeholder is one, and goes nowhere without the wrapper
		sources,      // what references hold is in the pod's own env
		volumes,      // one for the wrapper, one for the token
		mounts,       // both, read-only
		files,        // and one for the files of each container that asks for some
		environment,  // where the values are
		command,      // the wrapper, then what would have been run
		wrapHandlers, // and before the commands of probes and hooks, where asked
		installer,    // last: it moves the init containers along
	}
)

// injection is a decision in the making.
type injection struct {
	spec        *corev1.PodSpec
	annotations map[string]string
	all         []target // every container
	targets     []target // those to inject
	facts       Facts
	settings    Settings

	patch Patch
	grown map[string]bool // lists that the patch has created
	// filesVolumes is the number of the last volume for files that was added.
	filesVolumes int
	problems     []string
	report       Report
}

// Decide returns how the pod must change. A pod that must not start as it is
// comes back as a Refusal; the only other errors are ErrNotReady and those of
// unusable settings.
func Decide(f Facts, s Settings) (Patch, Report, error) {
	p := f.Pod
	in := &injection{
		spec: &p.object.Spec, annotations: p.object.Annotations, all: p.all(), targets: p.targets(),
		facts: f, settings: s, grown: map[string]bool{},
	}
	if p.mirror() {
		if len(in.targets) > 0 {
			in.warn("a static pod's placeholders stay as they are: the kubelet started it without asking the API server")
		}
		return nil, in.report, nil
	}
	in.run(checks)
	if len(in.targets) > 0 {
		in.run(steps)
	}
	switch {
	case len(in.problems) > 0:
		return nil, Report{}, Refusal{Problems: in.problems}
	case len(in.targets) == 0:
		in.leftAlone()
		return nil, in.report, nil
	case s.Direct == nil && (len(s.Brokers) == 0 || s.ServerName == "" || s.CABundle == ""):
		return nil, Report{}, ErrNotReady
	}
	in.leftAlone()
	in.doubts()
	return in.patch, in.report, nil
}

func (in *injection) run(list []step) {
	for _, step := range list {
		step(in)
	}
}

func (in *injection) hasContainer(name string) bool {
	return slices.ContainsFunc(in.all, func(t target) bool { return t.Name == name })
}

func (in *injection) warn(format string, args ...any) {
	in.report.Warnings = append(in.report.Warnings, fmt.Sprintf(format, args...))
}

func (in *injection) refuse(format string, args ...any) {
	in.problems = append(in.problems, fmt.Sprintf(format, args...))
}

// set writes a member of an object.
func (in *injection) set(path string, value any) {
	in.patch = append(in.patch, Operation{Op: "add", Path: path, Value: value})
}

// grow appends to the list at path, which the pod has or lacks.
func (in *injection) grow(path string, present bool, value any) {
	if present || in.grown[path] {
		in.set(path+"/-", value)
		return
	}
	in.grown[path] = true
	in.set(path, []any{value})
}

// system refuses pods for another operating system than the wrapper's.
func system(in *injection) {
	windows := in.spec.OS != nil && in.spec.OS.Name == corev1.Windows
	if windows || in.spec.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows) {
		in.refuse("the pod is for Windows, where placeholders cannot be filled: let the Controller write a Secret and use that")
	}
}
