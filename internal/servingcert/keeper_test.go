// SPDX-License-Identifier: Apache-2.0

package servingcert_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/akv2k8s/akv2k8s/internal/servingcert"
)

const (
	ns         = "akv2k8s"
	brokerName = "akv2k8s-broker.akv2k8s.svc"
	hookName   = "akv2k8s-webhook.akv2k8s.svc"
)

var (
	authorityKey = client.ObjectKey{Namespace: ns, Name: "akv2k8s-ca"}
	brokerKey    = client.ObjectKey{Namespace: ns, Name: "akv2k8s-broker-tls"}
	hookKey      = client.ObjectKey{Name: "akv2k8s"}
	adviceKey    = client.ObjectKey{Name: "akv2k8s-advice"}
)

// world is a cluster as the chart leaves it, with a clock and a count of writes.
type world struct {
	client.WithWatch

	now     time.Time
	log     bytes.Buffer
	mu      sync.Mutex
	writes  []string
	failGet error
	beforeW func() // runs before each write
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	secret := func(k client.ObjectKey) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name}}
	}
	calls := admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Name: "akv2k8s-webhook", Namespace: ns}}
	hook := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: hookKey.Name}, Webhooks: []admissionv1.MutatingWebhook{
		{Name: "pods.env-injector.admission.spv.no", ClientConfig: calls}, {Name: "direct-pods.env-injector.admission.spv.no", ClientConfig: calls},
	}}
	w.WithWatch = fake.NewClientBuilder().WithScheme(scheme.Scheme).
		WithObjects(secret(authorityKey), secret(brokerKey), hook).
		WithInterceptorFuncs(w.interceptors()).Build()
	return w
}

func (w *world) interceptors() interceptor.Funcs {
	wrote := func(what string) {
		if w.beforeW != nil {
			w.beforeW()
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.writes = append(w.writes, what)
	}
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if w.failGet != nil {
				return w.failGet
			}
			return c.Get(ctx, key, obj, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			wrote("update " + obj.GetName())
			return c.Update(ctx, obj, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			wrote("patch " + obj.GetName())
			return c.Patch(ctx, obj, patch, opts...)
		},
	}
}

func (w *world) keeper() *servingcert.Keeper { return w.adviser("") }

// adviser is a keeper of a second registration, too.
func (w *world) adviser(advice string) *servingcert.Keeper {
	return servingcert.NewKeeper(w, servingcert.Options{
		Advice:    advice,
		Namespace: ns, AuthorityName: authorityKey.Name, BrokerSecret: brokerKey.Name, Registration: hookKey.Name,
		Service: "akv2k8s-webhook", BrokerService: "akv2k8s-broker",
		AuthorityLife: servingcert.AuthorityLife, LeafLife: servingcert.LeafLife,
		Now: func() time.Time { return w.now },
		Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
}

// took returns the writes since the last call.
func (w *world) took() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	writes := w.writes
	w.writes = nil
	return writes
}

func (w *world) secret(t *testing.T, key client.ObjectKey) corev1.Secret {
	t.Helper()
	var s corev1.Secret
	if err := w.Get(t.Context(), key, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// advises adds the registration that only warns, with two webhooks.
func (w *world) advises(t *testing.T) {
	t.Helper()
	hook := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: adviceKey.Name}, Webhooks: []admissionv1.ValidatingWebhook{
		{Name: "one.admission.spv.no"}, {Name: "two.admission.spv.no"},
	}}
	if err := w.Create(t.Context(), hook); err != nil {
		t.Fatal(err)
	}
}

func (w *world) advised(t *testing.T) []string {
	t.Helper()
	var c admissionv1.ValidatingWebhookConfiguration
	if err := w.Get(t.Context(), adviceKey, &c); err != nil {
		t.Fatal(err)
	}
	var bundles []string
	for _, h := range c.Webhooks {
		bundles = append(bundles, string(h.ClientConfig.CABundle))
	}
	return bundles
}

func (w *world) registered(t *testing.T) string {
	t.Helper()
	var c admissionv1.MutatingWebhookConfiguration
	if err := w.Get(t.Context(), hookKey, &c); err != nil {
		t.Fatal(err)
	}
	if string(c.Webhooks[0].ClientConfig.CABundle) != string(c.Webhooks[1].ClientConfig.CABundle) {
		t.Error("the two webhooks of the registration have not the same authority")
	}
	return string(c.Webhooks[0].ClientConfig.CABundle)
}

// Where there is no broker, its Secret is not there either, and nobody misses it.
func TestSyncWithoutBroker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: brokerKey.Name}}); err != nil {
		t.Fatal(err)
	}
	k := servingcert.NewKeeper(w, servingcert.Options{
		Namespace: ns, AuthorityName: authorityKey.Name, Registration: hookKey.Name, Service: "akv2k8s-webhook",
		AuthorityLife: servingcert.AuthorityLife, LeafLife: servingcert.LeafLife,
		Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
	})
	synced(t, k)
	if err := k.Ready(); err != nil || w.registered(t) == "" {
		t.Errorf("ready: %v", err)
	}
}

