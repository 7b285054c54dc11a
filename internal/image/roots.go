// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	_ "golang.org/x/crypto/x509roots/fallback" // our image holds one binary and no authorities
)

// Roots are the system's authorities, or Mozilla's where there is no system, and
// those of a PEM file, if one is named.
func Roots(file string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, errors.New("the certificate authorities of this system do not parse")
	}
	if file == "" {
		return pool, nil
	}
	extra, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("reading the CA bundle: %w", err)
	}
	if !pool.AppendCertsFromPEM(extra) {
		return nil, fmt.Errorf("the CA bundle %s holds no certificate in PEM", file)
	}
	return pool, nil
}
