// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// Observed is what a decision needs to know of an output as it is.
type Observed struct {
	UID             types.UID
	ResourceVersion string
	Type            corev1.SecretType // empty for a ConfigMap
	Data            map[string]secret.Value
	Immutable       bool
	Deleting        bool
	Labels          map[string]string
	Annotations     map[string]string
	Owners          []metav1.OwnerReference
	// For each key, label and annotation the field managers that own it.
	Managers           map[string][]string
	LabelManagers      map[string][]string
	AnnotationManagers map[string][]string
	All                []string // the managers of any field at all
}

// Rival is another AzureKeyVaultSecret that asks for the same output.
type Rival struct {
	Name    string
	UID     types.UID
	Created metav1.Time
	// Disputed is one that was told that the output is not its to write: nobody need
	// wait for it.
	Disputed bool
}

// ObserveSecret takes ownership of the Secret.
func ObserveSecret(s *corev1.Secret) *Observed {
	o := observe(s)
	o.Type = s.Type
	o.Immutable = s.Immutable != nil && *s.Immutable
	for key, value := range s.Data {
		o.Data[key] = secret.New(value)
	}
	return o
}

// ObserveConfigMap takes ownership of the ConfigMap.
func ObserveConfigMap(c *corev1.ConfigMap) *Observed {
	o := observe(c)
	o.Immutable = c.Immutable != nil && *c.Immutable
	for key, value := range c.Data {
		o.Data[key] = secret.New([]byte(value))
	}
	for key, value := range c.BinaryData {
		o.Data[key] = secret.New(value)
	}
	return o
}

func observe(m metav1.Object) *Observed {
	o := &Observed{
		UID:                m.GetUID(),
		ResourceVersion:    m.GetResourceVersion(),
		Data:               map[string]secret.Value{},
		Deleting:           m.GetDeletionTimestamp() != nil,
		Labels:             m.GetLabels(),
		Annotations:        m.GetAnnotations(),
		Owners:             m.GetOwnerReferences(),
		Managers:           map[string][]string{},
		LabelManagers:      map[string][]string{},
		AnnotationManagers: map[string][]string{},
	}
	for _, entry := range m.GetManagedFields() {
		f, ok := fieldsOf(entry)
		if !ok {
			continue
		}
		name := ManagerName(entry)
		o.All = append(o.All, name)
		for key := range f.text {
			o.Managers[key] = append(o.Managers[key], overlay+name)
		}
		for managers, keys := range map[*map[string][]string]map[string]bool{
			&o.Managers: f.data, &o.LabelManagers: f.labels, &o.AnnotationManagers: f.annotations,
		} {
			for key := range keys {
				(*managers)[key] = append((*managers)[key], name)
			}
		}
	}
	return o
}

const managerPrefix = "akvs-"

// overlay leads the manager of a key that was written as stringData.
const overlay = "stringData of "

// Manager is the field manager of one AzureKeyVaultSecret. The UID, and not the
// name, tells it from a namesake that came later, and keeps it far below the 128
// characters that a manager may have.
func Manager(uid types.UID) string { return managerPrefix + string(uid) }

// OriginalManager is the field manager of the controller that this one replaces:
// the API server takes the name from the program's. Only its updates count; ours
// are applies, under a name for each AzureKeyVaultSecret.
const OriginalManager = "azure-keyvault-controller"

// ManagerName tells an update by a name from an apply by it: only applies are an
// AzureKeyVaultSecret's, and only updates the original's.
func ManagerName(entry metav1.ManagedFieldsEntry) string {
	if entry.Operation != metav1.ManagedFieldsOperationApply && strings.HasPrefix(entry.Manager, managerPrefix) {
		return "not-" + entry.Manager // whoever it is, no AzureKeyVaultSecret is
	}
	if entry.Operation == metav1.ManagedFieldsOperationApply && entry.Manager == OriginalManager {
		return "not-" + entry.Manager
	}
	return entry.Manager
}

// fields are those that one entry of the managed fields names. Text is what a
// server-side apply wrote as stringData: it changes the data, and no manager of the
// data loses anything by it.
type fields struct{ data, text, labels, annotations map[string]bool }

// fieldsOf reads fieldsV1, in which "f:" leads a map's key and "." stands for the
// map itself. Text and bytes of a ConfigMap share one set of keys.
func fieldsOf(entry metav1.ManagedFieldsEntry) (fields, bool) {
	if entry.FieldsV1 == nil || entry.Subresource != "" {
		return fields{}, false
	}
	var raw struct {
		Data     map[string]json.RawMessage `json:"f:data"`
		Binary   map[string]json.RawMessage `json:"f:binaryData"`
		Text     map[string]json.RawMessage `json:"f:stringData"`
		Metadata struct {
			Labels      map[string]json.RawMessage `json:"f:labels"`
			Annotations map[string]json.RawMessage `json:"f:annotations"`
		} `json:"f:metadata"`
	}
	if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &raw) != nil {
		return fields{}, false // nothing of it is known to be anybody's
	}
	data := keysOf(raw.Data)
	maps.Copy(data, keysOf(raw.Binary))
	return fields{data, keysOf(raw.Text), keysOf(raw.Metadata.Labels), keysOf(raw.Metadata.Annotations)}, true
}

func keysOf(raw map[string]json.RawMessage) map[string]bool {
	keys := map[string]bool{}
	for name := range raw {
		if key, ok := strings.CutPrefix(name, "f:"); ok {
			keys[key] = true
		}
	}
	return keys
}

// Claimants are the AzureKeyVaultSecrets that an output names: as owners, or as
// managers of a field.
func Claimants(m metav1.Object) []types.UID { return observe(m).Claimants() }

