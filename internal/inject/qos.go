// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// counted are the resources that make a QoS class.
var counted = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// stated are the resources that a LimitRange or a ResourceQuota may want every
// container to state.
var stated = append(slices.Clone(counted), corev1.ResourceEphemeralStorage)

// installerResources gives the installer what is configured, bent so that the
// pod keeps the QoS class that it has without it:
//
//	BestEffort   nothing
//	Guaranteed   limits, and requests equal to them, of CPU and memory
//	Burstable    as configured
//
// A pod that states its resources as a whole shares them with the installer.
//
// What every container states the installer states too, and not less than the
// least of them: so it passes a quota that insists on it and any LimitRange that
// they pass by. The pod asks for no more because of it. An init container runs
// before the others, and what counts of a pod is the most of both, not the sum.
func installerResources(spec *corev1.PodSpec, want corev1.ResourceRequirements) corev1.ResourceRequirements {
	kept := class(spec)
	if asAWhole(spec) || kept == corev1.PodQOSBestEffort {
		return corev1.ResourceRequirements{Requests: least(spec, requestOf), Limits: least(spec, limitOf)}
	}
	requests, limits := least(spec, requestOf), least(spec, limitOf)
	for _, name := range counted {
		raise(requests, name, want.Requests[name])
		if _, must := limits[name]; must {
			raise(limits, name, ceiling(want, name))
		} else if limit := want.Limits[name]; !limit.IsZero() {
			limits[name] = limit
			raise(limits, name, requests[name])
		}
		if kept == corev1.PodQOSGuaranteed {
			requests[name] = limits[name]
		}
	}
	return corev1.ResourceRequirements{Requests: requests, Limits: limits}
}

// least lists what every container states, each as the container states it that
// states the least.
func least(spec *corev1.PodSpec, of func(corev1.Container, corev1.ResourceName) (resource.Quantity, bool)) corev1.ResourceList {
	list := corev1.ResourceList{}
	for _, name := range stated {
		for i, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			q, given := of(c, name)
			if !given {
				delete(list, name)
				break
			}
			if least := list[name]; i == 0 || q.Cmp(least) < 0 {
				list[name] = q
			}
		}
	}
	return list
}

// raise makes an amount at least q.
func raise(list corev1.ResourceList, name corev1.ResourceName, q resource.Quantity) {
	if has := list[name]; q.Cmp(has) > 0 {
		list[name] = q
	}
}

// asAWhole says that the pod's class is that of the pod's own resources, not that
// of its containers.
func asAWhole(spec *corev1.PodSpec) bool {
	return spec.Resources != nil && len(spec.Resources.Requests)+len(spec.Resources.Limits) > 0
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
			request, _ := requestOf(c, name)
			limit, _ := limitOf(c, name)
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

// requestOf returns what a container requests. A limit alone is a request too,
// which the API server has written out by the time of admission.
func requestOf(c corev1.Container, name corev1.ResourceName) (resource.Quantity, bool) {
	if q, given := c.Resources.Requests[name]; given {
		return q, true
	}
	return limitOf(c, name)
}

func limitOf(c corev1.Container, name corev1.ResourceName) (resource.Quantity, bool) {
	q, given := c.Resources.Limits[name]
	return q, given
}

func add(sum corev1.ResourceList, name corev1.ResourceName, q resource.Quantity) {
	if q.IsZero() {
		return
	}
	total := sum[name]
	total.Add(q)
	sum[name] = total
}
