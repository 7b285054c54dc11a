// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	brokerkube "github.com/akv2k8s/akv2k8s/internal/broker/kube"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/webhook"
	"github.com/akv2k8s/akv2k8s/internal/webhook/kube"
)

const (
	guardFile    = "../chart/testdata/exec-guard/objects.yaml" // the chart's guard of whole namespaces, and
	injectedFile = "../chart/testdata/exec-guard-injected/objects.yaml"
	// passesAdmission is what the API server says next, of a pod on no node.
	passesAdmission = "does not have a host assigned"
)

// install both halves of the chart's policy, with a label and names of this test's own
// so that other tests' pods are not looked at.
func policyOf(t *testing.T, file, label string) {
	t.Helper()
	policy, binding := &admissionv1.ValidatingAdmissionPolicy{}, &admissionv1.ValidatingAdmissionPolicyBinding{}
	objectOf(t, file, "ValidatingAdmissionPolicy", "akv2k8s-exec-guard", policy)
	objectOf(t, file, "ValidatingAdmissionPolicyBinding", "akv2k8s-exec-guard", binding)
	if got := policy.Spec.MatchConstraints.NamespaceSelector.MatchLabels; got[brokerapi.GuardLabel] != brokerapi.GuardValue {
		t.Errorf("the policy looks at namespaces with %v, the broker at others", got)
	}
	policy.Spec.MatchConstraints.NamespaceSelector.MatchLabels = map[string]string{label: brokerapi.GuardValue}
	policy.Name, binding.Name, binding.Spec.PolicyName = label, label, label
	install(t, policy)
	install(t, binding)
}

// member is the configuration of somebody who may do anything in the cluster, as a
// member of these groups.
func member(groups ...string) *rest.Config {
	cfg := rest.CopyConfig(adminConfig)
	cfg.NextProtos = []string{"http/1.1"} // what is upgraded is of 1.1
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "somebody", Groups: append([]string{"system:masters"}, groups...)}
	return cfg
}

// A way into a pod, as kubectl or somebody else takes it; it returns what the API server
// says, which is never yes, since there is no kubelet.
type way func(t *testing.T, cfg *rest.Config, pod *corev1.Pod) string

var waysIn = map[string]way{
	"ExecWebSocket":   connect(http.MethodGet, "exec", "command=env&container=app&stdout=true", websocket),
	"ExecSPDY":        connect(http.MethodPost, "exec", "command=env&container=app&stdout=true", spdy),
	"ExecPlain":       connect(http.MethodPost, "exec", "command=env&container=app&stdout=true", nil),
	"Copy":            connect(http.MethodGet, "exec", "command=tar&command=cf&command=-&command=%2Fproc%2F1%2Fenviron&stdout=true", websocket),
	"AttachWebSocket": connect(http.MethodGet, "attach", "container=app&stdin=true", websocket),
	"AttachSPDY":      connect(http.MethodPost, "attach", "container=app&stdin=true", spdy),
	"Debug":           debug,
}

