// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/broker"
	"github.com/akv2k8s/akv2k8s/internal/broker/kube"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/internal/vault/vaulttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary is in every value of these tests, and must be in nothing but answers.
const canary = "s3cr3t-canary"

// stage is a broker with everything around it. Its pod team/web has the
// containers init, app and idle; its vault is my-kv.
type stage struct {
	*httptest.Server

	handler http.Handler
	vault   *vaulttest.Reader
	files   string // of the container that wrap starts
	log     *buffer
	metrics *prometheus.Registry
	// tokens says what the API server thinks of each, by the name that token gives it.
	tokens  map[string]authenticationv1.TokenReviewStatus
	reviews atomic.Int64 // of tokens, by the API server
	lists   atomic.Int64 // of AzureKeyVaultSecrets
	broker  *broker.Broker
	live    client.Client // the API server
	mu      sync.Mutex
	demand  vault.Demand // of the last read
	// after, when set, runs after each read of the vault.
	after func(vault.Reference)
	// fail makes the API server fail for a kind, by what answers instead.
	fail map[string]error
}

type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Reset()
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// review is what the API server says about a good token, changed.
func review(change ...func(*authenticationv1.TokenReviewStatus)) authenticationv1.TokenReviewStatus {
	s := authenticationv1.TokenReviewStatus{
		Authenticated: true,
		Audiences:     []string{brokerapi.Audience},
		User: authenticationv1.UserInfo{
			Username: "system:serviceaccount:team:web-account",
			UID:      "account-uid",
			Groups:   []string{"system:serviceaccounts", "system:authenticated"},
			Extra: map[string]authenticationv1.ExtraValue{
				"authentication.kubernetes.io/pod-name":  {"web"},
				"authentication.kubernetes.io/pod-uid":   {"web-uid"},
				"authentication.kubernetes.io/node-name": {"node"},
			},
		},
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

// token has the form of the API server's. The name takes the place of a signature.
func token(name string, change ...func(map[string]any)) string {
	claims := map[string]any{
		"iss": "https://kubernetes.default.svc", "aud": []string{brokerapi.Audience}, "exp": time.Now().Unix() + brokerapi.TokenSeconds,
		"kubernetes.io": map[string]any{
			"namespace": "team", "pod": map[string]any{"name": "web", "uid": "web-uid"}, "serviceaccount": map[string]any{"name": "web-account", "uid": "account-uid"},
		},
	}
	for _, c := range change {
		c(claims)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS256"}`)) + "." + encode(text) + "." + encode([]byte(name))
}

// nameOf is the name of a token that token made.
func nameOf(token string) string {
	name, err := base64.RawURLEncoding.Strict().DecodeString(token[strings.LastIndex(token, ".")+1:])
	if err != nil {
		return ""
	}
	return string(name)
}

func akvs(namespace, name string, t v2beta1.ObjectType, object string) *v2beta1.AzureKeyVaultSecret {
	return &v2beta1.AzureKeyVaultSecret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v2beta1.AzureKeyVaultSecretSpec{
			Vault: v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: object, Type: t}},
		},
	}
}

func env(pairs ...string) []corev1.EnvVar {
	var out []corev1.EnvVar
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, corev1.EnvVar{Name: pairs[i], Value: pairs[i+1]})
	}
	return out
}

