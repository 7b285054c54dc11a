// SPDX-License-Identifier: Apache-2.0

// Package webhook answers admission: it decodes a pod, gathers the facts that
// inject needs (what images run, which AzureKeyVaultSecrets exist), lets inject
// decide, and answers with its patch and its words. Of workloads it decides about
// the template and answers with the words alone. It changes nothing anywhere, so a
// dry run and a repeated call are answered like any other.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
)

// A Cluster is read for facts.
type Cluster interface {
	// Secret returns nil for one that does not exist.
	Secret(ctx context.Context, namespace, name string) (*v2beta1.AzureKeyVaultSecret, error)
	// Nodes lists them; never empty without an error.
	Nodes(ctx context.Context) ([]inject.Node, error)
	// Brokers lists the broker's addresses.
	Brokers(ctx context.Context) ([]string, error)
}

// SourceFunc returns the keys of a ConfigMap or Secret with those texts that hold
// placeholders, or nil if there is none.
type SourceFunc func(ctx context.Context, namespace string, source inject.Source) (map[string]string, error)

// Lookup asks what an image runs.
type Lookup struct {
	Image         string
	Architectures []string // of the nodes the pod may run on; not empty
	PullSecrets   []inject.PullSecret
}

// CommandFunc says what an image runs. After a failure the answer's Err is for
// people and the error for the log.
type CommandFunc func(context.Context, Lookup) (inject.Command, error)

// PullSecretsFunc reads the named Secrets and those that the service account
// names. One that cannot be used says so itself.
type PullSecretsFunc func(ctx context.Context, namespace, account string, names []string) []inject.PullSecret

// AccountFunc reads a service account. Its error is one that may pass.
type AccountFunc func(ctx context.Context, namespace, name string) (inject.Account, error)

// SecretFunc returns an AzureKeyVaultSecret as it is now, or nil for one that does not
// exist.
type SecretFunc func(ctx context.Context, namespace, name string) (*v2beta1.AzureKeyVaultSecret, error)

// Options of a Handler.
type Options struct {
	Settings inject.Settings // but Brokers and CABundle, which change
	// Direct are the Settings for pods that read their vaults themselves; nil serves none.
	Direct   *inject.Settings
	Account  AccountFunc   // asked for Direct alone
	Secret   SecretFunc    // likewise, in the place of Cluster
	CABundle func() string // PEM, or empty while there is none
	Excluded []string      // namespaces that are never injected
	Command  CommandFunc
	// Source is asked for what containers' env and envFrom name, but not for kinds
	// that it leaves out: nil knows none.
	Source map[inject.SourceKind]SourceFunc
	// PullSecrets is nil where the operator does not want them to be read.
	PullSecrets PullSecretsFunc
	Cluster     Cluster
	Guard       Guard
	Metrics     *Metrics
	Log         *slog.Logger
}

// Handler decides about pods. It is an admission.Handler.
type Handler struct{ Options }

// NewHandler returns a Handler.
func NewHandler(o Options) *Handler { return &Handler{o} }

// Handle answers one request:
//
//	outcome     allowed  code  when
//	skipped     yes      200   nothing to inject, an excluded namespace, or not a new pod
//	injected    yes      200   patched, or injected already
//	refused     no       403   a person must change the pod; the message says how
//	notReady    no       503   we are not ready; the same pod may be accepted later
//	unreadable  no       400   the object is not a pod
func (h *Handler) Handle(ctx context.Context, req admission.Request) admission.Response {
	start := time.Now()
	response, outcome := h.handle(ctx, req)
	h.Metrics.admitted(outcome, time.Since(start))
	return response
}

func (h *Handler) handle(ctx context.Context, req admission.Request) (admission.Response, outcome) {
	if req.Operation != admissionv1.Create || req.Kind.Kind != "Pod" || req.SubResource != "" {
		return admission.Allowed(""), outcomeSkipped
	}
	pod, err := inject.Read(req.Object.Raw)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err), outcomeUnreadable
	}
	h.Metrics.inspected(pod.Containers())
	log := h.Log.With(telemetry.KeyNamespace, req.Namespace, telemetry.KeyPod, pod.Name(), telemetry.KeyRequestID, string(req.UID))
	if slices.Contains(h.Excluded, req.Namespace) {
		return h.excluded(req.Namespace, pod)
	}
	if err := h.teach(ctx, log, req.Namespace, pod); err != nil {
		return refusal(log, err)
	}
	facts, err := h.facts(ctx, log, req, pod)
	if err != nil {
		return refusal(log, err)
	}
	patch, report, err := inject.Decide(facts, h.settings(ctx))
	if err != nil {
		return refusal(log, err)
	}
	return h.accept(log, patch, report)
}

