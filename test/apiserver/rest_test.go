// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// With nothing changing, a sweep is one request to the vault for 25 objects and none
// to the API server, whatever became of the objects; and nobody ever lists or watches
// Secrets that are not ours.
func TestNothingIsAskedAtRest(t *testing.T) {
	t.Parallel()
	s := emptyStage(t, time.Second)
	const objects = 30
	name := func(i int) string { return fmt.Sprintf("object-%02d", i) }
	for i := range objects {
		s.put(name(i), "one")
	}
	s.vault.Disable(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: name(1)})
	s.vault.Fail(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: name(2)}, vault.ErrForbidden)
	for i := range objects {
		s.apply(t, name(i), func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Output.Secret.Name = name(i) })
	}
	s.apply(t, "absent", func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Output.Secret.Name = "absent" })
	s.start(t, "")
	s.ready(t, name(0), "True Synced")
	s.ready(t, name(1), "False VaultObjectDisabled")
	s.ready(t, name(2), "False VaultForbidden")
	s.ready(t, "absent", "False VaultObjectNotFound")
	for i := 3; i < objects; i++ {
		s.ready(t, name(i), "True Synced")
	}
	s.sweeps(t, 4) // what was read soon after its change is read once more

	reads, writes, gets := s.requests.reads.Load(), s.writes.Load(), len(s.vault.Reads())
	s.sweeps(t, 5)
	if n := s.requests.reads.Load() - reads; n != 0 {
		t.Errorf("%d reads of the API server at rest", n)
	}
	if n := s.writes.Load() - writes; n != 0 {
		t.Errorf("%d writes at rest", n)
	}
	for _, ref := range s.vault.Reads()[gets:] {
		if ref.Name != name(2) { // only a read can tell whether it is still forbidden
			t.Errorf("%s was read at rest", ref.Name)
		}
	}
	if n := s.secrets.Load(); n != 0 {
		t.Errorf("%d lists or watches of other Secrets", n)
	}
}

// sweeps waits until all of the vault has been listed n times more.
func (s *stage) sweeps(t *testing.T, n int) {
	t.Helper()
	const pages = 2
	before := len(s.vault.Lists())
	eventually(t, fmt.Sprintf("%d more sweeps", n), func() error {
		if got := len(s.vault.Lists()) - before; got < n*pages {
			return fmt.Errorf("%d of %d pages", got, n*pages)
		}
		return nil
	})
}
