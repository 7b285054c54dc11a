// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// webhook is that of pods in namespaces which ask for nothing particular.
func webhook(t *testing.T, values string) admissionv1.MutatingWebhook {
	t.Helper()
	return webhooks(t, values)[0]
}

func webhooks(t *testing.T, values string) []admissionv1.MutatingWebhook {
	t.Helper()
	configurations := each[*admissionv1.MutatingWebhookConfiguration](rendered(t, values))
	if len(configurations) != 1 || len(configurations[0].Webhooks) == 0 {
		t.Fatalf("want one configuration with webhooks, got %d configurations", len(configurations))
	}
	return configurations[0].Webhooks
}

// TestWhichWayValuesCome: of the ways exactly one is a namespace's, for pods and for the
// warnings about workloads alike.
func TestWhichWayValuesCome(t *testing.T) {
	t.Parallel()
	const auth = "env-injector.spv.no/auth"
	asked := labelSet{"kubernetes.io/metadata.name": "shop", "azure-key-vault-env-injection": "enabled"}
	with := func(value string) labelSet {
		labels := maps.Clone(asked)
		labels[auth] = value
		return labels
	}
	const broker, direct = "", "/direct"
	for name, tc := range map[string]struct {
		values string
		labels labelSet
		want   string // below the usual paths
	}{
		"Default":           {"", asked, broker},
		"Direct":            {"", with("direct"), direct},
		"Broker":            {"", with("broker"), broker},
		"Misspelt":          {"", with("Direct"), broker},
		"BrokerForAll":      {"broker-for-all", with("direct"), broker},
		"NoBroker":          {"no-broker", asked, direct},
		"NoBrokerDirect":    {"no-broker", with("direct"), direct},
		"NoBrokerAtAnyRate": {"no-broker", with("broker"), direct},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values := cases(t)[tc.values]
			var got []string
			note := func(selector *metav1.LabelSelector, path string) {
				s, err := metav1.LabelSelectorAsSelector(selector)
				if err != nil {
					t.Fatal(err)
				}
				if s.Matches(tc.labels) {
					got = append(got, path)
				}
			}
			for _, hook := range webhooks(t, values) {
				note(hook.NamespaceSelector, *hook.ClientConfig.Service.Path)
			}
			for _, hook := range advisers(t, values) {
				note(hook.NamespaceSelector, *hook.ClientConfig.Service.Path)
			}
			want := []string{"/pods" + tc.want, "/workloads" + tc.want, "/workloads" + tc.want}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("paths (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNoBroker: nothing of it is left, nor is anybody told of it.
func TestNoBroker(t *testing.T) {
	t.Parallel()
	out := mustTemplate(t, product, "akv2k8s", "--values", cases(t)["no-broker"])
	for line := range strings.Lines(string(out)) {
		for _, word := range []string{"akv2k8s-broker", "akv2k8s-envinjector", "azure-keyvault-env:", "tokenreviews"} {
			if strings.Contains(line, word) {
				t.Errorf("%q is in %q", word, line)
			}
		}
	}
}

func TestWebhookContract(t *testing.T) {
	t.Parallel()
	hook := webhook(t, "")
	port, path := int32(443), "/pods"
	service := &admissionv1.ServiceReference{Namespace: "akv2k8s-system", Name: "akv2k8s-env-injector", Path: &path, Port: &port}
	if diff := cmp.Diff(service, hook.ClientConfig.Service); diff != "" {
		t.Errorf("service (-want +got):\n%s", diff)
	}
	got := []any{
		hook.Name, *hook.FailurePolicy, *hook.TimeoutSeconds, *hook.SideEffects, *hook.ReinvocationPolicy, *hook.MatchPolicy, hook.AdmissionReviewVersions,
	}
	want := []any{
		"pods.env-injector.admission.spv.no", admissionv1.Fail, int32(10), admissionv1.SideEffectClassNone,
		admissionv1.IfNeededReinvocationPolicy, admissionv1.Equivalent,
		[]string{"v1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestWhichNamespacesAreInjected(t *testing.T) {
	t.Parallel()
	const name, asked = "kubernetes.io/metadata.name", "azure-key-vault-env-injection"
	for title, tc := range map[string]struct {
		values string
		labels map[string]string
		want   bool
	}{
		"Asked":            {"", map[string]string{name: "shop", asked: "enabled"}, true},
		"NotAsked":         {"", map[string]string{name: "shop"}, false},
		"Disabled":         {"", map[string]string{name: "shop", asked: "disabled"}, false},
		"KubeSystem":       {"", map[string]string{name: "kube-system", asked: "enabled"}, false},
		"OwnNamespace":     {"", map[string]string{name: "akv2k8s-system", asked: "enabled"}, false},
		"OtherLabel":       {"scheduling", map[string]string{name: "shop", "inject": "yes"}, true},
		"OtherLabelUnset":  {"scheduling", map[string]string{name: "shop", asked: "enabled"}, false},
		"FurtherCondition": {"scheduling", map[string]string{name: "shop", "inject": "yes", "tier": "infra"}, false},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			selector, err := metav1.LabelSelectorAsSelector(webhook(t, cases(t)[tc.values]).NamespaceSelector)
			if err != nil {
				t.Fatal(err)
			}
			if got := selector.Matches(labelSet(tc.labels)); got != tc.want {
				t.Errorf("namespace with %v: looked at = %v, want %v", tc.labels, got, tc.want)
			}
		})
	}
}

type labelSet map[string]string

func (l labelSet) Has(key string) bool              { _, ok := l[key]; return ok }
func (l labelSet) Get(key string) string            { return l[key] }
func (l labelSet) Lookup(key string) (string, bool) { v, ok := l[key]; return v, ok }

// TestWhichPodsAreInjected evaluates the match condition as the API server does:
// pods that it passes over start even while no webhook answers.
func TestWhichPodsAreInjected(t *testing.T) {
	t.Parallel()
	literal := func(value string) corev1.Container {
		return corev1.Container{Name: "app", Env: []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "EMPTY"}, {Name: "KEY", Value: value}}}
	}
	from := func(s corev1.EnvVarSource) corev1.Container {
		return corev1.Container{Name: "from", Env: []corev1.EnvVar{{Name: "A", ValueFrom: &s}}}
	}
	all := func(s corev1.EnvFromSource) corev1.Container {
		return corev1.Container{Name: "all", EnvFrom: []corev1.EnvFromSource{s}}
	}
	plain := literal("text")
	field := from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}})
	configMapKey := from(corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{Key: "k"}})
	secretKey := from(corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Key: "k"}})
	configMap := all(corev1.EnvFromSource{ConfigMapRef: &corev1.ConfigMapEnvSource{}})
	secret := all(corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{}})
	argument := corev1.Container{Name: "arg", Args: []string{"--password", "my-secret@azurekeyvault"}}
	volumes := []corev1.Volume{
		{Name: "a", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}},
		{Name: "b", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}},
		{Name: "c", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: &corev1.LocalObjectReference{Name: "s"}}}},
	}
	always, both, configMaps, secrets := "cms", "cm s", "cm", "s" // what may be among the sources
	for name, tc := range map[string]struct {
		spec corev1.PodSpec
		want []string // with which sources it is looked at
	}{
		"NoContainer":     {corev1.PodSpec{}, nil},
		"NoEnvironment":   {corev1.PodSpec{Containers: []corev1.Container{{Name: "bare"}}}, nil},
		"Plain":           {corev1.PodSpec{Containers: []corev1.Container{plain, field}, InitContainers: []corev1.Container{plain}}, nil},
		"Volumes":         {corev1.PodSpec{Containers: []corev1.Container{plain}, Volumes: volumes}, nil},
		"Container":       {corev1.PodSpec{Containers: []corev1.Container{plain, literal("certificate@azurekeyvault?tls.key")}}, []string{always}},
		"Inline":          {corev1.PodSpec{Containers: []corev1.Container{literal("x<my-secret@azurekeyvault>\n\"é\"")}}, []string{always}},
		"InitContainer":   {corev1.PodSpec{Containers: []corev1.Container{plain}, InitContainers: []corev1.Container{field, literal("x@azurekeyvault")}}, []string{always}},
		"Argument":        {corev1.PodSpec{Containers: []corev1.Container{argument}}, []string{always}},
		"ConfigMapKey":    {corev1.PodSpec{Containers: []corev1.Container{configMapKey}}, []string{both, configMaps}},
		"ConfigMap":       {corev1.PodSpec{InitContainers: []corev1.Container{configMap}}, []string{both, configMaps}},
		"SecretKey":       {corev1.PodSpec{InitContainers: []corev1.Container{secretKey}}, []string{both, secrets}},
		"Secret":          {corev1.PodSpec{Containers: []corev1.Container{secret}}, []string{both, secrets}},
		"LongerThanKnown": {corev1.PodSpec{Containers: []corev1.Container{literal(strings.Repeat("x", 3e6))}}, []string{always}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for sources, values := range map[string]string{both: "", configMaps: cases(t)["config-maps-alone"], secrets: cases(t)["secrets-alone"]} {
				want := slices.Contains(tc.want, sources) || slices.Contains(tc.want, always)
				if got := matches(t, webhook(t, values).MatchConditions, corev1.Pod{Spec: tc.spec}); got != want {
					t.Errorf("sources %q: %v, want %v", sources, got, want)
				}
			}
		})
	}
}

