// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// mounts puts the wrapper and the token where the wrapper's variables and our
// command expect them. Read-only: a process must not be able to change the
// program that its siblings start with.
func mounts(in *injection) {
	for _, t := range in.targets {
		in.mount(t, brokerapi.VolumeName, brokerapi.BinaryDir)
		in.mount(t, in.tokenVolume().Name, brokerapi.TokenDir)
	}
}

func (in *injection) mount(t target, volume, path string) {
	for _, m := range t.VolumeMounts {
		if strings.TrimSuffix(m.MountPath, "/") != strings.TrimSuffix(path, "/") {
			continue
		}
		if m.Name != volume && !in.hasVolume(otherToken(in.settings)) { // of which more is said elsewhere
			in.refuse("container %q mounts volume %q at %s, which the Env Injector needs: mount it elsewhere", t.Name, m.Name, path)
		}
		return
	}
	in.grow(t.path("volumeMounts"), t.VolumeMounts != nil, corev1.VolumeMount{Name: volume, MountPath: path, ReadOnly: true})
}

// environment tells the wrapper where the values are. A variable of that name
// which is there already is replaced: it is left from a pod that was copied, or
// from somebody who cannot know better.
func environment(in *injection) {
	for _, t := range in.targets {
		in.variable(t, corev1.EnvVar{Name: brokerapi.EnvContainer, Value: t.Name})
		in.optional(t, brokerapi.EnvCoreDumps, in.annotations[AnnotationCoreDumps+t.Name])
		in.optional(t, brokerapi.EnvTerminationLog, ownMessagePath(t.TerminationMessagePath))
		if in.settings.Direct != nil {
			continue
		}
		for _, want := range []corev1.EnvVar{
			{Name: brokerapi.EnvBroker, Value: strings.Join(in.settings.Brokers, ",")},
			{Name: brokerapi.EnvServerName, Value: in.settings.ServerName},
			{Name: brokerapi.EnvCABundle, Value: in.settings.CABundle},
		} {
			in.variable(t, want)
		}
	}
	if in.settings.Direct != nil {
		in.environmentOfItsOwn()
	}
}

// ownMessagePath is empty for the path that the wrapper knows by itself.
func ownMessagePath(terminationMessagePath string) string {
	if terminationMessagePath == brokerapi.TerminationLog {
		return ""
	}
	return terminationMessagePath
}

// optional sets a variable that says nothing when it is empty; then it is not added,
// but one that is left from a pod that was copied must be.
func (in *injection) optional(t target, name, value string) {
	if value != "" || slices.ContainsFunc(t.Env, func(e corev1.EnvVar) bool { return e.Name == name }) {
		in.variable(t, corev1.EnvVar{Name: name, Value: value})
	}
}

func (in *injection) variable(t target, want corev1.EnvVar) {
	found := false
	for i, e := range t.Env {
		if e.Name != want.Name {
			continue
		}
		found = true
		if e.Value != want.Value || e.ValueFrom != nil {
			in.replaceVariable(t, i, want)
		}
	}
	if !found {
		in.grow(t.path("env"), t.Env != nil, want)
	}
}

func (in *injection) replaceVariable(t target, at int, with corev1.EnvVar) {
	in.patch = append(in.patch, Operation{Op: "replace", Path: t.path("env/" + strconv.Itoa(at)), Value: with})
}

// command makes the wrapper the command and what would have been run its
// arguments. Kubernetes replaces $(VAR) in either, so what the pod says keeps its
// meaning; what the image says was never replaced and is escaped.
func command(in *injection) {
	for _, t := range in.targets {
		in.report.Containers = append(in.report.Containers, in.describe(t))
		if t.wrapped() {
			continue
		}
		argv, ok := in.argv(t)
		if !ok {
			continue
		}
		in.set(t.path("command"), []string{brokerapi.Binary})
		in.set(t.path("args"), argv)
	}
}

// argv follows the four cases of the Kubernetes documentation: a command
// replaces the image's entrypoint and its cmd, arguments replace the cmd.
func (in *injection) argv(t target) ([]string, bool) {
	if len(t.Command) > 0 {
		return slices.Concat(t.Command, t.Args), true
	}
	image, known := in.facts.Commands[t.Image]
	if text, given := in.annotations[AnnotationEntrypoint+t.Name]; given {
		image, known = Command{Entrypoint: entrypointOf(text)}, true
	}
	if !known {
		image.Err = ErrImageUnavailable
	}
	if image.Err != nil {
		in.refuse("container %q has no command, and what image %q runs is not known because %s%s: set the container's command, or %s",
			t.Name, t.Image, image.Err, image.Asked, cure(image.Err))
		return nil, false
	}
	argv := escaped(image.Entrypoint)
	if len(t.Args) > 0 {
		argv = append(argv, t.Args...)
	} else {
		argv = append(argv, escaped(image.Cmd)...)
	}
	if len(argv) == 0 {
		in.refuse("container %q has no command, and image %q has neither entrypoint nor cmd: set the container's command", t.Name, t.Image)
		return nil, false
	}
	return argv, true
}

func escaped(texts []string) []string {
	out := make([]string, 0, len(texts))
	for _, text := range texts {
		out = append(out, escape(text))
	}
	return out
}

func (in *injection) describe(t target) Container {
	_, given := in.annotations[AnnotationEntrypoint+t.Name]
	c := Container{Name: t.Name, FromImage: len(t.Command) == 0 && !given}
	for _, v := range t.variables {
		text, _ := placeholder.Read(v.text)
		var list []string
		for _, p := range text.Placeholders() {
			p.Default = ""
			list = append(list, p.String())
		}
		if list != nil {
			c.Variables = append(c.Variables, Variable{Name: v.name, Placeholders: list})
		}
	}
	return c
}
