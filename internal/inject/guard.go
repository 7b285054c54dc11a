// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// HoldsValues says that a container of the pod runs the wrapper, and so started with
// values or will. It goes by any mention, since this keeps people out.
func HoldsValues(pod *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool {
		return slices.Contains(c.Command, brokerapi.Binary) || slices.Contains(c.Args, brokerapi.Binary)
	})
}

// KeptOut tells a person why nobody but members of the groups gets into a pod. The API
// server's policy says the same, word for word.
func KeptOut(pod string, groups []string) string {
	excepted := "nobody is excepted"
	if len(groups) > 0 {
		quoted := make([]string, 0, len(groups))
		for _, g := range groups {
			quoted = append(quoted, fmt.Sprintf("%q", g))
		}
		word := "groups"
		if len(groups) == 1 {
			word = "group"
		}
		excepted = fmt.Sprintf("members of the %s %s may do it, on record", word, strings.Join(quoted, ", "))
	}
	return fmt.Sprintf("kubectl exec, cp, attach and debug are refused for pod %q: its namespace is guarded by the label "+
		brokerapi.GuardLabel+", because whoever runs a program in a container can take the values from Azure Key Vault that it started with; "+
		"%s, and whoever may change the label can lift the guard", pod, excepted)
}
