// SPDX-License-Identifier: Apache-2.0

// Package kube is what the broker asks the API server: whose token this is,
// which pod lives under a name, whether its namespace is guarded, and what an
// AzureKeyVaultSecret says. It reads only those, writes nothing, and lets no text of
// the API server out.
//
// Pods, tokens and, where it counts, namespaces are asked for each time, so that what
// was deleted a moment ago is gone. AzureKeyVaultSecrets are kept in memory, and asked
// for when missing there, so that one created together with its pod is found.
package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// Source answers the broker's questions. It is safe for concurrent use.
type Source struct {
	live  client.Client // speaks to the API server
	kept  client.Reader // AzureKeyVaultSecrets in memory
	cache cache.Cache   // behind kept; nil in tests
}

// Scheme knows what the broker asks for, and nothing else.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	return s, errors.Join(authenticationv1.AddToScheme(s), corev1.AddToScheme(s), v2beta1.AddToScheme(s))
}

// requests per second, and at once: two per container start, so that a node's
// 250 pods starting together are served within seconds. The API server's own
// fairness is the limit that protects it.
const (
	requestsPerSecond = 200
	requestsAtOnce    = 500
)

// New connects to an API server. Run fills the memory.
func New(ctx context.Context, cfg *rest.Config) (*Source, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	cfg = rest.CopyConfig(cfg)
	cfg.QPS, cfg.Burst = requestsPerSecond, requestsAtOnce
	live, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	kept, err := cache.New(cfg, cache.Options{
		Scheme:                      scheme,
		DefaultTransform:            cache.TransformStripManagedFields(),
		ReaderFailOnMissingInformer: true, // a read of anything else would start a watch that we may not have
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	if _, err := kept.GetInformer(ctx, &v2beta1.AzureKeyVaultSecret{}, cache.BlockUntilSynced(false)); err != nil {
		return nil, fmt.Errorf("watching AzureKeyVaultSecrets: %w", err)
	}
	return &Source{live: live, kept: kept, cache: kept}, nil
}

// NewFrom asks these clients, of which kept may lag behind.
func NewFrom(live client.Client, kept client.Reader) *Source {
	return &Source{live: live, kept: kept}
}

// Run keeps the memory up to date until ctx ends.
func (s *Source) Run(ctx context.Context) error { return s.cache.Start(ctx) }

// errNotSynced is what a readiness probe sees.
var errNotSynced = errors.New("the AzureKeyVaultSecrets are not all in memory yet")

// Ready is nil once the memory has been filled.
func (s *Source) Ready(r *http.Request) error {
	i, err := s.cache.GetInformer(r.Context(), &v2beta1.AzureKeyVaultSecret{}, cache.BlockUntilSynced(false))
	if err != nil || !i.HasSynced() {
		return errNotSynced
	}
	return nil
}

// Pod returns the pod of that name, or nil.
func (s *Source) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	var pod corev1.Pod
	found, err := get(ctx, s.live, namespace, name, &pod)
	if !found {
		return nil, err
	}
	return &pod, nil
}

var errNoNamespace = errors.New("a pod's namespace is gone")

// Guarded says whether a namespace keeps people out of its containers.
func (s *Source) Guarded(ctx context.Context, namespace string) (bool, error) {
	var ns metav1.PartialObjectMetadata
	ns.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	found, err := get(ctx, s.live, "", namespace, &ns)
	switch {
	case err != nil:
		return false, err
	case !found: // its pods are on their way after it
		return false, errNoNamespace
	default:
		return ns.Labels[brokerapi.GuardLabel] == brokerapi.GuardValue, nil
	}
}

// maxLookups is how many AzureKeyVaultSecrets that are not in memory are asked for
// one by one. Whoever names very many that do not exist costs one list.
const maxLookups = 8

// Secrets returns those of the names that exist, by name.
func (s *Source) Secrets(ctx context.Context, namespace string, names []string) (map[string]*v2beta1.AzureKeyVaultSecret, error) {
	found := map[string]*v2beta1.AzureKeyVaultSecret{}
	missing, err := look(ctx, s.kept, namespace, names, found)
	if err != nil {
		return nil, err
	}
	if len(missing) <= maxLookups {
		_, err = look(ctx, s.live, namespace, missing, found)
		return found, err
	}
	var all v2beta1.AzureKeyVaultSecretList
	if err := s.live.List(ctx, &all, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing AzureKeyVaultSecrets of %s: %w", namespace, plain(err))
	}
	for i := range all.Items {
		if _, wanted := slices.BinarySearch(missing, all.Items[i].Name); wanted {
			found[all.Items[i].Name] = &all.Items[i]
		}
	}
	return found, nil
}

// look adds to found what exists and returns the names of the others, sorted.
func look(ctx context.Context, from client.Reader, namespace string, names []string, found map[string]*v2beta1.AzureKeyVaultSecret) ([]string, error) {
	var missing []string
	for _, name := range names {
		var akvs v2beta1.AzureKeyVaultSecret
		exists, err := get(ctx, from, namespace, name, &akvs)
		switch {
		case err != nil:
			return nil, err
		case exists:
			found[name] = &akvs
		default:
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing, nil
}

func get(ctx context.Context, from client.Reader, namespace, name string, into client.Object) (bool, error) {
	err := from.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, into)
	switch {
	case err == nil:
		return true, nil
	case apierrors.IsNotFound(err):
		return false, nil
	default:
		return false, fmt.Errorf("reading %T %s/%s: %w", into, namespace, name, plain(err))
	}
}

// plain keeps the kind of an answer and drops its text.
func plain(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	}
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return fmt.Errorf("the API server answered %d", status.Status().Code)
	}
	return errors.New("the API server did not answer")
}
