// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/broker"
	brokerkube "github.com/akv2k8s/akv2k8s/internal/broker/kube"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/internal/vault/vaulttest"
)

const brokerAccount = "system:serviceaccount:" + chartNS + ":akv2k8s-envinjector"

// counter is the broker with the chart's rights, before a vault that has two secrets.
type counter struct {
	handler http.Handler
	log     *output
	ns      string // with the AzureKeyVaultSecret "mine" and the account "web"
}

func newCounter(t *testing.T) *counter {
	t.Helper()
	cfg := rest.CopyConfig(adminConfig)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: brokerAccount, Groups: []string{"system:serviceaccounts", "system:authenticated"}}
	source, err := brokerkube.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, source.Run)
	metrics, err := broker.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	reader := vaulttest.NewReader("my-kv")
	for _, name := range []string{"mine", "theirs"} {
		reader.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: name}, vault.Object{Value: secret.New([]byte(canary + "-" + name))})
	}
	c := &counter{log: &output{}, ns: namespace(t)}
	c.handler = broker.New(source, reader, metrics, slog.New(slog.NewJSONHandler(c.log, nil))).Handler()
	install(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: c.ns, Name: "web"}})
	c.offer(t, c.ns, "mine")
	eventually(t, "the memory is filled", func() error {
		return source.Ready(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	})
	return c
}

// offer makes an AzureKeyVaultSecret of the vault's secret of that name.
func (c *counter) offer(t *testing.T, ns, name string) {
	t.Helper()
	install(t, &v2beta1.AzureKeyVaultSecret{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: v2beta1.AzureKeyVaultSecretSpec{
			Vault: v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: name, Type: v2beta1.ObjectSecret}},
		},
	})
}

// create makes a pod of the account "web" with a container "app" that asks for "mine".
func (c *counter) create(t *testing.T, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.ns, Name: name},
		Spec: corev1.PodSpec{
			ServiceAccountName: "web", NodeName: "node", // so that its deletion takes the time that a kubelet has
			Containers: []corev1.Container{{Name: "app", Image: "registry.example/app:1", Env: []corev1.EnvVar{{Name: "A", Value: "mine@azurekeyvault"}}}},
		},
	}
	for _, f := range change {
		f(p)
	}
	if err := admin.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// token asks for one as the kubelet does for this pod, changed.
func (c *counter) token(t *testing.T, pod *corev1.Pod, change ...func(*authenticationv1.TokenRequestSpec)) string {
	t.Helper()
	seconds := int64(brokerapi.TokenSeconds)
	r := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{brokerapi.Audience}, ExpirationSeconds: &seconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	for _, f := range change {
		f(&r.Spec)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: c.ns, Name: "web"}}
	if err := admin.SubResource("token").Create(t.Context(), account, r); err != nil {
		t.Fatal(err)
	}
	return r.Status.Token
}

// forged is a token's claims, changed, signed with the cluster's own key.
func forged(t *testing.T, token string, change jwt.MapClaims) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(certDir, "sa-signer.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwt.ParseECPrivateKeyFromPEM(text)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{}
	parsed, _, err := jwt.NewParser().ParseUnverified(token, claims)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(claims, change)
	again := jwt.NewWithClaims(parsed.Method, claims)
	again.Header["kid"] = parsed.Header["kid"]
	out, err := again.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// identity is a pod as the audit names it.
type identity struct{ Namespace, ServiceAccount, Pod, PodUID string }

// record is what the audit has of a request.
type record struct {
	identity // that the API server confirmed

	Msg, Level, Result, Rule, Container string
	Claimed                             identity
}

// bearer is whom a token speaks for, by its own words.
func bearer(t *testing.T, token string) identity {
	t.Helper()
	var claims struct {
		jwt.RegisteredClaims

		Kubernetes struct {
			Namespace      string                     `json:"namespace"`
			Pod            struct{ Name, UID string } `json:"pod"`
			ServiceAccount struct{ Name string }      `json:"serviceaccount"`
		} `json:"kubernetes.io"` //nolint:tagliatelle // the name is Kubernetes'
	}
	_, _, _ = jwt.NewParser().ParseUnverified(token, &claims) // no token speaks for nobody
	k := claims.Kubernetes
	return identity{k.Namespace, k.ServiceAccount.Name, k.Pod.Name, k.Pod.UID}
}

// ask returns the values, or nil, and what is on record.
func (c *counter) ask(t *testing.T, token, container string) (map[string]string, record) {
	t.Helper()
	before := len(c.log.String())
	body, err := json.Marshal(brokerapi.Request{Container: container})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, brokerapi.ValuesPath, strings.NewReader(string(body)))
	r.Header.Set("Authorization", "Bearer "+token)
	c.handler.ServeHTTP(w, r)
	lines := c.log.String()[before:]
	var line record
	if err := json.Unmarshal([]byte(lines), &line); err != nil || line.Msg != "request" {
		t.Fatalf("the audit has %q", lines)
	}
	if strings.Contains(lines, canary) || strings.Contains(lines, token) {
		t.Error("the audit holds a value or a token")
	}
	if w.Code != http.StatusOK {
		if strings.Contains(w.Body.String(), canary) || line.Result == "answered" || line.Level != "WARN" {
			t.Errorf("refused with %s, and audited as %+v", w.Body, line)
		}
		return nil, line
	}
	var said brokerapi.Response
	if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || line.Result != "answered" || line.identity != bearer(t, token) || line.Container != container {
		t.Fatalf("answered, and audited as %+v, %v", line, err)
	}
	values := map[string]string{}
	for key, value := range said.Values {
		values[key] = string(value)
	}
	return values, line
}

