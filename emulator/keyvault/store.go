// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/fault"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// kind is a kind of object, as it stands in a URL.
type kind string

const (
	secrets      kind = seed.Secrets
	keys         kind = seed.Keys
	certificates kind = seed.Certificates
)

const (
	region          = "westeurope"
	recoveryLevel   = "CustomizedRecoverable+Purgeable"
	recoverableDays = 7
	day             = 24 * 60 * 60
)

// attributes are what every version has. Times are Unix seconds.
type attributes struct {
	Enabled         bool   `json:"enabled"`
	NotBefore       *int64 `json:"nbf,omitempty"`
	Expires         *int64 `json:"exp,omitempty"`
	Created         int64  `json:"created"`
	Updated         int64  `json:"updated"`
	RecoveryLevel   string `json:"recoveryLevel,omitempty"`
	RecoverableDays int    `json:"recoverableDays,omitempty"`
	Exportable      *bool  `json:"exportable,omitempty"`
}

// version is one version of a secret, a key or a certificate; the fields of other kinds stay zero.
type version struct {
	id         string
	attributes attributes
	tags       map[string]string

	value       string // of a secret
	contentType string
	previous    string // version id of the one before; certificate-backed secrets only

	material   *material // of a key, and of a certificate's key
	operations []string
	release    map[string]any

	chain         []*x509.Certificate // of a certificate, leaf first
	imported      []*x509.Certificate // the same in the order of import; nil when made here
	preserveOrder *bool
}

// object is all versions of one name.
type object struct {
	name     string
	versions []*version // oldest first
	// managed marks the secret and the key behind a certificate.
	managed bool
	deleted int64 // Unix seconds; 0 while live

	policy    *policy    // certificates
	pending   *operation // certificates
	spec      seed.Certificate
	authority *issuer        // certificates with a chain made here
	rotation  map[string]any // keys
}

func (o *object) latest() *version {
	if len(o.versions) == 0 {
		return nil
	}
	return o.versions[len(o.versions)-1]
}

func (o *object) find(id string) *version {
	if id == "" {
		return o.latest()
	}
	if i := slices.IndexFunc(o.versions, func(v *version) bool { return v.id == id }); i >= 0 {
		return o.versions[i]
	}
	return nil
}

// shelf holds the objects of one kind.
type shelf struct{ live, deleted *index }

func newShelf() *shelf { return &shelf{live: newIndex(), deleted: newIndex()} }

// vault is one vault. Its lock guards everything below it; what stands above takes care of itself.
type vault struct {
	name, tenant, suffix string
	access               seed.Access
	pfx                  seed.PFX

	clock  func() time.Time // the right time
	offset atomic.Int64     // what the vault's clock has in addition, as a time.Duration
	faults fault.Set
	limit  limiter
	tokens *tokens

	mu          sync.Mutex
	shelves     map[kind]*shelf
	permissions []seed.Permission
	backups     map[string]backup
	issuers     map[string]map[string]any
	contacts    []map[string]any
	created     func(Version)
}

type backup struct {
	kind   kind
	object *object
	parts  map[kind]*object
}

func newVault(spec seed.Vault, clock func() time.Time) *vault {
	v := &vault{
		name: strings.ToLower(spec.Name), tenant: spec.Tenant, suffix: spec.DNSSuffix, access: spec.Access, pfx: spec.PFX,
		shelves:     map[kind]*shelf{secrets: newShelf(), keys: newShelf(), certificates: newShelf()},
		permissions: spec.Permissions, backups: map[string]backup{}, issuers: map[string]map[string]any{},
		clock: clock, limit: limiter{clock: clock}, tokens: newTokens(),
	}
	v.offset.Store(int64(spec.ClockOffset))
	v.limit.set(spec.Limit)
	return v
}

// now is what the vault's clock shows.
func (v *vault) now() time.Time { return v.clock().Add(time.Duration(v.offset.Load())) }

func (v *vault) host() string { return v.name + "." + v.suffix }

func (v *vault) url() string { return "https://" + v.host() }

func (v *vault) id(k kind, parts ...string) string {
	return v.url() + "/" + string(k) + "/" + strings.Join(parts, "/")
}

func (v *vault) resource(k kind, name string) string {
	base := "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/emulator/providers/microsoft.keyvault/vaults/" + v.name
	if name == "" {
		return base
	}
	return base + "/" + string(k) + "/" + name
}

func (v *vault) object(k kind, name string) (*object, *failure) {
	if o := v.shelves[k].live.get(name); o != nil {
		return o, nil
	}
	return nil, notFound(k, name)
}

func (v *vault) version(k kind, name, id string) (*object, *version, *failure) {
	nameID := strings.TrimSuffix(name+"/"+id, "/")
	o := v.shelves[k].live.get(name)
	if o == nil {
		return nil, nil, notFound(k, nameID)
	}
	if found := o.find(id); found != nil {
		return o, found, nil
	}
	return nil, nil, notFound(k, nameID)
}

