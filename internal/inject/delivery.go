// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// Delivery is how the wrapper gets into a pod.
type Delivery string

// The deliveries. DeliveryAuto is one of the others, as the nodes allow.
const (
	DeliveryAuto          Delivery = "auto"
	DeliveryInitContainer Delivery = "initContainer" // which copies it into memory
	DeliveryImageVolume   Delivery = "imageVolume"   // its image is mounted
)

// imageVolumeKubelet is the first that mounts images unless told otherwise:
// feature ImageVolume, on by default from 1.35 and always from 1.36
// (kubernetes/kubernetes, pkg/features/kube_features.go).
const imageVolumeKubelet = "1.35"

// imageVolumeRuntimes are those that are known to mount a whole image such that
// programs in it can be run. Kubernetes documents it so since 1.36; the runtimes
// that are not here may forbid it (noexec).
var imageVolumeRuntimes = []struct{ name, from, before, source string }{
	{"containerd", "2.1", "3.0", "release notes of containerd 2.1.0, containerd/containerd#10579; 2.4 by our end-to-end tests"},
}

// delivery finds out this pod's. One that was injected before keeps what it has:
// a pod that is decided about again, or was copied, must not get both.
func delivery(in *injection) {
	wrapper := slices.IndexFunc(in.spec.Volumes, func(v corev1.Volume) bool { return v.Name == brokerapi.VolumeName })
	switch {
	case wrapper >= 0 && in.spec.Volumes[wrapper].Image != nil:
		in.report.Delivery = DeliveryImageVolume
	case wrapper >= 0, slices.ContainsFunc(in.spec.InitContainers, isInstaller):
		in.report.Delivery = DeliveryInitContainer
	case in.settings.Delivery == DeliveryImageVolume:
		in.report.Delivery = DeliveryImageVolume
	case in.settings.Delivery == DeliveryAuto && !ownUsers(in.spec) && mountImages(in.facts.Nodes):
		in.report.Delivery = DeliveryImageVolume
	default:
		in.report.Delivery = DeliveryInitContainer
	}
}

// ownUsers says that the pod has a user namespace. Not every containerd that
// mounts images can do so in one (containerd/containerd#12816).
func ownUsers(spec *corev1.PodSpec) bool { return spec.HostUsers != nil && !*spec.HostUsers }

// mountImages says that all do of these nodes that a pod may be scheduled to, and that
// there are any. One that is not ready counts: it may be by then.
func mountImages(nodes []Node) bool {
	type kind struct{ kubelet, runtime string }
	seen := map[kind]bool{} // of thousands, most are alike
	for _, n := range nodes {
		k := kind{n.Kubelet, n.Runtime}
		if n.Unschedulable || !n.linux() || seen[k] {
			continue
		}
		if seen[k] = n.mountsImages(); !seen[k] {
			return false
		}
	}
	return len(seen) > 0
}

func (n Node) mountsImages() bool {
	name, runtime, _ := strings.Cut(n.Runtime, "://")
	for _, known := range imageVolumeRuntimes {
		if name == known.name && atLeast(runtime, known.from) && !atLeast(runtime, known.before) {
			return atLeast(n.Kubelet, imageVolumeKubelet)
		}
	}
	return false
}

// atLeast passes over what distributors append to a version (v1.35.2-eks-1).
func atLeast(got, least string) bool {
	v, err := version.ParseGeneric(got)
	if err != nil {
		return false
	}
	return v.AtLeast(version.MustParseGeneric(least))
}