// Claimants are the AzureKeyVaultSecrets that the output names.
func (o *Observed) Claimants() []types.UID {
	var out []types.UID
	for _, ref := range o.Owners {
		if isAKVS(ref) {
			out = append(out, ref.UID)
		}
	}
	for _, manager := range o.All {
		if uid, ok := strings.CutPrefix(manager, managerPrefix); ok {
			out = append(out, types.UID(uid))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Disturbed says whether an update needs a look: it took a field or an owner
// reference away from an AzureKeyVaultSecret, for who changes a value takes its
// ownership, or two came to keep one key, or somebody else came to keep data or keeps it
// no longer, or the object was handed over or taken back. Refreshing a value is none of these, so that our own
// writes cause no second look.
func Disturbed(before, after metav1.Object) bool {
	if before.GetAnnotations()[v2beta1.AdoptAnnotation] != after.GetAnnotations()[v2beta1.AdoptAnnotation] {
		return true
	}
	was, now := fieldsByManager(before), fieldsByManager(after)
	for name, f := range was {
		if isKeeper(name) && f.exceed(now[name]) || !isKeeper(name) && lacks(f.data, now[name].data) {
			return true
		}
	}
	for name, f := range now {
		if !isKeeper(name) && (lacks(f.data, was[name].data) || lacks(f.text, was[name].text)) {
			return true
		}
		if isKeeper(name) && joins(name, was[name].data, now) {
			return true
		}
	}
	left := map[types.UID]bool{}
	for _, ref := range after.GetOwnerReferences() {
		left[ref.UID] = true
	}
	return slices.ContainsFunc(before.GetOwnerReferences(), func(ref metav1.OwnerReference) bool {
		return isAKVS(ref) && !left[ref.UID]
	})
}

// joins says whether an AzureKeyVaultSecret came to keep a key that another one keeps,
// which keeps it as well as long as the values are the same.
func joins(name string, before map[string]bool, now map[string]fields) bool {
	for other, f := range now {
		if other == name || !isManager(other) {
			continue
		}
		for key := range now[name].data {
			if !before[key] && f.data[key] {
				return true
			}
		}
	}
	return false
}

func fieldsByManager(m metav1.Object) map[string]fields {
	out := map[string]fields{}
	for _, entry := range m.GetManagedFields() {
		if f, ok := fieldsOf(entry); ok {
			// One may have an entry for updates and one for applies.
			out[ManagerName(entry)] = out[ManagerName(entry)].and(f)
		}
	}
	return out
}

func (f fields) and(g fields) fields {
	union := func(a, b map[string]bool) map[string]bool {
		out := maps.Clone(b)
		maps.Copy(out, a)
		return out
	}
	return fields{union(f.data, g.data), union(f.text, g.text), union(f.labels, g.labels), union(f.annotations, g.annotations)}
}

// isKeeper says whether a manager is an AzureKeyVaultSecret, or keeps fields for
// one that has yet to take them.
func isKeeper(manager string) bool { return isManager(manager) || manager == CarrierManager }

// lacks says whether b lacks a key of a.
func lacks(a, b map[string]bool) bool {
	for key := range a {
		if !b[key] {
			return true
		}
	}
	return false
}

// exceed says whether f has a field that g lacks.
func (f fields) exceed(g fields) bool {
	return lacks(f.data, g.data) || lacks(f.labels, g.labels) || lacks(f.annotations, g.annotations)
}

// The owner references of outputs, ours and those of the controller before us.
var (
	ownerVersion = v2beta1.GroupVersion.String()
	ownerKind    = v2beta1.Kind
)

func isAKVS(ref metav1.OwnerReference) bool {
	return ref.Kind == ownerKind && strings.HasPrefix(ref.APIVersion, v2beta1.GroupVersion.Group+"/")
}

// labelled says whether the output has our label.
func (o *Observed) labelled() bool { return o.Labels[v2beta1.OutputLabel] == v2beta1.OutputLabelValue }

// OwnedBy says whether the AzureKeyVaultSecret is an owner, by its UID.
func (o *Observed) OwnedBy(uid types.UID) bool {
	return slices.ContainsFunc(o.Owners, func(ref metav1.OwnerReference) bool { return isAKVS(ref) && ref.UID == uid })
}

// has says whether the manager owns any field.
func (o *Observed) has(manager string) bool { return slices.Contains(o.All, manager) }

// foreign are the entries that no AzureKeyVaultSecret and not the original wrote.
func (o *Observed) foreign(entries map[string]string, managers map[string][]string) map[string]string {
	out := map[string]string{}
	for key, value := range entries {
		if !slices.ContainsFunc(managers[key], isOurs) {
			out[key] = value
		}
	}
	return out
}

// guests says whether the data holds a key that somebody keeps who is no
// AzureKeyVaultSecret, besides those that are about to be written. A key of
// nobody's counts too.
func (o *Observed) guests(written map[string]secret.Value) bool {
	for key := range o.Data {
		if _, ours := written[key]; ours {
			continue
		}
		by := o.Managers[key]
		shared := slices.ContainsFunc(by, isManager) // a drop that was cut short left it with two
		if len(by) == 0 || slices.ContainsFunc(by, func(m string) bool {
			return !isOurs(m) && m != CarrierManager && (!shared || m != ReleasedManager)
		}) {
			return true
		}
	}
	return false
}

func (o *Observed) foreignOwners() []metav1.OwnerReference {
	return slices.DeleteFunc(slices.Clone(o.Owners), isAKVS)
}

// isOurs says whether a manager is an AzureKeyVaultSecret, or the original.
func isOurs(manager string) bool {
	return strings.HasPrefix(manager, managerPrefix) || manager == OriginalManager
}
