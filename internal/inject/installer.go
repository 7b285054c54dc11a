// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// program is where the wrapper's own image keeps it. That image holds nothing
// else, no shell either: the wrapper copies itself.
const program = "/azure-keyvault-env"

// installer puts the container that copies the wrapper before all others, so that
// nobody who starts by it comes first: no init container, and no sidecar that is
// one. A webhook that comes after ours may have put one before it; then it is
// moved to the front again. Whoever else came before it stays there.
func installer(in *injection) {
	at := slices.IndexFunc(in.spec.InitContainers, isInstallerName)
	switch {
	case slices.ContainsFunc(in.spec.Containers, isInstallerName):
		in.refuse("the pod has a container %q of its own, a name that the Env Injector needs: give it another name", brokerapi.InitContainerName)
	case at >= 0 && !isInstaller(in.spec.InitContainers[at]) && injectedByOriginal(in.spec):
		in.refuse("akv2k8s 1.x has injected the pod, init container %q is its own: apply the manifest that the pod was made from instead of a copy of the pod or, where akv2k8s 1.x injects the namespace still, let only one of the two do so", brokerapi.InitContainerName)
	case at >= 0 && !isInstaller(in.spec.InitContainers[at]):
		in.refuse("the pod has an init container %q of its own, a name that the Env Injector needs: give it another name", brokerapi.InitContainerName)
	case at >= 0 && in.report.Delivery == DeliveryImageVolume:
		in.refuse("the pod has an init container %q, and its volume %q is an image, which that cannot write to: remove the init container", brokerapi.InitContainerName, brokerapi.VolumeName)
	case in.report.Delivery == DeliveryImageVolume:
	case at < 0 && len(in.spec.InitContainers) == 0:
		in.set("/spec/initContainers", []any{in.newInstaller()})
	case at < 0:
		in.set("/spec/initContainers/0", in.newInstaller())
	case slices.ContainsFunc(in.targets, func(t target) bool { return t.list == "initContainers" && t.index < at }):
		in.patch = append(in.patch, Operation{Op: "move", From: fmt.Sprintf("/spec/initContainers/%d", at), Path: "/spec/initContainers/0"})
	}
}

func isInstallerName(c corev1.Container) bool { return c.Name == brokerapi.InitContainerName }

// isInstaller goes by what the container does. Its image may be of another
// release, in a pod that was copied.
func isInstaller(c corev1.Container) bool {
	return slices.Equal(c.Command, []string{program}) && slices.Equal(c.Args, []string{"copy", brokerapi.Binary})
}

// argsSignature is in every container that akv2k8s 1.x has wrapped, and never in
// one of ours.
const argsSignature = brokerapi.EnvPrefix + "ARGS_SIGNATURE"

func injectedByOriginal(spec *corev1.PodSpec) bool {
	return slices.ContainsFunc(slices.Concat(spec.InitContainers, spec.Containers), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == argsSignature })
	})
}

func (in *injection) newInstaller() corev1.Container {
	return corev1.Container{
		Name:            brokerapi.InitContainerName,
		Image:           in.settings.Image,
		ImagePullPolicy: in.settings.PullPolicy,
		Command:         []string{program},
		Args:            []string{"copy", brokerapi.Binary},
		Resources:       installerResources(in.spec, in.settings.Resources),
		SecurityContext: installerSecurity(in.spec),
		VolumeMounts:    []corev1.VolumeMount{{Name: brokerapi.VolumeName, MountPath: brokerapi.BinaryDir}},
	}
}

// installerSecurity passes the restricted pod security standard, except in a pod
// that is root throughout and thus does not either.
func installerSecurity(spec *corev1.PodSpec) *corev1.SecurityContext {
	no, yes := false, true
	sc := &corev1.SecurityContext{
		AllowPrivilegeEscalation: &no,
		ReadOnlyRootFilesystem:   &yes,
		RunAsNonRoot:             &yes,
		RunAsUser:                user(spec),
		RunAsGroup:               common(spec, groupOf),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if sc.RunAsUser != nil && *sc.RunAsUser == 0 {
		sc.RunAsNonRoot = nil // the kubelet would refuse to start it
	}
	return sc
}

// user is the one that all containers run as. The kubelet gives a projected
// token to that user alone (mode 0600); one container that deviates, and the
// file becomes readable for everybody (0644), so ours must not be the one.
//
// Without such a user the mode is 0644 already and the image's own user will do
// (nil), unless the pod's is root, which the installer need not be.
func user(spec *corev1.PodSpec) *int64 {
	if u := common(spec, userOf); u != nil {
		return u
	}
	if spec.SecurityContext == nil || spec.SecurityContext.RunAsUser == nil || *spec.SecurityContext.RunAsUser != 0 {
		return nil
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if u := userOf(spec, c); u != nil && *u != 0 {
			return u
		}
	}
	return nil
}

// common is what all containers share, or nil.
func common(spec *corev1.PodSpec, of func(*corev1.PodSpec, corev1.Container) *int64) *int64 {
	var shared *int64
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		id := of(spec, c)
		if id == nil || (shared != nil && *shared != *id) {
			return nil
		}
		shared = id
	}
	return shared
}

// userOf and groupOf are what a container runs as, as far as the pod says.
func userOf(spec *corev1.PodSpec, c corev1.Container) *int64 {
	if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
		return c.SecurityContext.RunAsUser
	}
	if spec.SecurityContext != nil {
		return spec.SecurityContext.RunAsUser
	}
	return nil
}

func groupOf(spec *corev1.PodSpec, c corev1.Container) *int64 {
	if c.SecurityContext != nil && c.SecurityContext.RunAsGroup != nil {
		return c.SecurityContext.RunAsGroup
	}
	if spec.SecurityContext != nil {
		return spec.SecurityContext.RunAsGroup
	}
	return nil
}