// succeeds is the case beside each attack.
func (c *counter) succeeds(t *testing.T, token string) {
	t.Helper()
	values, line := c.ask(t, token, "app")
	if d := cmp.Diff(map[string]string{"mine@azurekeyvault": canary + "-mine"}, values); d != "" {
		t.Fatalf("the pod itself is refused by %s: -want +got\n%s", line.Rule, d)
	}
}

// refuses checks that nothing is given, and that the record says by which rule and to
// whom: to a pod that the API server vouches for, or to whom the token claims to be.
func (c *counter) refuses(t *testing.T, token, container string, rules ...string) {
	t.Helper()
	values, line := c.ask(t, token, container)
	if values != nil || !slices.Contains(rules, line.Rule) {
		t.Errorf("%d values, rule %s; want %s", len(values), line.Rule, rules)
	}
	want := record{Msg: "request", Level: "WARN", Result: "denied", Rule: line.Rule, Container: container, identity: bearer(t, token)}
	if strings.HasPrefix(line.Rule, "Token") {
		want.Result, want.Claimed, want.identity = "unauthenticated", want.identity, identity{}
	}
	if d := cmp.Diff(want, line, cmp.AllowUnexported(record{})); d != "" {
		t.Errorf("on record: -want +got\n%s", d)
	}
}

// Whoever is not the pod, as the API server sees it, gets nothing and is on record.
func TestBrokerKnowsPods(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	type spec = authenticationv1.TokenRequestSpec
	live := c.create(t, "live")
	good := c.token(t, live)
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	stories := map[string]func(t *testing.T){
		"OtherAudience": func(t *testing.T) {
			t.Helper()
			c.refuses(t, c.token(t, live, func(s *spec) { s.Audiences = []string{"somebody-else"} }), "app", "TokenOfOtherAudience")
			c.succeeds(t, c.token(t, live, func(s *spec) { s.Audiences = append(s.Audiences, "somebody-else") }))
		},
		"APIServersToken": func(t *testing.T) {
			t.Helper()
			c.refuses(t, c.token(t, live, func(s *spec) { s.Audiences = nil }), "app", "TokenOfOtherAudience")
		},
		"NotBound": func(t *testing.T) {
			t.Helper()
			c.refuses(t, c.token(t, live, func(s *spec) { s.BoundObjectRef = nil }), "app", "TokenNotBound")
		},
		"Expired": func(t *testing.T) {
			t.Helper()
			// The key is the right one, and the end alone is wrong.
			c.succeeds(t, forged(t, good, jwt.MapClaims{"jti": "another"}))
			c.refuses(t, forged(t, good, jwt.MapClaims{"iat": ago(time.Hour), "nbf": ago(time.Hour), "exp": ago(50 * time.Minute)}), "app", "TokenExpired")
			// So soon after its end, the API server says so.
			c.refuses(t, forged(t, good, jwt.MapClaims{"iat": ago(time.Hour), "nbf": ago(time.Hour), "exp": ago(90 * time.Second)}), "app", "TokenRejected")
		},
		"Forged": func(t *testing.T) {
			t.Helper()
			parts, other := strings.Split(good, "."), strings.Split(c.token(t, c.create(t, "other-signature")), ".")
			c.refuses(t, parts[0]+"."+parts[1]+"."+other[2], "app", "TokenRejected")
			c.refuses(t, parts[0]+"."+parts[1]+"."+strings.Repeat("A", len(parts[2])), "app", "TokenRejected")
			c.refuses(t, "abc", "app", "TokenMalformed")
		},
		"OtherPodsName": func(t *testing.T) { // even with the cluster's key nobody is a pod that does not exist
			t.Helper()
			claims := map[string]any{"namespace": c.ns, "pod": map[string]string{"name": "live", "uid": "else"}, "serviceaccount": map[string]string{"name": "web", "uid": "else"}}
			c.refuses(t, forged(t, good, jwt.MapClaims{"kubernetes.io": claims}), "app", "TokenRejected")
		},
		"Deleted": func(t *testing.T) {
			t.Helper()
			pod := c.create(t, "deleted")
			token := c.token(t, pod)
			c.succeeds(t, token)
			remove(t, pod, 0)
			// The API server remembers for some seconds that the token was good, and of one
			// that it has not seen yet hears a moment later that its pod is gone; the broker
			// asks for the pod as well.
			c.refuses(t, token, "app", "PodGone", "TokenRejected")
			unseen := c.create(t, "deleted-unseen")
			token = c.token(t, unseen)
			remove(t, unseen, 0)
			c.refuses(t, token, "app", "PodGone", "TokenRejected")
		},
		"Recreated": func(t *testing.T) {
			t.Helper()
			pod := c.create(t, "again")
			token := c.token(t, pod)
			c.succeeds(t, token)
			remove(t, pod, 0)
			c.succeeds(t, c.token(t, c.create(t, "again")))
			c.refuses(t, token, "app", "PodReplaced", "TokenRejected")
		},
		"Finished": func(t *testing.T) {
			t.Helper()
			for _, phase := range []corev1.PodPhase{corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed} {
				pod := c.create(t, "is-"+strings.ToLower(string(phase)))
				token := c.token(t, pod)
				pod.Status.Phase = phase
				if err := admin.Status().Update(t.Context(), pod); err != nil {
					t.Fatal(err)
				}
				if phase == corev1.PodRunning {
					c.succeeds(t, token)
					continue
				}
				c.refuses(t, token, "app", "PodEnding")
			}
		},
		"Terminating": func(t *testing.T) {
			t.Helper()
			pod := c.create(t, "terminating")
			token := c.token(t, pod)
			remove(t, pod, 600)
			c.succeeds(t, token) // a preStop hook may ask
			soon := c.create(t, "overdue")
			token = c.token(t, soon)
			remove(t, soon, 1)
			eventually(t, "the time of its deletion is over", func() error {
				if values, line := c.ask(t, token, "app"); values != nil || line.Rule != "PodEnding" {
					return fmt.Errorf("%d values, %s", len(values), line.Rule)
				}
				return nil
			})
			c.refuses(t, token, "app", "PodEnding")
		},
	}
	c.besides(t, good, stories)
}

