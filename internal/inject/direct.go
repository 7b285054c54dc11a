// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
	"github.com/akv2k8s/akv2k8s/internal/render"
)

// Direct is what pods that read their vaults themselves are told beside their identity.
type Direct struct {
	TenantID    string // of identities whose service account names none; may be empty
	Cloud       string // empty is the public one
	VaultSuffix string // empty is the cloud's own
	CABundle    string // PEM of authorities to trust besides the usual ones; may be empty
}

// The annotations of a service account by which the azure-workload-identity project knows
// its identity.
const (
	AnnotationClientID = "azure.workload.identity/client-id"
	AnnotationTenantID = "azure.workload.identity/tenant-id"
)

// Account is a service account, as far as it was read.
type Account struct {
	Name       string
	ClientID   string
	TenantID   string // empty leaves it to Direct
	Unreadable string // why nothing is known of it, in words such as Missing; empty is read
}

// identifier is a UUID or, of a tenant, a domain.
var identifier = regexp.MustCompile(`\A[0-9A-Za-z][0-9A-Za-z.-]{0,127}\z`)

// maxTold bounds what one variable tells: Linux gives it 128 KiB. An AzureKeyVaultSecret
// takes about 150 bytes.
const maxTold = 64 << 10

// environmentOfItsOwn tells the program who its pod is to Azure and what the
// AzureKeyVaultSecrets say, which it cannot ask. What is missing now would be missing
// whenever the pod's containers start, so it is refused.
func (in *injection) environmentOfItsOwn() {
	tenant := in.identity()
	if size := len(in.settings.Direct.CABundle); size > maxTold {
		in.refuse("the installation's CA bundle has %d KiB, and a pod that reads its vaults itself can be told %d KiB: shorten it (global.caBundle of the chart)", size>>10, maxTold>>10)
	}
	written := 0
	for _, t := range in.targets {
		text := render.WriteSpecs(in.named(t))
		if len(text) > maxTold {
			in.refuse("container %q: what its AzureKeyVaultSecrets say has %d KiB, and a pod that reads its vaults itself can be told %d KiB: spread the placeholders over several containers",
				t.Name, len(text)>>10, maxTold>>10)
			continue
		}
		if written += len(text) + len(in.settings.Direct.CABundle); written > maxWritten {
			in.refuse("what the pod's containers must be told, of their AzureKeyVaultSecrets for the most part, is more than a pod can hold: container %q is one of those", t.Name)
			return
		}
		for _, want := range []struct{ name, value string }{
			{brokerapi.EnvSecrets, escape(text)},
			{brokerapi.EnvClientID, in.facts.Account.ClientID},
			{brokerapi.EnvTenantID, tenant},
			{brokerapi.EnvCloud, in.settings.Direct.Cloud},
			{brokerapi.EnvVaultSuffix, in.settings.Direct.VaultSuffix},
			{brokerapi.EnvTrusted, escape(in.settings.Direct.CABundle)},
		} {
			in.optional(t, want.name, want.value)
		}
	}
}

// identity refuses a pod without one, and returns the tenant.
func (in *injection) identity() string {
	a := in.facts.Account
	tenant := cmp.Or(a.TenantID, in.settings.Direct.TenantID)
	switch {
	case a.Unreadable != "":
		in.refuse("the pod reads its vaults itself, as the identity that its service account names, and service account %q %s", a.Name, a.Unreadable)
	case a.ClientID == "":
		in.refuse("the pod reads its vaults itself, and its service account %q names no identity for that: annotate it with %s, "+
			"or name another in spec.serviceAccountName", a.Name, AnnotationClientID)
	case tenant == "":
		in.refuse("the pod reads its vaults itself, and the tenant of its identity is not known: annotate service account %q with %s, "+
			"or set global.workloadIdentity.tenantId of the installation", a.Name, AnnotationTenantID)
	case !identifier.MatchString(a.ClientID), !identifier.MatchString(tenant):
		in.refuse("the pod reads its vaults itself, and what its service account %q or the installation names is no identity: "+
			"%s must be the client id of one, and %s the id of its tenant", a.Name, AnnotationClientID, AnnotationTenantID)
	}
	return tenant
}

// named are the AzureKeyVaultSecrets that the container's placeholders name, as far as
// they exist. One that must be there and is not, or does not fit, is refused.
func (in *injection) named(t target) map[string]*v2beta1.AzureKeyVaultSecret {
	found := map[string]*v2beta1.AzureKeyVaultSecret{}
	for _, v := range t.variables {
		text, _ := placeholder.Read(v.text) // what cannot be read is refused before
		for _, ph := range text.Placeholders() {
			where := fmt.Sprintf("container %q, variable %s, placeholder %s: ", t.Name, v.name, ph.Key())
			akvs := in.facts.Secrets[ph.Name]
			if akvs == nil {
				if ph.Absence == placeholder.Fail {
					in.refuse("%snamespace %q has no AzureKeyVaultSecret of this name, and the pod, which reads its vaults itself, is told now or never: make it before the pod",
						where, in.facts.Namespace)
				}
				continue
			}
			found[ph.Name] = akvs
			if err := renderable(akvs.Spec, ph); err != nil {
				in.refuse("%s%v", where, err)
			}
		}
	}
	return found
}

// sameWay refuses a pod that was injected, and then copied to where values come another
// way: it has the other program.
func sameWay(in *injection) {
	other := otherToken(in.settings)
	if !in.hasVolume(other) {
		return
	}
	now := "ask the broker for their values, while this one was made to read its vaults itself"
	if in.settings.Direct != nil {
		now = "read their vaults themselves, while this one was made to ask the broker"
	}
	in.refuse("the pod is a copy of an injected one (it has the volume %q), and pods of namespace %q %s: apply the manifest that the pod was made from",
		other, in.facts.Namespace, now)
}

// otherToken is the volume of pods whose values come the other way.
func otherToken(s Settings) string {
	if s.Direct != nil {
		return brokerapi.TokenVolumeName
	}
	return brokerapi.AzureTokenVolumeName
}

func (in *injection) hasVolume(name string) bool {
	return slices.ContainsFunc(in.spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
}
