// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Event is something that has happened, for `kubectl describe`.
type Event struct {
	Type   string // Normal or Warning
	Reason string // one of v2beta1's
	Note   string
}

// The types of an Event.
const (
	Normal  = corev1.EventTypeNormal
	Warning = corev1.EventTypeWarning
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

// intent says the conditions and nothing else; conditions that are not given are
// taken away, what else the status tells stays.
func (f Facts) intent(conditions ...condition) Intent {
	status := *f.AKVS.Status.DeepCopy()
	status.ObservedGeneration = f.AKVS.Generation
	given := map[string]bool{}
	for _, c := range conditions {
		given[c.kind] = true
		meta.SetStatusCondition(&status.Conditions, metav1.Condition{
			Type: c.kind, Status: c.status, Reason: c.reason, Message: c.message,
			ObservedGeneration: f.AKVS.Generation, LastTransitionTime: *f.now(),
		})
	}
	for _, kind := range []string{v2beta1.ConditionReady, v2beta1.ConditionStalled} {
		if !given[kind] {
			meta.RemoveStatusCondition(&status.Conditions, kind)
		}
	}
	return Intent{Status: status, Requeue: f.Interval, facts: f}
}

// notReady is for what time may mend.
func (f Facts) notReady(reason, message string) Intent {
	return f.complain(f.intent(condition{v2beta1.ConditionReady, metav1.ConditionFalse, reason, message}))
}

// stalled is for what only a person can mend.
func (f Facts) stalled(reason, message string) Intent {
	return f.complain(f.intent(
		condition{v2beta1.ConditionReady, metav1.ConditionFalse, reason, message},
		condition{v2beta1.ConditionStalled, metav1.ConditionTrue, reason, message},
	))
}

// complain adds a warning when what is said is new.
func (f Facts) complain(in Intent) Intent {
	before, after := readyCondition(f.AKVS.Status), readyCondition(in.Status)
	if before == nil || before.Status != after.Status || before.Reason != after.Reason || before.Message != after.Message {
		in.Events = []Event{{Warning, after.Reason, after.Message}}
	}
	return in
}

// announce tells what a write does, or that things are well again.
func (f Facts) announce(w *Write) Event {
	what := "holds it again"
	switch {
	case w != nil && f.Observed == nil:
		what = "created"
	case w != nil && f.AKVS.Status.SecretHash == hash(f.AKVS.Spec, f.Object.Version):
		what = "restored: somebody else had changed it"
	case w != nil:
		what = "updated"
	}
	return Event{Normal, v2beta1.ReasonSynced, f.aboutObject("Secret " + f.secretName() + " " + what)}
}

// maxMessage keeps a message readable in one line of a terminal.
const maxMessage = 140

// aboutObject names vault and object; both are kept short enough by the API, but
// together with a long text the name gives way.
func (f Facts) aboutObject(text string) string {
	return fit(f.AKVS.Spec.Vault.Name+"/"+f.AKVS.Spec.Vault.Object.Name, ": "+text)
}

// aboutSecret names the output.
func (f Facts) aboutSecret(err error) string {
	return fit("Secret "+f.secretName(), ": "+err.Error())
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

func (f Facts) secretName() string {
	if f.AKVS.Spec.Output.Secret == nil {
		return ""
	}
	return f.AKVS.Spec.Output.Secret.Name
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
