// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// Why an output may not be written. Each is read behind the output's name.
var (
	errTaken      = errors.New("it exists already: delete it, choose another name, or adopt it")
	errConsent    = errors.New("it exists already, and its annotation spv.no/adopt-by does not name this resource")
	errType       = errors.New("it has another type and holds what is not ours; delete it to have it made anew")
	errImmutable  = errors.New("it is immutable and holds what is not ours; delete it to have it made anew")
	errDeleting   = errors.New("it is being deleted; it is made anew once it is gone")
	errFreeze     = errors.New("it holds what is not ours alone, so it cannot be made immutable")
	errOtherShape = errors.New("another AzureKeyVaultSecret made it, with another type or immutable; choose another name")
)

// A claim is what of a payload may be written, and how.
type claim struct {
	payload     render.Payload // without the keys that rivals keep
	labels      map[string]string
	annotations map[string]string
	marks       marks
	replace     bool // it cannot be changed in place
	takeOver    *TakeOver
	winners     []Rival // who keeps keys that were asked for, sorted
	err         error   // why nothing at all may be written
}

// marks say why an output has no owner: both keep garbage collection away from
// what is not ours.
type marks struct {
	adopted bool // it was somebody's before, and stays
	guests  bool // somebody else keeps data in it
}

func (m marks) unowned() bool { return m.adopted || m.guests }

// claim says what may be written.
//
//	the output                                             we
//	does not exist                                         make it
//	names us as owner, or has fields that we wrote         write it, over whoever changed our keys
//	names an owner of our own name that is gone            write it: we were made anew
//	is the original's, and our status says that it is ours write it: somebody stripped the owners
//	is another AzureKeyVaultSecret's                       join it with keys that no older one has
//	was handed over to us                                  join it, and never own it
//	is anybody else's                                      leave it alone
//	has another type, or is immutable and must change      make it anew, if nobody else's data is in it
func (f Facts) claim(o Output, payload render.Payload) claim {
	c := claim{payload: payload}
	seen := o.Observed
	if seen == nil {
		c.labels, c.annotations = f.metadata(o, marks{})
		return c
	}
	ours := f.belongs(o)
	if c.marks.adopted, c.err = f.mayJoin(o, ours); c.err != nil {
		return c
	}
	if seen.Deleting {
		c.err = errDeleting
		return c
	}
	c.marks.guests = !c.marks.adopted && seen.guests(payload.Data)
	c.contest(f, o, ours)
	c.takeOver = f.takeOver(o, c.marks.adopted)
	c.labels, c.annotations = f.metadata(o, c.marks)
	switch {
	case !f.fits(o, c):
		c.replace, c.err = f.replaceable(o, ours, c)
	case f.options(o.Kind).Immutable && !seen.Immutable && (c.marks.unowned() || !ours || f.shared(o)):
		c.err = errFreeze
	}
	return c
}

// belongs goes by the owner reference and, because some tools strip those, by the
// fields that we once wrote.
func (f Facts) belongs(o Output) bool {
	seen, akvs := o.Observed, f.AKVS
	for _, ref := range seen.Owners {
		if isAKVS(ref) && (ref.UID == akvs.UID || ref.Name == akvs.Name) {
			return true
		}
	}
	if seen.has(Manager(akvs.UID)) {
		return true
	}
	named := akvs.Status.SecretName
	if o.Kind == render.ConfigMap {
		named = akvs.Status.ConfigMapName
	}
	return named == o.Name && seen.has(OriginalManager)
}

// mayJoin says whether an output may be written, and whether it is an adopted one.
// Whoever handed an object over may take that back: consent counts at every look.
func (f Facts) mayJoin(o Output, ours bool) (bool, error) {
	seen, wants := o.Observed, f.options(o.Kind).Adopt
	made := !seen.adopted() && (slices.ContainsFunc(seen.Owners, isAKVS) || seen.unowned() ||
		!wants && (ours || slices.ContainsFunc(seen.All, isKeeper)))
	handedOver := slices.ContainsFunc(strings.Split(seen.Annotations[v2beta1.AdoptAnnotation], ","), func(name string) bool {
		return strings.TrimSpace(name) == f.AKVS.Name
	})
	switch {
	case made:
		return false, nil
	case !wants:
		return false, errTaken
	case !handedOver:
		return false, errConsent
	}
	return true, nil
}