func remove(t *testing.T, pod *corev1.Pod, seconds int64) {
	t.Helper()
	if err := admin.Delete(context.Background(), pod, client.GracePeriodSeconds(seconds)); err != nil {
		t.Fatal(err)
	}
}

// bystander makes a pod whose containers have no placeholder in their env: "referring"
// takes its environment from the ConfigMap settings, "reaching" names what is in another
// namespace. Beside them is "app", which gets what it should.
func (c *counter) bystander(t *testing.T) (*corev1.Pod, *corev1.ConfigMap, string) {
	t.Helper()
	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c.ns, Name: "settings"}, Data: map[string]string{"A": "plain", "B": "plain"}}
	install(t, settings)
	ref := corev1.LocalObjectReference{Name: "settings"}
	pod := c.create(t, "web", func(p *corev1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: "referring", Image: "registry.example/app:1",
			Env:     []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref, Key: "A"}}}},
			EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref}}},
		}, corev1.Container{
			Name: "reaching", Image: "registry.example/app:1",
			Env: []corev1.EnvVar{{Name: "A", Value: "theirs@azurekeyvault"}},
		})
	})
	return pod, settings, c.token(t, pod)
}

// nothing is what the container "referring" gets.
func (c *counter) nothing(t *testing.T, token string) {
	t.Helper()
	if values, line := c.ask(t, token, "referring"); values == nil || len(values) > 0 {
		t.Errorf("%d values, rule %s", len(values), line.Rule)
	}
}

// besides tells stories, before each of which the pod itself gets its value.
func (c *counter) besides(t *testing.T, token string, stories map[string]func(*testing.T)) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(stories)) {
		t.Run(name, func(t *testing.T) {
			c.succeeds(t, token)
			stories[name](t)
		})
	}
}

