// SPDX-License-Identifier: Apache-2.0

// Package kube is what the webhook asks the API server: what an
// AzureKeyVaultSecret says, what the nodes are and where the broker is. These it
// keeps in memory; of nodes the few fields that count, of Services the one. The
// ConfigMaps, Secrets and service accounts that a pod names, and pods into which
// somebody wants to get, it asks for one by one, and keeps none.
package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/singleflight"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
)

// Source answers the webhook's questions. It is safe for concurrent use.
type Source struct {
	live   client.Client // speaks to the API server
	kept   client.Reader // in memory
	cache  cache.Cache   // behind kept; nil in tests
	broker client.ObjectKey

	changes atomic.Uint64        // of nodes
	roll    atomic.Pointer[roll] // of the nodes
	flights singleflight.Group   // of named
}

// Scheme knows what the webhook asks for, and nothing else.
func Scheme() (*k8sruntime.Scheme, error) {
	s := k8sruntime.NewScheme()
	return s, errors.Join(admissionv1.AddToScheme(s), corev1.AddToScheme(s), v2beta1.AddToScheme(s))
}

// mapper spares the process asking the API server what it knows already, so that
// it starts, and waits, while there is none.
func mapper() meta.RESTMapper { //nolint:ireturn // the libraries take the interface
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(v2beta1.GroupVersion.WithKind(v2beta1.Kind), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Service"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("ServiceAccount"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Node"), meta.RESTScopeRoot)
	m.Add(admissionv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"), meta.RESTScopeRoot)
	m.Add(admissionv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"), meta.RESTScopeRoot)
	return m
}

// watched lists what is kept in memory.
func (s *Source) watched() []client.Object {
	list := []client.Object{&v2beta1.AzureKeyVaultSecret{}, &corev1.Node{}}
	if s.broker.Name != "" {
		list = append(list, &corev1.Service{})
	}
	return list
}

// requests per second, and at once. Admission asks for the ConfigMaps and Secrets that
// containers name, and for a pod without a command its service account and pull
// secrets; the rest it reads in memory. The API server's own fairness is the limit that
// protects it.
const (
	requestsPerSecond = 200
	requestsAtOnce    = 500
)

// New connects to an API server. broker is the Service of the broker; without a name
// there is none. Run fills the memory.
func New(ctx context.Context, cfg *rest.Config, broker client.ObjectKey) (*Source, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	cfg = rest.CopyConfig(cfg)
	cfg.QPS, cfg.Burst = requestsPerSecond, requestsAtOnce
	live, err := client.New(cfg, client.Options{Scheme: scheme, Mapper: mapper()})
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	objects := map[client.Object]cache.ByObject{&corev1.Node{}: {Transform: essentials}}
	if broker.Name != "" {
		// The selector is what the role's resourceNames allow to watch.
		one := cache.Config{FieldSelector: fields.OneTermEqualSelector("metadata.name", broker.Name)}
		objects[&corev1.Service{}] = cache.ByObject{Namespaces: map[string]cache.Config{broker.Namespace: one}}
	}
	kept, err := cache.New(cfg, cache.Options{
		Scheme:                      scheme,
		Mapper:                      mapper(),
		ByObject:                    objects,
		DefaultTransform:            cache.TransformStripManagedFields(),
		ReaderFailOnMissingInformer: true, // a read of anything else would start a watch that we may not have
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	s := &Source{live: live, kept: kept, cache: kept, broker: broker}
	for _, o := range s.watched() {
		if _, err := kept.GetInformer(ctx, o, cache.BlockUntilSynced(false)); err != nil {
			return nil, fmt.Errorf("watching %T: %w", o, err)
		}
	}
	return s, s.followNodes(ctx)
}

// NewFrom asks these clients, of which kept may lag behind.
func NewFrom(live client.Client, kept client.Reader, broker client.ObjectKey) *Source {
	return &Source{live: live, kept: kept, broker: broker}
}

// Client speaks to the API server.
func (s *Source) Client() client.Client { return s.live } //nolint:ireturn // controller-runtime has no other type

// Run keeps the memory up to date until ctx ends.
func (s *Source) Run(ctx context.Context) error { return s.cache.Start(ctx) }

// errNotSynced is what a readiness probe sees.
var errNotSynced = errors.New("AzureKeyVaultSecrets, nodes and, if there is a broker, its Service are not all in memory yet")

// Ready is nil once the memory has been filled.
func (s *Source) Ready(r *http.Request) error {
	for _, o := range s.watched() {
		i, err := s.cache.GetInformer(r.Context(), o, cache.BlockUntilSynced(false))
		if err != nil || !i.HasSynced() {
			return errNotSynced
		}
	}
	return nil
}

// Secret returns the AzureKeyVaultSecret of that name, or nil. One that is not in
// memory is asked for: it may have been made a moment before the pod.
func (s *Source) Secret(ctx context.Context, namespace, name string) (*v2beta1.AzureKeyVaultSecret, error) {
	akvs, err := secretOf(ctx, s.kept, namespace, name)
	if akvs == nil && err == nil {
		return s.SecretNow(ctx, namespace, name)
	}
	return akvs, err
}

// SecretNow returns it as the API server has it, not as it is in memory.
func (s *Source) SecretNow(ctx context.Context, namespace, name string) (*v2beta1.AzureKeyVaultSecret, error) {
	return secretOf(ctx, s.live, namespace, name)
}

func secretOf(ctx context.Context, from client.Reader, namespace, name string) (*v2beta1.AzureKeyVaultSecret, error) {
	var akvs v2beta1.AzureKeyVaultSecret
	key := client.ObjectKey{Namespace: namespace, Name: name}
	err := from.Get(ctx, key, &akvs)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading AzureKeyVaultSecret %s: %w", key, err)
	default:
		return &akvs, nil
	}
}

// Pod returns the pod of that name as it is now, or nil.
func (s *Source) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	var pod corev1.Pod
	found, err := s.get(ctx, namespace, name, &pod)
	if !found {
		return nil, err
	}
	return &pod, nil
}

// ErrNoBroker is a broker without an address.
var ErrNoBroker = errors.New("the broker's Service has no address yet")

// Brokers lists where the broker is, as address:port: each ClusterIP of its
// Service, so that containers need no DNS. The port is the one named https.
func (s *Source) Brokers(ctx context.Context) ([]string, error) {
	if s.broker.Name == "" {
		return nil, ErrNoBroker
	}
	var service corev1.Service
	if err := s.kept.Get(ctx, s.broker, &service); err != nil {
		return nil, fmt.Errorf("reading Service %s: %w", s.broker, err)
	}
	port := slices.IndexFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == "https" })
	if port < 0 {
		return nil, ErrNoBroker
	}
	var found []string
	for _, ip := range service.Spec.ClusterIPs {
		if net.ParseIP(ip) != nil { // it may be "None"
			found = append(found, net.JoinHostPort(ip, strconv.Itoa(int(service.Spec.Ports[port].Port))))
		}
	}
	if len(found) == 0 {
		return nil, ErrNoBroker
	}
	return found, nil
}

// BrokerReady is nil while the broker has an address.
func (s *Source) BrokerReady(r *http.Request) error {
	_, err := s.Brokers(r.Context())
	return err
}