func synced(t *testing.T, keepers ...*servingcert.Keeper) {
	t.Helper()
	for _, k := range keepers {
		if err := k.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := k.Ready(); err != nil {
			t.Fatal(err)
		}
	}
}

func served(t *testing.T, k *servingcert.Keeper) tls.Certificate {
	t.Helper()
	c, err := k.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return *c
}

func (w *world) brokerPair(t *testing.T) tls.Certificate {
	t.Helper()
	s := w.secret(t, brokerKey)
	pair, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// verify is what a client with this bundle makes of what a server shows.
func (w *world) verify(bundle string, c tls.Certificate, name string) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle))
	for _, der := range c.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		intermediates.AddCert(cert)
	}
	_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: name, CurrentTime: w.now})
	return err
}

func (w *world) trusted(t *testing.T, bundle string, c tls.Certificate, name string) {
	t.Helper()
	if err := w.verify(bundle, c, name); err != nil {
		t.Errorf("%s is not trusted: %v", name, err)
	}
}

func TestFirstSync(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper()
	if _, err := k.GetCertificate(nil); !errors.Is(err, servingcert.ErrNotYet) || k.Bundle() != "" || !errors.Is(k.Ready(), servingcert.ErrNotYet) {
		t.Fatal("ready before the first sync")
	}
	synced(t, k)
	if d := cmp.Diff([]string{"update akv2k8s-ca", "update akv2k8s-broker-tls", "patch akv2k8s"}, w.took()); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	w.trusted(t, w.registered(t), served(t, k), hookName)
	w.trusted(t, k.Bundle(), w.brokerPair(t), brokerName)
	w.trusted(t, string(w.secret(t, brokerKey).Data["ca.crt"]), w.brokerPair(t), brokerName)
	if err := w.verify(k.Bundle(), served(t, k), brokerName); err == nil {
		t.Error("the webhook's certificate is good for the broker")
	}
	if authority, leaf := k.Ends(); !authority.After(w.now.AddDate(9, 0, 0)) || !leaf.After(w.now.AddDate(0, 2, 0)) {
		t.Errorf("Ends() = %v, %v", authority, leaf)
	}
}

func TestSteadyStateWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, other := w.keeper(), w.keeper()
	synced(t, one)
	w.took()
	synced(t, one, other, one, other)
	if writes := w.took(); len(writes) > 0 {
		t.Errorf("wrote %v", writes)
	}
	if one.Bundle() != other.Bundle() {
		t.Error("two replicas trust different authorities")
	}
}

