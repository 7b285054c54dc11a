// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

const version2 = "00000000000000000000000000000002"

func policy(p v2beta1.RefreshPolicy) func(*world) {
	return func(f *world) { f.AKVS.Spec.Refresh = &v2beta1.Refresh{Policy: p} }
}

// settled is the next look at what was written under a policy, with the change.
func settled(p v2beta1.RefreshPolicy, changes ...func(*world)) world {
	f := facts(policy(p))
	f = after(f, decide(f))
	for _, change := range changes {
		change(&f)
	}
	return f
}

// withGuest is a key that somebody else keeps in the output.
func withGuest(f *world) {
	f.Observed.Data["theirs"], f.Observed.Managers["theirs"] = secret.New([]byte("x")), []string{"kubectl"}
}

func quiet(f *world) { f.Quiet = true }

// again is the next look.
func again(f world) world { return after(f, decide(f)) }

func annotated(text string) func(*world) {
	return func(f *world) { f.AKVS.Annotations = map[string]string{v2beta1.RefreshAnnotation: text} }
}

func TestReads(t *testing.T) {
	t.Parallel()
	const periodic, onChange, once = v2beta1.RefreshPeriodic, v2beta1.RefreshOnChange, v2beta1.RefreshOnce
	latest := vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "db"}
	pinned := latest
	pinned.Version = version1
	none, one := []vault.Reference(nil), []vault.Reference{latest}
	handled := func(text string) func(*world) {
		return func(f *world) { annotated(text)(f); f.AKVS.Status.HandledRefresh = text }
	}
	notReady := func(f *world) { f.AKVS.Status.Conditions[0].Status = metav1.ConditionFalse }
	changed := func(f *world) { f.AKVS.Generation++ }
	outputGone := func(f *world) { f.Observed = nil }
	byHand := func(f *world) { f.Observed.Managers["password"] = []string{"kubectl-edit"} }
	pin := func(f *world) { f.AKVS.Spec.Vault.Object.Version = version1 }
	for name, tc := range map[string]struct {
		facts world
		want  []vault.Reference
	}{
		"New":              {facts(), one},
		"NewOnChange":      {facts(policy(onChange)), one},
		"NewOnce":          {facts(policy(once)), one},
		"ChangedPeriodic":  {settled(periodic, changed), one},
		"ChangedOnChange":  {settled(onChange, changed), one},
		"ChangedOnce":      {settled(once, changed), one},
		"NotReadyOnChange": {settled(onChange, notReady), one},
		"NotReadyOnce":     {settled(once, notReady), []vault.Reference{pinned}},
		"OtherSpecOnce":    {settled(once, notReady, func(f *world) { f.AKVS.Spec.Output.Secret.DataKey = "other" }), one},

		"AskedOnChange":      {settled(onChange, annotated("now")), one},
		"AskedOnce":          {settled(once, annotated("now")), one},
		"AskedAndHandled":    {settled(onChange, handled("now")), none},
		"AskedAgain":         {settled(onChange, handled("now"), annotated("again")), one},
		"AskedNoLonger":      {settled(onChange, handled("now"), func(f *world) { f.AKVS.Annotations = nil }), one},
		"AskedBeyondTheText": {settled(onChange, handled(strings.Repeat("ü", 64)), annotated(strings.Repeat("ü", 64)+"x")), none},
		"AskedWithinTheText": {settled(onChange, handled(strings.Repeat("ü", 64)), annotated(strings.Repeat("ü", 63)+"x")), one},

		"Periodic":         {settled(periodic), one},
		"PolicyLeftOut":    {synced(), one},
		"Quiet":            {synced(quiet), none},
		"QuietAndAsked":    {synced(quiet, annotated("now")), one},
		"QuietAndByHand":   {synced(quiet, byHand), one},
		"QuietAndStale":    {synced(quiet, func(f *world) { f.Known.Stale = true }), none},
		"PinnedAndTold":    {synced(pin, func(f *world) { f.Known.Since = noon }), []vault.Reference{pinned}},
		"PeriodicPinned":   {synced(pin), none},
		"PinnedOutputGone": {synced(pin, outputGone), []vault.Reference{pinned}},
		"OnChange":         {settled(onChange), none},
		"Once":             {settled(once), none},

		"OutputGone":          {settled(onChange, outputGone), one},
		"OutputGoneOnce":      {settled(once, outputGone), []vault.Reference{pinned}},
		"OutputGoneOnceAsked": {settled(once, outputGone, annotated("now")), one},
		"OutputGoneOnceNew":   {settled(once, outputGone, changed), one},
		"ValueByHand":         {settled(onChange, byHand), one},
		"ValueByHandOnce":     {settled(once, byHand), []vault.Reference{pinned}},
		"OwnerLost":           {settled(onChange, func(f *world) { f.Observed.Owners = nil }), one},
		"MarkLost":            {settled(onChange, func(f *world) { delete(f.Observed.Labels, v2beta1.OutputLabel) }), one},
		"TypeOther":           {settled(onChange, func(f *world) { f.Observed.Type = corev1.SecretTypeTLS }), one},
		"Immutable":           {settled(onChange, func(f *world) { f.Observed.Immutable = true }), one},
		"LabelOfTheResource":  {settled(onChange, func(f *world) { f.AKVS.Labels = map[string]string{"team": "x"} }), one},
		"PersonsKeyBeside":    {settled(onChange, withGuest), one},
		"PersonsKeyKnown":     {again(settled(onChange, withGuest)), none},
		"ElderCame": {settled(onChange, func(f *world) {
			f.AKVS.CreationTimestamp = metav1.NewTime(noon)
			f.Rivals, f.Observed.Managers["password"] = []plan.Rival{elderB}, append(f.Observed.Managers["password"], "akvs-uid-b")
		}), one},
		"TextOverOurKey": {settled(onChange, func(f *world) {
			f.Observed.Managers["password"] = append(f.Observed.Managers["password"], "stringData of kubectl")
		}), one},

		"KeysUnknown": {settled(onChange, func(f *world) {
			f.AKVS.Spec.Vault.Object.Type, f.AKVS.Spec.Vault.Object.ContentType = v2beta1.ObjectMultiKeyValue, v2beta1.ContentJSON
		}), one},
		"TwoOutputs": {facts(func(f *world) { f.AKVS.Spec.Output.ConfigMap = &v2beta1.ConfigMapOutput{Name: "c", DataKey: "k"} }), one},
		"NoOutput":   {facts(func(f *world) { f.AKVS.Spec.Output = v2beta1.Output{} }), none},
		"Unpossible": {facts(func(f *world) { f.AKVS.Spec.Output.Secret.DataKey = "" }), none},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, tc.facts.gathered().Reads()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Once is Once: what repairs an output is what was first in it, whatever came later.
func TestDecideOnceKeepsTheFirstVersion(t *testing.T) {
	t.Parallel()
	f := settled(v2beta1.RefreshOnce, func(f *world) { f.Observed = nil })
	in := decide(f)
	if write(in) == nil || in.Status.ObjectVersion != version1 {
		t.Fatalf("write %v, version %s", write(in), in.Status.ObjectVersion)
	}
	f = after(f, in)
	annotated("now")(&f)
	f.Object = vault.Object{Version: version2, Value: secret.New([]byte("n3w"))}
	if in = decide(f); write(in) == nil || in.Status.ObjectVersion != version2 || in.Status.HandledRefresh != "now" {
		t.Fatalf("asked for, write %v, version %s, handled %q", write(in), in.Status.ObjectVersion, in.Status.HandledRefresh)
	}
	f = after(f, in)
	f.Observed = nil
	if reads := f.gathered().Reads(); len(reads) != 1 || reads[0].Version != version2 {
		t.Errorf("reads %v, want the version that is in it now", reads)
	}
}

func TestDecideHandlesARequestOnce(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 70)
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"Answered": {nil, long[:128]},
		"Refused":  {vault.ErrForbidden, long[:128]}, // an answer like any other
		"Outage":   {vault.ErrUnavailable, ""},       // it is tried again
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := settled(v2beta1.RefreshOnChange, annotated(long))
			f.FetchErr = tc.err
			in := decide(f)
			if in.Status.HandledRefresh != tc.want {
				t.Errorf("handled %q, want %q", in.Status.HandledRefresh, tc.want)
			}
		})
	}
}

