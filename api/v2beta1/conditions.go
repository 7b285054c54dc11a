// SPDX-License-Identifier: Apache-2.0

package v2beta1

// The conditions of an AzureKeyVaultSecret.
const (
	// ConditionReady is True while the output is the last confirmed one. An
	// AzureKeyVaultSecret without output is Ready: there is nothing to keep.
	ConditionReady = "Ready"
	// ConditionStalled is True while only a person can go on; absent otherwise.
	ConditionStalled = "Stalled"
	// ConditionValid is there for vault objects with a validity: True within it,
	// False before and after. It says nothing of the output, which is kept either
	// way.
	ConditionValid = "Valid"
	// ConditionStale is True while the vault has not confirmed for some intervals what
	// is in the output, which stays as it is; absent otherwise.
	ConditionStale = "Stale"
)

// The reasons of those conditions, of events, and of refused container starts.
// Each has a page of the same name under docs/runbooks.
const (
	ReasonSynced            = "Synced"                      // the output is what the vault holds
	ReasonNoOutput          = "NoOutput"                    // the spec names no output; the Env Injector may use it
	ReasonVaultNotFound     = "VaultNotFound"               // there is no vault of this name
	ReasonObjectNotFound    = "VaultObjectNotFound"         // the vault has no such object, or it was deleted
	ReasonObjectDisabled    = "VaultObjectDisabled"         // the object or its version is disabled
	ReasonForbidden         = "VaultForbidden"              // the identity lacks a permission
	ReasonNetworkDenied     = "VaultNetworkDenied"          // the vault's firewall refuses the network that we come from
	ReasonSignInFailed      = "SignInFailed"                // Azure refused the identity itself
	ReasonVaultUnavailable  = "VaultUnavailable"            // no answer, an outage or throttling; it is tried again
	ReasonNotExportable     = "KeyNotExportable"            // a private key was asked for and may not leave the vault
	ReasonOutputInvalid     = "OutputInvalid"               // the value cannot be rendered as the output asks
	ReasonOutputConflict    = "OutputConflict"              // another AzureKeyVaultSecret keeps the same key, or the output cannot be changed as asked
	ReasonOutputTaken       = "OutputTaken"                 // the output exists and nobody handed it over
	ReasonApplyFailed       = "ApplyFailed"                 // the API server refused the write
	ReasonUnknownSecret     = "AzureKeyVaultSecretNotFound" // a placeholder names none of this namespace
	ReasonPlaceholderQuery  = "PlaceholderQueryInvalid"     // the query fits no part of the object
	ReasonPlaceholderFormat = "PlaceholderInvalid"          // the text is not a placeholder

	ReasonNotConfirmed = "NotConfirmed" // the vault has not confirmed the output for some intervals

	ReasonValid       = "Valid"       // the object is within its validity
	ReasonNearExpiry  = "NearExpiry"  // the object expires soon
	ReasonExpired     = "Expired"     // the object has expired; its last value is kept
	ReasonNotYetValid = "NotYetValid" // the object is not valid yet; its value is kept all the same
)

// The reasons that users of events have always known. Each such event comes
// beside the one with the condition's own reason.
const (
	EventErrAzureVault     = "ErrAzureVault"     // a vault did not give an object
	EventErrResourceExists = "ErrResourceExists" // an output is somebody else's
)

// EventReleased is about an output in which something was left behind when its
// AzureKeyVaultSecret went.
const EventReleased = "Released"
