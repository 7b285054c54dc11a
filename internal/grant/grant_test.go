// SPDX-License-Identifier: Apache-2.0

package grant_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/grant"
)

var now = time.Unix(1_800_000_000, 0)

func deletedIn(d time.Duration) func(*grant.Request) {
	return func(r *grant.Request) { r.Pod.DeletionTimestamp = &metav1.Time{Time: now.Add(d)} }
}

// placeholders are n variables of this text.
func placeholders(n int, text string) func(*grant.Request) {
	return func(r *grant.Request) {
		r.Pod.Spec.Containers[0].Env = nil
		for i := range n {
			r.Pod.Spec.Containers[0].Env = append(r.Pod.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("V%d", i), Value: text})
		}
	}
}

func TestCheckGrantsMany(t *testing.T) {
	t.Parallel()
	if got := grant.Check(request(placeholders(500, "<a@azurekeyvault><b@azurekeyvault>"))); !got.Allowed || len(got.Variables) != 500 {
		t.Errorf("Check() = %s with %d variables", got.Rule, len(got.Variables))
	}
}

func request(change ...func(*grant.Request)) grant.Request {
	r := grant.Request{
		Caller: grant.Caller{Namespace: "team", ServiceAccount: "account", Pod: "web", UID: "uid"},
		Pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "uid"},
			Spec: corev1.PodSpec{
				ServiceAccountName: "account",
				InitContainers:     []corev1.Container{{Name: "init", Env: []corev1.EnvVar{{Name: "I", Value: "i@azurekeyvault"}}}},
				Containers:         []corev1.Container{{Name: "app", Env: []corev1.EnvVar{{Name: "A", Value: "a@azurekeyvault"}}}},
				EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
					Name: "debugger", Env: []corev1.EnvVar{{Name: "A", Value: "a@azurekeyvault"}},
				}}},
			},
			Status: corev1.PodStatus{Phase: corev1.PodPending},
		},
		Container: "app",
		Now:       now,
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func TestCheckGrants(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(*grant.Request)
		want   []grant.Variable
	}{
		"Container":        {func(*grant.Request) {}, []grant.Variable{{Name: "A", Text: "a@azurekeyvault"}}},
		"InitContainer":    {func(r *grant.Request) { r.Container = "init" }, []grant.Variable{{Name: "I", Text: "i@azurekeyvault"}}},
		"Running":          {func(r *grant.Request) { r.Pod.Status.Phase = corev1.PodRunning }, []grant.Variable{{Name: "A", Text: "a@azurekeyvault"}}},
		"InItsGracePeriod": {deletedIn(time.Second), []grant.Variable{{Name: "A", Text: "a@azurekeyvault"}}},
		"NothingToFill":    {func(r *grant.Request) { r.Pod.Spec.Containers[0].Env = nil }, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := grant.Check(request(tc.change))
			if !got.Allowed || got.Rule != grant.RuleOwnPod {
				t.Errorf("Check() = %+v", got)
			}
			if d := cmp.Diff(tc.want, got.Variables); d != "" {
				t.Errorf("variables: -want +got\n%s", d)
			}
		})
	}
}

func TestCheckDenies(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(*grant.Request)
		want   grant.Rule
	}{
		"Everything":          {func(r *grant.Request) { *r = grant.Request{} }, grant.RulePodGone},
		"NoPod":               {func(r *grant.Request) { r.Pod = nil }, grant.RulePodGone},
		"NobodyCalls":         {func(r *grant.Request) { r.Caller = grant.Caller{} }, grant.RulePodGone},
		"NoNamespace":         {func(r *grant.Request) { r.Caller.Namespace = "" }, grant.RulePodGone},
		"OtherUID":            {func(r *grant.Request) { r.Pod.UID = "else" }, grant.RulePodReplaced},
		"NoUIDOnEitherSide":   {func(r *grant.Request) { r.Pod.UID, r.Caller.UID = "", "" }, grant.RulePodReplaced},
		"OtherName":           {func(r *grant.Request) { r.Caller.Pod = "else" }, grant.RulePodReplaced},
		"OtherNamespace":      {func(r *grant.Request) { r.Caller.Namespace = "else" }, grant.RulePodReplaced},
		"OtherAccount":        {func(r *grant.Request) { r.Caller.ServiceAccount = "else" }, grant.RuleServiceAccount},
		"NoAccountOnEither":   {func(r *grant.Request) { r.Pod.Spec.ServiceAccountName, r.Caller.ServiceAccount = "", "" }, grant.RuleServiceAccount},
		"GracePeriodOver":     {deletedIn(0), grant.RulePodEnding},
		"DeletedLongAgo":      {deletedIn(-time.Hour), grant.RulePodEnding},
		"Succeeded":           {func(r *grant.Request) { r.Pod.Status.Phase = corev1.PodSucceeded }, grant.RulePodEnding},
		"Failed":              {func(r *grant.Request) { r.Pod.Status.Phase = corev1.PodFailed }, grant.RulePodEnding},
		"Lost":                {func(r *grant.Request) { r.Pod.Status.Phase = corev1.PodUnknown }, grant.RulePodEnding},
		"OfNoPhase":           {func(r *grant.Request) { r.Pod.Status.Phase = "" }, grant.RulePodEnding},
		"NoContainer":         {func(r *grant.Request) { r.Container = "" }, grant.RuleContainer},
		"OtherContainer":      {func(r *grant.Request) { r.Container = "nosuch" }, grant.RuleContainer},
		"EphemeralContainer":  {func(r *grant.Request) { r.Container = "debugger" }, grant.RuleContainer},
		"ContainerOfNoName":   {func(r *grant.Request) { r.Pod.Spec.Containers[0].Name, r.Container = "", "" }, grant.RuleContainer},
		"TooManyVariables":    {placeholders(1001, "<a@azurekeyvault>"), grant.RuleTooMany},
		"TooManyInOne":        {placeholders(1, strings.Repeat("<a@azurekeyvault>", 1001)), grant.RuleTooMany},
		"ContainerByAnyOther": {func(r *grant.Request) { r.Container = "App" }, grant.RuleContainer},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := request(tc.change)
			got := grant.Check(r)
			if d := cmp.Diff(grant.Verdict{Rule: tc.want, Caller: r.Caller, Container: r.Container}, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			if s := got.Rule.Sentence(); s == "" || s == grant.RuleNone.Sentence() {
				t.Errorf("%s has no sentence of its own", got.Rule)
			}
		})
	}
}