func TestDecideWhenToLookAgain(t *testing.T) {
	t.Parallel()
	taken := func(f *world) { f.Observed = opaque("theirs", "x", "kubectl") }
	binary := func(f *world) {
		f.AKVS.Spec.Output.Secret, f.AKVS.Spec.Output.ConfigMap = nil, &v2beta1.ConfigMapOutput{Name: "c", DataKey: "k"}
		f.Object.Certificate, f.AKVS.Spec.Vault.Object.Type = []byte("no certificate"), v2beta1.ObjectCertificate
	}
	interval := func(d time.Duration) func(*world) {
		return func(f *world) { f.AKVS.Spec.Refresh = &v2beta1.Refresh{Interval: &metav1.Duration{Duration: d}} }
	}
	never := func(f *world) { f.Settings.Interval = 0 }
	for name, tc := range map[string]struct {
		facts world
		want  time.Duration
	}{
		"Well":            {facts(), 0}, // the watch tells
		"Forbidden":       {facts(failing(vault.ErrForbidden)), 0},
		"NeverForbidden":  {facts(failing(vault.ErrForbidden), never), 5 * time.Minute}, // nobody tells
		"NeverInvalid":    {facts(binary, never), 5 * time.Minute},
		"Invalid":         {facts(binary), 0},
		"OnChange":        {facts(policy(v2beta1.RefreshOnChange)), 0},
		"Once":            {facts(policy(v2beta1.RefreshOnce)), 0},
		"Pinned":          {facts(func(f *world) { f.AKVS.Spec.Vault.Object.Version = version1 }), 0},
		"OnceStalled":     {facts(policy(v2beta1.RefreshOnce), failing(vault.ErrForbidden)), time.Hour}, // until it is there
		"SpecStalled":     {facts(func(f *world) { f.AKVS.Spec.Output.Secret.DataKey = "" }), 0},
		"Taken":           {facts(taken), time.Hour}, // it is somebody else's to say when
		"OwnTaken":        {facts(taken, interval(90*time.Second)), 90 * time.Second},
		"BelowTheFloor":   {facts(taken, interval(time.Second)), time.Minute},
		"Jittered":        {facts(taken, func(f *world) { f.Settings.Jitter = 1.1 }), 66 * time.Minute},
		"OwnJittered":     {facts(taken, interval(100*time.Minute), func(f *world) { f.Settings.Jitter = 0.9 }), 90 * time.Minute},
		"OwnWithoutOther": {facts(taken, interval(2*time.Hour), func(f *world) { f.Settings.Interval = 0 }), 2 * time.Hour},
		"NeverTaken":      {facts(taken, func(f *world) { f.Settings.Interval = 0 }), 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := decide(tc.facts).Requeue; got != tc.want {
				t.Errorf("looked at again after %s, want %s", got, tc.want)
			}
		})
	}
}

