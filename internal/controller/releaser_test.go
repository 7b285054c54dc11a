// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/cluster"
	"github.com/akv2k8s/akv2k8s/internal/controller"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	outKey  = types.NamespacedName{Namespace: "ns", Name: "out"}
	errBoom = errors.New("errBoom " + canary)
	secrets = schema.GroupResource{Resource: "secrets"}
)

// claims is an AzureKeyVaultSecret that is Ready with an output.
func claims(name, output string) *v2beta1.AzureKeyVaultSecret {
	return &v2beta1.AzureKeyVaultSecret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), Generation: 1},
		Spec:       v2beta1.AzureKeyVaultSecretSpec{Output: v2beta1.Output{Secret: &v2beta1.SecretOutput{Name: output, DataKey: name}}},
		Status: v2beta1.AzureKeyVaultSecretStatus{
			ObservedGeneration: 1,
			Conditions:         []metav1.Condition{{Type: v2beta1.ConditionReady, Status: metav1.ConditionTrue, Reason: v2beta1.ReasonSynced}},
		},
	}
}

// A part is what an AzureKeyVaultSecret once wrote into the output.
type part struct {
	uid   types.UID
	owner string // empty is none
}

// An outputStage is the Secret "out" in a cluster, with caches that may be behind.
type outputStage struct {
	live   client.WithWatch
	caches *caches
	events *events.FakeRecorder
	calls  []string // what was asked of the API server
	fail   map[string]error
	sut    *controller.Releaser
}

// caches have the outputs as they are, and AzureKeyVaultSecrets of their own.
type caches struct {
	client.Reader

	known []*v2beta1.AzureKeyVaultSecret
	get   error
	list  error
}

func (c *caches) Get(ctx context.Context, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
	if c.get != nil {
		return c.get
	}
	return c.Reader.Get(ctx, key, object, opts...)
}

func (c *caches) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	var o client.ListOptions
	o.ApplyOptions(opts)
	uid, exact := o.FieldSelector.RequiresExactMatch("metadata.uid")
	output, asked := o.FieldSelector.RequiresExactMatch("spec.output")
	found, ok := list.(*v2beta1.AzureKeyVaultSecretList)
	if !exact && !asked || !ok {
		return fmt.Errorf("an unexpected list of %T", list)
	}
	for _, akvs := range c.known {
		asks := slices.ContainsFunc(plan.Asked(akvs.Spec), func(o plan.Output) bool { return string(o.Kind)+"/"+o.Name == output })
		if akvs.Namespace == o.Namespace && (exact && string(akvs.UID) == uid || asked && asks) {
			found.Items = append(found.Items, *akvs)
		}
	}
	return c.list
}

func newOutputStage(t *testing.T, exist []*v2beta1.AzureKeyVaultSecret, parts ...part) *outputStage {
	t.Helper()
	s := &outputStage{events: events.NewFakeRecorder(20), fail: map[string]error{}}
	builder := fake.NewClientBuilder().WithScheme(cluster.Scheme()).WithReturnManagedFields().WithStatusSubresource(&v2beta1.AzureKeyVaultSecret{})
	for _, akvs := range exist {
		builder = builder.WithObjects(akvs)
	}
	raw := builder.Build()
	outputs := cluster.NewOutputs(raw, raw)
	for _, p := range parts {
		var version string
		if seen, err := outputs.Get(t.Context(), render.Secret, outKey); err == nil && seen != nil {
			version = seen.ResourceVersion
		}
		if err := outputs.Apply(t.Context(), partOf(p, version)); err != nil {
			t.Fatal(err)
		}
	}
	s.live = interceptor.NewClient(raw, s.interceptors())
	s.caches = &caches{Reader: raw}
	s.sut = &controller.Releaser{
		Directory: controller.Directory{Cached: s.caches, Live: s.live}, Kind: render.Secret, Outputs: cluster.NewOutputs(s.live, s.live),
		Events: s.events, Metrics: controller.NewMetrics(prometheus.NewRegistry()),
	}
	return s
}