func advisers(t *testing.T, values string) []admissionv1.ValidatingWebhook {
	t.Helper()
	var hooks []admissionv1.ValidatingWebhook
	for _, c := range each[*admissionv1.ValidatingWebhookConfiguration](rendered(t, values)) {
		hooks = append(hooks, c.Webhooks...)
	}
	return hooks
}

// TestAdviceContract: what only warns refuses nothing, keeps nobody waiting, and
// goes by the same namespaces as the injection.
func TestAdviceContract(t *testing.T) {
	t.Parallel()
	hooks := advisers(t, "")
	if len(hooks) != 4 {
		t.Fatalf("%d webhooks, want 2 for each way", len(hooks))
	}
	for i, hook := range hooks {
		injection := webhooks(t, "")[i/2]
		got := []any{*hook.FailurePolicy, *hook.TimeoutSeconds, *hook.SideEffects, *hook.MatchPolicy, *hook.ClientConfig.Service.Path}
		want := []any{admissionv1.Ignore, int32(3), admissionv1.SideEffectClassNone, admissionv1.Equivalent, strings.Replace(*injection.ClientConfig.Service.Path, "/pods", "/workloads", 1)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", hook.Name, diff)
		}
		if diff := cmp.Diff(injection.NamespaceSelector, hook.NamespaceSelector); diff != "" {
			t.Errorf("%s looks at other namespaces (-injection +advice):\n%s", hook.Name, diff)
		}
		if hook.ClientConfig.Service.Name != injection.ClientConfig.Service.Name {
			t.Errorf("%s is served by %s", hook.Name, hook.ClientConfig.Service.Name)
		}
	}
	if hooks := advisers(t, cases(t)["no-workload-warnings"]); len(hooks) > 0 {
		t.Errorf("%d webhooks although they are switched off", len(hooks))
	}
}