var (
	websocket = map[string]string{"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "v5.channel.k8s.io"}
	spdy      = map[string]string{"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}
)

func connect(method, subresource, query string, upgrade map[string]string) way {
	return func(t *testing.T, cfg *rest.Config, pod *corev1.Pod) string {
		t.Helper()
		c, err := rest.HTTPClientFor(cfg)
		if err != nil {
			t.Fatal(err)
		}
		address := fmt.Sprintf("%s/api/v1/namespaces/%s/pods/%s/%s?%s", strings.TrimSuffix(cfg.Host, "/"), pod.Namespace, pod.Name, subresource, query)
		req, err := http.NewRequestWithContext(t.Context(), method, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range upgrade {
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set(name, value)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var status metav1.Status
		if err := json.Unmarshal(body, &status); err != nil {
			t.Fatalf("%d %q", resp.StatusCode, body)
		}
		return status.Message
	}
}

// debug adds a container to a pod. That needs no kubelet; what is added is left away again
// by a dry run.
func debug(t *testing.T, cfg *rest.Config, pod *corev1.Pod) string {
	t.Helper()
	c, err := client.New(cfg, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := pod.DeepCopy()
	p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: "debugger", Image: "registry.example/debug:1", Command: []string{"sh", "-c", "env"}, TerminationMessagePolicy: corev1.TerminationMessageReadFile, ImagePullPolicy: corev1.PullAlways,
	}}}
	if err := c.SubResource("ephemeralcontainers").Update(t.Context(), p, client.DryRunAll); err != nil {
		return err.Error()
	}
	return passesAdmission
}

// inForce waits until the policy refuses.
func inForce(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	eventually(t, "the policy is in force", func() error {
		if said := waysIn["Debug"](t, member(), pod); !strings.Contains(said, "kubectl exec") {
			return errors.New(said)
		}
		return nil
	})
}

func podIn(t *testing.T, ns string, change func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	p := somePod(ns, "text")
	if change != nil {
		change(p)
	}
	if err := admin.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func wrapped(p *corev1.Pod) {
	p.Spec.Containers[0].Command, p.Spec.Containers[0].Args = []string{brokerapi.Binary}, []string{"/app"}
}

// No way into a pod of a guarded namespace but for who may break the glass; elsewhere
// everybody gets in as ever. Nothing of ours runs here.
func TestExecGuard(t *testing.T) {
	t.Parallel()
	policyOf(t, guardFile, "exec-guard")
	guarded, open := podIn(t, labelled(t, map[string]string{"exec-guard": "enabled"}), nil), podIn(t, namespace(t), nil)
	other := podIn(t, labelled(t, map[string]string{"exec-guard": "disabled"}), nil)
	inForce(t, guarded)
	for name, into := range waysIn {
		t.Run(name, func(t *testing.T) {
			if said := into(t, member(), guarded); !strings.HasSuffix(said, inject.KeptOut(guarded.Name, []string{"oncall"})) {
				t.Errorf("guarded: %s", said)
			}
			for what, got := range map[string]string{
				"broken glass": into(t, member("others", "oncall"), guarded),
				"open":         into(t, member(), open),
				"not enabled":  into(t, member(), other),
			} {
				if !strings.Contains(got, passesAdmission) {
					t.Errorf("%s: %s", what, got)
				}
			}
			if said := into(t, member("Oncall", "oncalls"), guarded); strings.Contains(said, passesAdmission) {
				t.Error("groups of other names break the glass")
			}
		})
	}
	t.Run("Audit", func(t *testing.T) { brokenGlassIsAudited(t, guarded, open) })
}

// brokenGlassIsAudited: the API server's own log names who it was, and whom it refused.
func brokenGlassIsAudited(t *testing.T, guarded, open *corev1.Pod) {
	t.Helper()
	eventually(t, "the audit log has it all", func() error {
		text, err := os.ReadFile(auditLog())
		if err != nil {
			return err
		}
		var broken, refused int
		for line := range strings.Lines(string(text)) {
			switch {
			case strings.Contains(line, `"name":"`+open.Name+`"`) && strings.Contains(line, "exec-guard/break-glass"):
				t.Fatalf("where nothing is guarded: %s", line)
			case !strings.Contains(line, `"name":"`+guarded.Name+`"`):
			case strings.Contains(line, `"exec-guard/break-glass":"somebody passes the exec guard: exec of pod `+guarded.Namespace+"/"+guarded.Name+`"`):
				broken++
			case strings.Contains(line, "validation.policy.admission.k8s.io/validation_failure"):
				refused++
			}
		}
		if broken < 4 || refused < len(waysIn) {
			return fmt.Errorf("%d broke the glass by exec, %d were refused", broken, refused)
		}
		return nil
	})
}

// With scope "injected" the policy sees to debug containers, the webhook to the rest, and
// pods without values are open.
func TestExecGuardOfInjectedPods(t *testing.T) {
	t.Parallel()
	const label, master = "exec-guard-injected", `oidc:On call, "first" line`
	policyOf(t, injectedFile, label)
	ns := labelled(t, map[string]string{label: "enabled"})
	holds, plain, open := podIn(t, ns, wrapped), podIn(t, ns, nil), podIn(t, namespace(t), wrapped)
	inForce(t, holds)
	log := &output{}
	server := guardServer(t, log, label)
	asked := func() error {
		if said := waysIn["ExecSPDY"](t, member(), holds); !strings.Contains(said, "kubectl exec") {
			return errors.New(said)
		}
		return nil
	}
	eventually(t, "the API server asks the webhook", asked)
	want := inject.KeptOut(holds.Name, []string{master, "cn=ops,dc=example"})
	for name, into := range waysIn {
		if said := into(t, member(), holds); !strings.HasSuffix(said, want) {
			t.Errorf("%s into a pod with values: %s", name, said)
		}
		for what, got := range map[string]string{
			"broken glass": into(t, member(master), holds), "without values": into(t, member(), plain), "open": into(t, member(), open),
		} {
			if !strings.Contains(got, passesAdmission) {
				t.Errorf("%s, %s: %s", name, what, got)
			}
		}
	}
	if said := waysIn["ExecSPDY"](t, member(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "nosuch"}}); !strings.Contains(said, "not found") {
		t.Errorf("no pod: %s", said)
	}
	text := log.String()
	if strings.Count(text, "somebody breaks the glass") != len(waysIn)-1 || strings.Contains(text, "environ") { // a dry run gets nobody in
		t.Errorf("on record:\n%s", text)
	}
	for _, part := range []string{`"user":"somebody"`, `"way":"exec"`, `"way":"attach"`, `"program":"tar"`, `"container":"app"`, `"pod":"` + holds.Name + `"`, `"first\" line"`} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is not on record", part)
		}
	}
	server.Close()
	t.Run("Away", func(t *testing.T) { guardFailsClosed(t, holds, plain, open, master) })
}

