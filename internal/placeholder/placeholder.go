// SPDX-License-Identifier: Apache-2.0

// Package placeholder knows the text that stands for a value in a pod's
// environment: name@azurekeyvault or name@azurekeyvault?query. It finds and
// parses; it reads nothing and fills nothing.
package placeholder

import (
	"errors"
	"regexp"
	"strings"
)

// Marker is what makes a text a placeholder.
const Marker = "@azurekeyvault"

// ErrMalformed is the one way parsing fails.
var ErrMalformed = errors.New("not a placeholder: write NAME" + Marker + " or NAME" + Marker +
	"?QUERY, where NAME is an AzureKeyVaultSecret of the pod's namespace")

// The name is a DNS subdomain (RFC 1123), as every Kubernetes object's. The
// query is a key of a Secret: letters, digits, '-', '_' and '.'.
var pattern = regexp.MustCompile(`\A([a-z0-9A-Z](?:[-a-z0-9A-Z.]{0,251}[a-z0-9A-Z])?)` + Marker + `(?:\?([-._a-zA-Z0-9]{1,253}))?\z`)

// Placeholder names an AzureKeyVaultSecret and, optionally, a part of it.
type Placeholder struct {
	Name  string
	Query string // empty is the whole value
}

// In says whether text holds a placeholder, well-formed or not.
func In(text string) bool { return strings.Contains(text, Marker) }

// Parse reads a text that is a placeholder from its first byte to its last.
func Parse(text string) (Placeholder, error) {
	m := pattern.FindStringSubmatch(text)
	if m == nil {
		return Placeholder{}, ErrMalformed
	}
	return Placeholder{Name: m[1], Query: m[2]}, nil
}

// String is the text that Parse reads.
func (p Placeholder) String() string {
	if p.Query == "" {
		return p.Name + Marker
	}
	return p.Name + Marker + "?" + p.Query
}
