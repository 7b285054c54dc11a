// SPDX-License-Identifier: Apache-2.0

package envexec

import "github.com/akv2k8s/akv2k8s/internal/brokerapi"

// FilesRoot is where Fill says that files are.
const FilesRoot = "/files"

// Fill is the environment alone.
func Fill(environ []string, answer brokerapi.Response) ([]string, error) {
	filled, _, err := fill(environ, answer, FilesRoot)
	return filled, err
}

// Write fills an environment and writes its files to root.
func Write(environ []string, answer brokerapi.Response, root string) error {
	_, files, err := fill(environ, answer, root)
	if err != nil {
		return err
	}
	return files.write(root)
}

// The pure parts, for tests.
var (
	Lookup   = lookup
	LastWord = lastWord
	Reason   = filesReason
	Life     = life
	Status   = exitStatus
	Taken    = taken
)

// Fits is what the wrapper finds of the kernel's limits, by these.
func Fits(path string, argv, environ []string) error { return kernelLimits().fits(path, argv, environ) }

// KernelLimits are the bytes of one variable and of all.
func KernelLimits() (int, int) { l := kernelLimits(); return l.entry, l.all }