func isManager(manager string) bool { return strings.HasPrefix(manager, managerPrefix) }

// contest takes the keys out that an older rival holds. A key that a younger one
// holds, somebody's who is gone, or a person's becomes ours.
func (c *claim) contest(f Facts, o Output, ours bool) {
	keep := make(map[string]secret.Value, len(c.payload.Data))
	for key, value := range c.payload.Data {
		winner, lost := f.olderHolder(o, key, ours)
		if !lost {
			keep[key] = value
			continue
		}
		c.winners = append(c.winners, winner)
	}
	c.payload.Data = keep
	slices.SortFunc(c.winners, func(a, b Rival) int { return cmp.Compare(a.Name, b.Name) })
	c.winners = slices.CompactFunc(c.winners, func(a, b Rival) bool { return a.UID == b.UID })
}

func (f Facts) olderHolder(o Output, key string, ours bool) (Rival, bool) {
	seen, by := o.Observed, o.Observed.Managers[key]
	for _, rival := range o.Rivals {
		// What the original wrote is an owner's, whose turn may not have come yet.
		heir := !ours && seen.OwnedBy(rival.UID) && !seen.has(Manager(rival.UID)) && slices.Contains(by, OriginalManager)
		// What the carrier made anew is the owner's, who takes it at the next look.
		carried := seen.OwnedBy(rival.UID) && slices.Contains(by, CarrierManager)
		if heir || (slices.Contains(by, Manager(rival.UID)) || carried) && f.yields(rival) {
			return rival, true
		}
	}
	return Rival{}, false
}

// yields says whether the rival is older: by creation, then by name.
func (f Facts) yields(rival Rival) bool {
	mine := f.AKVS.CreationTimestamp
	if rival.Created.Equal(&mine) {
		return rival.Name < f.AKVS.Name
	}
	return rival.Created.Before(&mine)
}

// takeOver is what becomes ours of what the original wrote, and of what a resource
// of our name wrote that is gone. While another who asks for the output has not
// taken its keys over, only ours do; whoever comes last takes the rest, so that what
// the original should have removed goes. Owners do not tell, for some tools strip
// them. Of an adopted output nothing goes that is not ours.
func (f Facts) takeOver(o Output, adopted bool) *TakeOver {
	seen := o.Observed
	var t TakeOver
	for _, by := range seen.Managers {
		if slices.Contains(by, CarrierManager) {
			t.Named = []string{CarrierManager}
		}
	}
	from := f.predecessors(o)
	waiting := slices.ContainsFunc(o.Rivals, func(r Rival) bool { return !r.Disputed && !seen.has(Manager(r.UID)) })
	if waiting || adopted {
		t.Named = append(t.Named, from...)
	} else {
		t.Whole = from
	}
	if len(t.Named)+len(t.Whole) == 0 {
		return nil
	}
	return &t
}

// predecessors are the managers whose fields we inherit.
func (f Facts) predecessors(o Output) []string {
	var from []string
	for _, manager := range o.Observed.All {
		uid, isOne := strings.CutPrefix(manager, managerPrefix)
		namesake := isOne && types.UID(uid) != f.AKVS.UID && slices.ContainsFunc(o.Observed.Owners, func(ref ownerReference) bool {
			return isAKVS(ref) && string(ref.UID) == uid && ref.Name == f.AKVS.Name
		})
		if (manager == OriginalManager || namesake) && !slices.Contains(from, manager) {
			from = append(from, manager)
		}
	}
	return from
}

// fits says whether the output can be changed in place. What is immutable fits
// when nothing of it would change but its metadata.
func (f Facts) fits(o Output, c claim) bool {
	seen := o.Observed
	switch {
	case o.Kind == render.Secret && seen.Type != c.payload.Type:
		return false
	case !seen.Immutable:
		return true
	}
	return f.options(o.Kind).Immutable && f.sameData(o, c)
}

