// SPDX-License-Identifier: Apache-2.0

// Command crowd is the many users of the end-to-end tests: it creates pods with a
// placeholder, so many a second, until its standard input ends, and then tells
// what became of them in a line of JSON. Most pods are never scheduled, and gone in
// the end; one in a hundred starts, and stays.
//
//	crowd -namespace NAMESPACE -image IMAGE [-rate 50]
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

const (
	label = "e2e.example/crowd" // on every pod; waits or starts
	gate  = "e2e.example/never" // keeps a pod from being scheduled
	// started is one in how many.
	started = 100
	// shown bounds the failures that are told.
	shown = 5
	page  = 500
)

// outcome is what is told in the end.
type outcome struct {
	Seconds    float64  `json:"seconds"`
	Created    int      `json:"created"`
	Failed     int      `json:"failed"`
	Failures   []string `json:"failures"`
	Stored     int      `json:"stored"`
	Uninjected []string `json:"uninjected"` // of those that are stored
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	namespace := flag.String("namespace", "", "where to create pods")
	image := flag.String("image", "", "what runs in them")
	rate := flag.Int("rate", 50, "pods a second")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	pods := client.CoreV1().Pods(*namespace)
	out := create(ctx, pods, *image, time.Second/time.Duration(*rate))
	if err := out.look(ctx, pods); err != nil {
		return err
	}
	now := int64(0)
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{LabelSelector: label + "=waits"}); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// create goes on until standard input ends, and waits for every answer.
func create(ctx context.Context, pods typed.PodInterface, image string, every time.Duration) *outcome {
	end := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(end) }()
	out, began := &outcome{}, time.Now()
	var mu sync.Mutex
	var all sync.WaitGroup
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-end:
			all.Wait()
			out.Seconds = time.Since(began).Seconds()
			return out
		case <-tick.C:
		}
		all.Go(func() {
			_, err := pods.Create(ctx, pod(image, i), metav1.CreateOptions{})
			mu.Lock()
			defer mu.Unlock()
			out.count(err)
		})
	}
}

func (o *outcome) count(err error) {
	if err == nil {
		o.Created++
		return
	}
	o.Failed++
	if len(o.Failures) < shown {
		o.Failures = append(o.Failures, err.Error())
	}
}

func pod(image string, i int) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "crowd-", Labels: map[string]string{label: "waits"}},
		Spec: corev1.PodSpec{
			SchedulingGates: []corev1.PodSchedulingGate{{Name: gate}},
			RestartPolicy:   corev1.RestartPolicyNever,
			Containers: []corev1.Container{{
				Name: "app", Image: image, Command: []string{"/app", "exit", "0"},
				Env: []corev1.EnvVar{{Name: "VALUE", Value: "it@azurekeyvault"}},
			}},
		},
	}
	if i%started == 0 {
		p.Labels[label], p.Spec.SchedulingGates = "starts", nil
	}
	if i%3 == 0 {
		p.Spec.Containers[0].Command = nil // what the image runs
	}
	return p
}

// look finds out what is stored: an answer may have got lost.
func (o *outcome) look(ctx context.Context, pods typed.PodInterface) error {
	for next, more := "", true; more; more = next != "" {
		list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: label, Limit: page, Continue: next})
		if err != nil {
			return err
		}
		for _, p := range list.Items {
			o.Stored++
			if !slices.Equal(p.Spec.Containers[0].Command, []string{brokerapi.Binary}) {
				o.Uninjected = append(o.Uninjected, p.Name)
			}
		}
		next = list.Continue
	}
	return nil
}
