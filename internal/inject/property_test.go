// SPDX-License-Identifier: Apache-2.0

package inject_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// Whatever the pod: it is refused, left alone, or changed such that a second
// look changes nothing, however the wrapper would be delivered by then, the QoS
// class stays, what was there is there still, and each program sees what it would, had
// the values stood where their placeholders are.
func TestInjectingTwiceIsInjectingOnce(t *testing.T) {
	t.Parallel()
	deliveries := rapid.SampledFrom([]inject.Delivery{"", inject.DeliveryInitContainer, inject.DeliveryImageVolume, inject.DeliveryAuto})
	rapid.Check(t, func(t *rapid.T) {
		before := drawPod(t)
		raw, err := json.Marshal(before)
		if err != nil {
			t.Fatal(err)
		}
		direct := rapid.Bool().Draw(t, "direct")
		out, refused := inject2(t, raw, deliveries.Draw(t, "delivery"), direct)
		if refused || out == nil {
			return
		}
		if again, _ := inject2(t, out, deliveries.Draw(t, "delivery"), direct); again != nil {
			t.Fatalf("changed again:\n%s", cmp.Diff(string(out), string(again)))
		}
		var after corev1.Pod
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatal(err)
		}
		for i, c := range append(append([]corev1.Container{}, before.Spec.InitContainers...), before.Spec.Containers...) {
			injected := append(append([]corev1.Container{}, after.Spec.InitContainers[len(after.Spec.InitContainers)-len(before.Spec.InitContainers):]...), after.Spec.Containers...)[i]
			if d := cmp.Diff(ideal(c), actual(t, injected)); d != "" {
				t.Fatalf("container %s: the program sees -want +got\n%s\n%s", c.Name, d, out)
			}
			if d := cmp.Diff(idealArguments(c), actualArguments(injected)); len(c.Command) > 0 && d != "" {
				t.Fatalf("container %s: the program is called with -want +got\n%s\n%s", c.Name, d, out)
			}
		}
		filesApart(t, after)
		if w, g := qos(before), qos(after); w != g {
			t.Fatalf("QoS class was %s and is %s", w, g)
		}
		kept(t, before, after)
	})
}

// Another webhook may put its own program before the wrapper, whereupon ours is
// asked again. The wrapper must not be put before that too: it clears the
// variables that the inner one needs.
func TestWrappedByAnotherWebhookToo(t *testing.T) {
	t.Parallel()
	out, _ := decide(t, []byte(`{"spec":{"containers":[{"name":"app","command":["/app"],"args":["-v"],"env":[{"name":"A","value":"my-secret@azurekeyvault"}]}]}}`))
	var pod corev1.Pod
	if err := json.Unmarshal(out, &pod); err != nil {
		t.Fatal(err)
	}
	app := &pod.Spec.Containers[0]
	app.Args = append(app.Command, app.Args...)
	app.Command = []string{"/other/wrapper"}
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	if again, report := decide(t, raw); again != nil {
		t.Errorf("changed again:\n%s%s", report, cmp.Diff(string(raw), string(again)))
	}
}

// inject2 decides and applies; it returns nil if the pod stays as it is.
func inject2(t *rapid.T, raw []byte, by inject.Delivery, direct bool) ([]byte, bool) {
	pod, err := inject.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	pod.Learn(known())
	s := settings()
	s.Delivery = by
	nodes := []inject.Node{{Kubelet: "v1.35.0", Runtime: "containerd://2.1.0"}}
	facts := inject.Facts{Pod: pod, Namespace: "default", Commands: commands, Nodes: nodes}
	if direct {
		s.Direct, facts.Account, facts.Secrets = &inject.Direct{TenantID: "tenant"}, inject.Account{ClientID: "client"}, map[string]*v2beta1.AzureKeyVaultSecret{}
		for _, name := range pod.Secrets() {
			facts.Secrets[name] = akvs(v2beta1.ObjectSecret)
		}
	}
	patch, _, err := inject.Decide(facts, s)
	if errors.As(err, &inject.Refusal{}) {
		return nil, true
	}
	if err != nil {
		t.Fatal(err)
	}
	if !pod.HasPlaceholder() && len(patch) != 0 {
		t.Fatal("a pod without placeholder is changed")
	}
	if len(patch) == 0 {
		return nil, false
	}
	return apply(t, raw, patch), false
}