// claim returns the object of a name for a new version, or a fresh one, and refuses names that are deleted.
func (v *vault) claim(k kind, name string) (*object, *failure) {
	s := v.shelves[k]
	if s.deleted.get(name) != nil {
		return nil, deletedConflict(k, name)
	}
	if o := s.live.get(name); o != nil {
		return o, nil
	}
	return &object{name: name}, nil
}

func (v *vault) put(k kind, o *object) { v.shelves[k].live.put(o) }

// kinds are the shelves that an operation on an object concerns: a certificate takes its secret and key along.
func (o *object) kinds(k kind) []kind {
	if k == certificates {
		return []kind{certificates, secrets, keys}
	}
	return []kind{k}
}

func (v *vault) remove(k kind, name string) (*object, *failure) {
	o, bad := v.object(k, name)
	if bad != nil {
		return nil, bad
	}
	if o.managed {
		return nil, managedByVault(k, "delete")
	}
	for _, each := range o.kinds(k) {
		s := v.shelves[each]
		if part := s.live.get(name); part != nil && (each == k || part.managed) {
			part.deleted = v.now().Unix()
			s.deleted.put(part)
			s.live.drop(name)
		}
	}
	return o, nil
}

func (v *vault) deletedObject(k kind, name string) (*object, *failure) {
	if o := v.shelves[k].deleted.get(name); o != nil {
		return o, nil
	}
	return nil, deletedNotFound(k, name)
}

func (v *vault) recover(k kind, name string) (*object, *failure) {
	o, bad := v.deletedObject(k, name)
	if bad != nil {
		return nil, bad
	}
	if o.managed {
		return nil, managedByVault(k, "recover")
	}
	for _, each := range o.kinds(k) {
		s := v.shelves[each]
		if part := s.deleted.get(name); part != nil && (each == k || part.managed) {
			part.deleted = 0
			s.live.put(part)
			s.deleted.drop(name)
		}
	}
	return o, nil
}

func (v *vault) purge(k kind, name string) *failure {
	o, bad := v.deletedObject(k, name)
	if bad != nil {
		return bad
	}
	if o.managed {
		return managedByVault(k, "purge")
	}
	for _, each := range o.kinds(k) {
		s := v.shelves[each]
		if part := s.deleted.get(name); part != nil && (each == k || part.managed) {
			s.deleted.drop(name)
		}
	}
	return nil
}

// backup keeps the object and returns the token that restores it; the real service puts the object itself, sealed,
// into the token.
func (v *vault) backup(k kind, name string) ([]byte, *failure) {
	o, bad := v.object(k, name)
	if bad != nil {
		return nil, bad
	}
	if o.managed {
		return nil, managedByVault(k, "backup")
	}
	saved := backup{kind: k, object: o, parts: map[kind]*object{}}
	for _, each := range o.kinds(k) {
		if part := v.shelves[each].live.get(name); part != nil {
			saved.parts[each] = part.clone()
		}
	}
	token := "keyvault-emulator." + newVersionID() + newVersionID() + newVersionID() + newVersionID()
	v.backups[token] = saved
	return []byte(token), nil
}

func (v *vault) restore(k kind, token []byte) (*object, *failure) {
	saved, ok := v.backups[string(token)]
	if !ok || saved.kind != k {
		return nil, badParameter("The backup blob is not one that this emulator made since its start.")
	}
	name := saved.object.name
	for each := range saved.parts {
		if v.shelves[each].deleted.get(name) != nil {
			return nil, deletedConflict(each, name)
		}
		if v.shelves[each].live.get(name) != nil {
			return nil, existsConflict(each, name)
		}
	}
	for each, part := range saved.parts {
		v.put(each, part.clone())
	}
	return v.object(k, name)
}

func (o *object) clone() *object {
	out := *o
	out.deleted = 0
	out.versions = make([]*version, len(o.versions))
	for i, each := range o.versions {
		one := *each
		one.tags = maps.Clone(each.tags)
		out.versions[i] = &one
	}
	return &out
}

// newVersionID draws 32 lower-case hexadecimal digits.
func newVersionID() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails since Go 1.24
	return hex.EncodeToString(raw)
}

// deletedFields are what deleted objects have in addition.
type deletedFields struct {
	RecoveryID         string `json:"recoveryId,omitempty"`
	DeletedDate        int64  `json:"deletedDate,omitempty"`
	ScheduledPurgeDate int64  `json:"scheduledPurgeDate,omitempty"`
}

func (v *vault) deletedFields(k kind, o *object) deletedFields {
	if o.deleted == 0 {
		return deletedFields{}
	}
	return deletedFields{
		RecoveryID: fmt.Sprintf("%s/deleted%s/%s", v.url(), k, o.name), DeletedDate: o.deleted,
		ScheduledPurgeDate: o.deleted + recoverableDays*day,
	}
}

// reply is a result and the status it goes with.
type reply struct {
	status int
	body   any
	header http.Header
}

func ok(body any) *reply { return &reply{status: http.StatusOK, body: body} }
