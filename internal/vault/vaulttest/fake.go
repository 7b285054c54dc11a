// SPDX-License-Identifier: Apache-2.0

// Package vaulttest has a vault.Reader and vault.Lister for tests and the contract that
// every one of them must keep, the fake and the real one alike. Start at NewReader and
// RunContract.
package vaulttest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Reader is a vault.Reader over objects that a test puts there. It is safe for
// concurrent use.
type Reader struct {
	mu       sync.Mutex
	vaults   map[string]bool
	objects  map[key][]*version
	failures []failure
	unlisted map[string]error
	reads    []vault.Reference
	lists    []vault.Collection
	deleted  map[key][]*version
	before   func(context.Context, vault.Reference) error
}

var (
	_ vault.Reader = (*Reader)(nil)
	_ vault.Lister = (*Reader)(nil)
)

type key struct {
	vault string
	kind  vault.Kind
	name  string
}

type version struct {
	vault.Object

	disabled bool
}

type failure struct {
	ref vault.Reference
	err error
}

// NewReader returns a Reader that knows these vaults, all empty. Reads of other
// vaults fail with vault.ErrNoVault.
func NewReader(vaults ...string) *Reader {
	r := &Reader{vaults: map[string]bool{}, objects: map[key][]*version{}, deleted: map[key][]*version{}, unlisted: map[string]error{}}
	for _, name := range vaults {
		r.vaults[strings.ToLower(name)] = true
	}
	return r
}

// now is the vault's clock, to the second.
func now() time.Time {
	return time.Now().Truncate(time.Second) //nolint:forbidigo // a vault has a clock
}

// keyOf is the same for names in any case, as in Key Vault.
func keyOf(ref vault.Reference) key {
	ref = ref.Canonical()
	return key{ref.Vault, ref.Kind, ref.Name}
}

// Put adds a version of the object that ref names, making the vault known, and
// returns the version's id: obj.Version, or the next of 000…1, 000…2 and so on. A
// certificate carries both its Certificate and the Value with the private key; a
// read returns the one that was asked for. What is not said to have been updated is
// updated now.
func (r *Reader) Put(ref vault.Reference, obj vault.Object) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := keyOf(ref)
	if obj.Version == "" {
		obj.Version = fmt.Sprintf("%032x", len(r.objects[k])+1)
	}
	if obj.Updated.IsZero() {
		obj.Updated = now()
	}
	r.vaults[k.vault] = true
	r.objects[k] = append(r.objects[k], &version{Object: obj})
	return obj.Version
}

// Disable makes a version, or the latest one, fail with vault.ErrDisabled.
func (r *Reader) Disable(ref vault.Reference) { r.enable(ref, false) }

// Enable ends what Disable began.
func (r *Reader) Enable(ref vault.Reference) { r.enable(ref, true) }

// enable updates the version, as Key Vault does.
func (r *Reader) enable(ref vault.Reference, yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v := r.find(ref); v != nil {
		v.disabled, v.Updated = !yes, now()
	}
}

// Delete removes an object with all its versions.
func (r *Reader) Delete(ref vault.Reference) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := keyOf(ref); r.objects[k] != nil {
		r.deleted[k] = r.objects[k]
		delete(r.objects, k)
	}
}

// Recover brings back what was deleted last, as it was, unless there is another by now.
func (r *Reader) Recover(ref vault.Reference) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := keyOf(ref); r.deleted[k] != nil && r.objects[k] == nil {
		r.objects[k] = r.deleted[k]
		delete(r.deleted, k)
	}
}

// Before has f called at the beginning of every request, for as long as it wants to
// take. The request fails with the error that f returns; without one it meets the
// vault as it is then. For a list the reference has no name.
func (r *Reader) Before(f func(ctx context.Context, ref vault.Reference) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before = f
}

// meet calls what Before was given.
func (r *Reader) meet(ctx context.Context, ref vault.Reference) error {
	r.mu.Lock()
	before := r.before
	r.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(ctx, ref)
}

// Fail makes reads fail with err from now on. Empty fields of ref match any value,
// so that the zero Reference matches every read; a nil err ends what matches.
func (r *Reader) Fail(ref vault.Reference, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = slices.DeleteFunc(r.failures, func(f failure) bool { return covers(ref, f.ref) })
	if err != nil {
		r.failures = append(r.failures, failure{ref, err})
	}
}