func partOf(p part, version string) plan.Write {
	w := plan.Write{
		Namespace: "ns", Name: "out", Manager: plan.Manager(p.uid), ResourceVersion: version,
		Labels: map[string]string{v2beta1.OutputLabel: v2beta1.OutputLabelValue},
		Payload: render.Payload{Kind: render.Secret, Type: corev1.SecretTypeOpaque, Data: map[string]secret.Value{
			strings.TrimPrefix(string(p.uid), "uid-"): secret.New([]byte(canary)),
		}},
	}
	if p.owner != "" {
		no, yes := false, true
		w.Owner = &metav1.OwnerReference{APIVersion: "spv.no/v2beta1", Kind: "AzureKeyVaultSecret", Name: p.owner, UID: p.uid, Controller: &no, BlockOwnerDeletion: &yes}
	}
	return w
}

// interceptors note what is asked of the API server, and fail it on demand.
func (s *outputStage) interceptors() interceptor.Funcs {
	note := func(what string) error {
		s.calls = append(s.calls, what)
		return s.fail[what]
	}
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			what := "get output"
			if _, ok := obj.(*v2beta1.AzureKeyVaultSecret); ok {
				what = "get " + key.Name
			}
			if err := note(what); err != nil {
				return err
			}
			return c.Get(ctx, key, obj, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := note("list"); err != nil {
				return err
			}
			return c.List(ctx, list, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			if err := note("delete"); err != nil {
				return err
			}
			return c.Delete(ctx, obj, opts...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			if err := note("apply"); err != nil {
				return err
			}
			return c.Apply(ctx, obj, opts...)
		},
	}
}

func (s *outputStage) reconcile(t *testing.T) (reconcile.Result, error) {
	t.Helper()
	return s.sut.Reconcile(t.Context(), reconcile.Request{NamespacedName: outKey})
}

// released reconciles until there is nothing to do.
func (s *outputStage) released(t *testing.T) {
	t.Helper()
	for range 5 {
		res, err := s.reconcile(t)
		if err != nil {
			t.Fatal(err)
		}
		if res.RequeueAfter == 0 {
			return
		}
	}
	t.Fatal("it does not come to rest")
}

// keys are those of the output, each with who manages it; nil is no output.
func (s *outputStage) keys(t *testing.T) map[string][]string {
	t.Helper()
	var got corev1.Secret
	err := s.caches.Reader.Get(t.Context(), outKey, &got)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		t.Fatal(err)
	}
	return plan.ObserveSecret(&got).Managers
}

func (s *outputStage) wrote() bool {
	return slices.Contains(s.calls, "delete") || slices.Contains(s.calls, "apply")
}

// The caches only raise a suspicion; what the API server says counts.
func TestReleaserAsksTheAPIServer(t *testing.T) {
	t.Parallel()
	a, b, elsewhere := claims("a", "out"), claims("b", "out"), claims("a", "other")
	unready := claims("a", "other")
	unready.Status.Conditions[0].Status = metav1.ConditionFalse
	namesake := claims("a", "out")
	namesake.UID = "uid-new"
	list := func(akvs ...*v2beta1.AzureKeyVaultSecret) []*v2beta1.AzureKeyVaultSecret { return akvs }
	owned, stripped, ofB := part{"uid-a", "a"}, part{"uid-a", ""}, part{"uid-b", "b"}
	kept := map[string][]string{"a": {"akvs-uid-a"}}
	for name, tc := range map[string]struct {
		cached, live []*v2beta1.AzureKeyVaultSecret
		parts        []part
		want         map[string][]string
		calls        []string
	}{
		"Asks":                {list(a), list(a), []part{owned}, kept, nil},
		"AsksThereAreTwo":     {list(a, b), list(a, b), []part{owned, ofB}, map[string][]string{"a": {"akvs-uid-a"}, "b": {"akvs-uid-b"}}, nil},
		"NoOutput":            {list(a), list(a), nil, nil, nil},
		"CacheIsBehind":       {nil, list(a), []part{owned}, kept, []string{"get output", "get a"}},
		"CacheIsBehindByUID":  {nil, list(a), []part{stripped}, kept, []string{"get output", "list", "get a"}},
		"OtherLabels":         {nil, list(elsewhere), []part{owned}, kept, []string{"get output", "get a"}}, // another Controller's
		"LeftInTheCacheAlone": {list(elsewhere), list(a), []part{owned}, kept, []string{"get output", "get a"}},
		"LeftNotReady":        {list(elsewhere), list(unready), []part{owned}, kept, []string{"get output", "get a"}},
		"Left":                {list(elsewhere), list(elsewhere), []part{owned}, nil, []string{"get output", "get a", "delete"}},
		"LeftStripped":        {list(elsewhere), list(elsewhere), []part{stripped}, nil, []string{"get output", "get a", "delete"}},
		"Gone":                {nil, nil, []part{owned}, nil, []string{"get output", "get a", "delete"}},
		"GoneInTheAPIAlone":   {list(elsewhere), nil, []part{owned}, nil, []string{"get output", "get a", "delete"}},
		"GoneWithANamesake":   {nil, list(namesake), []part{owned}, nil, []string{"get output", "get a", "delete"}},
		"GoneBesideAnother":   {list(b), list(b), []part{owned, ofB}, map[string][]string{"b": {"akvs-uid-b"}}, []string{"get output", "get a", "get b", "apply"}},
		"LeftBesideAnother":   {list(elsewhere, b), list(elsewhere, b), []part{owned, ofB}, map[string][]string{"b": {"akvs-uid-b"}}, []string{"get output", "get a", "get b", "apply"}},
		"BothGone":            {nil, nil, []part{owned, ofB}, nil, []string{"get output", "get a", "get b", "delete"}},
		"OneBehindOneGone":    {nil, list(b), []part{owned, ofB}, map[string][]string{"b": {"akvs-uid-b"}}, []string{"get output", "get a", "get b", "apply"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var live []*v2beta1.AzureKeyVaultSecret
			for _, akvs := range tc.live {
				live = append(live, akvs.DeepCopy())
			}
			s := newOutputStage(t, live, tc.parts...)
			s.caches.known = tc.cached
			if _, err := s.reconcile(t); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.calls, s.calls); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
			s.released(t)
			if diff := cmp.Diff(tc.want, s.keys(t)); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
			if len(s.events.Events) != 0 {
				t.Errorf("%d events", len(s.events.Events))
			}
		})
	}
}

