// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// counted are the resources that make a QoS class.
var counted = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// installerResources gives the installer what is configured, bent so that the
// pod keeps the QoS class that it has without it:
//
//	BestEffort   nothing
//	Guaranteed   limits, and requests equal to them, of CPU and memory
//	Burstable    as configured; and a limit wherever every container has one,
//	             because the namespace's quota may insist on it
//
// A pod that states its resources as a whole shares them with the installer.
func installerResources(spec *corev1.PodSpec, want corev1.ResourceRequirements) corev1.ResourceRequirements {
	if spec.Resources != nil {
		return corev1.ResourceRequirements{}
	}
	switch class(spec) {
	case corev1.PodQOSBestEffort:
		return corev1.ResourceRequirements{}
	case corev1.PodQOSGuaranteed:
		limits := corev1.ResourceList{}
		for _, name := range counted {
			limits[name] = ceiling(want, name)
		}
		return corev1.ResourceRequirements{Limits: limits, Requests: limits.DeepCopy()}
	default:
		out := *want.DeepCopy()
		for _, name := range counted {
			if limited(spec, name) {
				if out.Limits == nil {
					out.Limits = corev1.ResourceList{}
				}
				out.Limits[name] = ceiling(want, name)
			}
		}
		return out
	}
}

// ceiling is the limit, else the request, else an amount that is enough for
// copying one file.
func ceiling(r corev1.ResourceRequirements, name corev1.ResourceName) resource.Quantity {
	for _, list := range []corev1.ResourceList{r.Limits, r.Requests} {
		if q, ok := list[name]; ok && !q.IsZero() {
			return q
		}
	}
	if name == corev1.ResourceCPU {
		return resource.MustParse("10m")
	}
	return resource.MustParse("32Mi")
}

// class is the pod's QoS class, as Kubernetes computes it from the containers.
func class(spec *corev1.PodSpec) corev1.PodQOSClass {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	guaranteed := true
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, name := range counted {
			request, limit := amounts(c, name)
			add(requests, name, request)
			add(limits, name, limit)
			guaranteed = guaranteed && !limit.IsZero()
		}
	}
	if len(requests) == 0 && len(limits) == 0 {
		return corev1.PodQOSBestEffort
	}
	for _, name := range counted {
		request, limit := requests[name], limits[name]
		guaranteed = guaranteed && request.Cmp(limit) == 0
	}
	if guaranteed {
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// amounts returns request and limit; a limit alone is a request too, which the
// API server has written out by the time of admission.
func amounts(c corev1.Container, name corev1.ResourceName) (resource.Quantity, resource.Quantity) {
	request, given := c.Resources.Requests[name]
	limit := c.Resources.Limits[name]
	if !given {
		request = limit
	}
	return request, limit
}

func add(sum corev1.ResourceList, name corev1.ResourceName, q resource.Quantity) {
	if q.IsZero() {
		return
	}
	total := sum[name]
	total.Add(q)
	sum[name] = total
}

func limited(spec *corev1.PodSpec, name corev1.ResourceName) bool {
	return !slices.ContainsFunc(slices.Concat(spec.InitContainers, spec.Containers), func(c corev1.Container) bool {
		limit := c.Resources.Limits[name]
		return limit.IsZero()
	})
}
