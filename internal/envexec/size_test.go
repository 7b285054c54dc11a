// SPDX-License-Identifier: Apache-2.0

package envexec_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/akv2k8s/akv2k8s/internal/envexec"
)

// kernelTakes says whether execve takes this environment for a program.
func kernelTakes(t *testing.T, path string, argv, environ []string) bool {
	t.Helper()
	p, err := os.StartProcess(path, argv, &os.ProcAttr{Env: environ})
	if errors.Is(err, syscall.E2BIG) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	return true
}

// The kernel itself says where its limits are, to the byte.
func TestFitsAsTheKernelHasIt(t *testing.T) {
	const path = "/bin/true"
	argv := []string{"true", "-x"}
	entry, all := envexec.KernelLimits()
	padded := func(total int) []string { // an environment of which everything together has so many bytes
		left := total - len(path) - 1
		for _, a := range argv {
			left -= envexec.Taken(a)
		}
		var environ []string
		for left > 0 {
			size := min(left, 100_000)
			if rest := left - size; rest > 0 && rest < 100 { // too small for an entry of its own
				size -= 100
			}
			environ = append(environ, "A="+strings.Repeat("x", size-envexec.Taken("A=")))
			left -= size
		}
		return environ
	}
	cases := map[string]struct {
		environ []string
		fits    bool
		says    string
	}{
		"OneFits":        {[]string{"ONE=" + strings.Repeat("x", entry-len("ONE=")-1)}, true, ""},
		"OneIsTooLarge":  {[]string{"ONE=" + strings.Repeat("x", entry-len("ONE="))}, false, "ONE has "},
		"AllFit":         {padded(all), true, ""},
		"AllAreTooLarge": {padded(all + 1), false, "together"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			err := envexec.Fits(path, argv, tc.environ)
			if kernelTakes(t, path, argv, tc.environ) != tc.fits {
				t.Errorf("the kernel takes it: %v, want %v", !tc.fits, tc.fits)
			}
			if (err == nil) != tc.fits || err != nil && (!errors.Is(err, syscall.E2BIG) || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "xx")) {
				t.Errorf("Fits() = %v", err)
			}
		})
	}
}