// Nobody is granted anything unless every word about the pod agrees.
func TestCheckGrantsOnlyTheOwner(t *testing.T) {
	t.Parallel()
	word := rapid.SampledFrom([]string{"", "a", "b"})
	rapid.Check(t, func(t *rapid.T) {
		r := grant.Request{
			Caller: grant.Caller{Namespace: word.Draw(t, "ns"), ServiceAccount: word.Draw(t, "sa"), Pod: word.Draw(t, "pod"), UID: word.Draw(t, "uid")},
			Pod: &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: word.Draw(t, "pod ns"), Name: word.Draw(t, "pod name"), UID: types.UID(word.Draw(t, "pod uid"))},
				Spec: corev1.PodSpec{
					ServiceAccountName: word.Draw(t, "pod sa"),
					Containers:         []corev1.Container{{Name: word.Draw(t, "name")}},
				},
				Status: corev1.PodStatus{Phase: corev1.PodRunning},
			},
			Container: word.Draw(t, "container"),
		}
		owner := grant.Caller{Namespace: r.Pod.Namespace, ServiceAccount: r.Pod.Spec.ServiceAccountName, Pod: r.Pod.Name, UID: string(r.Pod.UID)}
		empty := owner.Namespace == "" || owner.ServiceAccount == "" || owner.Pod == "" || owner.UID == "" || r.Container == ""
		want := r.Caller == owner && !empty && r.Pod.Spec.Containers[0].Name == r.Container
		if got := grant.Check(r); got.Allowed != want {
			t.Fatalf("Check(%+v) = %+v, want %t", r, got, want)
		}
	})
}

func TestVariables(t *testing.T) {
	t.Parallel()
	from := &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}
	cases := map[string]struct {
		env  []corev1.EnvVar
		want []grant.Variable
	}{
		"InOrder": {
			[]corev1.EnvVar{{Name: "B", Value: "b@azurekeyvault"}, {Name: "X", Value: "x"}, {Name: "A", Value: "a@azurekeyvault?k"}},
			[]grant.Variable{{Name: "B", Text: "b@azurekeyvault"}, {Name: "A", Text: "a@azurekeyvault?k"}},
		},
		"LastOfANameCounts": {
			[]corev1.EnvVar{{Name: "A", Value: "a@azurekeyvault"}, {Name: "A", Value: "b@azurekeyvault"}},
			[]grant.Variable{{Name: "A", Text: "b@azurekeyvault"}},
		},
		"LastIsPlain":      {[]corev1.EnvVar{{Name: "A", Value: "a@azurekeyvault"}, {Name: "A", Value: "x"}}, nil},
		"LastIsAReference": {[]corev1.EnvVar{{Name: "A", Value: "a@azurekeyvault"}, {Name: "A", ValueFrom: from}}, nil},
		"LooksLikeOne": {
			[]corev1.EnvVar{{Name: "A", Value: "see a@azurekeyvault"}},
			[]grant.Variable{{Name: "A", Text: "see a@azurekeyvault"}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := grant.Check(request(func(r *grant.Request) { r.Pod.Spec.Containers[0].Env = tc.env }))
			if d := cmp.Diff(tc.want, got.Variables); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// started is a container of that name in a state.
func started(name string, state corev1.ContainerState) func(*grant.Request) {
	return func(r *grant.Request) {
		r.Guarded, r.StartBudget, r.Container = true, 3*time.Minute, name
		r.Pod.Status.Phase = corev1.PodRunning
		status := corev1.ContainerStatus{Name: name, State: state}
		if name == "init" {
			r.Pod.Status.InitContainerStatuses = []corev1.ContainerStatus{status}
		} else {
			r.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "other", State: running(24 * time.Hour)}, status}
		}
	}
}

// running has been so for that long, by a node whose clock agrees with ours.
func running(since time.Duration) corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Time{Time: now.Add(-since)}}}
}

