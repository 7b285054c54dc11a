// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

// The installation has env_injector.onVaultUnavailable=use-cached.
var outageStories = []tale{
	{"TwoMinutesWithoutTheVault", twoMinutesWithoutTheVault},
}

// awayVault is for one story alone, which takes it down as a whole.
const awayVault = "away-kv"

// goesAway makes that vault fail in one way, or in none.
func (s *story) goesAway(faults ...harness.Fault) {
	s.Helper()
	s.ok(the.Vault().Misbehave(s.afterwards(), awayVault, faults))
}

// twoMinutesWithoutTheVault: who has started before starts again, with the value that
// its broker read last; who never has is told why not. What the vault refuses is
// refused, also in the next outage.
func twoMinutesWithoutTheVault(s *story) {
	values := map[string]string{}
	for _, name := range []string{"it", "fresh"} {
		values[name] = the.planted.draw(s.reach, 40)
		s.ok(the.Vault().SetSecret(s.Context(), awayVault, s.object(name), harness.Secret{Value: values[name]}))
		s.apply(akvsIn(name, awayVault, "secret", s.object(name)))
	}
	s.running(pod(usual))
	token := s.token("app")
	s.all(token, "200") // each broker remembers for itself
	s.Cleanup(func() { s.goesAway() })
	down := harness.Fault{Kind: "error", Status: 503}
	s.goesAway(down)
	end := time.Now().Add(2 * time.Minute)
	s.startsAgain(values["it"])
	s.apply(doomed("fresh", "fresh@azurekeyvault"))
	s.failed("fresh", "125", "VALUE", v2beta1.ReasonVaultUnavailable, s.object("fresh"), vault.ErrUnavailable.Error())

	time.Sleep(time.Until(end))
	s.startsAgain(values["it"])
	s.apply(strings.Replace(pod(usual), "name: app}", "name: another}", 1) + doomed("still-fresh", "fresh@azurekeyvault"))
	s.wait("condition=Ready", "pod/another")
	s.got(s.reported("another", "app"), map[string]string{"VALUE": values["it"]})
	s.failed("still-fresh", "125", "VALUE", v2beta1.ReasonVaultUnavailable, s.object("fresh"), vault.ErrUnavailable.Error())

	s.goesAway(harness.Fault{Kind: "forbid"})
	s.all(token, "422", v2beta1.ReasonForbidden)
	s.goesAway(down)
	s.all(token, "503", v2beta1.ReasonVaultUnavailable)
	s.goesAway()
	s.all(token, "200")
	s.apply(strings.NewReplacer("name: app}", "name: mended}", "it@azurekeyvault", "fresh@azurekeyvault").Replace(pod(usual)))
	s.wait("condition=Ready", "pod/mended")
	s.got(s.reported("mended", "app"), map[string]string{"VALUE": values["fresh"]})
}

// startsAgain ends the program, and sees that the kubelet starts it anew.
func (s *story) startsAgain(value string) {
	s.Helper()
	const count = "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].lastState.terminated.exitCode} {.status.containerStatuses[0].ready}"
	var restarts int
	_, err := fmt.Sscan(s.kubectl("get", "pod", "app", "-o", count), &restarts)
	s.ok(err)
	s.signal("TERM", s.kubectl("get", "pod", "app", "-o", "jsonpath={.metadata.uid}"), "report")
	s.eventually("the container should run again, after its own exit", func() error {
		if now, want := s.kubectl("get", "pod", "app", "-o", count), fmt.Sprintf("%d 43 true", restarts+1); now != want {
			return fmt.Errorf("%q instead of %q", now, want)
		}
		return nil
	})
	s.got(s.reported("app", "app"), map[string]string{"VALUE": value})
}

// all waits until every broker answers so.
func (s *story) all(token, status string, words ...string) {
	s.Helper()
	for _, at := range s.brokers() {
		s.eventually("the broker at "+at+" should answer "+status, func() error {
			a := s.askAt(at, token, forApp)
			for _, word := range words {
				if !strings.Contains(a.body, word) {
					return fmt.Errorf("it answers %s without %s", a.status, word)
				}
			}
			if a.status != status {
				return fmt.Errorf("it answers %s", a.status)
			}
			return nil
		})
	}
}
