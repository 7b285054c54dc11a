// SPDX-License-Identifier: Apache-2.0

package inject_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/inject"
)

// What a pod that reads its vaults itself is told has bounds.
func TestDirectIsToldSoMuch(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		containers, each int // placeholders of each container
		bundle           int
		refused          string // empty is not
	}{
		"Much":           {3, 400, 0, ""},
		"Bundle":         {1, 1, 64 << 10, ""},
		"ForOne":         {1, 1000, 0, "spread the placeholders over several containers"},
		"ForThePod":      {30, 500, 0, "more than a pod can hold"},
		"BundleTooLarge": {1, 1, 64<<10 + 1, "CA bundle has 64 KiB"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var object corev1.Pod
			known := map[string]*v2beta1.AzureKeyVaultSecret{}
			for c := range tc.containers {
				container := corev1.Container{Name: fmt.Sprintf("c%d", c), Command: []string{"/app"}}
				for i := range tc.each {
					name := fmt.Sprintf("akvs-%d", i)
					known[name] = akvs(v2beta1.ObjectSecret)
					container.Env = append(container.Env, corev1.EnvVar{Name: fmt.Sprintf("V%d", i), Value: name + "@azurekeyvault"})
				}
				object.Spec.Containers = append(object.Spec.Containers, container)
			}
			raw, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			pod, err := inject.Read(raw)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = inject.Decide(
				inject.Facts{Pod: pod, Secrets: known, Account: inject.Account{Name: "app", ClientID: "client", TenantID: "tenant"}},
				inject.Settings{Image: "direct", Direct: &inject.Direct{CABundle: strings.Repeat("x", tc.bundle)}},
			)
			var refusal inject.Refusal
			if errors.As(err, &refusal) != (tc.refused != "") || tc.refused != "" && !strings.Contains(refusal.Error(), tc.refused) {
				t.Errorf("got %v, want %q", err, tc.refused)
			}
		})
	}
}