// kept checks that init containers, containers and volumes are all there, in
// their order, with the variables they had first.
func kept(t *rapid.T, before, after corev1.Pod) {
	shift := len(after.Spec.InitContainers) - len(before.Spec.InitContainers)
	mounted := after.Spec.Volumes[len(before.Spec.Volumes)].Image != nil
	if (shift != 0 || !mounted) && (shift != 1 || mounted || after.Spec.InitContainers[0].Name != "copy-azurekeyvault-env") {
		t.Fatalf("init containers: %v", after.Spec.InitContainers)
	}
	for i, c := range before.Spec.Containers {
		same(t, c, after.Spec.Containers[i])
	}
	for i, c := range before.Spec.InitContainers {
		same(t, c, after.Spec.InitContainers[i+shift])
	}
	if d := cmp.Diff(before.Spec.Volumes, after.Spec.Volumes[:len(before.Spec.Volumes)], cmpopts.EquateEmpty()); d != "" {
		t.Fatal(d)
	}
}

func same(t *rapid.T, before, after corev1.Container) {
	if before.Name != after.Name || before.Image != after.Image {
		t.Fatalf("%s has become %s", before.Name, after.Name)
	}
	for i, e := range before.Env {
		if e.Name != after.Env[i].Name {
			t.Fatalf("variable %s has become %s", e.Name, after.Env[i].Name)
		}
	}
	if d := cmp.Diff(before.EnvFrom, after.EnvFrom, cmpopts.EquateEmpty()); d != "" {
		t.Fatal(d)
	}
}

// known are the sources that the drawn pods refer to.
func known() inject.Sources {
	s := sources()
	delete(s, inject.Source{Kind: inject.Secret, Name: "garbled"})
	return s
}

// environment makes a container's as the kubelet does. literal and source are what is
// done with a text before it gets there.
func environment(c corev1.Container, literal, source func(string) string) map[string]string {
	env := map[string]string{}
	get := func(s inject.Source, prefix string) {
		for key, text := range known()[s] {
			env[prefix+key] = source(text)
		}
	}
	one := func(name string, s inject.Source, key string) {
		if text, is := known()[s][key]; is { // else it is as if it were not in env
			env[name] = source(text)
		}
	}
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef != nil {
			get(inject.Source{Kind: inject.ConfigMap, Name: from.ConfigMapRef.Name}, from.Prefix)
		}
		if from.SecretRef != nil {
			get(inject.Source{Kind: inject.Secret, Name: from.SecretRef.Name}, from.Prefix)
		}
	}
	for _, e := range c.Env {
		switch {
		case e.Value != "":
			env[e.Name] = expand(literal(e.Value), env)
		case e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil:
			one(e.Name, inject.Source{Kind: inject.ConfigMap, Name: e.ValueFrom.ConfigMapKeyRef.Name}, e.ValueFrom.ConfigMapKeyRef.Key)
		case e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil:
			one(e.Name, inject.Source{Kind: inject.Secret, Name: e.ValueFrom.SecretKeyRef.Name}, e.ValueFrom.SecretKeyRef.Key)
		default:
			env[e.Name] = ""
		}
	}
	return env
}

// value is what a placeholder stands for.
func value(p placeholder.Placeholder) string {
	if path := p.Path(); path != "" {
		return brokerapi.FilesDir + "/" + path
	}
	return "[" + p.Name + " " + p.Query + "]"
}

func filled(text string) string {
	read, err := placeholder.Read(text)
	if err != nil {
		panic(err) // such a pod is refused
	}
	return read.Fill(value)
}

// ideal is what the program sees if the values stand in the pod and its sources.
func ideal(c corev1.Container) map[string]string { return environment(c, filled, filled) }

