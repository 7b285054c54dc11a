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
	{vault.ErrPending, v2beta1.ReasonObjectNotFound},
	{vault.ErrDisabled, v2beta1.ReasonObjectDisabled},
	{vault.ErrForbidden, v2beta1.ReasonForbidden},
	{vault.ErrFirewall, v2beta1.ReasonNetworkDenied},
	{vault.ErrSignIn, v2beta1.ReasonSignInFailed},
	{ErrNotExportable, v2beta1.ReasonNotExportable},
	{ErrUnsupported, v2beta1.ReasonOutputInvalid},
	{ErrReserved, v2beta1.ReasonOutputInvalid},
	{ErrRequired, v2beta1.ReasonOutputInvalid},
	{ErrTransform, v2beta1.ReasonOutputInvalid},
	{ErrDataKey, v2beta1.ReasonOutputInvalid},
	{ErrDataKeyName, v2beta1.ReasonOutputInvalid},
	{ErrSize, v2beta1.ReasonOutputInvalid},
	{ErrBasicAuth, v2beta1.ReasonOutputInvalid},
	{ErrDockerConfig, v2beta1.ReasonOutputInvalid},
	{ErrSSHKey, v2beta1.ReasonOutputInvalid},
	{ErrCertificate, v2beta1.ReasonOutputInvalid},
	{ErrNoLeaf, v2beta1.ReasonOutputInvalid},
	{ErrChain, v2beta1.ReasonOutputInvalid},
	{ErrKey, v2beta1.ReasonOutputInvalid},
	{ErrKeyFormat, v2beta1.ReasonOutputInvalid},
	{ErrCurve, v2beta1.ReasonOutputInvalid},
	{ErrContentType, v2beta1.ReasonOutputInvalid},
	{ErrEntries, v2beta1.ReasonOutputInvalid},
	{ErrEntriesSize, v2beta1.ReasonOutputInvalid},
	{ErrEntryName, v2beta1.ReasonOutputInvalid},
	{ErrEntryTwice, v2beta1.ReasonOutputInvalid},
	{ErrEntryValue, v2beta1.ReasonOutputInvalid},
	{ErrEntryBinary, v2beta1.ReasonOutputInvalid},
	{ErrQuery, v2beta1.ReasonPlaceholderQuery},
	{ErrDirectory, v2beta1.ReasonPlaceholderQuery},
	{ErrNoEntry, v2beta1.ReasonPlaceholderQuery},
}

// Explain maps an error of a vault.Reader or of this package to what is said of
// it. Whatever it does not know is an outage: nothing else comes out of a Reader.
func Explain(err error) Fault {
	for _, known := range faults {
		if errors.Is(err, known.err) {
			return Fault{known.reason, textOf(err, known.err), false}
		}
	}
	return outage
}

// textOf is the text of what we know; of a detail it is all that the detail says,
// whatever was wrapped around it.
func textOf(err, known error) string {
	if d, ok := errors.AsType[detail](err); ok {
		return d.text
	}
	return known.Error()
}
