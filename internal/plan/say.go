// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Event is something that has happened, for `kubectl describe`.
type Event struct {
	Type   string // Normal or Warning
	Reason string // one of v2beta1's
	Note   string
	About  *Rival // whom it is about, when that is another AzureKeyVaultSecret
}

// The types of an Event, and the statuses of a condition.
const (
	Normal  = corev1.EventTypeNormal
	Warning = corev1.EventTypeWarning

	yes = metav1.ConditionTrue
	no  = metav1.ConditionFalse
)

// The sentences that no error stands for.
const (
	sentenceNoOutput = "no output is asked for; the Env Injector may use it"
)

// One sentence for silence and for throttling, or a status would flap between
// the two.
var sentenceUnavailable = vault.ErrUnavailable.Error() + "; it is tried again"

type condition struct {
	kind    string
	status  metav1.ConditionStatus
	reason  string
	message string
}

// conditions says Ready and Stalled and nothing else of the two; what is not given
// is taken away.
func (f Facts) conditions(in *Intent, conditions ...condition) {
	in.Status.ObservedGeneration = f.AKVS.Generation
	given := map[string]bool{}
	for _, c := range conditions {
		given[c.kind] = true
		f.set(in, c)
	}
	for _, kind := range []string{v2beta1.ConditionReady, v2beta1.ConditionStalled} {
		if !given[kind] {
			meta.RemoveStatusCondition(&in.Status.Conditions, kind)
		}
	}
}

func (f Facts) set(in *Intent, c condition) {
	meta.SetStatusCondition(&in.Status.Conditions, metav1.Condition{
		Type: c.kind, Status: c.status, Reason: c.reason, Message: c.message,
		ObservedGeneration: in.Status.ObservedGeneration, LastTransitionTime: *f.now(),
	})
}

// complain warns when what is said is new.
func (f Facts) complain(in Intent, why fault) []Event {
	before, after := readyCondition(f.AKVS.Status), readyCondition(in.Status)
	if before != nil && before.Status == after.Status && before.Reason == after.Reason && before.Message == after.Message {
		return nil
	}
	events := warn(why.reason, why.message)
	for _, winner := range why.winners {
		note := fit("AzureKeyVaultSecret "+f.AKVS.Name, ": it asks for a key of an output that this older one keeps; it does not get it")
		events = append(events, Event{Warning, why.reason, note, &winner})
	}
	return events
}

// elders are the reasons that users of events have always known, for those that
// took their place.
var elders = map[string]string{
	v2beta1.ReasonVaultNotFound:    v2beta1.EventErrAzureVault,
	v2beta1.ReasonObjectNotFound:   v2beta1.EventErrAzureVault,
	v2beta1.ReasonObjectDisabled:   v2beta1.EventErrAzureVault,
	v2beta1.ReasonForbidden:        v2beta1.EventErrAzureVault,
	v2beta1.ReasonNetworkDenied:    v2beta1.EventErrAzureVault,
	v2beta1.ReasonSignInFailed:     v2beta1.EventErrAzureVault,
	v2beta1.ReasonVaultUnavailable: v2beta1.EventErrAzureVault,
	v2beta1.ReasonNotConfirmed:     v2beta1.EventErrAzureVault,
	v2beta1.ReasonNotExportable:    v2beta1.EventErrAzureVault,
	v2beta1.ReasonOutputTaken:      v2beta1.EventErrResourceExists,
	v2beta1.ReasonOutputConflict:   v2beta1.EventErrResourceExists,
}

// warn is one warning, under its reason and under the one that it took the place
// of.
func warn(reason, note string) []Event {
	events := []Event{{Type: Warning, Reason: reason, Note: note}}
	if elder, ok := elders[reason]; ok {
		events = append(events, Event{Type: Warning, Reason: elder, Note: note})
	}
	return events
}

// announce tells what the writes do, or that things are well again.
func (f Facts) announce(verdicts []verdict) []Event {
	var events []Event
	for _, v := range verdicts {
		what := "holds it again"
		switch {
		case v.write == nil && isReady(f.AKVS.Status):
			continue
		case v.write == nil:
		case v.output.Observed == nil:
			what = "created"
		case v.write.Replace != nil:
			what = "made anew; pods that use it must be restarted"
		case f.knownHash(v):
			what = "restored: somebody else had changed it"
		default:
			what = "updated"
		}
		events = append(events, Event{Type: Normal, Reason: v2beta1.ReasonSynced, Note: f.aboutObject(string(v.output.Kind) + " " + v.output.Name + " " + what)})
	}
	return events
}

// knownHash says whether the output was once written just like this.
func (f Facts) knownHash(v verdict) bool {
	last := f.AKVS.Status.SecretHash
	if v.output.Kind == render.ConfigMap {
		last = f.AKVS.Status.ConfigMapHash
	}
	return v.object != nil && last == hash(f.AKVS.Spec, v.object.Version)
}

// outputNames are the outputs that are asked for, as a subject.
func (f Facts) outputNames() string {
	var names []string
	for _, o := range f.Outputs {
		names = append(names, string(o.Kind)+" "+o.Name)
	}
	return strings.Join(names, " and ")
}

func holds(verdicts []verdict) string {
	if len(verdicts) > 1 {
		return "hold"
	}
	return "holds"
}

// maxMessage keeps a message readable in one line of a terminal.
const maxMessage = 140

// aboutObject names vault and object; both are kept short enough by the API, but
// together with a long text the name gives way.
func (f Facts) aboutObject(text string) string {
	return fit(f.AKVS.Spec.Vault.Name+"/"+f.AKVS.Spec.Vault.Object.Name, ": "+text)
}

func fit(name, text string) string {
	const ellipsis = "..."
	if len(text) > maxMessage*3/4 { // a very long Secret's name is in it
		text = text[:maxMessage*3/4-len(ellipsis)] + ellipsis
	}
	if room := maxMessage - len(text); len(name) > room {
		name = name[:room-len(ellipsis)] + ellipsis
	}
	return name + text
}

// now has the precision that the API keeps.
func (f Facts) now() *metav1.Time {
	t := metav1.NewTime(f.Now.Truncate(time.Second))
	return &t
}

// hash changes when the output may have. It is made of names and versions, for a
// hash of a value gives short values away.
func hash(spec v2beta1.AzureKeyVaultSecretSpec, version string) string {
	text, err := json.Marshal(spec)
	if err != nil {
		panic("plan: a spec does not marshal: " + err.Error()) // strings and slices of strings always do
	}
	sum := sha256.Sum256(append(text, version...))
	return hex.EncodeToString(sum[:16])
}

func readyCondition(s v2beta1.AzureKeyVaultSecretStatus) *metav1.Condition {
	return meta.FindStatusCondition(s.Conditions, v2beta1.ConditionReady)
}

func isReady(s v2beta1.AzureKeyVaultSecretStatus) bool {
	return meta.IsStatusConditionTrue(s.Conditions, v2beta1.ConditionReady)
}