func idealArguments(c corev1.Container) []string {
	return expandAll(append(append([]string{}, c.Command...), c.Args...), ideal(c))
}

// actualArguments are the kubelet's work alone. In its eyes placeholders are values.
func actualArguments(c corev1.Container) []string {
	same := func(text string) string { return text }
	return expandAll(slices.DeleteFunc(append(append([]string{}, c.Command...), c.Args...), func(s string) bool { return s == brokerapi.Binary }), environment(c, same, same))
}

func expandAll(texts []string, env map[string]string) []string {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = expand(text, env)
	}
	return out
}

// filesApart checks that who asks for files, and nobody else, has a volume for them, in
// memory, that no other container can see.
func filesApart(t *rapid.T, pod corev1.Pod) {
	mounted := map[string]int{}
	for _, c := range append(append([]corev1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...) {
		var own []string
		for _, m := range c.VolumeMounts {
			mounted[m.Name]++
			if m.MountPath == brokerapi.FilesDir && !m.ReadOnly {
				own = append(own, m.Name)
			}
		}
		asked := slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
			return strings.Contains(e.Value, ";file") || strings.Contains(e.Value, ";directory")
		})
		if asked != (len(own) == 1) || len(own) > 1 {
			t.Fatalf("container %s asks for files: %v, mounts %q", c.Name, asked, own)
		}
	}
	for _, v := range pod.Spec.Volumes {
		if strings.HasPrefix(v.Name, brokerapi.FilesVolumePrefix) && (mounted[v.Name] != 1 || v.EmptyDir.Medium != corev1.StorageMediumMemory) {
			t.Fatalf("volume %s is mounted %d times: %+v", v.Name, mounted[v.Name], v)
		}
	}
}

// Webhooks after ours may put containers before those that we know; whoever copies a
// pod may forget a volume.
func TestFilesStayWithTheirContainer(t *testing.T) {
	t.Parallel()
	out, _ := decide(t, readJSON(t, "testdata/files/in.yaml"))
	var pod corev1.Pod
	if err := json.Unmarshal(out, &pod); err != nil {
		t.Fatal(err)
	}
	newcomer := corev1.Container{Name: "newcomer", Command: []string{"/app"}, Env: []corev1.EnvVar{{Name: "A", Value: "my-secret@azurekeyvault;file"}}}
	slices.Reverse(pod.Spec.Containers)
	pod.Spec.Containers = append([]corev1.Container{newcomer}, pod.Spec.Containers...)
	forgotten := func(v corev1.Volume) bool { return v.Name == "azure-keyvault-files-4" }
	pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, forgotten)
	want := pod.DeepCopy()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	again, report := decide(t, raw)
	if again == nil {
		t.Fatal(report)
	}
	var after corev1.Pod
	if err := json.Unmarshal(again, &after); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.Spec.Containers[1:], after.Spec.Containers[1:]); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if !slices.ContainsFunc(after.Spec.Volumes, forgotten) {
		t.Error("the volume that was forgotten is not added")
	}
	last := after.Spec.Containers[0].VolumeMounts[2]
	if d := cmp.Diff(corev1.VolumeMount{Name: "azure-keyvault-files-5", MountPath: brokerapi.FilesDir}, last); d != "" {
		t.Errorf("the newcomer's: -want +got\n%s", d)
	}
	// An argument that comes later has its path too.
	after.Spec.Containers[0].Args = append(after.Spec.Containers[0].Args, "$(A)")
	if raw, err = json.Marshal(after); err != nil {
		t.Fatal(err)
	}
	again, report = decide(t, raw)
	if again == nil || !strings.Contains(string(again), `"/app","/var/run/secrets/azure-keyvault/my-secret/value"`) {
		t.Errorf("%s%s", report, again)
	}
}

