// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"strings"
	"time"
)

// Collection is what one list tells of: the objects of one kind in one vault.
type Collection struct {
	Vault string
	Kind  Kind
}

// Collection is the one whose list tells of the object. Who may read a certificate
// with its private key may list secrets, and the secret behind it changes with it.
func (r Reference) Collection() Collection {
	if r.PrivateKey {
		return Collection{r.Vault, KindSecret}
	}
	return Collection{r.Vault, r.Kind}
}

// Canonical is the same for all ways to write one reference: Key Vault takes names
// in any case.
func (r Reference) Canonical() Reference {
	r.Vault, r.Name, r.Version = strings.ToLower(r.Vault), strings.ToLower(r.Name), strings.ToLower(r.Version)
	return r
}

// Properties are what a list tells of an object. They are those of its latest
// version; which version that is they do not say.
type Properties struct {
	Name    string
	Updated time.Time // to the second
	Enabled bool
}

// Page is a part of a list.
type Page struct {
	Items []Properties // 25 at most
	Next  string       // what List wants for the page that follows; empty after the last
}

// A Lister lists a collection page by page, each with one request: from the start
// with an empty next. What is deleted is not listed; what is disabled is. Objects
// that change meanwhile may be listed twice or not at all. It fails with the errors
// of a Reader, and needs a permission of its own.
type Lister interface {
	List(ctx context.Context, c Collection, next string) (Page, error)
}

// A Source reads and lists.
type Source interface {
	Reader
	Lister
}

// Priority says who may go first where not all can go at once.
type Priority int

// The priorities, the least urgent first.
const (
	Sweep    Priority = iota // a look at what has most likely not changed
	Change                   // something has changed, or is new
	PodStart                 // a container waits
)

// A Demand is how urgent a request is, and how old its answer may be.
type Demand struct {
	Priority Priority
	// Since is the earliest moment at which the answer may have been asked for: an
	// older one may not know of a change. Zero leaves it to the Reader.
	Since time.Time
}

type demandKey struct{}

// WithDemand says it to whatever Reader or Lister gets the context.
func WithDemand(ctx context.Context, d Demand) context.Context {
	return context.WithValue(ctx, demandKey{}, d)
}

// DemandOf is what WithDemand said, or the zero Demand.
func DemandOf(ctx context.Context) Demand {
	d, _ := ctx.Value(demandKey{}).(Demand)
	return d
}

// Watch asks to hear when an object may be another.
type Watch struct {
	Reference

	Every time.Duration // how often it is looked for; zero is whenever somebody tells
}

// Known is what is known of a watched object, for one who watches it.
type Known struct {
	// Since is zero while nothing speaks against the last answer. Else only an answer
	// to a question asked then or later will do.
	Since time.Time
	// Confirmed is when the vault last said how the object is. It is zero as long as
	// the vault has not.
	Confirmed time.Time
	// Stale says that the vault has failed to confirm it for too long.
	Stale bool
}