func ended(since time.Duration) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		StartedAt: metav1.Time{Time: now.Add(-24 * time.Hour)}, FinishedAt: metav1.Time{Time: now.Add(-since)},
	}}
}

func TestCheckUnderGuard(t *testing.T) {
	t.Parallel()
	const budget = 3 * time.Minute
	wrapper := &corev1.ExecAction{Command: []string{brokerapi.Binary, "/check"}}
	plain := &corev1.ExecAction{Command: []string{"/check"}}
	with := func(change func(*corev1.Container)) func(*grant.Request) {
		return func(r *grant.Request) { started("app", running(time.Hour))(r); change(&r.Pod.Spec.Containers[0]) }
	}
	probe := func(exec *corev1.ExecAction) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: exec}}
	}
	cases := map[string]struct {
		change func(*grant.Request)
		want   grant.Rule
	}{
		"NotGuarded":     {func(r *grant.Request) { started("app", running(time.Hour))(r); r.Guarded = false }, grant.RuleOwnPod},
		"LongAgo":        {started("app", running(time.Hour)), grant.RuleLate},
		"JustNow":        {started("app", running(0)), grant.RuleOwnPod},
		"AtTheEnd":       {started("app", running(budget)), grant.RuleOwnPod},
		"JustAfter":      {started("app", running(budget+time.Second)), grant.RuleLate},
		"NodeIsAhead":    {started("app", running(-time.Hour)), grant.RuleOwnPod},
		"NoStatus":       {func(r *grant.Request) { r.Guarded = true }, grant.RuleOwnPod},
		"OfAnother":      {func(r *grant.Request) { started("app", running(time.Hour))(r); r.Container = "init" }, grant.RuleOwnPod},
		"Waiting":        {started("app", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}), grant.RuleOwnPod},
		"OfNoState":      {started("app", corev1.ContainerState{}), grant.RuleOwnPod},
		"OfNoTime":       {started("app", corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}), grant.RuleOwnPod},
		"EndedJustNow":   {started("app", ended(time.Second)), grant.RuleOwnPod},
		"EndedLongAgo":   {started("app", ended(time.Hour)), grant.RuleLate},
		"InitLongAgo":    {started("init", ended(time.Hour)), grant.RuleLate},
		"SidecarLongAgo": {started("init", running(time.Hour)), grant.RuleLate},
		"Liveness":       {with(func(c *corev1.Container) { c.LivenessProbe = probe(wrapper) }), grant.RuleOwnPod},
		"Readiness":      {with(func(c *corev1.Container) { c.ReadinessProbe = probe(wrapper) }), grant.RuleOwnPod},
		"Startup":        {with(func(c *corev1.Container) { c.StartupProbe = probe(wrapper) }), grant.RuleOwnPod},
		"PostStart": {with(func(c *corev1.Container) {
			c.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: wrapper}}
		}), grant.RuleOwnPod},
		"PreStop": {with(func(c *corev1.Container) {
			c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: wrapper}}
		}), grant.RuleOwnPod},
		"PlainCommands": {with(func(c *corev1.Container) {
			c.LivenessProbe, c.ReadinessProbe = probe(plain), probe(nil)
			c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: plain}, PostStart: &corev1.LifecycleHandler{}}
		}), grant.RuleLate},
		// Who may change a pod's annotations cannot open it.
		"AnnotationAlone": {func(r *grant.Request) {
			started("app", running(time.Hour))(r)
			r.Pod.Annotations = map[string]string{"exec.env-injector.spv.no/app": "all"}
		}, grant.RuleLate},
		"GoneIsGone": {func(r *grant.Request) { started("app", running(time.Hour))(r); r.Pod = nil }, grant.RulePodGone},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := grant.Check(request(tc.change))
			if got.Rule != tc.want || got.Allowed != (tc.want == grant.RuleOwnPod) || got.Allowed != (len(got.Variables) > 0) {
				t.Errorf("Check() = %+v, want %s", got, tc.want)
			}
			if got.Rule.Passing() != (tc.want == grant.RuleLate) {
				t.Errorf("%s: passing is %t", got.Rule, got.Rule.Passing())
			}
		})
	}
}