func TestWatches(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	pin := func(f *world) { f.AKVS.Spec.Vault.Object.Version = version1 }
	interval := func(d time.Duration) func(*world) {
		return func(f *world) { f.AKVS.Spec.Refresh = &v2beta1.Refresh{Interval: &metav1.Duration{Duration: d}} }
	}
	never := func(f *world) { f.Settings.Interval = 0 }
	silent := func(f *world) { f.AKVS.Status.Conditions[0].Reason = v2beta1.ReasonVaultUnavailable }
	latest := vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "db"}
	pinned := latest
	pinned.Version = version1
	watch := func(ref vault.Reference, every time.Duration) []vault.Watch {
		return []vault.Watch{{Reference: ref, Every: every}}
	}
	for name, tc := range map[string]struct {
		facts world
		want  []vault.Watch
	}{
		"Operators":      {facts(), watch(latest, time.Hour)},
		"Own":            {facts(interval(90 * time.Second)), watch(latest, 90*time.Second)},
		"BelowTheFloor":  {facts(interval(time.Second)), watch(latest, time.Minute)},
		"Never":          {facts(never), watch(latest, 0)}, // or when somebody tells
		"Pinned":         {facts(pin), watch(pinned, day)},
		"OnChange":       {settled(v2beta1.RefreshOnChange), nil},
		"Once":           {settled(v2beta1.RefreshOnce), nil},
		"SilentOnChange": {settled(v2beta1.RefreshOnChange, silent), watch(latest, time.Hour)},
		"SilentPinned":   {synced(pin, silent), watch(pinned, time.Hour)},
		"NoOutput":       {facts(func(f *world) { f.AKVS.Spec.Output = v2beta1.Output{} }), nil},
		"TwoOutputsOfOne": {facts(func(f *world) {
			f.AKVS.Spec.Output.ConfigMap = &v2beta1.ConfigMapOutput{Name: "c", DataKey: "k"}
		}), watch(latest, time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, tc.facts.gathered().Watches()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// An answer may be as old as what tells of the change, and never older than what a
// person asked for.
func TestSince(t *testing.T) {
	t.Parallel()
	told := noon.Add(-time.Minute)
	ref := vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "db"}
	for name, tc := range map[string]struct {
		facts world
		want  time.Time
	}{
		"New": {facts(quiet, func(f *world) {
			f.AKVS.CreationTimestamp, f.Known.Since = metav1.NewTime(told), time.Unix(1, 0) // as of one who follows it anew
		}), told},
		"NewAndTold": {facts(quiet, func(f *world) {
			f.AKVS.CreationTimestamp, f.Known.Since = metav1.NewTime(told), told.Add(time.Second)
		}), told.Add(time.Second)},
		"NewAndAsked":     {facts(quiet, annotated("now"), func(f *world) { f.AKVS.CreationTimestamp = metav1.NewTime(told) }), noon},
		"NewByOtherClock": {facts(quiet, func(f *world) { f.AKVS.CreationTimestamp = metav1.NewTime(noon.Add(time.Hour)) }), noon},
		"Told":            {synced(quiet, func(f *world) { f.Now, f.Known.Since = noon, told }), told},
		"Asked":           {synced(quiet, annotated("now"), func(f *world) { f.Now, f.Known.Since = noon, told }), noon},
		"Repaired":        {synced(quiet, func(f *world) { f.Now = noon }), noon},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tc.facts.gathered().Since(ref); !got.Equal(tc.want) {
				t.Errorf("since %s, want %s", got, tc.want)
			}
		})
	}
}

