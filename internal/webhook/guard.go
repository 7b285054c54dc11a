// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
)

// Where the API server asks about who wants to get into a container of a guarded
// namespace, by exec or attach, and tells of who does so by breaking the glass.
const (
	ExecPath       = "/exec"
	BreakGlassPath = "/break-glass"
)

// Guard is what keeping people out of containers takes. Whom it is asked about, the
// registration says: neither guarded namespaces nor members of Groups are looked for here.
type Guard struct {
	Groups []string // who is excepted, for the refusal
	// Pod is the one of that name as it is now, or nil.
	Pod func(ctx context.Context, namespace, name string) (*corev1.Pod, error)
}

// errPod is all that a person is told: the log has the rest.
var errPod = errors.New("the Env Injector cannot look at the pod to see whether people may get into it; try again in a moment")

// KeepOut refuses to connect to a pod that holds values.
func (h *Handler) KeepOut(ctx context.Context, req admission.Request) admission.Response {
	if req.Operation != admissionv1.Connect {
		return admission.Allowed("")
	}
	pod, err := h.Guard.Pod(ctx, req.Namespace, req.Name)
	switch {
	case err != nil:
		h.Log.Warn("cannot look at a pod that somebody wants to get into", telemetry.KeyNamespace, req.Namespace, telemetry.KeyPod, req.Name, telemetry.KeyError, err)
		return admission.Errored(http.StatusServiceUnavailable, errPod)
	case pod != nil && inject.HoldsValues(pod): // one that does not exist, the API server knows itself
		return admission.Denied(inject.KeptOut(req.Name, h.Guard.Groups))
	default:
		return admission.Allowed("")
	}
}

// onRecord is what kubectl shows where the connection has room for it.
const onRecord = "this namespace keeps people out of its containers; that you got in is on record"

// Record writes down who breaks the glass. It always allows.
func (h *Handler) Record(_ context.Context, req admission.Request) admission.Response {
	if req.DryRun != nil && *req.DryRun {
		return admission.Allowed("")
	}
	for _, e := range entries(req) {
		h.Log.Warn("somebody breaks the glass",
			keyUser, req.UserInfo.Username, keyGroups, req.UserInfo.Groups, keyWay, req.SubResource,
			telemetry.KeyNamespace, req.Namespace, telemetry.KeyPod, req.Name, telemetry.KeyContainer, e.container, keyProgram, e.program,
			telemetry.KeyRequestID, string(req.UID))
	}
	return admission.Allowed("").WithWarnings(onRecord)
}

// Keys of that line which no other has.
const (
	keyUser    = "user"
	keyGroups  = "groups"
	keyWay     = "way" // exec, attach or ephemeralcontainers
	keyProgram = "program"
)

// maxProgram bounds what of a program's name is written down.
const maxProgram = 256

// entry is a container that somebody gets into.
type entry struct {
	container string // empty where kubectl left it to the API server
	program   string // the first word of a command: the others may hold anything
}

func newEntry(container string, command []string) entry {
	e := entry{container: container}
	if len(command) > 0 {
		e.program = command[0][:min(len(command[0]), maxProgram)]
	}
	return e
}

// entries are one for exec and attach, and one for each container that is added. What
// cannot be read is an entry still.
func entries(req admission.Request) []entry {
	if req.SubResource != "ephemeralcontainers" {
		var options corev1.PodExecOptions // those of attach have no command
		_ = json.Unmarshal(req.Object.Raw, &options)
		return []entry{newEntry(options.Container, options.Command)}
	}
	var before, after corev1.Pod
	_, _ = json.Unmarshal(req.OldObject.Raw, &before), json.Unmarshal(req.Object.Raw, &after)
	known := map[string]bool{}
	for _, c := range before.Spec.EphemeralContainers {
		known[c.Name] = true
	}
	var added []entry
	for _, c := range after.Spec.EphemeralContainers {
		if !known[c.Name] {
			added = append(added, newEntry(c.Name, c.Command))
		}
	}
	if added == nil {
		return []entry{{}}
	}
	return added
}