// actual is what it sees: the kubelet's work, then the wrapper's. The wrapper gets the
// values of what the container's own env lists, and of nothing else.
func actual(t *rapid.T, c corev1.Container) map[string]string {
	same := func(text string) string { return text }
	env := environment(c, same, same)
	if len(c.Command) == 0 || c.Command[0] != brokerapi.Binary {
		return env
	}
	listed := map[string]bool{}
	for _, e := range c.Env {
		read, err := placeholder.Read(e.Value)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range read.Placeholders() {
			listed[p.Key()] = true
		}
	}
	for name, text := range env {
		if strings.HasPrefix(name, brokerapi.EnvPrefix) {
			delete(env, name)
			continue
		}
		read, err := placeholder.Read(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, p := range read.Placeholders() {
			if !listed[p.Key()] {
				t.Fatalf("%s: the container's env does not list %s", name, p)
			}
		}
		env[name] = read.Fill(value)
	}
	return env
}

var images = rapid.SampledFrom([]string{"registry.example/both:1", "registry.example/dollar:1", "registry.example/empty:1"})

func drawPod(t *rapid.T) corev1.Pod {
	p := corev1.Pod{}
	p.Spec.Containers = drawContainers(t, "app", 1)
	p.Spec.InitContainers = drawContainers(t, "init", 0)
	if rapid.Bool().Draw(t, "user") {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(rapid.Int64Range(0, 2).Draw(t, "uid"))}
	}
	if rapid.Bool().Draw(t, "volume") {
		p.Spec.Volumes = []corev1.Volume{{Name: "data"}}
	}
	return p
}

func drawContainers(t *rapid.T, prefix string, least int) []corev1.Container {
	list := make([]corev1.Container, rapid.IntRange(least, 3).Draw(t, prefix))
	for i := range list {
		c := &list[i]
		c.Name, c.Image = fmt.Sprintf("%s-%d", prefix, i), images.Draw(t, "image")
		texts := rapid.SliceOfN(rapid.SampledFrom([]string{"/app", "$(A)", "$(B)", "$$(A)", "$", "x"}), 0, 3)
		c.Command, c.Args = texts.Draw(t, "command"), texts.Draw(t, "args")
		c.Env, c.EnvFrom = drawEnv(t), drawEnvFrom(t)
		c.Resources = drawResources(t)
		if rapid.Bool().Draw(t, "user") {
			c.SecurityContext = &corev1.SecurityContext{RunAsUser: new(rapid.Int64Range(0, 2).Draw(t, "uid"))}
		}
	}
	return list
}

func drawEnv(t *rapid.T) []corev1.EnvVar {
	texts := rapid.SampledFrom([]string{
		"my-secret@azurekeyvault", "absent@azurekeyvault?tls.key", "plain", "$(A)", "$(A)$$(B)$(B)", "$(PASSWORD)-$(URL)$(DSN)",
		"x<my-secret@azurekeyvault>$(C)", "me@@azurekeyvault", "my-secret@azurekeyvault;file;default=d", "<my-many@azurekeyvault;directory>:$(A)",
		"my-cert@azurekeyvault?tls.key;file", "my-cert@azurekeyvault;optional", "x@azurekeyvault x",
	})
	keys := rapid.SampledFrom([]string{"PASSWORD", "URL", "DSN", "PLAIN", "costs"})
	var env []corev1.EnvVar
	for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"A", "B", "C", "PASSWORD"}), 0, 4).Draw(t, "variables") {
		e := corev1.EnvVar{Name: name}
		switch rapid.IntRange(0, 5).Draw(t, "source") {
		case 0:
			e.ValueFrom = &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}, Key: keys.Draw(t, "key")}}
		case 1:
			e.ValueFrom = &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "login"}, Key: keys.Draw(t, "key")}}
		default:
			e.Value = texts.Draw(t, "value")
		}
		env = append(env, e)
	}
	return env
}

