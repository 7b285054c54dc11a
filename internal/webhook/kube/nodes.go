// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/internal/inject"
)

// A summary is what thousands of nodes have in common, so that an admission does
// not look at each of them.
type summary struct {
	at            uint64 // how many changes it knows of
	architectures []string
	nodes         []inject.Node
}

// nodeLabels are those of a node that are read.
var nodeLabels = []string{corev1.LabelArchStable, corev1.LabelOSStable}

// essentials keeps of a node what a summary reads. The rest is large, its list of
// images above all, and changes all the time.
func essentials(in any) (any, error) {
	n, ok := in.(*corev1.Node)
	if !ok {
		return in, nil
	}
	labels := map[string]string{}
	for _, name := range nodeLabels {
		if value, ok := n.Labels[name]; ok {
			labels[name] = value
		}
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion, Labels: labels},
		Spec:       corev1.NodeSpec{Unschedulable: n.Spec.Unschedulable},
		Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{
			KubeletVersion: n.Status.NodeInfo.KubeletVersion, ContainerRuntimeVersion: n.Status.NodeInfo.ContainerRuntimeVersion,
		}},
	}, nil
}

// followNodes counts the changes that make a summary out of date. A node writes
// its status every few minutes, which mostly changes nothing here.
func (s *Source) followNodes(ctx context.Context) error {
	informer, err := s.cache.GetInformer(ctx, &corev1.Node{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { s.changes.Add(1) },
		DeleteFunc: func(any) { s.changes.Add(1) },
		UpdateFunc: func(before, after any) {
			if !alike(before, after) {
				s.changes.Add(1)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	return nil
}

func alike(before, after any) bool {
	a, aOK := before.(*corev1.Node)
	b, bOK := after.(*corev1.Node)
	return aOK && bOK && a.Spec.Unschedulable == b.Spec.Unschedulable && a.Status.NodeInfo == b.Status.NodeInfo &&
		!slices.ContainsFunc(nodeLabels, func(name string) bool { return a.Labels[name] != b.Labels[name] })
}

// summarize looks at the nodes if any of them has changed.
func (s *Source) summarize(ctx context.Context) (*summary, error) {
	// What changes from here on is counted, and has the next one look again.
	at := s.changes.Load()
	if last := s.summary.Load(); last != nil && last.at == at {
		return last, nil
	}
	var nodes corev1.NodeList
	if err := s.kept.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	sum := &summary{at: at}
	for i := range nodes.Items {
		sum.add(&nodes.Items[i])
	}
	slices.Sort(sum.architectures)
	sum.architectures = slices.Compact(sum.architectures)
	slices.SortFunc(sum.nodes, func(a, b inject.Node) int {
		return strings.Compare(a.Kubelet+" "+a.Runtime, b.Kubelet+" "+b.Runtime)
	})
	sum.nodes = slices.Compact(sum.nodes)
	if s.cache != nil { // somebody counts
		s.summary.Store(sum)
	}
	return sum, nil
}

func (sum *summary) add(n *corev1.Node) {
	if os := n.Labels[corev1.LabelOSStable]; os != "" && os != string(corev1.Linux) {
		return
	}
	if arch := n.Labels[corev1.LabelArchStable]; arch != "" {
		sum.architectures = append(sum.architectures, arch)
	}
	if !n.Spec.Unschedulable {
		sum.nodes = append(sum.nodes, inject.Node{Kubelet: n.Status.NodeInfo.KubeletVersion, Runtime: n.Status.NodeInfo.ContainerRuntimeVersion})
	}
}

// Architectures lists those of the nodes that run Linux, as GOARCH, sorted. While
// no node is known it is our own.
func (s *Source) Architectures(ctx context.Context) ([]string, error) {
	sum, err := s.summarize(ctx)
	if err != nil {
		return nil, err
	}
	if len(sum.architectures) == 0 {
		return []string{runtime.GOARCH}, nil
	}
	return slices.Clone(sum.architectures), nil
}

// Nodes lists those that run Linux and are not cordoned, alike ones once. One
// that is not ready counts: it may be when a pod is scheduled.
func (s *Source) Nodes(ctx context.Context) ([]inject.Node, error) {
	sum, err := s.summarize(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Clone(sum.nodes), nil
}