// direct is the same Handler for pods that read their vaults themselves.
func (h *Handler) direct() *Handler {
	o := h.Options
	o.Settings, o.Cluster = *o.Direct, current{o.Cluster, o.Secret}
	return &Handler{o}
}

// current is a cluster whose AzureKeyVaultSecrets are not those of a moment ago: what the
// pod is told now, it is told for its life.
type current struct {
	Cluster

	secret SecretFunc
}

func (c current) Secret(ctx context.Context, namespace, name string) (*v2beta1.AzureKeyVaultSecret, error) {
	return c.secret(ctx, namespace, name)
}

// errSources is all that a person is told: the log has the rest.
var errSources = errors.New("the Env Injector cannot read the ConfigMaps and Secrets that the pod's containers refer to; try again in a moment")

// maxSources of one pod, and how many are read at once, so that one pod's admission
// cannot keep the others' waiting.
const (
	maxSources    = 100
	sourcesAtOnce = 8
)

var errManySources = fmt.Errorf("the pod's containers refer to more than %d ConfigMaps and Secrets, and each must be looked at for placeholders: "+
	"opt those out that have none, with the annotation %sCONTAINER \"false\"", maxSources, inject.AnnotationInject)

// teach has the pod learn what its sources hold.
func (h *Handler) teach(ctx context.Context, log *slog.Logger, namespace string, pod *inject.Pod) error {
	sources := slices.DeleteFunc(pod.Sources(), func(s inject.Source) bool { return h.Source[s.Kind] == nil })
	if len(sources) > maxSources {
		return errManySources
	}
	found, err := h.sources(ctx, namespace, sources)
	if err != nil {
		log.Warn("cannot read what a pod's containers refer to", telemetry.KeyError, err)
		return errSources
	}
	pod.Learn(found)
	return nil
}

func (h *Handler) excluded(namespace string, pod *inject.Pod) (admission.Response, outcome) {
	response := admission.Allowed("")
	if pod.HasPlaceholder() {
		response = response.WithWarnings("pods of namespace " + namespace + " are never injected: their placeholders stay as they are")
	}
	return response, outcomeSkipped
}

func refusal(log *slog.Logger, err error) (admission.Response, outcome) {
	log.Info("refused a pod", telemetry.KeyReason, err.Error())
	if errors.Is(err, inject.ErrNotReady) || errors.Is(err, errSources) || errors.Is(err, errUnknown) {
		return admission.Errored(http.StatusServiceUnavailable, err), outcomeNotReady
	}
	return admission.Denied(err.Error()), outcomeRefused
}

func (h *Handler) accept(log *slog.Logger, patch inject.Patch, report inject.Report) (admission.Response, outcome) {
	response := admission.Allowed("").WithWarnings(told(report.Warnings)...)
	switch {
	case len(report.Containers) == 0:
		return response, outcomeSkipped
	case len(patch) == 0:
		return response, outcomeInjected
	}
	text, err := json.Marshal(patch)
	if err != nil { // texts and numbers always marshal
		return admission.Errored(http.StatusInternalServerError, inject.ErrNotReady), outcomeNotReady
	}
	kind := admissionv1.PatchTypeJSONPatch
	response.Patch, response.PatchType = text, &kind
	log.Info("injected a pod", "containers", len(report.Containers), "delivery", string(report.Delivery), "warnings", len(report.Warnings))
	return response, outcomeInjected
}

// settings completes what the operator configured with what the cluster says. A
// part that is missing is inject's to notice.
func (h *Handler) settings(ctx context.Context) inject.Settings {
	s := h.Settings
	if s.Direct != nil {
		return s
	}
	s.CABundle = h.CABundle()
	brokers, err := h.Cluster.Brokers(ctx)
	if err != nil {
		h.Log.Warn("cannot tell where the broker is", telemetry.KeyError, err)
	}
	s.Brokers = brokers
	return s
}

// errUnknown is about what a pod that reads its vaults itself must be told now.
var errUnknown = errors.New("the Env Injector cannot read the pod's service account or AzureKeyVaultSecrets; try again in a moment")