// TestExecGuardContract: who breaks the glass waits for nobody, not even where the guard
// itself waits for the webhook; and no webhook is asked where the policy suffices.
func TestExecGuardContract(t *testing.T) {
	t.Parallel()
	const exec, record = "exec.env-injector.admission.spv.no", "break-glass.env-injector.admission.spv.no"
	for name, tc := range map[string]struct{ values, hooks []string }{
		"Off":                    {nil, nil},
		"OfNamespaces":           {[]string{"enabled=true"}, nil},
		"OfNamespacesWithGroups": {[]string{"enabled=true", `breakGlassGroups={cn=ops\,dc=example}`}, []string{record}},
		"OfPods":                 {[]string{"enabled=true", "scope=injected"}, []string{exec}},
		"OfPodsWithGroups":       {[]string{"enabled=true", "scope=injected", `breakGlassGroups={cn=ops\,dc=example}`}, []string{exec, record}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"--set", "env_injector.workloadWarnings.enabled=false"} // the configuration must not hang on those
			for _, v := range tc.values {
				args = append(args, "--set", "env_injector.execGuard."+v)
			}
			all := objects(t, mustTemplate(t, product, "akv2k8s", args...))
			if got := len(each[*admissionv1.ValidatingAdmissionPolicyBinding](all)) - 1; got != min(1, len(tc.values)) {
				t.Errorf("%d policies beside the placeholders'", got)
			}
			var hooks []admissionv1.ValidatingWebhook
			for _, c := range each[*admissionv1.ValidatingWebhookConfiguration](all) {
				hooks = append(hooks, c.Webhooks...)
			}
			var got []string
			for _, h := range hooks {
				got = append(got, h.Name)
				breaks, groups := h.Name == record, strings.HasSuffix(name, "WithGroups")
				asksAbout(t, h, breaks, groups)
			}
			if diff := cmp.Diff(tc.hooks, got); diff != "" {
				t.Errorf("webhooks (-want +got):\n%s", diff)
			}
		})
	}
}

// asksAbout: the recorder is asked about who breaks the glass, the guard about everybody
// else.
func asksAbout(t *testing.T, hook admissionv1.ValidatingWebhook, breaks, groups bool) {
	t.Helper()
	policy := admissionv1.Fail
	if breaks {
		policy = admissionv1.Ignore
	}
	if *hook.FailurePolicy != policy || *hook.SideEffects != admissionv1.SideEffectClassNone || len(hook.MatchConditions) != 1 {
		t.Errorf("%s: %s, %s, %d conditions", hook.Name, *hook.FailurePolicy, *hook.SideEffects, len(hook.MatchConditions))
	}
	if member := asked(t, hook, []string{"system:authenticated", "cn=ops,dc=example"}); member != (breaks == groups) {
		t.Errorf("%s is asked about who may break the glass: %t", hook.Name, member)
	}
	if asked(t, hook, []string{"system:authenticated"}) == breaks || asked(t, hook, nil) == breaks {
		t.Errorf("%s is asked about others: %t", hook.Name, breaks)
	}
}

