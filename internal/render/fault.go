// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// A Fault is what a person is told of a value that could not be had, be it by
// the Controller or at the start of a container.
type Fault struct {
	Reason string // one of v2beta1's
	Text   string // for people; from our own errors only
	// Outage says that only time mends it; everything else takes a person.
	Outage bool
}

var outage = Fault{v2beta1.ReasonVaultUnavailable, vault.ErrUnavailable.Error(), true}

// faults are the errors of package vault and of this one that take a person.
var faults = []struct {
	err    error
	reason string
}{
	{vault.ErrNoVault, v2beta1.ReasonVaultNotFound},
	{vault.ErrNotFound, v2beta1.ReasonObjectNotFound},
	{vault.ErrDisabled, v2beta1.ReasonObjectDisabled},
	{vault.ErrForbidden, v2beta1.ReasonForbidden},
	{vault.ErrFirewall, v2beta1.ReasonForbidden},
	{vault.ErrSignIn, v2beta1.ReasonSignInFailed},
	{ErrNotExportable, v2beta1.ReasonNotExportable},
	{ErrUnsupported, v2beta1.ReasonOutputInvalid},
	{ErrConfigMap, v2beta1.ReasonOutputInvalid},
	{ErrTransform, v2beta1.ReasonOutputInvalid},
	{ErrDataKey, v2beta1.ReasonOutputInvalid},
	{ErrCertificate, v2beta1.ReasonOutputInvalid},
	{ErrQuery, v2beta1.ReasonPlaceholderQuery},
}

// Explain maps an error of a vault.Reader or of this package to what is said of
// it. Whatever it does not know is an outage: nothing else comes out of a Reader.
func Explain(err error) Fault {
	for _, known := range faults {
		if errors.Is(err, known.err) {
			return Fault{known.reason, known.err.Error(), false}
		}
	}
	return outage
}