// Replicas that begin together all find nothing; one authority must come of it.
func TestReplicasRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const replicas = 4
	var all sync.WaitGroup
	all.Add(replicas)
	var first sync.Map // each replica's first write waits for everybody's first read
	keepers := make([]*servingcert.Keeper, replicas)
	for i := range keepers {
		keepers[i] = servingcert.NewKeeper(racer{w, func() {
			if _, waited := first.LoadOrStore(i, true); !waited {
				all.Done()
				all.Wait()
			}
		}}, servingcert.Options{
			Namespace: ns, AuthorityName: authorityKey.Name, BrokerSecret: brokerKey.Name, Registration: hookKey.Name,
			Service: "akv2k8s-webhook", BrokerService: "akv2k8s-broker",
			AuthorityLife: servingcert.AuthorityLife, LeafLife: servingcert.LeafLife,
			Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
		})
	}
	var wg sync.WaitGroup
	for _, k := range keepers {
		wg.Go(func() {
			if err := k.Sync(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keepers {
		if k.Bundle() != keepers[0].Bundle() {
			t.Error("replicas made different authorities")
		}
		w.trusted(t, w.registered(t), served(t, k), hookName)
	}
	w.trusted(t, keepers[0].Bundle(), w.brokerPair(t), brokerName)
}

// racer is one replica's client.
type racer struct {
	*world

	before func()
}

func (r racer) Update(ctx context.Context, obj client.Object, opts ...client.UpdateOption) error {
	r.before()
	return r.world.Update(ctx, obj, opts...)
}

func TestLeavesAreRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper()
	synced(t, k)
	bundle, old, oldBroker := k.Bundle(), served(t, k), w.brokerPair(t)

	w.now = w.now.Add(servingcert.LeafLife / 2)
	w.took()
	synced(t, k)
	if writes := w.took(); len(writes) > 0 || !served(t, k).Leaf.Equal(old.Leaf) {
		t.Errorf("renewed at half its life: %v", writes)
	}

	w.now = w.now.Add(servingcert.LeafLife / 4)
	synced(t, k)
	if served(t, k).Leaf.Equal(old.Leaf) || w.brokerPair(t).Leaf.Equal(oldBroker.Leaf) {
		t.Fatal("not renewed at three quarters of its life")
	}
	w.trusted(t, bundle, served(t, k), hookName)
	w.trusted(t, bundle, w.brokerPair(t), brokerName)
	if k.Bundle() != bundle {
		t.Error("renewing a leaf changed the authority")
	}
}

// A pod trusts what it was given when it was injected, for as long as that lasts.
func TestAuthorityIsFollowedUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k, late := w.keeper(), w.keeper()
	synced(t, k, late)
	pod := k.Bundle()
	start := w.now

	w.now = start.Add(servingcert.AuthorityLife * 3 / 4)
	synced(t, k)
	if k.Bundle() == pod {
		t.Fatal("the authority was not followed up")
	}
	young := k.Bundle()
	w.trusted(t, pod, w.brokerPair(t), brokerName)
	w.trusted(t, pod, served(t, k), hookName)
	w.trusted(t, young, w.brokerPair(t), brokerName)
	w.trusted(t, w.registered(t), served(t, k), hookName)
	if n := strings.Count(young, "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("the bundle holds %d authorities, want the new and the old one", n)
	}
	w.took()
	synced(t, late, k)
	if writes := w.took(); len(writes) > 0 || late.Bundle() != young {
		t.Errorf("the other replica did not follow, or wrote %v", writes)
	}

	// Shortly before the old authority ends it is still good, with leaves of now.
	w.now = start.Add(servingcert.AuthorityLife - time.Hour)
	synced(t, k)
	w.trusted(t, pod, w.brokerPair(t), brokerName)

	w.now = start.Add(servingcert.AuthorityLife + time.Hour)
	synced(t, k)
	if n := strings.Count(k.Bundle(), "BEGIN CERTIFICATE"); n != 1 || w.registered(t) != k.Bundle() {
		t.Errorf("the bundle holds %d authorities, want the new one", n)
	}
	w.trusted(t, young, w.brokerPair(t), brokerName)
	if err := w.verify(pod, w.brokerPair(t), brokerName); err == nil {
		t.Error("an authority that has ended is trusted")
	}

	// And once more: what was young is old now.
	w.now = start.Add(servingcert.AuthorityLife * 3 / 2)
	synced(t, k)
	w.trusted(t, young, w.brokerPair(t), brokerName)
}

// A cluster that slept for years begins anew instead of carrying what has ended.
// Who empties the Secret gets another authority, and nobody is refused meanwhile:
// neither by who trusts the old one nor by a replica that has not looked yet.
func TestAuthorityIsReplacedOnRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k, late := w.keeper(), w.keeper()
	synced(t, k, late)
	first := k.Bundle()
	empty := func() {
		t.Helper()
		s := w.secret(t, authorityKey)
		s.Data = nil
		if err := w.Update(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
	}

	empty()
	synced(t, k)
	second := k.Bundle()
	if second == first || !strings.HasSuffix(second, first) {
		t.Fatal("want a new authority beside the old one")
	}
	w.trusted(t, first, served(t, k), hookName)
	w.trusted(t, first, w.brokerPair(t), brokerName)
	w.trusted(t, w.registered(t), served(t, late), hookName)
	w.took()
	synced(t, late, k)
	if writes := w.took(); len(writes) > 0 || late.Bundle() != second {
		t.Errorf("the other replica did not follow, or wrote %v", writes)
	}

	empty()
	synced(t, late, k)
	if third := k.Bundle(); strings.Contains(third, first) || late.Bundle() != third {
		t.Error("the first authority is trusted after it was replaced twice")
	}
	w.trusted(t, second, w.brokerPair(t), brokerName)
	if err := w.verify(first, w.brokerPair(t), brokerName); err == nil {
		t.Error("the first authority still vouches for the broker")
	}
}

func TestAuthorityThatHasEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper()
	synced(t, k)
	w.now = w.now.Add(2 * servingcert.AuthorityLife)
	synced(t, k)
	if n := strings.Count(k.Bundle(), "BEGIN CERTIFICATE"); n != 1 {
		t.Errorf("the bundle holds %d authorities", n)
	}
	w.trusted(t, k.Bundle(), w.brokerPair(t), brokerName)
}

