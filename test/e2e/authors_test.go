// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"slices"
	"strings"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
)

// mistakes are placeholders that may still come right, so their pods are admitted.
// The author is told twice: by `kubectl apply`, and in `kubectl describe pod` once
// the container, whose application was not started, has ended.
var mistakes = map[string]struct {
	placeholder string
	warned      string
	told        []string
}{
	"unknown": {
		"nobody@azurekeyvault", "no AzureKeyVaultSecret of this name yet",
		[]string{v2beta1.ReasonUnknownSecret, "AzureKeyVaultSecret nobody"},
	},
	"part-of-a-secret": {
		"a-secret@azurekeyvault?tls.pem", "query fits no part of this vault object, of type secret; possible are: ",
		[]string{v2beta1.ReasonPlaceholderQuery, "AzureKeyVaultSecret a-secret", render.ErrQuery.Error()},
	},
	"part-of-a-certificate": {
		"a-certificate@azurekeyvault?password", "query fits no part of this vault object, of type certificate; possible are: ",
		[]string{v2beta1.ReasonPlaceholderQuery, "AzureKeyVaultSecret a-certificate", render.ErrQuery.Error()},
	},
}

func authorsAreTold(s *story) {
	s.apply(akvsIn("a-secret", vaultName, "secret", "it") + akvsIn("a-certificate", vaultName, "certificate", "it"))
	for name, mistake := range mistakes {
		warnings := s.warned(doomed(name, mistake.placeholder))
		if len(warnings) != 1 {
			s.Errorf("%s: kubectl warns %q; want one warning", name, warnings)
			continue
		}
		s.oneClear(warnings[0], "VALUE", mistake.placeholder, mistake.warned)
	}
	for name, mistake := range mistakes {
		s.failed(name, "125", slices.Concat([]string{"VALUE"}, mistake.told)...)
	}
}

// warned applies a manifest and returns the warnings of `kubectl apply`.
func (s *story) warned(manifest string) []string {
	s.Helper()
	cmd := the.Command(s.Context(), "kubectl", "-n", s.ns, "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	text, err := cmd.CombinedOutput()
	s.ok(err)
	s.keep("kubectl.txt", string(text))
	var warnings []string
	for line := range strings.Lines(string(text)) {
		if warning, is := strings.CutPrefix(strings.TrimSpace(line), "Warning: "); is {
			warnings = append(warnings, warning)
		}
	}
	return warnings
}
