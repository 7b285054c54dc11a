// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// late holds in a guarded namespace for a container that is past its start, so that
// running the wrapper again in it, or showing its token elsewhere, yields nothing. Of a
// container whose status says nothing, or that it waits, the start may be under way.
//
// What the status says is a moment behind: it still shows what ran before where a
// container has just been started again. So who is late may ask again.
func late(r Request) bool {
	if !r.Guarded {
		return false
	}
	since := lastStart(r.Pod, r.Container)
	return !since.IsZero() && r.Now.Sub(since) > r.StartBudget && !asksAnew(container(r.Pod, r.Container))
}

// lastStart is when the container was started, or has ended, by its node's clock;
// zero when that is not known.
func lastStart(pod *corev1.Pod, name string) time.Time {
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		switch {
		case s.Name != name:
		case s.State.Running != nil:
			return s.State.Running.StartedAt.Time
		case s.State.Terminated != nil: // an init container's values are not for those who come after it
			return s.State.Terminated.FinishedAt.Time
		}
	}
	return time.Time{}
}

// asksAnew says that a probe or hook of the container runs the wrapper, at any time.
// Admission has written that into the pod's spec for an annotation; one that comes
// later changes nothing.
func asksAnew(c *corev1.Container) bool {
	var commands []*corev1.ExecAction
	for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if probe != nil {
			commands = append(commands, probe.Exec)
		}
	}
	if c.Lifecycle != nil {
		for _, hook := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if hook != nil {
				commands = append(commands, hook.Exec)
			}
		}
	}
	return slices.ContainsFunc(commands, func(exec *corev1.ExecAction) bool {
		return exec != nil && slices.Contains(exec.Command, brokerapi.Binary)
	})
}