func covers(pattern, ref vault.Reference) bool {
	pattern, ref = pattern.Canonical(), ref.Canonical()
	return (pattern.Vault == "" || pattern.Vault == ref.Vault) &&
		(pattern.Kind == "" || pattern.Kind == ref.Kind) &&
		(pattern.Name == "" || pattern.Name == ref.Name) &&
		(pattern.Version == "" || pattern.Version == ref.Version)
}

// Reads returns every reference that was asked for, in order.
func (r *Reader) Reads() []vault.Reference {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.reads)
}

// FailLists makes lists of a vault fail with err from now on; nil ends it.
func (r *Reader) FailLists(name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlisted[strings.ToLower(name)] = err
}

// Lists returns the collections of which a page was asked for, in order.
func (r *Reader) Lists() []vault.Collection {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lists)
}

// pageSize is Key Vault's.
const pageSize = 25

// List implements vault.Lister.
func (r *Reader) List(ctx context.Context, of vault.Collection, next string) (vault.Page, error) {
	r.note(func() { r.lists = append(r.lists, of) })
	of.Vault = strings.ToLower(of.Vault)
	if err := r.meet(ctx, vault.Reference{Vault: of.Vault, Kind: of.Kind}); err != nil {
		return vault.Page{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return vault.Page{}, errors.Join(vault.ErrUnavailable, context.Cause(ctx))
	}
	if err := r.unlisted[of.Vault]; err != nil {
		return vault.Page{}, err
	}
	for _, f := range r.failures {
		if f.ref.Name == "" && covers(f.ref, vault.Reference{Vault: of.Vault, Kind: of.Kind}) {
			return vault.Page{}, f.err
		}
	}
	if !r.vaults[of.Vault] {
		return vault.Page{}, vault.ErrNoVault
	}
	return r.page(of, next), nil
}

// page starts behind the object that next names.
func (r *Reader) page(of vault.Collection, next string) vault.Page {
	var out vault.Page
	for _, k := range r.namesOf(of) {
		if k.name <= next && next != "" {
			continue
		}
		if len(out.Items) == pageSize {
			out.Next = out.Items[pageSize-1].Name
			break
		}
		latest := r.objects[k][len(r.objects[k])-1]
		out.Items = append(out.Items, vault.Properties{Name: k.name, Updated: latest.Updated, Enabled: !latest.disabled})
	}
	return out
}

// namesOf are the objects of a collection by name; the secrets behind certificates
// are secrets.
func (r *Reader) namesOf(of vault.Collection) []key {
	var out []key
	for k := range r.objects {
		behind := of.Kind == vault.KindSecret && k.kind == vault.KindCertificate
		if k.vault == of.Vault && (k.kind == of.Kind || behind) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b key) int { return cmp.Compare(a.name, b.name) })
	return out
}

func (r *Reader) note(what func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what()
}

// Read implements vault.Reader.
func (r *Reader) Read(ctx context.Context, ref vault.Reference) (vault.Object, error) {
	r.note(func() { r.reads = append(r.reads, ref) })
	if err := r.meet(ctx, ref); err != nil {
		return vault.Object{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return vault.Object{}, errors.Join(vault.ErrUnavailable, context.Cause(ctx))
	}
	for _, f := range r.failures {
		if covers(f.ref, ref) {
			return vault.Object{}, f.err
		}
	}
	if !r.vaults[keyOf(ref).vault] {
		return vault.Object{}, vault.ErrNoVault
	}
	v := r.find(ref)
	switch {
	case v == nil:
		return vault.Object{}, vault.ErrNotFound
	case v.disabled:
		return vault.Object{}, vault.ErrDisabled
	}
	obj := view(ref, v.Object)
	obj.Answered = now()
	return obj, nil
}

func (r *Reader) find(ref vault.Reference) *version {
	versions := r.objects[keyOf(ref)]
	if ref.Version == "" && len(versions) > 0 {
		return versions[len(versions)-1]
	}
	i := slices.IndexFunc(versions, func(v *version) bool { return v.Version == ref.Version })
	if i < 0 {
		return nil
	}
	return versions[i]
}

// view leaves out the half of a certificate that was not asked for.
func view(ref vault.Reference, obj vault.Object) vault.Object {
	if ref.Kind != vault.KindCertificate {
		return obj
	}
	if ref.PrivateKey {
		obj.Certificate = nil
		return obj
	}
	return vault.Object{Version: obj.Version, Certificate: obj.Certificate, Updated: obj.Updated}
}