// hopeful names many AzureKeyVaultSecrets that do not exist, and one that has just
// been created.
func hopeful() []corev1.EnvVar {
	all := env("A", "late@azurekeyvault")
	for i := range 50 {
		all = append(all, env(fmt.Sprintf("V%d", i), fmt.Sprintf("no%d@azurekeyvault;optional", i))...)
	}
	return all
}

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "web-uid"},
		Spec: corev1.PodSpec{
			ServiceAccountName: "web-account",
			InitContainers:     []corev1.Container{{Name: "init", Env: env("PASSWORD", "db@azurekeyvault")}},
			Containers: []corev1.Container{
				{Name: "app", Env: env("PLAIN", "x", "PASSWORD", "db@azurekeyvault", "AGAIN", "db@azurekeyvault",
					"CERT", "tls@azurekeyvault?tls.crt", "KEY", "tls@azurekeyvault?tls.key")},
				{Name: "idle", Env: env("PLAIN", "x")},
				{Name: "unknown", Env: env("A", "nosuch@azurekeyvault", "B", "db@azurekeyvault?nope", "C", "x db@azurekeyvault", "D", "db@azurekeyvault")},
				{Name: "foreign", Env: env("A", "theirs@azurekeyvault")},
				{Name: "missing", Env: env("A", "gone@azurekeyvault", "B", "db@azurekeyvault")},
				{Name: "parts", Env: env("USER", "login@azurekeyvault?username", "PASSWORD", "login@azurekeyvault?password", "HOST", "many@azurekeyvault?host", "PEM", "key@azurekeyvault?pem")},
				{Name: "pair", Env: env("CERT", "tls@azurekeyvault", "RAW", "tls@azurekeyvault?raw")},
				{Name: "kept", Env: env("CERT", "kept@azurekeyvault?tls.crt", "KEY", "kept@azurekeyvault?tls.key")},
				{Name: "files", Env: env("PASSWORD", "db@azurekeyvault;file", "AGAIN", "<db@azurekeyvault>", "ENTRIES", "many@azurekeyvault;directory",
					"PAIR", "tls@azurekeyvault;directory", "CERT", "tls@azurekeyvault;file", "NONE", "nosuch@azurekeyvault;directory;optional")},
				{Name: "no-files", Env: env("A", "db@azurekeyvault;directory")},
				{Name: "no-entry", Env: env("A", "many@azurekeyvault?port", "B", "many@azurekeyvault?host")},
				{Name: "large", Env: env("A", "large@azurekeyvault")},
				{Name: "huge", Env: env("A", "large@azurekeyvault", "B", "large2@azurekeyvault")},
				{Name: "hopeful", Env: hopeful()},
				{Name: "late", Env: env("A", "late@azurekeyvault")},
				{Name: "inline", Env: env("A", "p://u:<db@azurekeyvault>@h/<late@azurekeyvault>", "B", "db@azurekeyvault", "C", "ops@@azurekeyvault")},
				{Name: "optional", Env: env("A", "nosuch@azurekeyvault?x;optional", "B", "<gone@azurekeyvault;default=x>", "C", "db@azurekeyvault;optional", "D", "many@azurekeyvault?port;default=")},
			},
			EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
				Name: "debugger", Env: env("PASSWORD", "db@azurekeyvault"),
			}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
}

func newStage(tb testing.TB, change ...func(*corev1.Pod)) *stage {
	tb.Helper()
	p := pod()
	for _, c := range change {
		c(p)
	}
	s := &stage{
		vault:   vaulttest.NewReader("my-kv"),
		log:     &buffer{},
		metrics: prometheus.NewRegistry(),
		tokens:  map[string]authenticationv1.TokenReviewStatus{"good": review()},
		fail:    map[string]error{},
	}
	s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "db"}, vault.Object{Value: secret.New([]byte(canary + "=db"))})
	s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "large"}, vault.Object{Value: secret.New(make([]byte, 3<<20))})
	putCertificate(tb, s.vault, "tls")
	_, file := pair(tb, "kept")
	s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "kept"}, vault.Object{Value: secret.New(file)})
	s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "login"}, vault.Object{Value: secret.New([]byte("me:" + canary))})
	s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "many"},
		vault.Object{Value: secret.New([]byte(`{"host":"` + canary + `","raw":"x"}`))})
	s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindKey, Name: "key"},
		vault.Object{Key: vault.Key{Type: "RSA", N: []byte{0xc5, 0x3a}, E: []byte{1, 0, 1}}})
	many := akvs("team", "many", v2beta1.ObjectMultiKeyValue, "many")
	many.Spec.Vault.Object.ContentType = v2beta1.ContentJSON

	login := akvs("team", "login", v2beta1.ObjectSecret, "login") // which has an output too
	login.Spec.Output.Secret = &v2beta1.SecretOutput{Name: "login", Type: string(corev1.SecretTypeBasicAuth)}
	kept := []client.Object{
		akvs("team", "db", v2beta1.ObjectSecret, "db"),
		akvs("team", "tls", v2beta1.ObjectCertificate, "tls"),
		many, akvs("team", "key", v2beta1.ObjectKey, "key"),
		akvs("team", "kept", v2beta1.ObjectSecret, "kept"), login,
		akvs("team", "large", v2beta1.ObjectSecret, "large"), akvs("team", "large2", v2beta1.ObjectSecret, "large"),
		akvs("team", "gone", v2beta1.ObjectSecret, "gone"),
		akvs("other", "theirs", v2beta1.ObjectSecret, "db"),
	}
	live := append([]client.Object{p, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}, akvs("team", "late", v2beta1.ObjectSecret, "db")}, kept...)
	log := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	counts, err := broker.NewMetrics(s.metrics)
	if err != nil {
		tb.Fatal(err)
	}
	s.live = s.client(tb, live...)
	source := kube.NewFrom(s.live, s.client(tb, kept...))
	s.broker = broker.New(source, s, counts, log, broker.WithGuard(broker.Guard{StartBudget: startBudget, Guarded: source.Guarded}))
	s.handler = s.broker.Handler()
	s.Server = httptest.NewServer(s.handler)
	tb.Cleanup(s.Close)
	tb.Cleanup(func() { s.noLeaks(tb) })
	return s
}