// An upgrade of the chart applies manifests without data: metadata is as in the
// chart again, the data stays, and nothing happens. A registration without
// authority, as somebody's tool may leave it, is filled again.
func TestUpgradeOfTheChart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper()
	synced(t, k)
	bundle, leaf := k.Bundle(), served(t, k)
	for _, key := range []client.ObjectKey{authorityKey, brokerKey} {
		s := w.secret(t, key)
		s.Labels, s.Annotations = map[string]string{"helm.sh/chart": "akv2k8s-9"}, map[string]string{"a": "b"}
		if err := w.Update(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
	}
	w.took()
	synced(t, k, w.keeper())
	if writes := w.took(); len(writes) > 0 || k.Bundle() != bundle || !served(t, k).Leaf.Equal(leaf.Leaf) {
		t.Errorf("an upgrade changed certificates: %v", writes)
	}

	var c admissionv1.MutatingWebhookConfiguration
	if err := w.Get(t.Context(), hookKey, &c); err != nil {
		t.Fatal(err)
	}
	c.Webhooks[0].ClientConfig.CABundle, c.Webhooks[1].ClientConfig.CABundle = nil, nil
	if err := w.Update(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	w.took()
	synced(t, k)
	if d := cmp.Diff([]string{"patch akv2k8s"}, w.took()); d != "" || w.registered(t) != bundle {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestDamagedAuthorityIsLeftAlone(t *testing.T) {
	t.Parallel()
	cases := map[string]func(data map[string][]byte){
		"Text":       func(d map[string][]byte) { d["tls.crt"] = []byte("something") },
		"NoKey":      func(d map[string][]byte) { delete(d, "tls.key") },
		"NoCert":     func(d map[string][]byte) { delete(d, "tls.crt") },
		"OtherCross": func(d map[string][]byte) { d["previous.crt"], d["cross.crt"] = d["tls.crt"], []byte("x") },
	}
	for name, damage := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			k := w.keeper()
			synced(t, k)
			s := w.secret(t, authorityKey)
			damage(s.Data)
			want := maps.Clone(s.Data)
			if err := w.Update(t.Context(), &s); err != nil {
				t.Fatal(err)
			}
			w.took()
			fresh := w.keeper()
			if err := fresh.Sync(t.Context()); !errors.Is(err, servingcert.ErrDamaged) {
				t.Errorf("Sync() = %v", err)
			}
			if err := k.Sync(t.Context()); !errors.Is(err, servingcert.ErrDamaged) || k.Ready() != nil {
				t.Errorf("Sync() = %v, Ready() = %v: what is in memory is good still", err, k.Ready())
			}
			if d := cmp.Diff(want, w.secret(t, authorityKey).Data); d != "" || len(w.took()) > 0 {
				t.Error("the Secret was changed")
			}
		})
	}
}

func TestDamagedBrokerPairIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper()
	synced(t, k)
	s := w.secret(t, brokerKey)
	s.Data["tls.key"] = []byte("something")
	if err := w.Update(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
	synced(t, k)
	w.trusted(t, k.Bundle(), w.brokerPair(t), brokerName)
}

