// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/cluster"
	"github.com/akv2k8s/akv2k8s/internal/controller"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/internal/vault/vaulttest"
)

// canary is in every value.
const canary = "c4n4ry"

var db = vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "db"}

// A stage is a Reconciler with everything around it.
type stage struct {
	cluster  client.WithWatch
	vault    *vaulttest.Reader
	events   *events.FakeRecorder
	registry *prometheus.Registry
	log      *bytes.Buffer
	writes   int // requests to the API server that change anything
	fail     error
	now      time.Time
	others   alone
	watch    restless
	parts    controller.Parts // of what is tested
	sut      reconcile.Reconciler
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{
		vault: vaulttest.NewReader("my-kv"), events: events.NewFakeRecorder(20),
		registry: prometheus.NewRegistry(), log: &bytes.Buffer{}, now: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC),
	}
	akvs := &v2beta1.AzureKeyVaultSecret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "uid-a", Generation: 1},
		Spec: v2beta1.AzureKeyVaultSecretSpec{
			Vault:  v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: "db", Type: v2beta1.ObjectSecret}},
			Output: v2beta1.Output{Secret: &v2beta1.SecretOutput{Name: "out", DataKey: "password"}},
		},
	}
	s.cluster = fake.NewClientBuilder().WithScheme(cluster.Scheme()).WithReturnManagedFields().
		WithStatusSubresource(akvs).WithObjects(akvs).WithInterceptorFuncs(s.interceptors()).Build()
	s.parts = controller.Parts{
		Vault: s.vault, Watch: &s.watch, Outputs: cluster.NewOutputs(s.cluster, s.cluster), Status: s.cluster.Status(), Events: s.events,
		Metrics:    controller.NewMetrics(s.registry),
		Clock:      func() time.Time { return s.now },
		Resources:  &s.others,
		Settings:   func() plan.Settings { return plan.Settings{Interval: time.Hour} },
		StatusRate: 1000,
	}
	s.sut = controller.New(s.parts).Named(s.cluster)
	return s
}

// restless is a watch that holds every object to have changed, at all times.
type restless struct {
	saw     int // answers that were acted upon
	follows map[string]int
}

func (r *restless) Follow(who string, watches []vault.Watch) {
	if r.follows == nil {
		r.follows = map[string]int{}
	}
	r.follows[who] = len(watches)
}

func (*restless) Known(string, vault.Reference) vault.Known {
	return vault.Known{Since: time.Unix(1, 0), Confirmed: time.Unix(1, 0)}
}

func (r *restless) Saw(string, vault.Reference, time.Time, vault.Object, error) { r.saw++ }

// alone is a cluster in which nobody else asks for an output.
type alone struct{ gone bool }

func (alone) Rivals(context.Context, *v2beta1.AzureKeyVaultSecret, plan.Output) ([]plan.Rival, error) {
	return nil, nil
}

func (a alone) Lives(context.Context, *v2beta1.AzureKeyVaultSecret) (bool, error) {
	return !a.gone, nil
}

// interceptors count the writes, and fail them on demand.
func (s *stage) interceptors() interceptor.Funcs {
	return interceptor.Funcs{
		Apply: func(ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			s.writes++
			if s.fail != nil {
				return s.fail
			}
			return c.Apply(ctx, obj, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			s.writes++
			return c.SubResource(sub).Patch(ctx, obj, patch, opts...)
		},
	}
}

func (s *stage) put(text string) {
	s.vault.Put(db, vault.Object{Value: secret.New([]byte(canary + text))})
}

func (s *stage) reconcile(t *testing.T) (reconcile.Result, error) {
	t.Helper()
	log := logr.FromSlogHandler(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return s.sut.Reconcile(logr.NewContext(t.Context(), log), reconcile.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "a"}})
}

func (s *stage) settled(t *testing.T) {
	t.Helper()
	if res, err := s.reconcile(t); err != nil || res.RequeueAfter != 0 {
		t.Fatalf("result %v, error %v", res, err)
	}
}

func (s *stage) data(t *testing.T) map[string]string {
	t.Helper()
	var got corev1.Secret
	if err := s.cluster.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "out"}, &got); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for key, v := range got.Data {
		out[key] = strings.ReplaceAll(string(v), canary, "")
	}
	return out
}

func (s *stage) ready(t *testing.T) string {
	t.Helper()
	var akvs v2beta1.AzureKeyVaultSecret
	if err := s.cluster.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "a"}, &akvs); err != nil {
		t.Fatal(err)
	}
	c := meta.FindStatusCondition(akvs.Status.Conditions, v2beta1.ConditionReady)
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("%s %s", c.Status, c.Reason)
}

