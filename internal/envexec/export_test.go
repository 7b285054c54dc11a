// SPDX-License-Identifier: Apache-2.0

package envexec

// The pure parts, for tests.
var (
	Fill     = fill
	Lookup   = lookup
	LastWord = lastWord
	Status   = exitStatus
)
