// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"
)

// The ways rendering fails. Who reads them must change the spec or the object.
var (
	// ErrNotExportable is a private key that may not leave the vault.
	ErrNotExportable = errors.New("the private key is not exportable: " +
		"make the certificate with an exportable key")
	// ErrUnsupported is a spec without such an output, or of an unknown object type.
	ErrUnsupported = errors.New("there is no such output for this type of vault object")
	// ErrReserved is a type of Secret that gives rights in the cluster.
	ErrReserved = errors.New("this type of Secret gives rights in the cluster; choose another")
	// ErrRequired is data without the keys that the type of the Secret demands.
	ErrRequired = errors.New("the type of the Secret demands other keys")
	// ErrTransform is a value that a transform does not fit.
	ErrTransform = errors.New("a transform does not fit the value: base64decode needs base64")
	// ErrDataKey is an output that needs a key to keep the value under.
	ErrDataKey = errors.New("dataKey is required")
	// ErrDataKeyName is a dataKey that cannot be one.
	ErrDataKeyName = errors.New("dataKey must be at most 253 letters, digits, '-', '_' and '.', not beginning with '..'")
	// ErrSize is more than a Secret or a ConfigMap holds.
	ErrSize = errors.New("the value is larger than 1 MiB, which is all that a Secret or ConfigMap holds")

	// ErrBasicAuth is a value without user.
	ErrBasicAuth = errors.New("a kubernetes.io/basic-auth needs a value of the form username:password")
	// ErrDockerConfig is a value that no Docker client reads.
	ErrDockerConfig = errors.New("a Docker configuration must be a JSON object; dockerconfigjson needs an object auths in it")
	// ErrSSHKey is no SSH key at all.
	ErrSSHKey = errors.New("ssh-privatekey must not be empty in a kubernetes.io/ssh-auth")

	// ErrCertificate is a value that is no certificate with its key.
	ErrCertificate = errors.New("the object is not a certificate with its private key, as PEM or PFX without password")
	// ErrNoLeaf is a private key among certificates of others.
	ErrNoLeaf = errors.New("no certificate belongs to the private key")
	// ErrChain is a set of certificates that chainOrder cannot put in order.
	ErrChain = errors.New("the certificates make no chain that begins with the server's")

	// ErrKey is a public key that is none.
	ErrKey = errors.New("the vault's answer is not a public key of type RSA or EC")
	// ErrKeyFormat is a format that the key does not have.
	ErrKeyFormat = errors.New("an EC key has no modulus: set spec.output.format to pem or jwk")
	// ErrCurve is a curve that few programs know.
	ErrCurve = errors.New("a key on the curve P-256K has no PEM form here: set spec.output.format to jwk")

	// ErrContentType is a multi-key-value-secret that does not say how to read it.
	ErrContentType = errors.New("spec.vault.object.contentType must be application/x-json or application/x-yaml")
	// ErrEntries is a value that holds no entries.
	ErrEntries = errors.New("the value is not one object of names and values in the JSON or YAML that contentType says")
	// ErrEntriesSize is a value that would cost too much to take apart.
	ErrEntriesSize = errors.New("the value is too large for a multi-key-value-secret: at most 256 KiB")
	// ErrEntryName is an entry that cannot be a key.
	ErrEntryName = errors.New("its name must be letters, digits, '-', '_' and '.', not beginning with '..'")
	// ErrEntryTwice is an entry whose name was there before.
	ErrEntryTwice = errors.New("its name is that of an entry before it")
	// ErrEntryValue is an entry that is not one value.
	ErrEntryValue = errors.New("its value must be plain: text, a number, true, false or null")
	// ErrEntryBinary is an entry that says base64 and is not.
	ErrEntryBinary = errors.New("its value is marked !!binary and is not base64")

	// ErrQuery is a placeholder query that fits no part of the object.
	ErrQuery = errors.New("the placeholder's query fits no part of this vault object")
	// ErrDirectory is a placeholder for all parts of an object that has none.
	ErrDirectory = errors.New("there are no parts to be files of a directory in this vault object")
	// ErrNoEntry is a placeholder query for an entry that a multi-key-value-secret
	// does not have. It is about an object that could be read and taken apart.
	ErrNoEntry = errors.New("the secret has no entry of this name")
)

// A detail says more than its sentinel does. Its text is made of our own words,
// of numbers and of the subjects of certificates.
type detail struct {
	text string
	err  error
}

func (d detail) Error() string { return d.text }
func (d detail) Unwrap() error { return d.err }

// inEntry says which entry, by its position: its name is a part of the value.
func inEntry(position int, err error) error {
	return detail{fmt.Sprintf("entry %d: %v", position, err), err}
}
