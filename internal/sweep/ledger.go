// SPDX-License-Identifier: Apache-2.0

package sweep

import (
	"errors"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// An entry is what is known of one object.
type entry struct {
	ref       vault.Reference
	followers map[string]*follower
	every     time.Duration // how often it is looked for: the shortest that a follower wants; zero is never
	followed  time.Time     // since when
	due       time.Time     // when it is to be looked for again

	answer             // the last one
	answered bool      // there was one
	asked    time.Time // when it was asked for, or later
	silent   bool      // the last read had none
	off      time.Time // since when lists say that it is disabled
	recheck  time.Time // when it is read again although no list says anything new

	confirmed time.Time // as vault.Known
	stale     bool      // as vault.Known, and the followers know
}

// An answer is what the vault says of an object.
type answer struct {
	refusal error     // the verdict, when that is the answer; else
	version string    // of the object
	updated time.Time // of that version
	date    time.Time // of the answer, by the vault's clock
}

// A follower is who watches an entry.
type follower struct {
	every  time.Duration // how often it wants it looked for
	since  time.Time     // as vault.Known: what others have seen does not serve it
	silent bool          // its last read had no answer
}

func (e *entry) pinned() bool { return e.ref.Version != "" }

// A finding is what a list says of an entry.
type finding int

const (
	same     finding = iota
	changed          // whoever follows it must look
	doubtful         // only a read can tell
)

// resolution is how far apart two changes must be so that a list tells them apart.
// Its times are to the second; one more allows for clocks of the vault's front ends
// that differ.
const resolution = 2 * time.Second

// rechecked is how often an object is read of which lists say nothing new, give or take
// a half: only a read tells that it may not be read any more.
const rechecked = 24 * time.Hour

// compare holds an entry against what a list says of it; nil is an object that is
// not listed.
//
//	last answer             listed    enabled  finding
//	none                    –         –        changed
//	object                  yes       yes      changed, if updated at another time;
//	                                           doubtful, if read too soon after that,
//	                                           or long ago
//	object                  yes       no       changed, until read again: a public
//	                                           certificate is given all the same
//	object                  no        –        doubtful: a list is no snapshot
//	not found               yes       –        changed
//	disabled                yes       yes      changed
//	not found, or disabled  as it was          same
//	another refusal         –         –        doubtful
func (e *entry) compare(item *vault.Properties, now time.Time) finding {
	switch {
	case !e.answered || e.silent:
		return changed
	case errors.Is(e.refusal, vault.ErrNotFound):
		return when(item == nil, same, changed)
	case errors.Is(e.refusal, vault.ErrDisabled) && item != nil:
		return when(!item.Enabled, same, changed)
	case e.refusal != nil || item == nil:
		return doubtful
	case !item.Updated.Equal(e.updated), !item.Enabled && (e.off.IsZero() || e.asked.Before(e.off)):
		return changed
	case e.date.Sub(e.updated) < resolution, now.After(e.recheck):
		return doubtful
	}
	return same
}

func when(condition bool, yes, no finding) finding {
	if condition {
		return yes
	}
	return no
}

func answerOf(obj vault.Object, err error) answer {
	if refusal := vault.Verdict(err); refusal != nil {
		return answer{refusal: refusal}
	}
	return answer{version: obj.Version, updated: obj.Updated, date: obj.Answered}
}

func (a answer) equal(b answer) bool {
	return errors.Is(a.refusal, b.refusal) && a.version == b.version && a.updated.Equal(b.updated)
}

// note enters an answer, and says whether it is news.
func (e *entry) note(asked time.Time, a answer, now time.Time) bool {
	first := !e.answered && (!e.pinned() || a.refusal != nil) // a version is what it is
	news := first || e.silent || e.answered && !a.equal(e.answer)
	if a.date.IsZero() {
		a.date = asked
	}
	e.answer, e.answered, e.asked, e.silent, e.confirmed = a, true, asked, false, now
	e.recheck = now.Add(rechecked/2 + scattered(rechecked))
	return news
}

// saw enters an answer that a follower has acted upon, and returns who must look
// again: the others, if it is news, or that follower itself, if it is old.
func (e *entry) saw(who string, asked time.Time, a answer, now time.Time) []string {
	if e.answered && asked.Before(e.asked) {
		if a.equal(e.answer) {
			e.served(who, asked)
			return nil
		}
		if f := e.followers[who]; f != nil {
			f.since = e.asked
		}
		return []string{who}
	}
	news := e.note(asked, a, now)
	e.served(who, asked)
	if !news {
		return nil
	}
	return e.behind(who, asked)
}

// confirm enters that a list says nothing new.
func (e *entry) confirm(now time.Time) {
	if now.After(e.confirmed) {
		e.confirmed = now
	}
}

// enabled enters what a list says of that.
func (e *entry) enabled(yes bool, now time.Time) {
	switch {
	case yes:
		e.off = time.Time{}
	case e.off.IsZero():
		e.off = now
	}
}

// suspect makes every answer to an earlier question too old, for everybody.
func (e *entry) suspect(now time.Time) {
	for _, f := range e.followers {
		f.since, f.silent = now, false
	}
}

// missed enters that a read had no answer, a follower's or, without one, our own.
func (e *entry) missed(who string) {
	e.silent = true
	if f := e.followers[who]; f != nil {
		f.silent = true
	}
}

// served enters that a follower has acted upon an answer.
func (e *entry) served(who string, asked time.Time) {
	if f := e.followers[who]; f != nil && !asked.Before(f.since) {
		f.since, f.silent = time.Time{}, false
	}
}

// behind are those, besides one, that have to look and do not know it yet, or have
// tried in vain: there is something new since a time.
func (e *entry) behind(besides string, since time.Time) []string {
	var out []string
	for who, f := range e.followers {
		if who != besides && (f.since.IsZero() || f.silent) {
			if f.since.IsZero() {
				f.since = since
			}
			f.silent = false
			out = append(out, who)
		}
	}
	return out
}

// overdue says whether the vault has failed to confirm the entry for too long.
func (e *entry) overdue(now time.Time, intervals int) bool {
	return e.every > 0 && e.unconfirmed(now) > time.Duration(intervals)*e.every
}

// unconfirmed is how long it has not been confirmed.
func (e *entry) unconfirmed(now time.Time) time.Duration {
	if e.confirmed.IsZero() {
		return now.Sub(e.followed)
	}
	return now.Sub(e.confirmed)
}

// ever is the since of a follower that has seen nothing yet: any answer will do that
// the reader still has. If it is not the last one, whoever enters it is sent back.
var ever = time.Unix(1, 0)

// follow sets how often one follower wants the entry looked for. A new one has seen
// nothing of it yet; a version that a spec names does not change.
func (e *entry) follow(who string, every time.Duration) {
	if f, ok := e.followers[who]; ok {
		f.every = every
	} else {
		e.followers[who] = &follower{every: every}
		if !e.pinned() {
			e.followers[who].since = ever
		}
	}
	e.pace()
}

func (e *entry) unfollow(who string) {
	delete(e.followers, who)
	e.pace()
}

func (e *entry) pace() {
	e.every = 0
	for _, f := range e.followers {
		if f.every > 0 && (e.every == 0 || f.every < e.every) {
			e.every = f.every
		}
	}
}