func (s *stage) heard() []string {
	var out []string
	for {
		select {
		case e := <-s.events.Events:
			out = append(out, e)
		default:
			return out
		}
	}
}

func TestReconcileCreatesRotatesAndRests(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for i, text := range []string{"one", "two"} {
		s.put(text)
		s.settled(t)
		if diff := cmp.Diff(map[string]string{"password": text}, s.data(t)); diff != "" {
			t.Errorf("data (-want +got):\n%s", diff)
		}
		if got, want := s.heard(), []string{"created", "updated"}[i]; len(got) != 1 || !strings.HasSuffix(got[0], want) {
			t.Errorf("events %q, want one that ends in %q", got, want)
		}
		before := s.writes
		s.settled(t)
		if s.writes != before || len(s.heard()) != 0 {
			t.Errorf("%d writes although nothing changed", s.writes-before)
		}
	}
	if got := s.ready(t); got != "True Synced" {
		t.Errorf("Ready is %s", got)
	}
	if len(s.vault.Reads()) != 4 {
		t.Errorf("%d reads of the vault for 4 looks", len(s.vault.Reads()))
	}
}

func TestReconcileRepairsDrift(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put("one")
	s.settled(t)
	s.heard()
	byHand := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "out"}}
	if err := s.cluster.Patch(t.Context(), byHand, client.RawPatch("application/merge-patch+json", []byte(`{"data":{"password":"eA==","extra":"eA=="}}`)), client.FieldOwner("kubectl-edit")); err != nil {
		t.Fatal(err)
	}
	s.settled(t)
	if diff := cmp.Diff(map[string]string{"password": "one", "extra": "x"}, s.data(t)); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	if got := s.heard(); len(got) != 1 || !strings.Contains(got[0], "restored") {
		t.Errorf("events %q", got)
	}
}

func TestReconcileKeepsTheOutputWhenTheVaultSaysNo(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err    error
		ready  string
		events int
	}{
		"Forbidden":   {vault.ErrForbidden, "False VaultForbidden", 2},
		"NotFound":    {vault.ErrNotFound, "False VaultObjectNotFound", 2},
		"Outage":      {vault.ErrUnavailable, "True Synced", 0},
		"Unexplained": {errors.New("remote " + canary), "True Synced", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.put("one")
			s.settled(t)
			s.heard()
			s.vault.Fail(vault.Reference{}, tc.err)
			for range 2 {
				_, _ = s.reconcile(t)
			}
			if diff := cmp.Diff(map[string]string{"password": "one"}, s.data(t)); diff != "" {
				t.Errorf("data (-want +got):\n%s", diff)
			}
			if got := s.ready(t); got != tc.ready {
				t.Errorf("Ready is %s, want %s", got, tc.ready)
			}
			if got := s.heard(); len(got) != tc.events {
				t.Errorf("events %q, want %d", got, tc.events)
			}
		})
	}
}

func TestReconcileTellsOfAnOutageOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put("one")
	s.settled(t)
	s.heard()
	s.vault.Fail(vault.Reference{}, vault.ErrUnavailable)
	writes := s.writes
	for range 6 {
		if _, err := s.reconcile(t); !errors.Is(err, vault.ErrUnavailable) {
			t.Fatalf("error %v, want %v for the backoff", err, vault.ErrUnavailable)
		}
	}
	if got := s.heard(); len(got) != 2 || !strings.Contains(got[0], "VaultUnavailable") || !strings.Contains(got[1], "ErrAzureVault") {
		t.Errorf("events %q, want one under either reason", got)
	}
	if s.writes != writes {
		t.Errorf("%d writes during an outage", s.writes-writes)
	}
}