func TestMissingObjects(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]client.ObjectKey{"Authority": authorityKey, "Broker": brokerKey, "Registration": hookKey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var obj client.Object = &corev1.Secret{}
			if key == hookKey {
				obj = &admissionv1.MutatingWebhookConfiguration{}
			}
			if err := w.Get(t.Context(), key, obj); err != nil {
				t.Fatal(err)
			}
			if err := w.Delete(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
			k := w.keeper()
			if err := k.Sync(t.Context()); !apierrors.IsNotFound(err) {
				t.Errorf("Sync() = %v", err)
			}
			if k.Ready() == nil {
				t.Error("ready without everything in place")
			}
		})
	}
}

func TestOutageOfTheAPIServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper()
	synced(t, k)
	boom := errors.New("boom")
	w.failGet = boom
	if err := k.Sync(t.Context()); !errors.Is(err, boom) {
		t.Errorf("Sync() = %v", err)
	}
	if err := k.Ready(); err != nil {
		t.Errorf("not ready although the leaf is good: %v", err)
	}
	w.now = w.now.Add(servingcert.LeafLife)
	if k.Ready() == nil {
		t.Error("ready with a leaf that has ended")
	}
}

func TestRunRetriesAndEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	for k.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Every webhook of both registrations is trusted, once.
func TestBothRegistrationsAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.advises(t)
	k := w.adviser(adviceKey.Name)
	synced(t, k)
	if d := cmp.Diff([]string{k.Bundle(), k.Bundle()}, w.advised(t)); d != "" || w.registered(t) != k.Bundle() {
		t.Errorf("-want +got\n%s", d)
	}
	w.took()
	synced(t, k)
	if got := w.took(); len(got) > 0 {
		t.Errorf("a second look wrote %v", got)
	}
	w.now = w.now.Add(servingcert.AuthorityLife * 3 / 4)
	synced(t, k)
	if d := cmp.Diff([]string{k.Bundle(), k.Bundle()}, w.advised(t)); d != "" {
		t.Errorf("after a rotation: -want +got\n%s", d)
	}
}

// Pods start although the registration that only warns is not there; it is looked
// for again.
func TestPodsDoNotWaitForAdvice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.adviser(adviceKey.Name)
	if err := k.Sync(t.Context()); !apierrors.IsNotFound(err) {
		t.Errorf("Sync() = %v", err)
	}
	if err := k.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	w.advises(t)
	synced(t, k)
	if got := w.advised(t); got[0] != k.Bundle() {
		t.Errorf("registered %q", got)
	}
}

// A real handshake, by a client of before the authority was followed up, with a
// server that was not restarted.
func TestHandshakeAcrossRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.now = time.Now().Add(-servingcert.AuthorityLife * 3 / 4)
	k := w.keeper()
	synced(t, k)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(k.Bundle()))

	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{GetCertificate: k.GetCertificate, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	defer server.Close()

	w.now = time.Now()
	synced(t, k)
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: hookName, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if chain := conn.ConnectionState().VerifiedChains[0]; len(chain) != 3 {
		t.Errorf("verified by %d certificates, want leaf, new authority, old authority", len(chain))
	}
}

// The authority's key is worth nothing outside the release's namespace.
func TestAuthorityIsConstrained(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper()
	synced(t, k)
	s := w.secret(t, authorityKey)
	ca, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	for name, good := range map[string]bool{"x." + ns + ".svc": true, "kubernetes.default.svc": false, "login.microsoftonline.com": false} {
		key := ca.PrivateKey.(*ecdsa.PrivateKey)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: w.now, NotAfter: w.now.Add(time.Hour),
		}, ca.Leaf, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.verify(k.Bundle(), tls.Certificate{Certificate: [][]byte{der}, Leaf: leaf}, name); (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysAreNeverLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.keeper()
	synced(t, k)
	w.now = w.now.Add(servingcert.AuthorityLife * 3 / 4)
	synced(t, k)
	if w.log.Len() == 0 {
		t.Fatal("nothing was logged")
	}
	for _, key := range []client.ObjectKey{authorityKey, brokerKey} {
		block, _ := pem.Decode(w.secret(t, key).Data["tls.key"])
		if block == nil {
			t.Fatal("no key")
		}
		for part := range slices.Chunk([]byte(strings.Join(strings.Split(string(pem.EncodeToMemory(block)), "\n")[1:3], "")), 12) {
			if len(part) == 12 && bytes.Contains(w.log.Bytes(), part) {
				t.Fatal("a private key is in the log")
			}
		}
	}
}
