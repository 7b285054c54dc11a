// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"crypto/x509"
	"errors"
)

// ReadCloudConfig is readCloudConfig without what it returns, for fuzzing.
func ReadCloudConfig(path string) error {
	_, err := readCloudConfig(path)
	return err
}

// TrustsEmbeddedRoots reports whether what is trusted without a bundle are the
// authorities that the binary carries, and that there are some.
func TrustsEmbeddedRoots() (bool, error) {
	trusted, err1 := trustedRoots("")
	embedded, err2 := embeddedRoots()
	if err := errors.Join(err1, err2); err != nil {
		return false, err
	}
	return trusted.Equal(embedded) && !embedded.Equal(x509.NewCertPool()), nil
}
