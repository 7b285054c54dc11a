// SPDX-License-Identifier: Apache-2.0

package render

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// maxEntries is how much text is taken apart: ten times what a vault keeps in one
// secret (25 KiB). A tree of YAML takes some 150 times the memory of its text.
const maxEntries = 256 << 10

// readers take a multi-key-value-secret apart.
var readers = map[v2beta1.ContentType]func([]byte, *collection) error{
	v2beta1.ContentJSON: readJSON,
	v2beta1.ContentYAML: readYAML,
}

// entries keeps each entry under its own name.
func entries(to target, obj vault.Object) (map[string]secret.Value, error) {
	if obj.Value.Len() > maxEntries {
		return nil, ErrEntriesSize
	}
	c := collection{data: map[string]secret.Value{}}
	if err := readers[to.contentType](obj.Value.Reveal(), &c); err != nil {
		return nil, err
	}
	return c.data, nil
}

// A collection is the entries read so far.
type collection struct {
	data map[string]secret.Value
	size int
}

// add keeps what comes after the entries before it. Aliases let a short text hold
// one value many times, hence the sum.
func (c *collection) add(name, value string) error {
	position := len(c.data) + 1
	if !isKey(name) {
		return inEntry(position, ErrEntryName)
	}
	if _, twice := c.data[name]; twice {
		return inEntry(position, ErrEntryTwice)
	}
	if c.size += len(value); c.size > corev1.MaxSecretSize {
		return ErrSize
	}
	c.data[name] = secret.New([]byte(value))
	return nil
}

// refuse is the error of an entry that has no value to add.
func (c *collection) refuse(err error) error { return inEntry(len(c.data)+1, err) }
