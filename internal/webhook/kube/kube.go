// SPDX-License-Identifier: Apache-2.0

// Package kube is what the webhook asks the API server: what an
// AzureKeyVaultSecret says, which architectures the nodes have and where the
// broker is. It reads only those and keeps them in memory; of nodes their labels
// alone, of Services the one.
package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	m.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Service"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Node"), meta.RESTScopeRoot)
	m.Add(admissionv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"), meta.RESTScopeRoot)
	m.Add(admissionv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"), meta.RESTScopeRoot)
	return m
}

// watched lists what is kept in memory.
func watched() []client.Object {
	return []client.Object{&v2beta1.AzureKeyVaultSecret{}, &corev1.Service{}, nodeMetadata()}
}

func nodeMetadata() *metav1.PartialObjectMetadata {
	n := &metav1.PartialObjectMetadata{}
	n.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	return n
}

// requests per second, and at once. Admission reads memory; only an
// AzureKeyVaultSecret that is not there is asked for.
const (
	requestsPerSecond = 50
	requestsAtOnce    = 100
)

// New connects to an API server. broker is the Service of the broker. Run fills
// the memory.
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
	// The selector is what the role's resourceNames allow to watch.
	one := cache.Config{FieldSelector: fields.OneTermEqualSelector("metadata.name", broker.Name)}
	kept, err := cache.New(cfg, cache.Options{
		Scheme: scheme,
		Mapper: mapper(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Service{}: {Namespaces: map[string]cache.Config{broker.Namespace: one}},
			nodeMetadata():    {Transform: onlyLabels},
		},
		DefaultTransform:            cache.TransformStripManagedFields(),
		ReaderFailOnMissingInformer: true, // a read of anything else would start a watch that we may not have
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	for _, o := range watched() {
		if _, err := kept.GetInformer(ctx, o, cache.BlockUntilSynced(false)); err != nil {
			return nil, fmt.Errorf("watching %T: %w", o, err)
		}
	}
	return &Source{live: live, kept: kept, cache: kept, broker: broker}, nil
}

// NewFrom asks these clients, of which kept may lag behind.
func NewFrom(live client.Client, kept client.Reader, broker client.ObjectKey) *Source {
	return &Source{live: live, kept: kept, broker: broker}
}

// onlyLabels keeps of a node what Architectures reads; annotations of nodes are
// large and change all the time.
func onlyLabels(in any) (any, error) {
	if n, ok := in.(*metav1.PartialObjectMetadata); ok {
		n.Annotations, n.ManagedFields, n.OwnerReferences = nil, nil, nil
	}
	return in, nil
}

// Client speaks to the API server.
func (s *Source) Client() client.Client { return s.live } //nolint:ireturn // controller-runtime has no other type

// Run keeps the memory up to date until ctx ends.
func (s *Source) Run(ctx context.Context) error { return s.cache.Start(ctx) }

// errNotSynced is what a readiness probe sees.
var errNotSynced = errors.New("AzureKeyVaultSecrets, nodes and the broker's Service are not all in memory yet")

// Ready is nil once the memory has been filled.
func (s *Source) Ready(r *http.Request) error {
	for _, o := range watched() {
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
	var akvs v2beta1.AzureKeyVaultSecret
	key := client.ObjectKey{Namespace: namespace, Name: name}
	err := s.kept.Get(ctx, key, &akvs)
	if apierrors.IsNotFound(err) {
		err = s.live.Get(ctx, key, &akvs)
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading AzureKeyVaultSecret %s: %w", key, err)
	default:
		return &akvs, nil
	}
}

// Architectures lists those of the nodes that run Linux, as GOARCH, sorted. While
// no node is known it is our own.
func (s *Source) Architectures(ctx context.Context) ([]string, error) {
	var nodes metav1.PartialObjectMetadataList
	nodes.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
	if err := s.kept.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	var found []string
	for _, n := range nodes.Items {
		arch, os := n.Labels[corev1.LabelArchStable], n.Labels[corev1.LabelOSStable]
		if arch != "" && (os == "" || os == string(corev1.Linux)) {
			found = append(found, arch)
		}
	}
	if len(found) == 0 {
		return []string{runtime.GOARCH}, nil
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// ErrNoBroker is a broker without an address.
var ErrNoBroker = errors.New("the broker's Service has no address yet")

// Brokers lists where the broker is, as address:port: each ClusterIP of its
// Service, so that containers need no DNS. The port is the one named https.
func (s *Source) Brokers(ctx context.Context) ([]string, error) {
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
