// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
)

// Tie is how an AzureKeyVaultSecret that an output names stands to it.
type Tie int

// The ties.
const (
	// TieKept is one that asks for the output, or of which nobody can tell.
	TieKept Tie = iota
	// TieLeft is one that exists and asks for it no longer; what it asks for instead
	// is there.
	TieLeft
	// TieGone is one that exists no longer.
	TieGone
)

// ReleaseFacts are what is known of an output and of those that it names.
type ReleaseFacts struct {
	Kind     render.Kind
	Observed *Observed // nil when it does not exist
	Ties     map[types.UID]Tie
}

// ReleaseIntent is what should become of an output. The vault is not asked, and no
// value is needed.
type ReleaseIntent struct {
	Delete bool   // the whole object
	Drop   []Drop // or parts of it
}

// Drop takes the fields of one manager away.
type Drop struct {
	Manager string
	// Stay are keys that are left in the object, under ReleasedManager.
	Stay []string
	Note string // what a person should know of it; empty is nothing
}

// ReleasedManager owns what an AzureKeyVaultSecret left behind in an output.
const ReleasedManager = "akv2k8s-released"

const (
	sentenceRequired  = "its AzureKeyVaultSecret is gone, and keys that this type of Secret needs are left in it"
	sentenceImmutable = "its AzureKeyVaultSecret is gone, and its data is left in it because it is immutable"
	sentenceOrphan    = "its AzureKeyVaultSecret is gone and no longer owned it, so its data is left as it is"
)

// Release decides what becomes of an output of which somebody let go.
//
//	who let go                       nobody else has a part    somebody else has
//	left it                          the output is deleted     its fields go
//	is gone, and owned it            the output is deleted     its fields go
//	is gone, and did not own it      its data stays            its fields go
//	either, and nobody owned it      its fields go             its fields go
//
// Nobody owns what was adopted, and what somebody else keeps data in.
// One that is gone and did not own the output was deleted with --cascade=orphan,
// or lost it to somebody who strips owners: whoever did that wants the data.
func Release(f ReleaseFacts) ReleaseIntent {
	if f.Observed == nil || f.Observed.Deleting {
		return ReleaseIntent{}
	}
	free := f.free()
	if len(free) == 0 {
		return ReleaseIntent{}
	}
	if f.disposable(free) {
		return ReleaseIntent{Delete: true}
	}
	var out ReleaseIntent
	for _, uid := range free {
		if drop := f.drop(uid, len(free) == len(f.Ties)); f.Observed.has(drop.Manager) {
			out.Drop = append(out.Drop, drop)
		}
	}
	return out
}

// free are those that let go, in order.
func (f ReleaseFacts) free() []types.UID {
	var out []types.UID
	for uid, tie := range f.Ties {
		if tie != TieKept {
			out = append(out, uid)
		}
	}
	slices.Sort(out)
	return out
}

// disposable says whether the output is ours alone and nobody wants it.
func (f ReleaseFacts) disposable(free []types.UID) bool {
	o := f.Observed
	if o.unowned() || len(free) < len(f.Ties) || o.guests(nil) || len(o.foreignOwners()) > 0 {
		return false
	}
	return !slices.ContainsFunc(free, func(uid types.UID) bool { return f.Ties[uid] == TieGone && !o.OwnedBy(uid) })
}

// drop says what goes with one manager; last says that nobody of ours is left.
func (f ReleaseFacts) drop(uid types.UID, last bool) Drop {
	o := f.Observed
	d := Drop{Manager: Manager(uid)}
	if last && !o.unowned() && !o.guests(nil) && f.Ties[uid] == TieGone && !o.OwnedBy(uid) {
		d.Stay, d.Note = f.only(uid, keysIn(o)), sentenceOrphan
		return d
	}
	if o.Immutable {
		d.Stay, d.Note = f.only(uid, keysIn(o)), sentenceImmutable
		return d
	}
	if f.Kind == render.Secret {
		if d.Stay = f.only(uid, required[o.Type]); len(d.Stay) > 0 {
			d.Note = sentenceRequired
		}
	}
	return d
}

// only are those of the keys that go with the manager unless they are kept.
func (f ReleaseFacts) only(uid types.UID, keys []string) []string {
	var out []string
	for _, key := range keys {
		// An attempt before this one may have made them ReleasedManager's already.
		by := f.Observed.Managers[key]
		if slices.Contains(by, Manager(uid)) && !slices.ContainsFunc(by, func(m string) bool { return m != Manager(uid) && m != ReleasedManager }) {
			out = append(out, key)
		}
	}
	return out
}

func keysIn(o *Observed) []string {
	var out []string
	for key := range o.Data {
		out = append(out, key)
	}
	slices.Sort(out)
	return out
}

// required are the keys without which the API server refuses a Secret of the type.
var required = map[corev1.SecretType][]string{
	corev1.SecretTypeTLS:              {corev1.TLSCertKey, corev1.TLSPrivateKeyKey},
	corev1.SecretTypeBasicAuth:        {corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey},
	corev1.SecretTypeSSHAuth:          {corev1.SSHAuthPrivateKey},
	corev1.SecretTypeDockercfg:        {corev1.DockerConfigKey},
	corev1.SecretTypeDockerConfigJson: {corev1.DockerConfigJsonKey},
}

// unowned says whether the output is marked as one that nobody owns.
func (o *Observed) unowned() bool {
	return o.adopted() || o.Labels[v2beta1.GuestsLabel] == v2beta1.GuestsLabelValue
}

func (o *Observed) adopted() bool { return o.Labels[v2beta1.AdoptedLabel] == v2beta1.AdoptedLabelValue }

// Asks says how an AzureKeyVaultSecret that exists stands to an output: it lets go
// only once what it asks for instead is there, so that an outage or a mistake in
// the new output takes nothing away.
func Asks(akvs *v2beta1.AzureKeyVaultSecret, kind render.Kind, name string) Tie {
	for _, o := range Asked(akvs.Spec) {
		if o.Kind == kind && o.Name == name {
			return TieKept
		}
	}
	if akvs.Status.ObservedGeneration != akvs.Generation || !isReady(akvs.Status) {
		return TieKept
	}
	return TieLeft
}