// asked says whether a webhook is asked about somebody of these groups.
func asked(t *testing.T, hook admissionv1.ValidatingWebhook, groups []string) bool {
	t.Helper()
	user := map[string]any{"username": "somebody"}
	if groups != nil {
		user["groups"] = groups
	}
	return evaluateOf(t, "request", hook.MatchConditions[0].Expression, map[string]any{"userInfo": user})
}

// TestWhichWorkloadsAreAdvised evaluates the conditions of both webhooks.
func TestWhichWorkloadsAreAdvised(t *testing.T) {
	t.Parallel()
	template := func(value string) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Env: []corev1.EnvVar{{Name: "A", Value: value}}}}}}
	}
	owned := func(controller *bool) metav1.ObjectMeta {
		return metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{Name: "backup"}, {Name: "owner", Controller: controller}}}
	}
	const placeholder = "my-secret@azurekeyvault"
	cron := func(value string) batchv1.CronJob {
		return batchv1.CronJob{Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template(value)}}}}
	}
	annotated := metav1.ObjectMeta{Annotations: map[string]string{"key": placeholder}}
	secret := corev1.PodSpec{Containers: []corev1.Container{{Name: "app", EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{}}}}}}
	yes, no := true, false
	for name, tc := range map[string]struct {
		hook   int
		object any
		want   bool
	}{
		"Placeholder":      {0, appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: template(placeholder)}}, true},
		"None":             {0, appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: template("text")}}, false},
		"Secret":           {0, appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: secret}}}, true},
		"Annotation":       {0, appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{ObjectMeta: annotated}}}, true},
		"AnnotationBeside": {0, appsv1.Deployment{ObjectMeta: annotated, Spec: appsv1.DeploymentSpec{Template: template("text")}}, false},
		"Cron":             {0, cron(placeholder), true},
		"CronNone":         {0, cron("text"), false},
		"Controlled":       {0, appsv1.ReplicaSet{ObjectMeta: owned(&yes), Spec: appsv1.ReplicaSetSpec{Template: template(placeholder)}}, false},
		"Owned":            {0, batchv1.Job{ObjectMeta: owned(nil), Spec: batchv1.JobSpec{Template: template(placeholder)}}, true},
		"OwnedOnly":        {0, batchv1.Job{ObjectMeta: owned(&no), Spec: batchv1.JobSpec{Template: template(placeholder)}}, true},
		"Pod":              {1, corev1.Pod{Spec: template(placeholder).Spec}, false}, // the other configuration's
		"PodSecret":        {1, corev1.Pod{Spec: secret}, false},
		"PodAnnotation":    {1, corev1.Pod{ObjectMeta: annotated, Spec: template("text").Spec}, true},
		"PodVolume": {1, corev1.Pod{Spec: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
			CSI: &corev1.CSIVolumeSource{VolumeAttributes: map[string]string{"a": placeholder}},
		}}}}}, true},
		"PodControlled": {1, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: annotated.Annotations, OwnerReferences: owned(&yes).OwnerReferences}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := matches(t, advisers(t, "")[tc.hook].MatchConditions, tc.object); got != tc.want {
				t.Errorf("looked at: %v, want %v", got, tc.want)
			}
		})
	}
}

// matches says whether all conditions hold.
func matches(t *testing.T, conditions []admissionv1.MatchCondition, object any) bool {
	t.Helper()
	for _, condition := range conditions {
		if !evaluate(t, condition.Expression, object) {
			return false
		}
	}
	return true
}

func evaluate(t *testing.T, expression string, object any) bool {
	t.Helper()
	return evaluateOf(t, "object", expression, object)
}

func evaluateOf(t *testing.T, variable, expression string, object any) bool {
	t.Helper()
	env, err := cel.NewEnv(cel.Variable(variable, cel.DynType), ext.Strings(ext.StringsVersion(2)))
	if err != nil {
		t.Fatal(err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		t.Fatal(issues.Err())
	}
	program, err := env.Program(ast)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(wire, &tree); err != nil {
		t.Fatal(err)
	}
	result, _, err := program.Eval(map[string]any{variable: tree})
	if err != nil {
		t.Fatal(err)
	}
	return result.Value() == true
}