func TestDecideStale(t *testing.T) {
	t.Parallel()
	stale := func(f *world) { f.Known = vault.Known{Confirmed: noon.Add(-time.Hour), Stale: true} }
	known := func(f *world) { f.Known = vault.Known{Confirmed: noon} }
	unknown := func(f *world) { f.Known = vault.Known{} }
	restarted := func(f *world) { f.Known = vault.Known{Stale: true} }
	const since = "my-kv/db: the vault has not confirmed it since 2026-01-02 11:00:00 UTC"
	const start = "my-kv/db: the vault has not confirmed it since the Controller started"
	was := again(synced(quiet, stale))
	with := func(f world, changes ...func(*world)) world {
		for _, change := range changes {
			change(&f)
		}
		return f
	}
	for name, tc := range map[string]struct {
		facts  world
		want   string // the message; empty is none
		events int
	}{
		"Known":           {synced(quiet, known), "", 0},
		"NotKnownYet":     {synced(quiet, unknown), "", 0},
		"Becomes":         {synced(quiet, stale), since, 2},
		"AfterAStart":     {synced(quiet, restarted), start, 2},
		"Stays":           {with(was, stale), since, 0},
		"StaysUnknown":    {with(was, unknown), since, 0},
		"StaysAfterStart": {with(was, restarted), since, 0},
		"Ends":            {with(was, known), "", 0},
		"Answered":        {with(was, stale, func(f *world) { f.Quiet = false }), "", 0},
		"Refused":         {with(was, stale, failing(vault.ErrForbidden), func(f *world) { f.Quiet = false }), "", 2},
		"Silent":          {with(was, stale, failing(vault.ErrUnavailable), func(f *world) { f.Quiet = false }), since, 0},
		"NeverSynced":     {facts(stale, failing(vault.ErrUnavailable)), "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := decide(tc.facts)
			got := ""
			if c := meta.FindStatusCondition(in.Status.Conditions, v2beta1.ConditionStale); c != nil {
				got = c.Message
				if c.Status != metav1.ConditionTrue || c.Reason != v2beta1.ReasonNotConfirmed {
					t.Errorf("%s %s", c.Status, c.Reason)
				}
			}
			if got != tc.want || len(in.Events) != tc.events {
				t.Errorf("%q and %d events, want %q and %d", got, len(in.Events), tc.want, tc.events)
			}
			if len(in.Writes) > 0 {
				t.Error("an output was written")
			}
		})
	}
}
