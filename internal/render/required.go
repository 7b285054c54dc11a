// SPDX-License-Identifier: Apache-2.0

package render

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// A requirement is what the API server demands of the data of one type of
// Secret: to be told here is better than to be refused there.
type requirement struct {
	keys   []string // all of them, or with any one at least
	any    bool
	text   string // when they are missing
	broken func(secret.Value) error
}

var requirements = map[corev1.SecretType]requirement{
	corev1.SecretTypeTLS: {
		keys: []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey},
		text: "a kubernetes.io/tls needs the keys tls.crt and tls.key",
	},
	corev1.SecretTypeBasicAuth: {
		keys: []string{corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey}, any: true,
		text: "a kubernetes.io/basic-auth needs the key username or password",
	},
	corev1.SecretTypeDockerConfigJson: {
		keys: []string{corev1.DockerConfigJsonKey}, broken: noObject,
		text: "a kubernetes.io/dockerconfigjson needs the key .dockerconfigjson",
	},
	corev1.SecretTypeDockercfg: {
		keys: []string{corev1.DockerConfigKey}, broken: noObject,
		text: "a kubernetes.io/dockercfg needs the key .dockercfg",
	},
	corev1.SecretTypeSSHAuth: {
		keys: []string{corev1.SSHAuthPrivateKey}, broken: empty,
		text: "a kubernetes.io/ssh-auth needs the key ssh-privatekey",
	},
}

// complete says whether these keys are all that the type demands.
func complete(t corev1.SecretType, keys []string) error {
	r, ok := requirements[t]
	if !ok {
		return nil
	}
	missing := 0
	for _, key := range r.keys {
		if !slices.Contains(keys, key) {
			missing++
		}
	}
	if missing == len(r.keys) || missing > 0 && !r.any {
		return detail{r.text, ErrRequired}
	}
	return nil
}

// acceptable says whether the API server takes the data.
func acceptable(t corev1.SecretType, data map[string]secret.Value) error {
	size, keys := 0, make([]string, 0, len(data))
	for key, v := range data {
		size += v.Len()
		keys = append(keys, key)
	}
	if size > corev1.MaxSecretSize {
		return ErrSize
	}
	if err := complete(t, keys); err != nil {
		return err
	}
	r := requirements[t]
	for _, key := range r.keys {
		if r.broken == nil {
			continue
		}
		if err := r.broken(data[key]); err != nil {
			return err
		}
	}
	return nil
}

func noObject(v secret.Value) error {
	if err := members(v.Reveal(), func(member) error { return nil }); err != nil {
		return ErrDockerConfig
	}
	return nil
}

func empty(v secret.Value) error {
	if v.Len() == 0 {
		return ErrSSHKey
	}
	return nil
}
