// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Controller is the configuration of azure-keyvault-controller.
type Controller struct {
	Log     Log
	Azure   Azure
	Reading Reading

	Kubeconfig    string // file; empty is the pod's own account
	Master        string // address of the API server; empty is the kubeconfig's
	Namespace     string // of the Lease; the only one watched unless AllNamespaces
	AllNamespaces bool
	ObjectLabels  string // label selector of the resources to care for; empty is all

	Resync        time.Duration // how often each object is looked for; zero is never
	MinRefresh    time.Duration // the shortest interval that a resource may ask for
	StaleAfter    int           // how many intervals an object may go unconfirmed
	ExpiryWarning time.Duration // how long before its expiry an object is near it; zero is never
	StatusRate    int           // changes to not ready that are written per second
	Concurrency   int           // resources in work at once
	Port          int           // of /healthz, /readyz and /metrics

	EventQueue  string        // URL of the Storage queue with a vault's events; empty is none
	EventPoll   time.Duration // how often the queue is asked
	EventResync time.Duration // how often each object is looked for when there is a queue

	Profiling bool // serve /debug/pprof on Port

	Elect      bool   // let one of several replicas work
	ElectionID string // name of the Lease

	Version bool // print the version and end
}

// ParseController reads the controller's flags, then its environment. Help and
// the flags' own complaints go to output.
func ParseController(args []string, getenv func(string) string, output io.Writer) (Controller, error) {
	var c Controller
	var ignored time.Duration
	o := newOptions("azure-keyvault-controller",
		"azure-keyvault-controller keeps Kubernetes Secrets and ConfigMaps equal to objects in Azure Key Vault.", output)
	c.Azure.declare(o)
	c.Reading.declare(o)
	o.text(&c.Kubeconfig, "kubeconfig", "KUBECONFIG", "", "kubeconfig file, to run outside of a cluster")
	o.text(&c.Master, "master", "", "", "address of the API server, when the kubeconfig's does not fit")
	o.text(&c.Namespace, "namespace", "RUNTIME_NAMESPACE", "", "namespace of the Lease, and the one that is watched when not all are; the pod's own when left out")
	o.boolean(&c.AllNamespaces, "watch-all-namespaces", "WATCH_ALL_NAMESPACES", true, "care for AzureKeyVaultSecrets in all namespaces, or in --namespace alone")
	o.text(&c.ObjectLabels, "object-labels", "OBJECT_LABELS", "", "care only for AzureKeyVaultSecrets with these labels, as key=value,key2=value2")
	o.duration(&c.Resync, "azure-resync-period", "AZURE_RESYNC_PERIOD", 30*time.Second, "how often each object is looked for in its vault; 0 looks only when an AzureKeyVaultSecret, or its Secret or ConfigMap, changes, and once a day at versions that a spec names")
	o.text(&c.EventQueue, "event-queue", "EVENT_QUEUE", "", "URL of a Storage queue that Event Grid puts the vaults' events into, such as https://account.queue.core.windows.net/queue; without one, changes are found by looking")
	o.duration(&c.EventPoll, "event-poll-interval", "EVENT_POLL_INTERVAL", time.Second, "how often the queue is asked for events")
	o.duration(&c.EventResync, "event-resync-period", "EVENT_RESYNC_PERIOD", 10*time.Minute, "how often each object is looked for when there is a queue, because nothing tells of what is disabled or deleted; the longer of this and --azure-resync-period counts")
	o.integer(&c.StaleAfter, "stale-after", "STALE_AFTER", 3, "for how many intervals a vault may fail to confirm an object before its AzureKeyVaultSecrets get the condition Stale")
	o.duration(&ignored, "kube-resync-period", "", 30*time.Second, "accepted for older manifests; has no effect")
	o.duration(&c.MinRefresh, "min-refresh-interval", "MIN_REFRESH_INTERVAL", 30*time.Second, "the shortest spec.refresh.interval that is honoured; a shorter one counts as this")
	o.duration(&c.ExpiryWarning, "expiry-warning", "EXPIRY_WARNING", 720*time.Hour, "how long before its expiry an object counts as near it; 0 warns of nothing")
	o.integer(&c.StatusRate, "status-rate", "STATUS_RATE", 50, "how many AzureKeyVaultSecrets per second may be written to be not ready, so that an outage of a vault is none of the API server")
	o.integer(&c.Concurrency, "concurrency", "CONCURRENCY", 8, "how many AzureKeyVaultSecrets are in work at once")
	o.integer(&c.Port, "http-port", "HTTP_PORT", 9000, "port of /healthz, /readyz and /metrics")
	o.boolean(&c.Profiling, "profiling", "PROFILING", false, "serve profiles of time and memory under /debug/pprof on --http-port")
	o.boolean(&c.Elect, "leader-elect", "LEADER_ELECT", true, "let one of several replicas work while the others wait")
	o.text(&c.ElectionID, "leader-election-id", "LEADER_ELECTION_ID", "azure-keyvault-controller", "name of the Lease")
	c.Log.declare(o)
	o.boolean(&c.Version, "version", "", false, "print the version and end")
	if err := o.parse(args, getenv); err != nil {
		return Controller{}, err
	}
	return c, c.validate()
}

func (c *Controller) validate() error {
	errs := []error{
		c.Azure.validate(), c.Log.validate(), c.Reading.validate(), c.validateTimes(), c.validateEvents(),
		between("--stale-after", c.StaleAfter, 2, 1000),
		between("--status-rate", c.StatusRate, 1, 1000),
		between("--concurrency", c.Concurrency, 1, 256),
		port("--http-port", c.Port),
	}
	if c.Elect && c.ElectionID == "" {
		errs = append(errs, errors.New("--leader-election-id: the Lease needs a name"))
	}
	return errors.Join(errs...)
}

func (c *Controller) validateTimes() error {
	var errs []error
	if c.Resync < 0 || c.Resync > 0 && c.Resync < time.Second {
		errs = append(errs, fmt.Errorf("--azure-resync-period: %s is neither 0 nor at least one second", c.Resync))
	}
	if c.MinRefresh < time.Second {
		errs = append(errs, fmt.Errorf("--min-refresh-interval: %s is not at least one second", c.MinRefresh))
	}
	if c.ExpiryWarning < 0 {
		errs = append(errs, fmt.Errorf("--expiry-warning: %s is negative", c.ExpiryWarning))
	}
	return errors.Join(errs...)
}

func (c *Controller) validateEvents() error {
	var errs []error
	if c.EventPoll < 100*time.Millisecond {
		errs = append(errs, fmt.Errorf("--event-poll-interval: %s is not at least 100ms", c.EventPoll))
	}
	if c.EventResync < time.Second {
		errs = append(errs, fmt.Errorf("--event-resync-period: %s is not at least one second", c.EventResync))
	}
	return errors.Join(errs...)
}

// Interval is how often each object is looked for unless its resource says so; zero
// is never.
func (c *Controller) Interval() time.Duration {
	if c.EventQueue == "" || c.Resync == 0 {
		return c.Resync
	}
	return max(c.Resync, c.EventResync)
}
