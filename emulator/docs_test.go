// SPDX-License-Identifier: Apache-2.0

package emulator_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/akv2k8s/akv2k8s/emulator/admin"
	"github.com/akv2k8s/akv2k8s/emulator/emulatortest"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// What the page shows is what the emulator takes: its seeds are read, its endpoints exist and no other does.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../docs/emulator.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for name, examples := range map[string]*regexp.Regexp{
		"Seeds": regexp.MustCompile("(?s)```yaml seed\n(.*?)```"),
		"Go":    regexp.MustCompile("(?s)emulatortest.Start\\(t, `\n(.*?)`\\)"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := examples.FindAllStringSubmatch(page, -1)
			if len(found) == 0 {
				t.Fatal("the page has no example")
			}
			for _, each := range found {
				emulatortest.Start(t, each[1])
			}
		})
	}
	for _, kind := range seed.FaultKinds() {
		row := regexp.MustCompile("(?m)^\\| `" + string(kind) + "` \\|.*\\| (yes)? ?\\|$").FindStringSubmatch(page)
		if row == nil {
			t.Errorf("the page does not list the fault %s", kind)
		} else if said := row[1] == "yes"; said != slices.Contains(seed.SignInFaultKinds(), kind) {
			t.Errorf("the page says of the fault %s that a sign-in has it: %v", kind, said)
		}
	}
	for _, endpoint := range admin.Endpoints() {
		if !strings.Contains(page, "| `"+endpoint+"` |") {
			t.Errorf("the page does not list %s", endpoint)
		}
	}
	if listed := len(regexp.MustCompile("(?m)^\\| `[A-Z]+ /v1/").FindAllString(page, -1)); listed != len(admin.Endpoints()) {
		t.Errorf("the page lists %d endpoints, there are %d", listed, len(admin.Endpoints()))
	}
}
