// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// handlers are the fields that may hold a command which the kubelet runs beside the
// container's own.
var handlers = []string{"livenessProbe", "readinessProbe", "startupProbe", "postStart", "preStop"}

// A handler is one of them with a command.
type handler struct {
	name    string
	member  string // of the container
	command []string
}

// handlers lists those that the container has, in the order above.
func (t target) handlers() []handler {
	var list []handler
	add := func(name, member string, exec *corev1.ExecAction) {
		if exec != nil {
			list = append(list, handler{name, member + "/exec/command", exec.Command})
		}
	}
	for i, probe := range []*corev1.Probe{t.LivenessProbe, t.ReadinessProbe, t.StartupProbe} {
		if probe != nil {
			add(handlers[i], handlers[i], probe.Exec)
		}
	}
	if l := t.Lifecycle; l != nil {
		for i, hook := range []*corev1.LifecycleHandler{l.PostStart, l.PreStop} {
			if hook != nil {
				name := handlers[3+i]
				add(name, "lifecycle/"+name, hook.Exec)
			}
		}
	}
	return list
}

// wrapHandlers puts the wrapper before the commands that an annotation names. It is
// not done unasked: each run of a probe is then a request to the broker.
func wrapHandlers(in *injection) {
	for _, t := range in.targets {
		text, asked := in.annotations[AnnotationExec+t.Name]
		if !asked {
			continue
		}
		names, _ := handlersOf(text)
		present := t.handlers()
		for _, h := range present {
			if slices.Contains(names, h.name) && len(h.command) > 0 && h.command[0] != brokerapi.Binary {
				in.patch = append(in.patch, Operation{Op: "replace", Path: t.path(h.member), Value: slices.Concat([]string{brokerapi.Binary}, h.command)})
			}
		}
		for _, name := range names {
			if text != "all" && !slices.ContainsFunc(present, func(h handler) bool { return h.name == name }) {
				in.refuse("annotation %s names %s, of which container %q has none with an exec command", AnnotationExec+t.Name, name, t.Name)
			}
		}
	}
}