// An answer that did not come, of whatever kind, takes nothing away.
func TestReleaserTakesNothingUponAnError(t *testing.T) {
	t.Parallel()
	type spoil func(*outputStage)
	fails := func(what string, err error) spoil { return func(s *outputStage) { s.fail[what] = err } }
	for name, tc := range map[string]struct {
		owner string
		spoil spoil
	}{
		"CachedOutput":      {"a", func(s *outputStage) { s.caches.get = errBoom }},
		"CachedResources":   {"a", func(s *outputStage) { s.caches.list = errBoom }},
		"Output":            {"a", fails("get output", errBoom)},
		"OutputForbidden":   {"a", fails("get output", apierrors.NewForbidden(secrets, "out", errBoom))},
		"Resource":          {"a", fails("get a", errBoom)},
		"ResourceForbidden": {"a", fails("get a", apierrors.NewForbidden(secrets, "a", errBoom))},
		"ResourceBusy":      {"a", fails("get a", apierrors.NewTooManyRequests(canary, 1))},
		"ResourceTimeout":   {"a", fails("get a", context.DeadlineExceeded)},
		"ResourceNotServed": {"a", fails("get a", apierrors.NewGenericServerResponse(http.StatusNotFound, "get", secrets, "a", "404 page not found", 0, true))},
		"Resources":         {"", fails("list", errBoom)},
		"ResourcesNotFound": {"", fails("list", apierrors.NewNotFound(secrets, "a"))}, // the CRD is gone, say
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newOutputStage(t, nil, part{"uid-a", tc.owner})
			tc.spoil(s)
			if _, err := s.reconcile(t); err == nil || s.wrote() {
				t.Errorf("error %v, asked %v", err, s.calls)
			}
			if diff := cmp.Diff(map[string][]string{"a": {"akvs-uid-a"}}, s.keys(t)); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		})
	}
}

// Who is looked for by UID may be on the last of several pages.
func TestReleaserReadsEveryPage(t *testing.T) {
	t.Parallel()
	s := newOutputStage(t, []*v2beta1.AzureKeyVaultSecret{claims("a", "out")}, part{"uid-a", ""})
	pages := 0
	s.sut.Live = interceptor.NewClient(s.live, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		var o client.ListOptions
		o.ApplyOptions(opts)
		pages++
		if o.Continue == "" {
			list.SetContinue("more")
			return nil
		}
		list.SetContinue("")
		return c.List(ctx, list, client.InNamespace(o.Namespace))
	}})
	if _, err := s.reconcile(t); err != nil || s.wrote() || pages != 2 {
		t.Errorf("error %v after %d pages, asked %v", err, pages, s.calls)
	}
}

