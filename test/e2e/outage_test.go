// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"strings"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

// lastValuesInAnOutage: where the operator wants it, a container starts with the value
// that its broker read last while the vault does not answer, and never against the
// vault's word.
func lastValuesInAnOutage(s *story) {
	s.upgrade("--set", "env_injector.onVaultUnavailable=use-cached", "--set", "global.keyVaultReads.shareWindow=0")
	s.scale("broker", 1) // each remembers for itself
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	starts := func(name string) {
		s.Helper()
		s.apply(strings.Replace(pod(usual), "name: app}", "name: "+name+"}", 1))
		s.wait("condition=Ready", "pod/"+name)
		s.got(s.reported(name, "app"), map[string]string{"VALUE": value})
	}
	starts("well")
	mend := s.misbehave("secrets/it", harness.Fault{Kind: "error", Status: 503})
	starts("outage")
	mend()

	mend = s.misbehave("secrets/it", harness.Fault{Kind: "forbid"})
	s.apply(doomed("refused", "it@azurekeyvault"))
	s.failed("refused", "125", "VALUE", v2beta1.ReasonForbidden, s.object("it"), vault.ErrForbidden.Error())
	mend()
	s.misbehave("secrets/it", harness.Fault{Kind: "error", Status: 503})
	s.apply(doomed("forgotten", "it@azurekeyvault"))
	s.failed("forgotten", "125", "VALUE", v2beta1.ReasonVaultUnavailable, s.object("it"), vault.ErrUnavailable.Error())
	s.upgrade()
}
