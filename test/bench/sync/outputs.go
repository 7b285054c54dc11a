// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/akv2k8s/akv2k8s/test/bench"
)

// outputs watches what the cluster's Secrets hold and knows since when each is what
// it should be. It asks the API server alone: what the Controller says of itself
// plays no part.
type outputs struct {
	mu     sync.Mutex
	states []state // by object
	index  map[string]int
	wrong  int
	latest time.Time // when an output last became right
}

type state struct {
	want, held string
	wanted     time.Time // when want became the vault's value
	right      time.Time // when it was seen in the cluster
}

// newOutputs expects the first value of n objects.
func newOutputs(n int) *outputs {
	o := &outputs{states: make([]state, n), index: map[string]int{}, wrong: n}
	for i := range n {
		o.states[i].want = valueOf(i, 0)
		o.index[namespaceOf(i)+"/"+objectName(i)] = i
	}
	return o
}

// watch follows the cluster's Secrets until ctx ends; it returns once it has begun.
func (o *outputs) watch(ctx context.Context, clients kubernetes.Interface) error {
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(clients.CoreV1().RESTClient(), "secrets", metav1.NamespaceAll, fields.Everything()),
		ObjectType:    &corev1.Secret{},
		Transform:     strip,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(now any) { o.see(now) },
			UpdateFunc: func(_, now any) { o.see(now) },
			DeleteFunc: func(last any) { o.lose(last) },
		},
	})
	go informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return errors.New("the watch of Secrets did not begin")
	}
	return nil
}

// strip keeps what is compared.
func strip(object any) (any, error) {
	if secret, ok := object.(*corev1.Secret); ok {
		secret.ManagedFields, secret.Annotations = nil, nil
		if secret.Namespace == foreignNamespace {
			secret.Data = nil
		}
	}
	return object, nil
}

func (o *outputs) see(object any) {
	if secret, ok := object.(*corev1.Secret); ok {
		o.hold(secret.Namespace+"/"+secret.Name, string(secret.Data[dataKey]))
	}
}

func (o *outputs) lose(object any) {
	if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
		o.hold(key, "")
	}
}

func (o *outputs) hold(key, value string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i, ours := o.index[key]
	if !ours {
		return
	}
	s := &o.states[i]
	was := s.held == s.want
	s.held = value
	switch is := s.held == s.want; {
	case is && !was:
		s.right = time.Now()
		o.latest = s.right
		o.wrong--
	case was && !is:
		o.wrong++
	}
}

// expect says that an object's value becomes another now, and must be called just
// before it does.
func (o *outputs) expect(object, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := &o.states[object]
	was := s.held == s.want
	s.want, s.wanted = valueOf(object, n), time.Now()
	if was {
		o.wrong++
	}
}

// took is how long after the change of its value an object's output was right.
func (o *outputs) took(object int) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.states[object].right.Sub(o.states[object].wanted)
}

// status says how many outputs are wrong and when one last became right.
func (o *outputs) status() (int, time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.wrong, o.latest
}

// await waits until every output is right, and says when the last became so. It
// fails as soon as alive does.
func (o *outputs) await(ctx context.Context, limit time.Duration, alive func() error) (time.Time, error) {
	for end := time.Now().Add(limit); ; {
		wrong, latest := o.status()
		switch {
		case wrong == 0:
			return latest, nil
		case time.Now().After(end):
			return latest, fmt.Errorf("%d of %d outputs are still wrong after %s", wrong, len(o.states), limit)
		}
		if err := errors.Join(alive(), bench.Sleep(ctx, 20*time.Millisecond)); err != nil {
			return latest, err
		}
	}
}
