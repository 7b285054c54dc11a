// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// placeholders is how many a pod has.
const placeholders = 3

// objectName is that of the vault's object and of its AzureKeyVaultSecret.
func objectName(i int) string { return fmt.Sprintf("bench-inject-%d", i) }

// valueOf an object is what the application expects to find.
func valueOf(i int) string { return fmt.Sprintf("value %d", i) }

// newPod is the application, with a placeholder or with the value itself in each
// variable.
func newPod(name, image string, inject bool) *corev1.Pod {
	c := corev1.Container{Name: "app", Image: image, Command: []string{"/app"}, Args: []string{fmt.Sprint(placeholders)}}
	for i := range placeholders {
		text := valueOf(i)
		if inject {
			text = objectName(i) + "@azurekeyvault"
		}
		c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("VALUE_%d", i), Value: text})
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{c}},
	}
}