// replaceable says whether the output may be deleted and made anew: it must hold
// nothing that is not ours.
func (f Facts) replaceable(o Output, ours bool, c claim) (bool, error) {
	seen := o.Observed
	switch {
	case !ours && !c.marks.adopted:
		return false, errOtherShape
	case c.marks.unowned(), len(c.winners) > 0, f.shared(o):
		if o.Kind == render.Secret && seen.Type != c.payload.Type {
			return false, errType
		}
		return false, errImmutable
	}
	return true, nil
}

// shared says whether another AzureKeyVaultSecret has a part in the output, or
// may have one in what the original wrote.
func (f Facts) shared(o Output) bool {
	seen := o.Observed
	for _, ref := range seen.Owners {
		if isAKVS(ref) && ref.UID != f.AKVS.UID && ref.Name != f.AKVS.Name {
			return true
		}
	}
	return slices.ContainsFunc(o.Rivals, func(r Rival) bool { return seen.has(Manager(r.UID)) || seen.has(OriginalManager) })
}

// sameData says whether the output has the claim's data, and nothing of ours
// besides.
func (f Facts) sameData(o Output, c claim) bool {
	for key, value := range c.payload.Data {
		if held, ok := o.Observed.Data[key]; !ok || !held.Equal(value) {
			return false
		}
	}
	for key := range o.Observed.Managers {
		if _, wanted := c.payload.Data[key]; !wanted && f.keeps(o, key) {
			return false // a key of ours that is no longer asked for
		}
	}
	return true
}

// vain says whether all keys were lost, and there are none of before to drop.
func (f Facts) vain(o Output, c claim) bool {
	if len(c.winners) == 0 || len(c.payload.Data) > 0 {
		return false
	}
	for key := range o.Observed.Managers {
		if f.keeps(o, key) {
			return false
		}
	}
	return true
}

// agrees says whether the output is what a write would make it.
func (f Facts) agrees(o Output, c claim) bool {
	if o.Observed == nil || c.replace || f.inherits(o, c) || !f.intact(o, c.payload.Data) || !f.sameData(o, c) {
		return false
	}
	for key := range c.payload.Data {
		if !f.keeps(o, key) {
			return false
		}
	}
	return f.sameMetadata(o.Observed.Labels, o.Observed.LabelManagers, c.labels) &&
		f.sameMetadata(o.Observed.Annotations, o.Observed.AnnotationManagers, c.annotations)
}

// inherits says whether a take-over would move anything.
func (f Facts) inherits(o Output, c claim) bool {
	if c.takeOver == nil || len(c.takeOver.Whole) > 0 {
		return c.takeOver != nil
	}
	for key := range c.payload.Data {
		if slices.ContainsFunc(o.Observed.Managers[key], func(m string) bool { return slices.Contains(c.takeOver.Named, m) }) {
			return true
		}
	}
	return false
}

// intact says whether the output still has the marks and the form of ours; written
// is what will be, or is, our data in it.
func (f Facts) intact(o Output, written map[string]secret.Value) bool {
	seen := o.Observed
	if seen == nil || !seen.labelled() || seen.Immutable != f.options(o.Kind).Immutable || seen.Deleting {
		return false
	}
	unowned := seen.adopted() || seen.guests(written)
	return unowned != seen.OwnedBy(f.AKVS.UID)
}

func (f Facts) keeps(o Output, key string) bool {
	return slices.Contains(o.Observed.Managers[key], Manager(f.AKVS.UID))
}

// disputed is the fault of a claim that was not granted, or not in full.
func (f Facts) disputed(o Output, c claim) fault {
	about := func(text string) string { return fit(string(o.Kind)+" "+o.Name, ": "+text) }
	switch {
	case errors.Is(c.err, errTaken), errors.Is(c.err, errConsent):
		return fault{reason: v2beta1.ReasonOutputTaken, message: about(c.err.Error())}
	case c.err != nil:
		return fault{reason: v2beta1.ReasonOutputConflict, message: about(c.err.Error())}
	}
	text := fmt.Sprintf("AzureKeyVaultSecret %s, which is older, keeps the same key in it; choose another key or name", c.winners[0].Name)
	return fault{reason: v2beta1.ReasonOutputConflict, message: about(text), winners: c.winners}
}