// What changed meanwhile is looked at again; what is refused is an error.
func TestReleaserWhenTakingFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		what    string
		err     error
		want    error
		requeue time.Duration
	}{
		"DeleteConflict":  {"delete", apierrors.NewConflict(secrets, "out", errBoom), nil, time.Second},
		"DeleteNotFound":  {"delete", apierrors.NewNotFound(secrets, "out"), nil, time.Second},
		"DeleteForbidden": {"delete", apierrors.NewForbidden(secrets, "out", errBoom), plan.ErrNotAllowed, 0},
		"DeleteBroken":    {"delete", errBoom, plan.ErrWrite, 0},
		"DropConflict":    {"apply", apierrors.NewConflict(secrets, "out", errBoom), nil, time.Second},
		"DropNotFound":    {"apply", apierrors.NewNotFound(secrets, "out"), nil, time.Second},
		"DropRefused":     {"apply", apierrors.NewInvalid(schema.GroupKind{Kind: "Secret"}, canary, nil), plan.ErrRefused, 0},
		"DropBroken":      {"apply", apierrors.NewInternalError(errBoom), plan.ErrWrite, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parts, known := []part{{"uid-a", "a"}}, []*v2beta1.AzureKeyVaultSecret(nil)
			if tc.what == "apply" {
				parts, known = append(parts, part{"uid-b", "b"}), append(known, claims("b", "out"))
			}
			s := newOutputStage(t, known, parts...)
			s.caches.known = known
			s.fail[tc.what] = tc.err
			before := s.keys(t)
			res, err := s.reconcile(t)
			if !errors.Is(err, tc.want) || res.RequeueAfter != tc.requeue {
				t.Errorf("error %v and again after %s, want %v and %s", err, res.RequeueAfter, tc.want, tc.requeue)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("the API server's text gets out: %v", err)
			}
			if diff := cmp.Diff(before, s.keys(t)); diff != "" {
				t.Errorf("keys (-before +after):\n%s", diff)
			}
			delete(s.fail, tc.what)
			s.released(t)
			if _, still := s.keys(t)["a"]; still {
				t.Error("it is not tried again")
			}
		})
	}
}

// Whoever takes the owner away wants the data, and is told what became of it.
func TestReleaserLeavesWhatWasOrphaned(t *testing.T) {
	t.Parallel()
	s := newOutputStage(t, nil, part{"uid-a", ""})
	s.released(t)
	if diff := cmp.Diff(map[string][]string{"a": {plan.ReleasedManager}}, s.keys(t)); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if got := heard(s.events); len(got) != 1 || !strings.HasPrefix(got[0], "Warning Released its AzureKeyVaultSecret is gone and no longer owned it") {
		t.Errorf("events %q", got)
	}
	before := len(s.calls)
	s.released(t)
	if len(s.calls) != before {
		t.Errorf("it is looked into again: %v", s.calls[before:])
	}
}

// Of what was handed over, only our own goes.
func TestReleaserLeavesWhatWasAdopted(t *testing.T) {
	t.Parallel()
	for name, live := range map[string][]*v2beta1.AzureKeyVaultSecret{"Gone": nil, "Left": {claims("a", "other")}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newOutputStage(t, live, part{"uid-a", ""})
			s.caches.known = live
			person := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "out"}}
			patch := `{"data":{"theirs":"eA=="},"metadata":{"labels":{"spv.no/adopted":"true"}}}`
			if err := s.live.Patch(t.Context(), person, client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner("kubectl")); err != nil {
				t.Fatal(err)
			}
			s.released(t)
			if diff := cmp.Diff(map[string][]string{"theirs": {"kubectl"}}, s.keys(t)); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
			if got := heard(s.events); len(got) != 0 {
				t.Errorf("events %q", got)
			}
		})
	}
}

func heard(r *events.FakeRecorder) []string {
	var out []string
	for len(r.Events) > 0 {
		out = append(out, <-r.Events)
	}
	return out
}

// A Releaser of one kind leaves the other alone.
func TestReleaserKeepsToItsKind(t *testing.T) {
	t.Parallel()
	s := newOutputStage(t, nil, part{"uid-a", "a"})
	s.sut.Kind = render.ConfigMap
	s.released(t)
	if got := slices.Sorted(maps.Keys(s.keys(t))); len(got) != 1 || s.wrote() {
		t.Errorf("keys %v, asked %v", got, s.calls)
	}
}
