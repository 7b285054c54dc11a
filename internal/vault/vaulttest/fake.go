// SPDX-License-Identifier: Apache-2.0

// Package vaulttest has a vault.Reader for tests and the contract that every
// vault.Reader must keep, the fake and the real one alike. Start at NewReader and
// RunContract.
package vaulttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Reader is a vault.Reader over objects that a test puts there. It is safe for
// concurrent use.
type Reader struct {
	mu       sync.Mutex
	vaults   map[string]bool
	objects  map[key][]*version
	failures []failure
	reads    []vault.Reference
}

var _ vault.Reader = (*Reader)(nil)

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
	r := &Reader{vaults: map[string]bool{}, objects: map[key][]*version{}}
	for _, name := range vaults {
		r.vaults[name] = true
	}
	return r
}

func keyOf(ref vault.Reference) key { return key{ref.Vault, ref.Kind, ref.Name} }

// Put adds a version of the object that ref names, making the vault known, and
// returns the version's id: obj.Version, or the next of 000…1, 000…2 and so on. A
// certificate carries both its Certificate and the Value with the private key; a
// read returns the one that was asked for.
func (r *Reader) Put(ref vault.Reference, obj vault.Object) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := keyOf(ref)
	if obj.Version == "" {
		obj.Version = fmt.Sprintf("%032x", len(r.objects[k])+1)
	}
	r.vaults[ref.Vault] = true
	r.objects[k] = append(r.objects[k], &version{Object: obj})
	return obj.Version
}

// Disable makes a version, or the latest one, fail with vault.ErrDisabled.
func (r *Reader) Disable(ref vault.Reference) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v := r.find(ref); v != nil {
		v.disabled = true
	}
}

// Delete removes an object with all its versions.
func (r *Reader) Delete(ref vault.Reference) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.objects, keyOf(ref))
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

// Read implements vault.Reader.
func (r *Reader) Read(ctx context.Context, ref vault.Reference) (vault.Object, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads = append(r.reads, ref)
	if ctx.Err() != nil {
		return vault.Object{}, errors.Join(vault.ErrUnavailable, context.Cause(ctx))
	}
	for _, f := range r.failures {
		if covers(f.ref, ref) {
			return vault.Object{}, f.err
		}
	}
	if !r.vaults[ref.Vault] {
		return vault.Object{}, vault.ErrNoVault
	}
	v := r.find(ref)
	switch {
	case v == nil:
		return vault.Object{}, vault.ErrNotFound
	case v.disabled:
		return vault.Object{}, vault.ErrDisabled
	}
	return view(ref, v.Object), nil
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
