// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// self is this very file, wherever it was started from.
const self = "/proc/self/exe"

// copyDestination says whether the arguments are "copy DEST". An injected
// container may be for a program called copy, so there they mean that.
func copyDestination(args, environ []string) (string, bool) {
	if len(args) != 3 || args[1] != "copy" || variable(environ, brokerapi.EnvContainer) != "" {
		return "", false
	}
	return args[2], true
}

// copySelf puts this file at dest, or into dest if that is a directory, for
// everyone to execute and nobody to change. It appears whole or not at all, so a
// restarted init container can do it again.
func copySelf(dest string) error {
	if info, err := os.Stat(dest); err == nil && info.IsDir() {
		dest = filepath.Join(dest, filepath.Base(brokerapi.Binary))
	}
	if err := copyFile(dest); err != nil {
		return fmt.Errorf("copying the wrapper to %s: %w", dest, reasonOf(err))
	}
	return nil
}

func copyFile(dest string) error {
	from, err := os.Open(self)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	return appear(dest, 0o555, from)
}

// appear puts a file there whole or not at all, with this mode whatever the umask.
func appear(dest string, mode os.FileMode, from io.Reader) error {
	to, err := os.CreateTemp(filepath.Dir(dest), ".azure-keyvault-env-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(to.Name()) }() // gone already when all went well
	defer func() { _ = to.Close() }()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	if err := to.Chmod(mode); err != nil {
		return err
	}
	if err := to.Close(); err != nil {
		return err
	}
	return os.Rename(to.Name(), dest)
}

// reasonOf is the kernel's reason without the name of a temporary file.
func reasonOf(err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Err
	}
	if link, ok := errors.AsType[*os.LinkError](err); ok {
		return link.Err
	}
	return err
}