func drawEnvFrom(t *rapid.T) []corev1.EnvFromSource {
	var list []corev1.EnvFromSource
	for range rapid.IntRange(0, 2).Draw(t, "sources") {
		from := corev1.EnvFromSource{Prefix: rapid.SampledFrom([]string{"", "", "A"}).Draw(t, "prefix")}
		if rapid.Bool().Draw(t, "secret") {
			from.SecretRef = &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: rapid.SampledFrom([]string{"login", "absent"}).Draw(t, "name")}}
		} else {
			from.ConfigMapRef = &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: rapid.SampledFrom([]string{"settings", "absent"}).Draw(t, "name")}}
		}
		list = append(list, from)
	}
	return list
}

func drawResources(t *rapid.T) corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	amounts := rapid.SampledFrom([]string{"16Mi", "64Mi", "128Mi", "0"})
	for _, name := range []corev1.ResourceName{"cpu", "memory", "ephemeral-storage"} {
		request, limit := resource.MustParse(amounts.Draw(t, "request")), resource.MustParse(amounts.Draw(t, "limit"))
		if request.Cmp(limit) > 0 {
			request, limit = limit, request
		}
		switch rapid.IntRange(0, 4).Draw(t, "resources") {
		case 0:
			r.Requests[name] = request
		case 1:
			r.Requests[name], r.Limits[name] = request, limit
		case 2, 3:
			r.Requests[name], r.Limits[name] = limit, limit
		}
	}
	return r
}

// What holds for all containers of a pod holds for the one that is added: that it
// states an amount, that this is not below the least, and that a limit is not too
// many times the request. So LimitRanges and quotas that let them pass let it pass.
// The pod asks for no more than it did, or than is configured.
func TestTheInstallerStatesWhatAllState(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var pod corev1.Pod
		pod.Spec.Containers = drawContainers(t, "app", 1)
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "my-secret@azurekeyvault"}}
		if rapid.Bool().Draw(t, "whole") {
			much := resource.MustParse("1Gi")
			pod.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": much, "memory": much}}
		}
		raw, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		out, refused := inject2(t, raw, inject.DeliveryInitContainer, false)
		if refused {
			return
		}
		containers := pod.Spec.Containers
		var after corev1.Pod
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatal(err)
		}
		for _, name := range []corev1.ResourceName{"cpu", "memory", "ephemeral-storage"} {
			passes(t, name, after.Spec.InitContainers[0].Resources, containers)
		}
	})
}

// passes holds the installer to the tightest rules that the containers pass.
func passes(t *rapid.T, name corev1.ResourceName, installer corev1.ResourceRequirements, containers []corev1.Container) {
	rules := tightest(name, containers)
	request, requests := installer.Requests[name]
	limit, limits := installer.Limits[name]
	switch {
	case rules.requested && (!requests || request.Cmp(rules.least) < 0):
		t.Fatalf("%s: requests %s, the others %s and more", name, request.String(), rules.least.String())
	case rules.limited && !limits:
		t.Fatalf("%s has no limit", name)
	case rules.requested && rules.limited && limit.AsApproximateFloat64() > rules.ratio*request.AsApproximateFloat64():
		t.Fatalf("%s: limit %s is more than %v times the request %s", name, limit.String(), rules.ratio, request.String())
	case limits && limit.Cmp(request) < 0:
		t.Fatalf("%s: limit %s is less than the request %s", name, limit.String(), request.String())
	}
	configured := settings().Resources.Requests[name]
	if fallback := resource.MustParse("10m"); name == "cpu" && configured.Cmp(fallback) < 0 {
		configured = fallback
	}
	if request.Cmp(rules.sum) > 0 && request.Cmp(configured) > 0 {
		t.Fatalf("%s: the pod requests %s now, and %s before", name, request.String(), rules.sum.String())
	}
}

type rules struct {
	requested, limited bool // by every container
	least, sum         resource.Quantity
	ratio              float64 // of limit to request, the largest
}

func tightest(name corev1.ResourceName, containers []corev1.Container) rules {
	r := rules{requested: true, limited: true, ratio: 1}
	for i, c := range containers {
		request, requests := c.Resources.Requests[name]
		limit := c.Resources.Limits[name]
		r.requested, r.limited = r.requested && requests, r.limited && !limit.IsZero()
		r.sum.Add(request)
		if i == 0 || request.Cmp(r.least) < 0 {
			r.least = request
		}
		if request.IsZero() {
			r.ratio = math.Inf(1)
		} else {
			r.ratio = max(r.ratio, limit.AsApproximateFloat64()/request.AsApproximateFloat64())
		}
	}
	return r
}