// One warning from each of ten thousand that a start finds in an outage would be a
// storm, too: it waits for its turn, and is not lost.
func TestReconcileTellsOfAnOutageInTurn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.parts.StatusRate = 1
	s.sut = controller.New(s.parts).Named(s.cluster)
	s.put("one")
	s.settled(t)
	s.vault.Fail(vault.Reference{}, vault.ErrForbidden) // takes the first turn
	_, _ = s.reconcile(t)
	s.vault.Fail(vault.Reference{}, nil)
	s.settled(t)
	s.heard()
	s.vault.Fail(vault.Reference{}, vault.ErrUnavailable)
	for range 2 {
		if _, err := s.reconcile(t); !errors.Is(err, vault.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	for range 2 {
		if res, err := s.reconcile(t); err != nil || res.RequeueAfter != time.Second || len(s.heard()) != 0 {
			t.Fatalf("result %v, error %v, want to wait for a turn", res, err)
		}
	}
	s.now = s.now.Add(time.Second)
	if _, err := s.reconcile(t); !errors.Is(err, vault.ErrUnavailable) || len(s.heard()) != 2 {
		t.Errorf("error %v, and it was not told", err)
	}
	s.now = s.now.Add(time.Second)
	if _, err := s.reconcile(t); !errors.Is(err, vault.ErrUnavailable) || len(s.heard()) != 0 {
		t.Errorf("error %v, and it was told again", err)
	}
}

func TestReconcileReportsAFailedWrite(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put("one")
	s.fail = errors.New("remote " + canary)
	if _, err := s.reconcile(t); !errors.Is(err, plan.ErrWrite) || strings.Contains(err.Error(), canary) {
		t.Errorf("error %v, want %v", err, plan.ErrWrite)
	}
	if got := s.ready(t); got != "False ApplyFailed" {
		t.Errorf("Ready is %s", got)
	}
	s.fail = nil
	s.settled(t)
	if got := s.ready(t); got != "True Synced" {
		t.Errorf("Ready is %s", got)
	}
	want := `
# HELP akv2k8s_syncs_failed_total Reads of vaults and writes of outputs that failed.
# TYPE akv2k8s_syncs_failed_total counter
akv2k8s_syncs_failed_total{object="AzureKeyVault",operation="sync"} 0
akv2k8s_syncs_failed_total{object="AzureKeyVaultSecret",operation="add"} 1
akv2k8s_syncs_failed_total{object="AzureKeyVaultSecret",operation="delete"} 0
akv2k8s_syncs_failed_total{object="AzureKeyVaultSecret",operation="update"} 0
# HELP akv2k8s_syncs_total Reads of vaults and writes of outputs.
# TYPE akv2k8s_syncs_total counter
akv2k8s_syncs_total{object="AzureKeyVault",operation="sync"} 2
akv2k8s_syncs_total{object="AzureKeyVaultSecret",operation="add"} 2
akv2k8s_syncs_total{object="AzureKeyVaultSecret",operation="delete"} 0
akv2k8s_syncs_total{object="AzureKeyVaultSecret",operation="update"} 0
`
	if err := testutil.GatherAndCompare(s.registry, strings.NewReader(want), "akv2k8s_syncs_total", "akv2k8s_syncs_failed_total"); err != nil {
		t.Error(err)
	}
}

func TestReconcileLeavesAForeignSecretAlone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put("one")
	foreign := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "out"}, Data: map[string][]byte{"theirs": []byte("x")}}
	if err := s.cluster.Create(t.Context(), foreign, client.FieldOwner("kubectl-create")); err != nil {
		t.Fatal(err)
	}
	if res, err := s.reconcile(t); err != nil || res.RequeueAfter != time.Hour {
		t.Fatalf("result %v, error %v, want to come back: nobody tells when it is free", res, err)
	}
	if diff := cmp.Diff(map[string]string{"theirs": "x"}, s.data(t)); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	if got := s.ready(t); got != "False OutputTaken" {
		t.Errorf("Ready is %s", got)
	}
}