// guardFailsClosed: without a webhook nobody gets in but by breaking the glass, and the
// policy goes on by itself.
func guardFailsClosed(t *testing.T, holds, plain, open *corev1.Pod, master string) {
	t.Helper()
	for name, into := range waysIn {
		if said := into(t, member(), holds); strings.Contains(said, passesAdmission) {
			t.Errorf("%s into a pod with values", name)
		}
		if said := into(t, member(), plain); strings.Contains(said, passesAdmission) != (name == "Debug") {
			t.Errorf("%s into a pod without values: %s", name, said)
		}
		for what, got := range map[string]string{"broken glass": into(t, member(master), holds), "open": into(t, member(), open)} {
			if !strings.Contains(got, passesAdmission) {
				t.Errorf("%s, %s: %s", name, what, got)
			}
		}
	}
}

// guardServer is the webhook with the rights that the chart gives it with this scope, and
// registered as it registers it.
func guardServer(t *testing.T, log *output, label string) *httptest.Server {
	t.Helper()
	source, err := kube.New(t.Context(), withRole(t, "akv2k8s-env-injector"), client.ObjectKey{Namespace: chartNS, Name: "akv2k8s-broker"})
	if err != nil {
		t.Fatal(err)
	}
	handler := webhook.NewHandler(webhook.Options{
		Guard: webhook.Guard{Groups: []string{`oidc:On call, "first" line`, "cn=ops,dc=example"}, Pod: source.Pod},
		Log:   slog.New(slog.NewJSONHandler(log, nil)),
	})
	server := httptest.NewTLSServer(handler.Routes())
	t.Cleanup(server.Close)
	registration := &admissionv1.ValidatingWebhookConfiguration{}
	objectOf(t, injectedFile, "ValidatingWebhookConfiguration", "akv2k8s-env-injector", registration)
	registration.Name = label
	var hooks []admissionv1.ValidatingWebhook
	for _, h := range registration.Webhooks {
		if h.NamespaceSelector.MatchExpressions[0].Key != brokerapi.GuardLabel {
			continue // it only warns
		}
		h.NamespaceSelector.MatchExpressions[0].Key = label
		address := server.URL + *h.ClientConfig.Service.Path
		h.ClientConfig = admissionv1.WebhookClientConfig{
			URL: &address, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		}
		hooks = append(hooks, h)
	}
	registration.Webhooks = hooks
	install(t, registration)
	return server
}

// withRole is the configuration of an account that has a cluster role of the chart with
// the guard of injected pods, and nothing else.
func withRole(t *testing.T, name string) *rest.Config {
	t.Helper()
	role := &rbacv1.ClusterRole{}
	objectOf(t, injectedFile, "ClusterRole", name, role)
	role.Name = name + "-" + url.QueryEscape(strings.ToLower(t.Name()))
	install(t, role)
	install(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: role.Name}},
	})
	cfg := rest.CopyConfig(adminConfig)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: role.Name, Groups: []string{"system:authenticated"}}
	return cfg
}

// The broker learns of the guard with the right that the chart gives it, and has no such
// right without.
func TestBrokerKnowsGuardedNamespaces(t *testing.T) {
	t.Parallel()
	source, err := brokerkube.New(t.Context(), withRole(t, "akv2k8s-broker"))
	if err != nil {
		t.Fatal(err)
	}
	guarded := labelled(t, map[string]string{brokerapi.GuardLabel: brokerapi.GuardValue})
	eventually(t, "the role is in force", func() error {
		_, err := source.Guarded(t.Context(), guarded)
		return err
	})
	for ns, want := range map[string]bool{
		guarded: true, namespace(t): false, labelled(t, map[string]string{brokerapi.GuardLabel: "disabled"}): false,
	} {
		if got, err := source.Guarded(t.Context(), ns); err != nil || got != want {
			t.Errorf("Guarded() = %t, %v, want %t", got, err, want)
		}
	}
	if _, err := source.Guarded(t.Context(), "nosuch"); err == nil {
		t.Error("a namespace that does not exist is not guarded")
	}
	cfg := rest.CopyConfig(adminConfig)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: brokerAccount, Groups: []string{"system:serviceaccounts", "system:authenticated"}}
	without, err := brokerkube.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := without.Guarded(t.Context(), guarded); err == nil {
		t.Errorf("without the guard: %t", got)
	}
}