// facts asks for everything at once, within ctx. What cannot be learned is a fact
// too, unless the pod cannot do without it.
func (h *Handler) facts(ctx context.Context, log *slog.Logger, req admission.Request, pod *inject.Pod) (inject.Facts, error) {
	f := inject.Facts{Pod: pod, Namespace: req.Namespace}
	var all sync.WaitGroup
	var accountErr error
	if h.Settings.Direct != nil && pod.HasPlaceholder() {
		all.Go(func() { f.Account, accountErr = h.Account(ctx, req.Namespace, pod.ServiceAccount()) })
	}
	all.Go(func() { f.Commands = h.commands(ctx, req.Namespace, pod) })
	all.Go(func() { f.Secrets = h.secrets(ctx, req.Namespace, pod.Secrets()) })
	all.Go(func() { f.Nodes = h.nodes(ctx) })
	all.Wait()
	if accountErr != nil {
		log.Warn("cannot read a service account", telemetry.KeyError, accountErr)
		return f, errUnknown
	}
	if h.Settings.Direct != nil && len(f.Secrets) < len(pod.Secrets()) {
		return f, errUnknown // the log has why
	}
	return f, nil
}

// sources reads them, several at once. Not to know one is not to know what its pod asks
// for.
func (h *Handler) sources(ctx context.Context, namespace string, list []inject.Source) (inject.Sources, error) {
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		slots = make(chan struct{}, sourcesAtOnce)
		found = inject.Sources{}
		errs  []error
	)
	for _, source := range list {
		read := h.Source[source.Kind]
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			texts, err := read(ctx, namespace, source)
			mu.Lock()
			defer mu.Unlock()
			found[source] = texts
			errs = append(errs, err)
		})
	}
	all.Wait()
	return found, errors.Join(errs...)
}

// nodes are none where nothing depends on them, or where they are not known.
func (h *Handler) nodes(ctx context.Context) []inject.Node {
	if h.Settings.Delivery != inject.DeliveryAuto {
		return nil
	}
	nodes, err := h.Cluster.Nodes(ctx)
	if err != nil {
		h.Log.Warn("cannot tell whether the nodes mount images", telemetry.KeyError, err)
		return nil
	}
	return nodes
}

// imagesAtOnce bounds what one pod has going on with registries.
const imagesAtOnce = 16

// commands asks only about images whose command the pod does not give, and reads
// a pull secret only if it asks.
func (h *Handler) commands(ctx context.Context, namespace string, pod *inject.Pod) map[string]inject.Command {
	images := pod.Images()
	if len(images) == 0 {
		return nil
	}
	nodes, err := h.Cluster.Nodes(ctx)
	if err != nil {
		h.Log.Warn("cannot tell what the nodes are", telemetry.KeyError, err)
		return nil
	}
	lookup := Lookup{Architectures: pod.Architectures(nodes), PullSecrets: h.pullSecrets(ctx, namespace, pod)}
	answers := make([]inject.Command, len(images))
	var all sync.WaitGroup
	slots := make(chan struct{}, imagesAtOnce)
	for i, image := range images {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			each := lookup
			each.Image = image
			answers[i] = h.command(ctx, each)
		})
	}
	all.Wait()
	commands := map[string]inject.Command{}
	for i, image := range images {
		commands[image] = answers[i]
	}
	return commands
}

func (h *Handler) pullSecrets(ctx context.Context, namespace string, pod *inject.Pod) []inject.PullSecret {
	names := pod.PullSecrets()
	switch {
	case h.PullSecrets != nil:
		return h.PullSecrets(ctx, namespace, pod.ServiceAccount(), names)
	case len(names) > 0:
		return []inject.PullSecret{inject.NoPullSecrets()}
	}
	return nil
}

// maxRemark bounds what of a registry's answer goes to the log.
const maxRemark = 300

func (h *Handler) command(ctx context.Context, l Lookup) inject.Command {
	c, err := h.Command(ctx, l)
	if err != nil {
		h.Metrics.containersFailed.Inc()
		remark := err.Error()
		h.Log.Warn("cannot tell what an image runs", telemetry.KeyImage, l.Image, telemetry.KeyError, remark[:min(len(remark), maxRemark)])
	}
	return c
}

// secrets leaves out what could not be read: warnings are a courtesy.
func (h *Handler) secrets(ctx context.Context, namespace string, names []string) map[string]*v2beta1.AzureKeyVaultSecret {
	found := map[string]*v2beta1.AzureKeyVaultSecret{}
	for _, name := range names {
		akvs, err := h.Cluster.Secret(ctx, namespace, name)
		if ctx.Err() != nil {
			break // of so many that time is up
		}
		if err != nil {
			h.Log.Warn("cannot look for an AzureKeyVaultSecret", telemetry.KeyNamespace, namespace, telemetry.KeyName, name, telemetry.KeyError, err)
			continue
		}
		found[name] = akvs
	}
	return found
}