// Owners are taken away first when a resource is deleted with --cascade=orphan; a
// cache that has not heard of it must not have us put them back.
func TestReconcileAsksBeforeItOwnsAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put("one")
	s.settled(t)
	out := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "out"}}
	if err := s.cluster.Patch(t.Context(), out, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"ownerReferences":null}}`))); err != nil {
		t.Fatal(err)
	}
	s.others.gone = true
	writes := s.writes
	if res, err := s.reconcile(t); err != nil || s.writes != writes {
		t.Errorf("result %v, error %v, %d writes", res, err, s.writes-writes)
	}
	s.others.gone = false
	s.settled(t)
	if err := s.cluster.Get(t.Context(), client.ObjectKeyFromObject(out), out); err != nil || len(out.OwnerReferences) != 1 {
		t.Errorf("error %v, owners %v", err, out.OwnerReferences)
	}
}

func TestReconcileIgnoresWhatIsGoingAway(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	if _, err := s.sut.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "gone"}}); err != nil {
		t.Errorf("a resource that is gone: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = s.sut.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "a"}})
	if s.writes != 0 || len(s.heard()) != 0 {
		t.Error("a stopping controller wrote or spoke")
	}
}

// Nothing that the Controller says, at the highest level, holds a value.
func TestReconcileSpeaksWithoutValues(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var said []string
	step := func() {
		res, err := s.reconcile(t)
		said = append(said, fmt.Sprint(res, err), strings.Join(s.heard(), "\n"))
		var akvs v2beta1.AzureKeyVaultSecret
		if err := s.cluster.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "a"}, &akvs); err != nil {
			t.Fatal(err)
		}
		said = append(said, fmt.Sprintf("%+v", akvs))
	}
	s.put("one")
	step()
	s.vault.Fail(vault.Reference{}, fmt.Errorf("remote %s: %w", canary, vault.ErrForbidden))
	step()
	s.vault.Fail(vault.Reference{}, errors.New("remote "+canary))
	step()
	s.vault.Fail(vault.Reference{}, nil)
	s.put("two")
	s.fail = errors.New("remote " + canary)
	step()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	said = append(said, s.log.String(), fmt.Sprint(families))
	if all := strings.Join(said, "\n"); strings.Contains(all, canary) {
		t.Errorf("a value gets out:\n%s", all)
	}
	if !strings.Contains(s.log.String(), "wrote the output") {
		t.Errorf("nothing was logged, so this test shows nothing:\n%s", s.log)
	}
}

// What is put off must be told again: neither a write that met another writer nor a
// status that has to wait is an end.
func TestReconcileTellsTheWatchWhatIsDone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put("one")
	s.fail = apierrors.NewConflict(schema.GroupResource{Resource: "secrets"}, "out", nil)
	if res, err := s.reconcile(t); err != nil || res.RequeueAfter == 0 || s.watch.saw != 0 {
		t.Errorf("result %v, error %v, %d answers acted upon", res, err, s.watch.saw)
	}
	s.fail = nil
	s.settled(t)
	if s.watch.saw != 1 {
		t.Errorf("%d answers acted upon, want one", s.watch.saw)
	}
}

// A look that was under way when the resource was deleted may have followed again: the
// next one, of which the deletion is the cause, ends that.
func TestReconcileFollowsNothingForWhoIsGone(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*v2beta1.AzureKeyVaultSecret){
		"Deleted": func(*v2beta1.AzureKeyVaultSecret) {},
		"Leaving": func(akvs *v2beta1.AzureKeyVaultSecret) { akvs.Finalizers = []string{"example.com/waits"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.put("one")
			s.settled(t)
			if s.watch.follows["ns/a"] != 1 {
				t.Fatalf("follows %v", s.watch.follows)
			}
			var akvs v2beta1.AzureKeyVaultSecret
			if err := s.cluster.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "a"}, &akvs); err != nil {
				t.Fatal(err)
			}
			end(&akvs)
			if err := errors.Join(s.cluster.Update(t.Context(), &akvs), s.cluster.Delete(t.Context(), &akvs)); err != nil {
				t.Fatal(err)
			}
			s.settled(t)
			if n := s.watch.follows["ns/a"]; n != 0 {
				t.Errorf("it follows %d objects", n)
			}
		})
	}
}

// What wakes a resource: what a person does, and that it is gone or another one.
func TestChanged(t *testing.T) {
	t.Parallel()
	resource := func(changes ...func(*v2beta1.AzureKeyVaultSecret)) *v2beta1.AzureKeyVaultSecret {
		akvs := &v2beta1.AzureKeyVaultSecret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "uid-a", Generation: 1}}
		for _, change := range changes {
			change(akvs)
		}
		return akvs
	}
	for name, tc := range map[string]struct {
		after     *v2beta1.AzureKeyVaultSecret
		want      bool
		forgotten bool
	}{
		"Status":     {resource(func(a *v2beta1.AzureKeyVaultSecret) { a.Status.ObjectVersion = "1" }), false, false},
		"Spec":       {resource(func(a *v2beta1.AzureKeyVaultSecret) { a.Generation = 2 }), true, false},
		"Label":      {resource(func(a *v2beta1.AzureKeyVaultSecret) { a.Labels = map[string]string{"a": "b"} }), true, false},
		"Annotation": {resource(func(a *v2beta1.AzureKeyVaultSecret) { a.Annotations = map[string]string{"a": "b"} }), true, false},
		"MadeAnew":   {resource(func(a *v2beta1.AzureKeyVaultSecret) { a.UID = "uid-b" }), true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.put("one")
			s.settled(t)
			changed := controller.New(s.parts).Changed()
			if got := changed.Update(event.UpdateEvent{ObjectOld: resource(), ObjectNew: tc.after}); got != tc.want {
				t.Errorf("woken: %t, want %t", got, tc.want)
			}
			if got := s.watch.follows["ns/a"] == 0; got != tc.forgotten {
				t.Errorf("forgotten: %t, want %t", got, tc.forgotten)
			}
			if !changed.Delete(event.DeleteEvent{Object: resource()}) || s.watch.follows["ns/a"] != 0 {
				t.Error("a deletion must end what is followed, and wake")
			}
		})
	}
}
