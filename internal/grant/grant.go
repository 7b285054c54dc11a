// SPDX-License-Identifier: Apache-2.0

// Package grant decides whether a container that is starting gets its values,
// and which ones: a verified caller, its pod and a container's name go in, a
// Verdict comes out. It performs no I/O.
//
// The boundary is the pod. Its spec cannot change after admission, so what its
// containers' env lists is all that it may ever ask for; the container's name
// only selects among that. Values of another namespace cannot be asked for,
// because a placeholder has no words for one.
//
// Start at Check; what becomes of a granted request is in values.go.
package grant

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// Caller is who a token speaks for, as the API server confirmed it: a pod, and
// the service account that it ran as when the token was made.
type Caller struct {
	Namespace      string
	ServiceAccount string
	Pod            string
	UID            string // of the pod: a successor of the same name is another
}

// ErrToken is a token that makes nobody a Caller, in the API server's eyes.
var ErrToken = errors.New("the token is not a valid one of a pod for the broker")

// Request is one container's request for its values.
type Request struct {
	Caller    Caller
	Pod       *corev1.Pod // what lives under the caller's pod name now; nil when nothing does
	Container string
	Now       time.Time

	// Guarded says that the pod's namespace keeps people out of its containers, where
	// StartBudget is how long after its start a container may have its values.
	Guarded     bool
	StartBudget time.Duration
}

// Rule names what decided. The audit line and the denial carry it.
type Rule string

// The rules. Only RuleOwnPod grants.
const (
	RuleNone           Rule = ""
	RuleOwnPod         Rule = "OwnPod"
	RulePodGone        Rule = "PodGone"
	RulePodReplaced    Rule = "PodReplaced"
	RuleServiceAccount Rule = "OtherServiceAccount"
	RulePodEnding      Rule = "PodEnding"
	RuleContainer      Rule = "NoSuchContainer"
	RuleTooMany        Rule = "TooManyPlaceholders"
	RuleLate           Rule = "StartedLongAgo"

	// Who is asking is not known.
	RuleTokenMalformed Rule = "TokenMalformed"
	RuleTokenAudience  Rule = "TokenOfOtherAudience"
	RuleTokenUnbound   Rule = "TokenNotBound"
	RuleTokenExpired   Rule = "TokenExpired"
	RuleTokenRejected  Rule = "TokenRejected"

	// Who is asking does so too often.
	RuleSourceLimit    Rule = "SourceLimit"
	RulePodLimit       Rule = "PodLimit"
	RuleNamespaceLimit Rule = "NamespaceLimit"
)

// Verdict is the answer to a Request. The zero Verdict denies.
type Verdict struct {
	Allowed   bool
	Rule      Rule
	Caller    Caller
	Container string
	Variables []Variable // what the container may have; none unless Allowed
}

// Variable is one variable of the container with placeholders in its text.
type Variable struct {
	Name string
	Text string // what the pod's spec says
}

// refusals are the rules that deny, in the order in which they are asked.
var refusals = []struct {
	rule     Rule
	sentence string
	holds    func(Request) bool
}{
	{RulePodGone, "the token's pod does not exist any more", func(r Request) bool {
		return r.Pod == nil || r.Caller.Pod == "" || r.Caller.Namespace == ""
	}},
	{RulePodReplaced, "the token is for an earlier pod of this name", func(r Request) bool {
		return r.Caller.UID == "" || string(r.Pod.UID) != r.Caller.UID ||
			r.Pod.Name != r.Caller.Pod || r.Pod.Namespace != r.Caller.Namespace
	}},
	{RuleServiceAccount, "the token is for another service account than the pod's", func(r Request) bool {
		return r.Caller.ServiceAccount == "" || r.Pod.Spec.ServiceAccountName != r.Caller.ServiceAccount
	}},
	// Until its grace period is over, a pod that is being deleted still runs preStop
	// hooks and probes, and restarts sidecars.
	{RulePodEnding, "the pod has ended, or should have", func(r Request) bool {
		phase := r.Pod.Status.Phase
		return r.Pod.DeletionTimestamp != nil && !r.Now.Before(r.Pod.DeletionTimestamp.Time) ||
			phase != corev1.PodPending && phase != corev1.PodRunning
	}},
	{RuleContainer, "the pod has no such container or init container", func(r Request) bool {
		return container(r.Pod, r.Container) == nil
	}},
	{RuleTooMany, fmt.Sprintf("the container's environment has more than %d placeholders", maxPlaceholders), func(r Request) bool {
		n := 0
		for _, v := range variables(container(r.Pod, r.Container).Env) {
			text, _ := placeholder.Read(v.Text)
			n += len(text.Placeholders())
		}
		return n > maxPlaceholders
	}},
	{RuleLate, "it was started too long ago, and its namespace has an exec guard: values are for containers that start", late},
}

// maxPlaceholders bounds what one request costs the broker, the vaults and the
// audit. A pod's spec has room for some 30,000; an environment has use for a few.
const maxPlaceholders = 1000

// Check decides. It asks every refusal, and grants when none holds.
func Check(r Request) Verdict {
	v := Verdict{Caller: r.Caller, Container: r.Container}
	for _, refusal := range refusals {
		if refusal.holds(r) {
			v.Rule = refusal.rule
			return v
		}
	}
	v.Allowed, v.Rule = true, RuleOwnPod
	v.Variables = variables(container(r.Pod, r.Container).Env)
	return v
}

// sentences are those of the rules that decide before Check is asked.
var sentences = map[Rule]string{
	RuleTokenMalformed: "it is not a token of a service account",
	RuleTokenAudience:  "it is for another audience than " + brokerapi.Audience,
	RuleTokenUnbound:   "it is not bound to a pod",
	RuleTokenExpired:   "it has expired",
	RuleTokenRejected:  "the API server does not vouch for it, perhaps because its pod is gone",
	RuleSourceLimit:    "too many requests come from this address",
	RulePodLimit:       "too many requests come from this pod",
	RuleNamespaceLimit: "too many requests come from pods of this namespace",
}

// Passing says that the same request may be granted in a moment.
func (r Rule) Passing() bool { return r == RuleLate }

// Sentence says why, for the person whose container did not start.
func (r Rule) Sentence() string {
	for _, refusal := range refusals {
		if refusal.rule == r {
			return refusal.sentence
		}
	}
	if sentence, ok := sentences[r]; ok {
		return sentence
	}
	return "this request is not granted"
}

// container finds a container or init container. Ephemeral containers have no
// say: whoever may debug a pod may not therefore read its values.
func container(pod *corev1.Pod, name string) *corev1.Container {
	if name == "" {
		return nil
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// variables are those that hold a placeholder, or something that looks like one,
// in the order of the spec. Of entries with one name the last counts, as it does
// for the kubelet.
func variables(env []corev1.EnvVar) []Variable {
	last := map[string]int{}
	for i, e := range env {
		last[e.Name] = i
	}
	var out []Variable
	for i, e := range env {
		if last[e.Name] == i && e.ValueFrom == nil && placeholder.In(e.Value) {
			out = append(out, Variable{Name: e.Name, Text: e.Value})
		}
	}
	return out
}
