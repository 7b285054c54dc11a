// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/internal/inject"
)

// A roll is the nodes as they were at one time, so that an admission does not collect
// thousands of them again.
type roll struct {
	at    uint64 // how many changes it knows of
	nodes []inject.Node
}

// essentials keeps of a node what a roll tells. The rest is large, its list of images
// above all, and changes all the time.
func essentials(in any) (any, error) {
	n, ok := in.(*corev1.Node)
	if !ok {
		return in, nil
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion, Labels: n.Labels},
		Spec:       corev1.NodeSpec{Unschedulable: n.Spec.Unschedulable},
		Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{
			KubeletVersion: n.Status.NodeInfo.KubeletVersion, ContainerRuntimeVersion: n.Status.NodeInfo.ContainerRuntimeVersion,
		}},
	}, nil
}

// followNodes counts the changes that make a roll out of date. A node writes its
// status every few minutes, which mostly changes nothing here.
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
	return aOK && bOK && a.Spec.Unschedulable == b.Spec.Unschedulable && a.Status.NodeInfo == b.Status.NodeInfo && maps.Equal(a.Labels, b.Labels)
}

// Nodes lists them, for reading alone. While of none the architecture is known it is one
// like our own, of which nothing else is said.
func (s *Source) Nodes(ctx context.Context) ([]inject.Node, error) {
	// What changes from here on is counted, and has the next one look again.
	at := s.changes.Load()
	if last := s.roll.Load(); last != nil && last.at == at {
		return last.nodes, nil
	}
	var list corev1.NodeList
	if err := s.kept.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	r := &roll{at: at}
	for i := range list.Items {
		r.nodes = append(r.nodes, node(&list.Items[i]))
	}
	if !slices.ContainsFunc(r.nodes, func(n inject.Node) bool { return n.Labels[corev1.LabelArchStable] != "" }) {
		r.nodes = []inject.Node{{Labels: map[string]string{corev1.LabelArchStable: runtime.GOARCH, corev1.LabelOSStable: runtime.GOOS}}}
	}
	if s.cache != nil { // somebody counts
		s.roll.Store(r)
	}
	return r.nodes, nil
}

func node(n *corev1.Node) inject.Node {
	return inject.Node{
		Name: n.Name, Labels: n.Labels, Unschedulable: n.Spec.Unschedulable,
		Kubelet: n.Status.NodeInfo.KubeletVersion, Runtime: n.Status.NodeInfo.ContainerRuntimeVersion,
	}
}
