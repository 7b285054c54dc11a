// SPDX-License-Identifier: Apache-2.0

package v2beta1

// OutputLabel and OutputLabelValue mark every Secret that the Controller keeps,
// so that all of them can be listed and watched without any other.
const (
	OutputLabel      = "spv.no/output-of"
	OutputLabelValue = Kind
)
