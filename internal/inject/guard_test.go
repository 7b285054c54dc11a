// SPDX-License-Identifier: Apache-2.0

package inject_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/inject"
)

func TestHoldsValues(t *testing.T) {
	t.Parallel()
	wrapped, plain := corev1.Container{Command: []string{brokerapi.Binary}}, corev1.Container{Command: []string{"/app"}}
	for name, tc := range map[string]struct {
		spec corev1.PodSpec
		want bool
	}{
		"Container":     {corev1.PodSpec{Containers: []corev1.Container{plain, wrapped}}, true},
		"InitContainer": {corev1.PodSpec{InitContainers: []corev1.Container{wrapped}, Containers: []corev1.Container{plain}}, true},
		"BehindAnother": {corev1.PodSpec{Containers: []corev1.Container{{Command: []string{"/tini", brokerapi.Binary, "/app"}}}}, true},
		"AsAnArgument":  {corev1.PodSpec{Containers: []corev1.Container{{Args: []string{brokerapi.Binary, "/app"}}}}, true},
		"None":          {corev1.PodSpec{Containers: []corev1.Container{plain}}, false},
		"Debugger": {corev1.PodSpec{EphemeralContainers: []corev1.EphemeralContainer{
			{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Command: []string{brokerapi.Binary}}},
		}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := inject.HoldsValues(&corev1.Pod{Spec: tc.spec}); got != tc.want {
				t.Errorf("HoldsValues() = %t", got)
			}
		})
	}
}

func TestKeptOut(t *testing.T) {
	t.Parallel()
	for want, groups := range map[string][]string{
		"; nobody is excepted, and ":                                           nil,
		`; members of the group "oncall" may do it, on record, and `:           {"oncall"},
		`; members of the groups "a \"b\"", "c" may do it, on record, and who`: {`a "b"`, "c"},
	} {
		if got := inject.KeptOut("web", groups); !strings.Contains(got, want) || !strings.Contains(got, `for pod "web": `) {
			t.Errorf("KeptOut() = %s, want %s", got, want)
		}
	}
}
