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
	// Architectures of the nodes; never empty without an error.
	Architectures(ctx context.Context) ([]string, error)
	// Brokers lists the broker's addresses.
	Brokers(ctx context.Context) ([]string, error)
}

// CommandFunc says what an image runs on nodes of these architectures. After a
// failure the answer's Err is for people and the error for the log.
type CommandFunc func(ctx context.Context, image string, architectures []string) (inject.Command, error)

// Options of a Handler.
type Options struct {
	Settings inject.Settings // but Brokers and CABundle, which change
	CABundle func() string   // PEM, or empty while there is none
	Excluded []string        // namespaces that are never injected
	Command  CommandFunc
	Cluster  Cluster
	Metrics  *Metrics
	Log      *slog.Logger
}

// Handler decides about pods. It is an admission.Handler.
type Handler struct{ Options }

// NewHandler returns a Handler.
func NewHandler(o Options) *Handler { return &Handler{o} }

// Handle answers one request:
//
//	outcome     allowed  code  when
//	skipped     yes      200   no placeholder in a variable, an excluded namespace, or not a new pod
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
	switch {
	case !pod.HasPlaceholder():
		return admission.Allowed(""), outcomeSkipped
	case slices.Contains(h.Excluded, req.Namespace):
		return admission.Allowed("").WithWarnings("pods of namespace " + req.Namespace + " are never injected: their placeholders stay as they are"), outcomeSkipped
	}
	patch, report, err := inject.Decide(h.facts(ctx, req, pod), h.settings(ctx))
	log := h.Log.With(telemetry.KeyNamespace, req.Namespace, telemetry.KeyPod, podName(req), telemetry.KeyRequestID, string(req.UID))
	if err != nil {
		return refusal(log, err)
	}
	return h.accept(log, patch, report)
}

func refusal(log *slog.Logger, err error) (admission.Response, outcome) {
	log.Info("refused a pod", telemetry.KeyReason, err.Error())
	if errors.Is(err, inject.ErrNotReady) {
		return admission.Errored(http.StatusServiceUnavailable, err), outcomeNotReady
	}
	return admission.Denied(err.Error()), outcomeRefused
}

func (h *Handler) accept(log *slog.Logger, patch inject.Patch, report inject.Report) (admission.Response, outcome) {
	response := admission.Allowed("").WithWarnings(told(report.Warnings)...)
	switch {
	case len(report.Containers) == 0: // there was something to say, and nothing to do
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
	log.Info("injected a pod", "containers", len(report.Containers), "warnings", len(report.Warnings))
	return response, outcomeInjected
}

// podName is what a person may know the pod by: its own name is not made yet for
// most.
func podName(req admission.Request) string {
	if req.Name != "" {
		return req.Name
	}
	var named struct {
		Metadata struct {
			GenerateName string `json:"generateName"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(req.Object.Raw, &named); err != nil {
		return ""
	}
	return named.Metadata.GenerateName
}

// settings completes what the operator configured with what the cluster says. A
// part that is missing is inject's to notice.
func (h *Handler) settings(ctx context.Context) inject.Settings {
	s := h.Settings
	s.CABundle = h.CABundle()
	brokers, err := h.Cluster.Brokers(ctx)
	if err != nil {
		h.Log.Warn("cannot tell where the broker is", telemetry.KeyError, err)
	}
	s.Brokers = brokers
	return s
}

// facts asks for everything at once, within ctx. What cannot be learned is a fact
// too.
func (h *Handler) facts(ctx context.Context, req admission.Request, pod *inject.Pod) inject.Facts {
	f := inject.Facts{Pod: pod, Namespace: req.Namespace}
	var all sync.WaitGroup
	all.Go(func() { f.Commands = h.commands(ctx, pod) })
	all.Go(func() { f.Secrets = h.secrets(ctx, req.Namespace, pod.Secrets()) })
	all.Wait()
	return f
}

// commands asks only about images whose command the pod does not give.
func (h *Handler) commands(ctx context.Context, pod *inject.Pod) map[string]inject.Command {
	images := pod.Images()
	if len(images) == 0 {
		return nil
	}
	architectures, err := h.architectures(ctx, pod)
	if err != nil {
		h.Log.Warn("cannot tell the nodes' architectures", telemetry.KeyError, err)
		return nil
	}
	answers := make([]inject.Command, len(images))
	var all sync.WaitGroup
	for i, image := range images {
		all.Go(func() { answers[i] = h.command(ctx, image, architectures) })
	}
	all.Wait()
	commands := map[string]inject.Command{}
	for i, image := range images {
		commands[image] = answers[i]
	}
	return commands
}

func (h *Handler) architectures(ctx context.Context, pod *inject.Pod) ([]string, error) {
	if a := pod.Architecture(); a != "" {
		return []string{a}, nil
	}
	return h.Cluster.Architectures(ctx)
}

// maxRemark bounds what of a registry's answer goes to the log.
const maxRemark = 300

func (h *Handler) command(ctx context.Context, image string, architectures []string) inject.Command {
	c, err := h.Command(ctx, image, architectures)
	if err != nil {
		h.Metrics.containersFailed.Inc()
		remark := err.Error()
		h.Log.Warn("cannot tell what an image runs", telemetry.KeyImage, image, telemetry.KeyError, remark[:min(len(remark), maxRemark)])
	}
	return c
}

// secrets leaves out what could not be read: warnings are a courtesy.
func (h *Handler) secrets(ctx context.Context, namespace string, names []string) map[string]*v2beta1.AzureKeyVaultSecret {
	found := map[string]*v2beta1.AzureKeyVaultSecret{}
	for _, name := range names {
		akvs, err := h.Cluster.Secret(ctx, namespace, name)
		if err != nil {
			h.Log.Warn("cannot look for an AzureKeyVaultSecret", telemetry.KeyNamespace, namespace, telemetry.KeyName, name, telemetry.KeyError, err)
			continue
		}
		found[name] = akvs
	}
	return found
}
