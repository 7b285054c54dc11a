// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"

	"github.com/akv2k8s/akv2k8s/test/bench"
)

// podPatience is far more than a start takes.
const podPatience = time.Minute

// podStartResult has an element for each pair: seconds from the request to the
// application's first statement.
type podStartResult struct {
	Plain, Injected []float64
	Delivery        delivery // that was seen
}

// startPods starts pairs of pods, one pod at a time. The first pair is not counted: it
// pulls images, and the broker signs in.
func startPods(ctx context.Context, api kubernetes.Interface, o order) (podStartResult, error) {
	var r podStartResult
	pods := api.CoreV1().Pods(namespace)
	prefix := "p" + strconv.FormatInt(time.Now().Unix(), 36)
	for i := range o.Size.Pairs + 1 {
		var took [2]float64 // plain, injected
		for n := range 2 {
			kind := (i + n) % 2
			if err := bench.Sleep(ctx, pause(i)); err != nil {
				return r, err
			}
			pod := newPod(fmt.Sprintf("%s-%d-%d", prefix, i, kind), o.Image, kind == 1)
			created, d, err := start(ctx, api, pod)
			if err != nil {
				return r, err
			}
			if took[kind] = d.Seconds(); kind == 1 {
				r.Delivery = deliveryOf(created)
			}
		}
		if i > 0 {
			r.Plain, r.Injected = append(r.Plain, took[0]), append(r.Injected, took[1])
		}
	}
	// All at once and in the end: a pod that goes is work for the kubelet.
	return r, pods.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
}

// pause spreads the starts evenly over a second (by the golden ratio). The kubelet
// looks once a second for containers that ended; a pod that is created as soon as the
// one before is seen to have ended would always meet it at the same moment.
func pause(i int) time.Duration {
	_, part := math.Modf(float64(i) * 0.618034)
	return time.Second + time.Duration(part*float64(time.Second))
}

// start creates a pod, waits for its end, and says how long after the request its
// application began.
func start(ctx context.Context, api kubernetes.Interface, pod *corev1.Pod) (*corev1.Pod, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, podPatience)
	defer cancel()
	pods := api.CoreV1().Pods(namespace)
	began := time.Now()
	created, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return nil, 0, err
	}
	watch, err := pods.Watch(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", pod.Name).String(), ResourceVersion: created.ResourceVersion,
	})
	if err != nil {
		return nil, 0, err
	}
	defer watch.Stop()
	for event := range watch.ResultChan() {
		seen, ok := event.Object.(*corev1.Pod)
		if !ok || seen.Status.Phase != corev1.PodSucceeded && seen.Status.Phase != corev1.PodFailed {
			continue
		}
		at, err := word(seen)
		return created, at.Sub(began), err
	}
	return nil, 0, fmt.Errorf("pod %s did not end within %s", pod.Name, podPatience)
}

// word is what the application said: when it began.
func word(pod *corev1.Pod) (time.Time, error) {
	for _, c := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
		if c.State.Terminated == nil || c.State.Terminated.ExitCode == 0 && c.Name != "app" {
			continue
		}
		text := c.State.Terminated.Message
		if c.State.Terminated.ExitCode != 0 {
			return time.Time{}, fmt.Errorf("container %s of pod %s failed: %s", c.Name, pod.Name, text)
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("the application's word is no time: %w", err)
		}
		return time.Unix(0, n), nil
	}
	return time.Time{}, errors.New("pod " + pod.Name + " ended without a container that did")
}

func deliveryOf(pod *corev1.Pod) delivery {
	byImage := func(v corev1.Volume) bool { return v.Image != nil }
	switch {
	case slices.ContainsFunc(pod.Spec.Volumes, byImage):
		return deliveryImageVolume
	case len(pod.Spec.InitContainers) > 0:
		return deliveryInitContainer
	default:
		return "nothing"
	}
}
