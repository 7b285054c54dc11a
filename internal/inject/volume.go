// SPDX-License-Identifier: Apache-2.0

package inject

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// volumeBytes bounds the memory that the copied wrapper takes: the wrapper is
// smaller than 6.2 MB, so this leaves it room to double. The one that reads vaults itself
// is smaller than 15 MB.
const (
	volumeBytes       = 16 << 20
	directVolumeBytes = 32 << 20
)

// volumes adds the two volumes. The names are ours; a volume of the same name
// that is something else would hand the containers a foreign program or token.
func volumes(in *injection) {
	in.volume(in.wrapperVolume(), isWrapperVolume)
	in.volume(in.tokenVolume(), in.isTokenVolume)
}

func (in *injection) volume(want corev1.Volume, is func(corev1.Volume) bool) {
	for _, v := range in.spec.Volumes {
		if v.Name != want.Name {
			continue
		}
		if !is(v) {
			in.refuse("the pod has a volume %q of its own, a name that the Env Injector needs: give it another name", v.Name)
		}
		return
	}
	in.grow("/spec/volumes", in.spec.Volumes != nil, want)
}

// wrapperVolume is memory that the installer fills, or the wrapper's image, whose
// only file lies where the installer would have put it. The node pulls that image
// as it pulls a container's: with the pull secrets of the pod and its account.
func (in *injection) wrapperVolume() corev1.Volume {
	switch {
	case in.report.Delivery != DeliveryImageVolume && in.settings.Direct != nil:
		return memory(brokerapi.VolumeName, directVolumeBytes)
	case in.report.Delivery != DeliveryImageVolume:
		return memory(brokerapi.VolumeName, volumeBytes)
	}
	return corev1.Volume{Name: brokerapi.VolumeName, VolumeSource: corev1.VolumeSource{
		Image: &corev1.ImageVolumeSource{Reference: in.settings.Image, PullPolicy: in.settings.PullPolicy},
	}}
}

func memory(name string, limit int64) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
		Medium: corev1.StorageMediumMemory, SizeLimit: resource.NewQuantity(limit, resource.BinarySI),
	}}}
}

func inMemory(v corev1.Volume) bool {
	return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory
}

// isWrapperVolume does not ask which image it is, which may be of another
// release, in a pod that was copied.
func isWrapperVolume(v corev1.Volume) bool {
	return inMemory(v) || (v.Image != nil && v.Image.Reference != "")
}

// tokenVolume leaves the mode of the file to Kubernetes, which makes it as strict
// as the containers' users allow (see user).
func (in *injection) tokenVolume() corev1.Volume {
	name, audience, seconds := brokerapi.TokenVolumeName, brokerapi.Audience, int64(brokerapi.TokenSeconds)
	if in.settings.Direct != nil {
		name, audience, seconds = brokerapi.AzureTokenVolumeName, brokerapi.AzureAudience, brokerapi.AzureTokenSeconds
	}
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
			Audience: audience, ExpirationSeconds: &seconds, Path: "token",
		}}},
	}}}
}

func (in *injection) isTokenVolume(v corev1.Volume) bool {
	if v.Projected == nil || len(v.Projected.Sources) != 1 {
		return false
	}
	want := in.tokenVolume().Projected.Sources[0].ServiceAccountToken
	token := v.Projected.Sources[0].ServiceAccountToken
	return token != nil && token.Audience == want.Audience && token.Path == want.Path
}
