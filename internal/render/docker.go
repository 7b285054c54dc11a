// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/base64"
	"slices"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// dockerConfig keeps the text as it is, but for what addAuth adds.
func dockerConfig(to target, obj vault.Object) (map[string]secret.Value, error) {
	edits, err := missingAuths(obj.Value.Reveal())
	if err != nil {
		return nil, ErrDockerConfig
	}
	v := obj.Value
	if to.addAuth {
		v = edited(v, edits)
	}
	return map[string]secret.Value{corev1.DockerConfigJsonKey: v}, nil
}

// An edit puts text in the place of what stands from start to end.
type edit struct {
	start, end int
	text       string
}

// edited leaves every byte but the edits' as it is: members that we do not know,
// their order, and numbers of any length.
func edited(v secret.Value, edits []edit) secret.Value {
	var out []byte
	text, at := v.Reveal(), 0
	for _, e := range edits {
		out = append(append(out, text[at:e.start]...), e.text...)
		at = e.end
	}
	return secret.New(append(out, text[at:]...))
}

// missingAuths are the edits that give each registry its auth; there must be an
// object of registries.
func missingAuths(text []byte) ([]edit, error) {
	var edits []edit
	found := false
	err := members(text, func(auths member) error {
		if auths.name != "auths" {
			return nil
		}
		found = true
		return members(auths.value, func(registry member) error {
			if e, ok := missingAuth(registry.value); ok {
				e.start += auths.start + registry.start
				e.end += auths.start + registry.start
				edits = append(edits, e)
			}
			return nil
		})
	})
	if err != nil || !found {
		return nil, errNoObject
	}
	return edits, nil
}

// missingAuth is the edit for one registry. One that has an auth keeps it, for
// it outranks username and password wherever it is read. So a user name with a
// colon gets none: it could not be told from the password any more.
func missingAuth(registry []byte) (edit, bool) {
	values := map[string]member{}
	if !utf8.Valid(registry) || members(registry, func(m member) error { values[m.name] = m; return nil }) != nil {
		return edit{}, false
	}
	username, hasUsername := stringOf(values["username"].value)
	password, hasPassword := stringOf(values["password"].value)
	if !hasUsername || !hasPassword || username == "" || strings.Contains(username, ":") {
		return edit{}, false
	}
	text := `"` + base64.StdEncoding.EncodeToString([]byte(username+":"+password)) + `"`
	if auth, ok := values["auth"]; ok {
		return edit{auth.start, auth.end, text}, slices.Contains([]string{`""`, "null"}, string(auth.value))
	}
	return edit{1, 1, `"auth":` + text + `,`}, true // behind the brace; a member follows
}