// Pods share a cluster's nodes: one that cannot mount images is enough.
func TestAutoTakesTheImageVolumeWhereEveryNodeCan(t *testing.T) {
	t.Parallel()
	good := inject.Node{Kubelet: "v1.35.0", Runtime: "containerd://2.1.0"}
	for name, tc := range map[string]struct {
		nodes []inject.Node
		want  inject.Delivery
	}{
		"Nobody":       {nil, inject.DeliveryInitContainer},
		"All":          {[]inject.Node{good, {Kubelet: "v1.37.2", Runtime: "containerd://2.4.2"}}, inject.DeliveryImageVolume},
		"Distributors": {[]inject.Node{{Kubelet: "v1.35.2-eks-3abbec1", Runtime: "containerd://2.2.1+unknown"}}, inject.DeliveryImageVolume},
		"OldKubelet":   {[]inject.Node{good, {Kubelet: "v1.34.11", Runtime: "containerd://2.4.2"}}, inject.DeliveryInitContainer},
		"OldRuntime":   {[]inject.Node{{Kubelet: "v1.36.0", Runtime: "containerd://2.0.7"}, good}, inject.DeliveryInitContainer},
		"OlderRuntime": {[]inject.Node{{Kubelet: "v1.36.0", Runtime: "containerd://1.7.27-1"}}, inject.DeliveryInitContainer},
		"NextMajor":    {[]inject.Node{{Kubelet: "v1.36.0", Runtime: "containerd://3.0.0"}}, inject.DeliveryInitContainer},
		"Untested":     {[]inject.Node{{Kubelet: "v1.36.0", Runtime: "cri-o://1.36.0"}}, inject.DeliveryInitContainer},
		"Virtual":      {[]inject.Node{good, {Kubelet: "v1.35.0"}}, inject.DeliveryInitContainer},
		"Garbage":      {[]inject.Node{{Kubelet: "latest", Runtime: "containerd://2.1.0"}}, inject.DeliveryInitContainer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod, err := inject.Read(readJSON(t, "testdata/article/in.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			s := settings()
			s.Delivery = inject.DeliveryAuto
			_, report, err := inject.Decide(inject.Facts{Pod: pod, Nodes: tc.nodes, Commands: commands}, s)
			if err != nil || report.Delivery != tc.want {
				t.Errorf("%q, %v; want %q", report.Delivery, err, tc.want)
			}
		})
	}
}

// qos is the class as the Kubernetes documentation words it.
func qos(p corev1.Pod) corev1.PodQOSClass {
	guaranteed, asked := true, false
	for _, c := range append(append([]corev1.Container{}, p.Spec.InitContainers...), p.Spec.Containers...) {
		for _, name := range []corev1.ResourceName{"cpu", "memory"} {
			request, limit := c.Resources.Requests[name], c.Resources.Limits[name]
			asked = asked || !request.IsZero() || !limit.IsZero()
			guaranteed = guaranteed && !limit.IsZero() && request.Cmp(limit) == 0
		}
	}
	switch {
	case !asked:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	default:
		return corev1.PodQOSBurstable
	}
}

// What an image says reaches the program unchanged, although Kubernetes replaces
// $(VAR) in everything that a pod says.
func TestImageTextsSurviveReplacement(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[$()ab]{0,12}`).Draw(t, "text")
		pod := corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Image: "image", Env: []corev1.EnvVar{{Name: "a", Value: "x@azurekeyvault"}},
		}}}}
		raw, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		read, err := inject.Read(raw)
		if err != nil {
			t.Fatal(err)
		}
		patch, _, err := inject.Decide(inject.Facts{Pod: read, Commands: map[string]inject.Command{"image": {Entrypoint: []string{"/e"}, Cmd: []string{text}}}}, settings())
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(apply(t, raw, patch), &pod); err != nil {
			t.Fatal(err)
		}
		if got := expand(pod.Spec.Containers[0].Args[1], map[string]string{"a": "REPLACED", "b": "REPLACED", "": "REPLACED"}); got != text {
			t.Fatalf("%q becomes %q, of which the program sees %q", text, pod.Spec.Containers[0].Args[1], got)
		}
	})
}

// expand replaces as the kubelet does: "$$" is "$", and $(NAME) the variable's value if
// there is such a variable.
func expand(text string, env map[string]string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		if end := strings.IndexByte(text[i:], ')'); text[i] == '(' && end >= 0 {
			if value, is := env[text[i+1:i+end]]; is {
				b.WriteString(value)
			} else {
				b.WriteString("$" + text[i:i+end+1])
			}
			i += end
			continue
		}
		if text[i] != '$' {
			b.WriteByte('$')
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// A refusal quotes names and paths, never the text that it refuses.
func TestRefusalKeepsTheText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		password := rapid.StringMatching(`hunter[0-9]{6}`).Draw(t, "password")
		pod := corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Env: []corev1.EnvVar{{Name: "URL", Value: "https://" + password + "@azurekeyvault/"}},
		}}}}
		raw, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		read, err := inject.Read(raw)
		if err != nil {
			t.Fatal(err)
		}
		patch, report, err := inject.Decide(inject.Facts{Pod: read, Commands: commands}, settings())
		if err == nil || patch != nil {
			t.Fatal("not refused")
		}
		if text := err.Error() + report.String(); strings.Contains(text, password) {
			t.Fatalf("leaked: %s", text)
		}
	})
}

func TestLongRefusalsAreCut(t *testing.T) {
	t.Parallel()
	got := inject.Refusal{Problems: strings.Split("abcdefg", "")}.Error()
	if want := "a; b; c; d; e; and 2 more problems of this kind"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDecideWithoutBroker(t *testing.T) {
	t.Parallel()
	pod, err := inject.Read(readJSON(t, "testdata/article/in.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s := settings()
	s.Brokers = nil
	if patch, _, err := inject.Decide(inject.Facts{Pod: pod}, s); !errors.Is(err, inject.ErrNotReady) || patch != nil {
		t.Errorf("Decide() = %v, %v", patch, err)
	}
}

// FuzzDecide takes any JSON for a pod: no panic, and a patch that applies and
// settles.
func FuzzDecide(f *testing.F) {
	ins, err := filepath.Glob("testdata/*/in.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, in := range ins {
		text, err := os.ReadFile(in)
		if err != nil {
			f.Fatal(err)
		}
		raw, err := yaml.YAMLToJSON(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var tree map[string]any
		if json.Unmarshal(raw, &tree) != nil {
			return
		}
		raw, err := json.Marshal(tree) // one member of each name, as the API server sends it
		if err != nil {
			return
		}
		for first, then := range map[inject.Delivery]inject.Delivery{
			inject.DeliveryInitContainer: inject.DeliveryImageVolume, inject.DeliveryImageVolume: inject.DeliveryInitContainer,
		} {
			out := settle(t, raw, first)
			if out == nil {
				continue
			}
			if again := settle(t, out, then); again != nil {
				t.Errorf("changed again:\n%s", cmp.Diff(string(out), string(again)))
			}
		}
	})
}

func settle(t *testing.T, raw []byte, by inject.Delivery) []byte {
	t.Helper()
	pod, err := inject.Read(raw)
	if err != nil {
		return nil
	}
	facts := inject.Facts{Pod: pod, Namespace: "default", Commands: map[string]inject.Command{}, Secrets: secrets()}
	for _, image := range pod.Images() {
		facts.Commands[image] = inject.Command{Entrypoint: []string{"/entry"}}
	}
	s := settings()
	s.Delivery = by
	patch, _, err := inject.Decide(facts, s)
	if err != nil || len(patch) == 0 {
		return nil
	}
	return apply(t, raw, patch)
}