// A pod has what its spec says, whatever is asked for.
func TestBrokerKnowsSpecs(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	c.offer(t, namespace(t), "theirs")
	pod, settings, token := c.bystander(t)
	c.besides(t, token, map[string]func(*testing.T){
		"InventedContainer": func(t *testing.T) {
			t.Helper()
			for _, name := range []string{"nobody", "debugger", "copy-azurekeyvault-env", "app0"} {
				c.refuses(t, token, name, "NoSuchContainer")
			}
			for _, name := range []string{"App", "app ", "app/../app", "*", ""} { // which no container can have
				if values, line := c.ask(t, token, name); values != nil || line.Result != "bad_request" {
					t.Errorf("%q: %d values, %s", name, len(values), line.Result)
				}
			}
		},
		"OtherNamespace": func(t *testing.T) {
			t.Helper()
			values, line := c.ask(t, token, "reaching")
			if values != nil || line.Result != "refused" || line.identity != bearer(t, token) {
				t.Errorf("%d values, %+v", len(values), line)
			}
		},
		"ConfigMapChanged": func(t *testing.T) {
			t.Helper()
			c.nothing(t, token)
			settings.Data = map[string]string{"A": "mine@azurekeyvault", "B": "<mine@azurekeyvault>", "C": "mine@azurekeyvault"}
			if err := admin.Update(t.Context(), settings); err != nil {
				t.Fatal(err)
			}
			c.nothing(t, token)
		},
		"Annotations": func(t *testing.T) {
			t.Helper()
			pod.Annotations = map[string]string{
				"inject.env-injector.spv.no/referring": "mine@azurekeyvault", "entrypoint.env-injector.spv.no/referring": `["mine@azurekeyvault"]`,
				"exec.env-injector.spv.no/referring": "all", "ENV_INJECTOR_FOR_A": "mine@azurekeyvault",
			}
			if err := admin.Update(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			c.nothing(t, token)
		},
	})
}

// What becomes of a pod after it was created gives it nothing either.
func TestBrokerKnowsFirstSpecs(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	pod, _, token := c.bystander(t)
	c.besides(t, token, map[string]func(*testing.T){
		"LabelsAndStatus": func(t *testing.T) {
			t.Helper()
			pod.Labels = map[string]string{"azurekeyvault": "mine", "inject.env-injector.spv.no": "referring", "ENV_INJECTOR_FOR_A": "mine"}
			if err := admin.Update(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			status := corev1.ContainerStatus{Name: "referring", Image: "mine@azurekeyvault", ImageID: "mine@azurekeyvault"}
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{status, {Name: "invented", Image: "mine@azurekeyvault"}}
			pod.Status.Message = "A=mine@azurekeyvault"
			pod.Status.Conditions = []corev1.PodCondition{{Type: "spv.no/A", Status: corev1.ConditionTrue, Reason: "A", Message: "mine@azurekeyvault"}}
			if err := admin.Status().Update(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			c.nothing(t, token)
			c.refuses(t, token, "invented", "NoSuchContainer")
		},
		"ImageChanged": func(t *testing.T) { // which, of a container, a live pod allows
			t.Helper()
			pod.Spec.Containers[1].Image = "registry.example/mine@azurekeyvault:1"
			if err := admin.Update(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			c.nothing(t, token)
		},
		"EphemeralContainer": func(t *testing.T) {
			t.Helper()
			pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
				Name: "debugger", Image: "registry.example/sh:1", Env: []corev1.EnvVar{{Name: "A", Value: "mine@azurekeyvault"}},
			}})
			if err := admin.SubResource("ephemeralcontainers").Update(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			c.refuses(t, token, "debugger", "NoSuchContainer")
			// One cannot take a container's name.
			pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
				Name: "referring", Image: "registry.example/sh:1", Env: []corev1.EnvVar{{Name: "A", Value: "mine@azurekeyvault"}},
			}})
			if err := admin.SubResource("ephemeralcontainers").Update(t.Context(), pod); !apierrors.IsInvalid(err) {
				t.Errorf("the API server lets an ephemeral container have a container's name: %v", err)
			}
			if err := admin.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
				t.Fatal(err)
			}
			c.nothing(t, token)
		},
		"SpecOfALivePod": func(t *testing.T) { // upon this the others rest
			t.Helper()
			for _, how := range []string{"", "resize", "status"} {
				changed := pod.DeepCopy()
				changed.ResourceVersion = "" // whatever it is by now
				changed.Spec.Containers[1].Env = []corev1.EnvVar{{Name: "A", Value: "mine@azurekeyvault"}}
				changed.Spec.Containers[1].EnvFrom = nil
				update := func() error { return admin.SubResource(how).Update(t.Context(), changed) }
				if how == "" {
					update = func() error { return admin.Update(t.Context(), changed) }
				}
				if err := update(); err != nil && !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
					t.Errorf("%q: %v", how, err)
				}
				var now corev1.Pod
				if err := admin.Get(t.Context(), client.ObjectKeyFromObject(pod), &now); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(pod.Spec.Containers, now.Spec.Containers); d != "" {
					t.Errorf("the API server lets a pod's environment be changed by %q: -before +after\n%s", how, d)
				}
				c.nothing(t, token)
			}
		},
	})
}
