// SPDX-License-Identifier: Apache-2.0

package v2beta1

// OutputLabel and OutputLabelValue mark every Secret and ConfigMap that the
// Controller keeps, so that all of them can be listed and watched without any
// other.
const (
	OutputLabel      = "spv.no/output-of"
	OutputLabelValue = Kind
)

// AdoptedLabel marks, with the value AdoptedLabelValue, an output that existed
// before and was handed over: it is never owned, so that it never is deleted.
const (
	AdoptedLabel      = "spv.no/adopted"
	AdoptedLabelValue = "true"
)

// GuestsLabel marks, with the value GuestsLabelValue, an output in which somebody
// else keeps data: it is not owned either, so that garbage collection never takes
// that data along.
const (
	GuestsLabel      = "spv.no/guests"
	GuestsLabelValue = "true"
)

// AdoptAnnotation is how whoever may write an object hands it over: its value
// names the AzureKeyVaultSecrets, of the same namespace, that may keep keys in
// it, separated by commas.
const AdoptAnnotation = "spv.no/adopt-by"

// RefreshAnnotation on an AzureKeyVaultSecret asks for a look at the vault now,
// whenever its value changes. Its text means nothing; a time is usual.
const RefreshAnnotation = "spv.no/refresh"

// MaxHandledRefresh is how many characters of RefreshAnnotation count.
const MaxHandledRefresh = 64
