// SPDX-License-Identifier: Apache-2.0

package image

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/inject"
)

// LoginsFor lists the users that are tried for an image, in order.
func LoginsFor(secrets []inject.PullSecret, image string) ([]string, []string) {
	keys, unusable := newKeyring(secrets)
	var users []string
	for _, l := range keys.lookup(image) {
		users = append(users, l.user)
	}
	return users, unusable
}

// ParseDockerConfig yields user:password by location.
func ParseDockerConfig(kind corev1.SecretType, text []byte) (map[string]string, error) {
	found, err := parseDockerConfig(kind, text)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for location, l := range found {
		out[location] = l.user + ":" + string(l.password.Reveal())
	}
	return out, nil
}
