// SPDX-License-Identifier: Apache-2.0

package grant

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Need is what one variable takes.
type Need struct {
	Variable  Variable
	Reference vault.Reference
	spec      v2beta1.AzureKeyVaultSecretSpec
	query     string
}

// Read is how one read ended.
type Read struct {
	Object vault.Object
	Err    error // one of package vault's errors, perhaps wrapped
}

// Values is what a container gets: a value for each of its variables, or the
// problems that keep it from starting, sorted by variable.
type Values struct {
	Values   map[string]secret.Value
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
		if p, err := placeholder.Parse(v.Text); err == nil {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Resolve says what each variable takes. secrets are the AzureKeyVaultSecrets of
// the pod's own namespace by name, as far as they exist.
func Resolve(variables []Variable, secrets map[string]*v2beta1.AzureKeyVaultSecret) ([]Need, []brokerapi.Problem) {
	var needs []Need
	var problems []brokerapi.Problem
	for _, v := range variables {
		need, err := resolve(v, secrets)
		if err != nil {
			problems = append(problems, *err)
			continue
		}
		needs = append(needs, need)
	}
	return needs, sorted(problems)
}

func resolve(v Variable, secrets map[string]*v2beta1.AzureKeyVaultSecret) (Need, *brokerapi.Problem) {
	p, err := placeholder.Parse(v.Text)
	if err != nil {
		return Need{}, problem(v, v2beta1.ReasonPlaceholderFormat, placeholder.ErrMalformed.Error())
	}
	akvs := secrets[p.Name]
	if akvs == nil {
		return Need{}, problem(v, v2beta1.ReasonUnknownSecret,
			fmt.Sprintf("there is no AzureKeyVaultSecret %s in the pod's namespace", p.Name))
	}
	ref, err := render.EnvReference(akvs.Spec, p.Query)
	if err != nil {
		fault := render.Explain(err)
		return Need{}, problem(v, fault.Reason,
			fmt.Sprintf("AzureKeyVaultSecret %s: %s", p.Name, fault.Text))
	}
	return Need{Variable: v, Reference: ref, spec: akvs.Spec, query: p.Query}, nil
}

// References lists what has to be read, each object once.
func References(needs []Need) []vault.Reference {
	var refs []vault.Reference
	for _, n := range needs {
		if !slices.Contains(refs, n.Reference) {
			refs = append(refs, n.Reference)
		}
	}
	return refs
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

// Fill makes the values out of what was read; a problem with one is a problem
// for the container, and then there are none.
func Fill(needs []Need, reads map[vault.Reference]Read) Values {
	out := Values{Values: map[string]secret.Value{}, Retry: true}
	for _, n := range needs {
		read := reads[n.Reference]
		value, err := read.value(n)
		if err == nil {
			out.Values[n.Variable.Name] = value
			continue
		}
		fault := render.Explain(err)
		out.Problems = append(out.Problems, *problem(n.Variable, fault.Reason, n.about(fault.Text)))
		out.Retry = out.Retry && fault.Outage
		out.RetryAfter = max(out.RetryAfter, vault.RetryAfter(err))
	}
	if len(out.Problems) == 0 {
		out.Retry = false
		return out
	}
	out.Values, out.Problems = nil, sorted(out.Problems)
	return out
}

func (r Read) value(n Need) (secret.Value, error) {
	if r.Err != nil {
		return secret.Value{}, r.Err
	}
	return render.Env(n.spec, n.query, r.Object)
}

// about names the object: whoever reads this knows the variable and looks for
// what it stands for.
func (n Need) about(sentence string) string {
	ref := n.Reference
	return fmt.Sprintf("%s %s in vault %s: %s", ref.Kind, ref.Name, ref.Vault, sentence)
}

func problem(v Variable, reason, message string) *brokerapi.Problem {
	return &brokerapi.Problem{Variable: v.Name, Placeholder: v.Text, Reason: reason, Message: message}
}

func sorted(problems []brokerapi.Problem) []brokerapi.Problem {
	slices.SortFunc(problems, func(a, b brokerapi.Problem) int { return cmp.Compare(a.Variable, b.Variable) })
	return problems
}
