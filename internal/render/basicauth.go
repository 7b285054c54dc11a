// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// basicAuth takes username:password apart, at the first colon as RFC 7617 does:
// a password may have more of them, a user name none.
func basicAuth(_ target, obj vault.Object) (map[string]secret.Value, error) {
	username, password, ok := bytes.Cut(obj.Value.Reveal(), []byte(":"))
	if !ok {
		return nil, ErrBasicAuth
	}
	return map[string]secret.Value{
		corev1.BasicAuthUsernameKey: secret.New(username),
		corev1.BasicAuthPasswordKey: secret.New(password),
	}, nil
}
