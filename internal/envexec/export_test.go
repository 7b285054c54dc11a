// SPDX-License-Identifier: Apache-2.0

package envexec

// The pure parts, for tests.
var (
	Fill     = fill
	Lookup   = lookup
	LastWord = lastWord
	Status   = exitStatus
	Taken    = taken
)

// Fits is what the wrapper finds of the kernel's limits, by these.
func Fits(path string, argv, environ []string) error { return kernelLimits().fits(path, argv, environ) }

// KernelLimits are the bytes of one variable and of all.
func KernelLimits() (int, int) { l := kernelLimits(); return l.entry, l.all }
