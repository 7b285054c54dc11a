// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Need is what one placeholder takes, however many variables hold it.
type Need struct {
	Key       string // as the placeholder package writes it
	Variable  string // the first that holds it
	Reference vault.Reference
	secret    string // name of the AzureKeyVaultSecret
	spec      v2beta1.AzureKeyVaultSecretSpec
	query     string
	directory bool // all parts of the object
	dispensed bool // all that hold it say what to do without
}

// Read is how one read ended.
type Read struct {
	Object vault.Object
	Err    error // one of package vault's errors, perhaps wrapped
}

// Values is what a container gets, or the problems that keep it from starting,
// sorted by variable.
type Values struct {
	Values map[string]secret.Value // by the placeholder's key
	// Directories are those of placeholders for all parts of an object: its files' contents by name.
	Directories map[string]map[string]secret.Value
	// Bytes of both, as MaxBytes counts them. Above that there are none.
	Bytes    int
	Absent   []string // the keys of those that may be done without and do not exist, sorted
	Problems []brokerapi.Problem
	// Retry says that asking again may help, which is so when the vaults'
	// absence is all that is wrong. RetryAfter is the longest that one asked for.
	Retry      bool
	RetryAfter time.Duration
}

// Names lists the AzureKeyVaultSecrets that these variables speak of, each once.
func Names(variables []Variable) []string {
	var names []string
	for _, v := range variables {
		text, _ := placeholder.Read(v.Text) // what cannot be read is for Resolve to say
		for _, p := range text.Placeholders() {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Resolve says what the placeholders of these variables take, each once, and which
// of them have no AzureKeyVaultSecret and can do without. secrets are those of the
// pod's own namespace by name, as far as they exist.
func Resolve(variables []Variable, secrets map[string]*v2beta1.AzureKeyVaultSecret) ([]Need, Values) {
	var needs []Need
	var out Values
	for _, u := range uses(variables, &out) {
		akvs := secrets[u.placeholder.Name]
		switch {
		case akvs != nil:
			need, problem := u.resolve(akvs.Spec)
			if problem == nil {
				needs = append(needs, need)
				continue
			}
			out.Problems = append(out.Problems, *problem)
		case u.dispensed:
			out.Absent = append(out.Absent, u.placeholder.Key())
		default:
			out.Problems = append(out.Problems, *problem(u.variable, u.placeholder.Key(), v2beta1.ReasonUnknownSecret,
				fmt.Sprintf("there is no AzureKeyVaultSecret %s in the pod's namespace", u.placeholder.Name)))
		}
	}
	return needs, out.sorted()
}

// A use is a placeholder and who holds it.
type use struct {
	placeholder placeholder.Placeholder
	variable    string
	dispensed   bool
}

// uses lists the distinct placeholders in the order in which they appear. A text
// that cannot be read is a problem.
func uses(variables []Variable, out *Values) []*use {
	var list []*use
	byKey := map[string]*use{}
	for _, v := range variables {
		text, err := placeholder.Read(v.Text)
		if err != nil {
			out.Problems = append(out.Problems, *problem(v.Name, "", v2beta1.ReasonPlaceholderFormat, err.Error()))
		}
		for _, p := range text.Placeholders() {
			u := byKey[p.Key()]
			if u == nil {
				u = &use{placeholder: p, variable: v.Name, dispensed: true}
				byKey[p.Key()] = u
				list = append(list, u)
			}
			if p.Absence == placeholder.Fail && u.dispensed {
				u.variable, u.dispensed = v.Name, false
			}
		}
	}
	return list
}

func (u *use) resolve(spec v2beta1.AzureKeyVaultSecretSpec) (Need, *brokerapi.Problem) {
	ref, err := reference(spec, u.placeholder)
	if err != nil {
		fault := render.Explain(err)
		return Need{}, problem(u.variable, u.placeholder.Key(), fault.Reason,
			fmt.Sprintf("AzureKeyVaultSecret %s: %s", u.placeholder.Name, fault.Text))
	}
	return Need{
		Key: u.placeholder.Key(), Variable: u.variable, Reference: ref,
		secret: u.placeholder.Name, spec: spec, query: u.placeholder.Query,
		directory: u.placeholder.Form == placeholder.Directory, dispensed: u.dispensed,
	}, nil
}

func reference(spec v2beta1.AzureKeyVaultSecretSpec, p placeholder.Placeholder) (vault.Reference, error) {
	if p.Form == placeholder.Directory {
		return render.DirectoryReference(spec)
	}
	return render.EnvReference(spec, p.Query)
}

// References lists what has to be read, each object once.
func References(needs []Need) []vault.Reference {
	var refs []vault.Reference
	seen := map[vault.Reference]bool{}
	for _, n := range needs {
		if !seen[n.Reference] {
			seen[n.Reference] = true
			refs = append(refs, n.Reference)
		}
	}
	return refs
}

// Gather reads each object once, and again what a renewal of its certificate has torn.
// read returns what each key's reference gave.
func Gather(refs []vault.Reference, read func(map[vault.Reference]vault.Reference) map[vault.Reference]Read) map[vault.Reference]Read {
	wanted := make(map[vault.Reference]vault.Reference, len(refs))
	for _, ref := range refs {
		wanted[ref] = ref
	}
	reads := read(wanted)
	maps.Copy(reads, read(Torn(reads)))
	return reads
}

// Torn lists what must be read again because a certificate was renewed between
// the read of its public part and that of its key: each maps to the version that
// its key has. A program must never start with halves of two pairs.
func Torn(reads map[vault.Reference]Read) map[vault.Reference]vault.Reference {
	torn := map[vault.Reference]vault.Reference{}
	for ref, public := range reads {
		if ref.Kind != vault.KindCertificate || ref.PrivateKey || public.Err != nil {
			continue
		}
		twin := ref
		twin.PrivateKey = true
		private, ok := reads[twin]
		if !ok || private.Err != nil || private.Object.Version == public.Object.Version {
			continue
		}
		pinned := ref
		pinned.Version = private.Object.Version
		torn[ref] = pinned
	}
	return torn
}

// MaxBytes bounds what one container gets, and so what it costs to get it: base64 adds a
// third to what brokerapi.MaxResponseBytes allows, names the rest. Of files, which may be
// many and small, the names count too, and perFile bytes for what it takes to hold one.
const (
	MaxBytes = brokerapi.MaxResponseBytes / 2
	perFile  = 64
)

// TooLarge says so.
var TooLarge = fmt.Sprintf("the values are larger than a container can have: together they have more than %d KiB", MaxBytes>>10)

// Fill completes what Resolve gave with what was read; a problem with one is a
// problem for the container, and then there are no values.
func Fill(needs []Need, out Values, reads map[vault.Reference]Read) Values {
	out.Values, out.Directories, out.Retry = map[string]secret.Value{}, map[string]map[string]secret.Value{}, true
	opened := shelf{}
	for _, n := range inShelfOrder(needs) {
		if out.Bytes > MaxBytes {
			break
		}
		err := out.take(n, &opened, reads[n.Reference])
		switch {
		case err == nil:
			continue
		case n.dispensed && absent(err):
			out.Absent = append(out.Absent, n.Key)
			continue
		}
		fault := render.Explain(err)
		out.Problems = append(out.Problems, *problem(n.Variable, n.Key, fault.Reason, n.about(fault.Text)))
		out.Retry = out.Retry && fault.Outage
		out.RetryAfter = max(out.RetryAfter, vault.RetryAfter(err))
	}
	if len(out.Problems) == 0 {
		out.Retry = false
	}
	if len(out.Problems) > 0 || out.Bytes > MaxBytes {
		out.Values, out.Directories, out.Absent = nil, nil, nil
	}
	return out.sorted()
}

// Failure is what a container is told that has Problems.
func (v Values) Failure() brokerapi.Failure {
	f := brokerapi.Failure{Message: "the container cannot have its values", Problems: v.Problems, Retry: v.Retry}
	if v.Retry {
		f.Message = "the values could not be read just now"
	}
	return f
}

// take puts what one placeholder stands for where it belongs.
func (v *Values) take(n Need, opened *shelf, read Read) error {
	parts, err := opened.parts(n, read)
	if err != nil {
		return err
	}
	if n.directory {
		files, err := parts.Directory()
		if err != nil {
			return err
		}
		v.Directories[n.Key] = files
		for name, content := range files {
			v.Bytes += len(name) + content.Len() + perFile
		}
		return nil
	}
	value, err := parts.Env(n.query)
	if err != nil {
		return err
	}
	v.Values[n.Key] = value
	v.Bytes += value.Len()
	return nil
}

// absent is what ";optional" and ";default" are about. A vault that cannot be
// asked, or will not say, is not a value that does not exist.
func absent(err error) bool {
	return errors.Is(err, vault.ErrNotFound) || errors.Is(err, render.ErrNoEntry)
}

// A shelf keeps an object open while the values of an AzureKeyVaultSecret are taken from
// it, so that it is taken apart once. Two AzureKeyVaultSecrets may read one object
// differently; no two are open at once, for there may be a thousand of one large object.
type shelf struct {
	secret    string
	reference vault.Reference
	open      render.Parts
}

// inShelfOrder has those together that take from one shelf. What one AzureKeyVaultSecret
// reads differs in the private key alone.
func inShelfOrder(needs []Need) []Need {
	return slices.SortedStableFunc(slices.Values(needs), func(a, b Need) int {
		if a.secret == b.secret && a.Reference.PrivateKey != b.Reference.PrivateKey {
			if b.Reference.PrivateKey {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.secret, b.secret)
	})
}

func (s *shelf) parts(n Need, read Read) (render.Parts, error) {
	if read.Err != nil {
		return render.Parts{}, read.Err
	}
	if s.secret != n.secret || s.reference != n.Reference {
		*s = shelf{n.secret, n.Reference, render.Open(n.spec, read.Object)}
	}
	return s.open, nil
}

// about names the object: whoever reads this knows the variable and looks for
// what it stands for.
func (n Need) about(sentence string) string {
	ref := n.Reference
	return fmt.Sprintf("%s %s in vault %s: %s", ref.Kind, ref.Name, ref.Vault, sentence)
}

func problem(variable, key, reason, message string) *brokerapi.Problem {
	return &brokerapi.Problem{Variable: variable, Placeholder: key, Reason: reason, Message: message}
}

func (v Values) sorted() Values {
	slices.Sort(v.Absent)
	slices.SortStableFunc(v.Problems, func(a, b brokerapi.Problem) int { return cmp.Compare(a.Variable, b.Variable) })
	return v
}
