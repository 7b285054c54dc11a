// SPDX-License-Identifier: Apache-2.0

// Package cluster is how the Controller reads and writes Kubernetes: the manager
// with its caches and its election, and the server-side applies of outputs.
//
// It keeps the contents of no Secret in memory, forces no field that was not seen
// before, and lets no text of the API server out: an admission policy may quote
// what it was shown. Start at NewManager and Outputs.
package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
)

// Scheme knows Kubernetes' own types and ours.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(v2beta1.AddToScheme(s))
	return s
}

// Config says how to reach the API server: by a kubeconfig file, at an address,
// or, with neither, as a pod does.
func Config(kubeconfig, master string) (*rest.Config, error) {
	cfg, err := address(kubeconfig, master)
	if err != nil {
		return nil, err
	}
	cfg.QPS = -1 // the API server's own priority and fairness is the limit that protects it
	return cfg, nil
}

func address(kubeconfig, master string) (*rest.Config, error) {
	if kubeconfig == "" && master == "" {
		cfg, err := rest.InClusterConfig()
		if err != nil {
			return nil, errors.New("not in a cluster: name a kubeconfig file with --kubeconfig or KUBECONFIG")
		}
		return cfg, nil
	}
	cfg, err := clientcmd.BuildConfigFromFlags(master, kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	return cfg, nil
}

// Options of a manager.
type Options struct {
	// Namespace is where the Lease is, and the only one watched unless
	// AllNamespaces. Empty, it is the pod's own.
	Namespace     string
	AllNamespaces bool
	Selector      string // labels of the AzureKeyVaultSecrets to care for; empty is all
	Elect         bool   // let one of several replicas work
	ElectionID    string // name of the Lease
	Log           *slog.Logger
}

// NewManager makes a manager that serves neither metrics nor probes: that is
// telemetry's.
func NewManager(cfg *rest.Config, o Options) (ctrl.Manager, error) { //nolint:ireturn // controller-runtime has only the interface
	cached, err := caches(o)
	if err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: Scheme(),
		Logger: logr.FromSlogHandler(o.Log.Handler()),
		Cache:  cached,
		// Should anyone ask the manager's client for an output's contents, it must not
		// start to cache them all.
		Client:                  client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}}}},
		Metrics:                 metricsserver.Options{BindAddress: "0"},
		LeaderElection:          o.Elect,
		LeaderElectionID:        o.ElectionID,
		LeaderElectionNamespace: o.Namespace,
		// A replica that stops hands over at once instead of after 15 seconds. The
		// process ends right after, which is what makes this safe.
		LeaderElectionReleaseOnCancel: true,
		// The name is for metrics only; several managers may live in one process.
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		return nil, fmt.Errorf("reaching the API server: %w", err)
	}
	return mgr, nil
}

func caches(o Options) (cache.Options, error) {
	selector, err := labels.Parse(o.Selector)
	if err != nil {
		return cache.Options{}, errors.New("the label selector of --object-labels does not parse: want key=value,key2=value2")
	}
	// Only the outputs, and of them only the metadata, because metadata is all that
	// anyone watches.
	outputs := cache.ByObject{
		Label:     labels.SelectorFromSet(labels.Set{v2beta1.OutputLabel: v2beta1.OutputLabelValue}),
		Transform: lean(anyButAdoption),
	}
	out := cache.Options{
		ByObject: map[client.Object]cache.ByObject{
			&v2beta1.AzureKeyVaultSecret{}: {Label: selector, Transform: lean(lastApplied)},
			&corev1.Secret{}:               outputs,
			&corev1.ConfigMap{}:            outputs,
		},
	}
	if !o.AllNamespaces {
		if o.Namespace == "" {
			return cache.Options{}, errors.New("--watch-all-namespaces=false needs --namespace or RUNTIME_NAMESPACE")
		}
		out.DefaultNamespaces = map[string]cache.Config{o.Namespace: {}}
	}
	return out, nil
}

// lean keeps out of memory what nobody here looks at: annotations, and of what is not
// an output who manages which field.
func lean(drop func(annotation string) bool) toolscache.TransformFunc {
	return func(in any) (any, error) {
		object, err := meta.Accessor(in)
		if err != nil {
			return in, nil //nolint:nilerr // the end of a watch is no object
		}
		annotations := object.GetAnnotations()
		maps.DeleteFunc(annotations, func(key, _ string) bool { return drop(key) })
		object.SetAnnotations(annotations)
		if _, whole := in.(*v2beta1.AzureKeyVaultSecret); whole {
			object.SetManagedFields(nil)
		}
		return in, nil
	}
}

// anyButAdoption drops, among others, what kubectl leaves on a Secret that was once
// applied by hand: a copy of its data.
func anyButAdoption(annotation string) bool { return annotation != v2beta1.AdoptAnnotation }

func lastApplied(annotation string) bool { return annotation == corev1.LastAppliedConfigAnnotation }