// Read makes the stage the broker's vault.
func (s *stage) Read(ctx context.Context, ref vault.Reference) (vault.Object, error) {
	obj, err := s.vault.Read(ctx, ref)
	s.mu.Lock()
	s.demand = vault.DemandOf(ctx)
	s.mu.Unlock()
	if s.after != nil {
		s.after(ref)
	}
	return obj, err
}

// putCertificate adds a version of a self-signed certificate.
func putCertificate(tb testing.TB, r *vaulttest.Reader, name string) {
	tb.Helper()
	der, both := pair(tb, name)
	r.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindCertificate, Name: name},
		vault.Object{Certificate: der, Value: secret.New(both), ContentType: "application/x-pem-file"})
}

// pair is the DER of a self-signed certificate, and a PEM of it with its key.
func pair(tb testing.TB, name string) ([]byte, []byte) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return der, append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
}

// client is an API server that reviews the stage's tokens.
func (s *stage) client(tb testing.TB, objects ...client.Object) client.Client {
	tb.Helper()
	scheme, err := kube.Scheme()
	if err != nil {
		tb.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
			r := o.(*authenticationv1.TokenReview)
			r.Status = s.tokens[nameOf(r.Spec.Token)]
			s.reviews.Add(1)
			if len(r.Spec.Audiences) != 1 || r.Spec.Audiences[0] != brokerapi.Audience {
				tb.Errorf("a review for the audiences %q", r.Spec.Audiences)
			}
			return s.fail["TokenReview"]
		},
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			kind := "AzureKeyVaultSecret"
			switch o.(type) {
			case *corev1.Pod:
				kind = "Pod"
			case *metav1.PartialObjectMetadata:
				kind = "Namespace"
			}
			if err := s.fail[kind]; err != nil {
				return err
			}
			return c.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, o client.ObjectList, opts ...client.ListOption) error {
			s.lists.Add(1)
			if err := s.fail["AzureKeyVaultSecretList"]; err != nil {
				return err
			}
			return c.List(ctx, o, opts...)
		},
	}).Build()
}

// noLeaks looks for values where none should be.
func (s *stage) noLeaks(tb testing.TB) {
	tb.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		tb.Error(err)
	}
	text := s.log.String()
	for _, f := range families {
		text += f.String()
	}
	for _, secret := range []string{canary, "PRIVATE KEY", strings.Split(token(""), ".")[0]} {
		if strings.Contains(text, secret) {
			tb.Errorf("%q in log or metrics:\n%s", secret, text)
		}
	}
}

// count is akv2k8s_broker_requests_total.
func (s *stage) count(t *testing.T, result string) int {
	t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "akv2k8s_broker_requests_total" && m.GetLabel()[0].GetValue() == result {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	t.Fatalf("no metric for %s", result)
	return 0
}

type reply struct {
	status  int
	header  http.Header
	failure brokerapi.Failure
	values  map[string]string // by the placeholder's key
	files   map[string]map[string][]byte
	absent  []string
}

// pair is nil where the values of these two are a certificate and its key.
func (r reply) pair(certificate, key string) error {
	_, err := tls.X509KeyPair([]byte(r.values[certificate]), []byte(r.values[key]))
	return err
}

// ask asks for a container's values with the token of a name.
func (s *stage) ask(t *testing.T, name, container string) reply {
	t.Helper()
	body, err := json.Marshal(brokerapi.Request{Container: container})
	if err != nil {
		t.Fatal(err)
	}
	return s.send(t, http.MethodPost, "Bearer "+token(name), string(body))
}

func (s *stage) send(t *testing.T, method, authorization, body string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+brokerapi.ValuesPath, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := reply{status: resp.StatusCode, header: resp.Header}
	if resp.StatusCode == http.StatusOK {
		var answer brokerapi.Response
		if err := json.Unmarshal(raw, &answer); err != nil {
			t.Fatal(err)
		}
		out.values = map[string]string{}
		for name, value := range answer.Values {
			out.values[name] = string(value)
		}
		out.absent, out.files = answer.Absent, answer.Directories
		return out
	}
	if strings.Contains(string(raw), canary) {
		t.Errorf("a value in a failure: %s", raw)
	}
	_ = json.Unmarshal(raw, &out.failure) // the mux's own answers are no JSON
	return out
}
