// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"regexp"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

// In this order: each leaves the release as the next one needs it, and the last
// one leaves it whole.
var chartStories = []tale{
	{"AnUpgradeTouchesNothing", anUpgradeTouchesNothing},
	{"UninstallKeepsObjectsAndTheControllerAloneGoesOn", uninstallKeepsObjects},
	{"TheEnvInjectorAlone", theEnvInjectorAlone},
	{"ACRDOfAnotherChart", aCRDOfAnotherChart},
	{"ACRDOfAnotherChartTakenOver", aCRDOfAnotherChartTakenOver},
}

const crd = "azurekeyvaultsecrets.spv.no"

func anUpgradeTouchesNothing(s *story) {
	look := func() map[string]string {
		return map[string]string{
			"trust": s.bundle(),
			"Secrets": s.product("get", "secrets", harness.Release+"-ca", harness.Release+"-broker-tls", "-o",
				`jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.data.tls\.crt}{"\n"}{end}`),
			"pods": s.productPods(),
		}
	}
	before := look()
	s.upgrade()
	if diff := cmp.Diff(before, look()); diff != "" {
		s.Errorf("helm upgrade changed (-before +after):\n%s", diff)
	}
	s.injects("upgraded")
}

func uninstallKeepsObjects(s *story) {
	s.reach = inSecret
	value := s.secret("it")
	s.akvs("it", "secret", "it", opaque("out"))
	before := s.becomes("out", "value", value)
	uninstall(s)
	s.kubectl("get", "crd", crd)
	s.kubectl("get", "akvs", "it")
	if after := s.output("out"); after.Metadata != before.Metadata {
		s.Error("helm uninstall touched an output")
	}
	s.ok(helm(s, "install", "--set", "env_injector.enabled=false"))
	s.becomes("out", "value", s.secret("it"))
	if left := s.product("get", "deployments,secrets", "-o", "name"); strings.Contains(left, "broker") || strings.Contains(left, "env-injector") {
		s.Errorf("the Controller alone has %s", left)
	}
	s.running(pod(usual)) // nobody stands in the way of pods
	s.untouched(s.kubectl("get", "pod", "app", "-o", "json"))
}

func theEnvInjectorAlone(s *story) {
	s.upgrade("--set", "controller.enabled=false", "--set", "env_injector.onVaultUnavailable=fail", "--set", "global.keyVaultReads.shareWindow=0")
	if left := s.product("get", "deployments,leases", "-o", "name"); strings.Contains(left, "deployment.apps/"+harness.Release+"-controller") {
		s.Errorf("the Env Injector alone has %s", left)
	}
	s.injects("alone")
	// This one remembers nothing.
	s.misbehave("secrets/alone-inject", harness.Fault{Kind: "error", Status: 503})
	s.apply(doomed("outage", "alone-inject@azurekeyvault"))
	s.failed("outage", "125", "VALUE", v2beta1.ReasonVaultUnavailable, s.object("alone-inject"), vault.ErrUnavailable.Error())
}

func uninstall(s *story) {
	s.Helper()
	_, err := the.Helm(s.Context(), "uninstall", harness.Release, "--namespace", harness.Namespace, "--wait", "--timeout", "120s")
	s.ok(err)
}

// foreign makes the CRD look as one that came from a chart's crds/ folder, which
// Helm installs without any mark.
func foreign(s *story) {
	s.Helper()
	uninstall(s)
	s.kubectl("patch", "crd", crd, "--type=merge", "-p",
		`{"metadata":{"labels":{"app.kubernetes.io/managed-by":null},"annotations":{"meta.helm.sh/release-name":null,"meta.helm.sh/release-namespace":null,"helm.sh/resource-policy":null}}}`)
}

var cure = regexp.MustCompile(`(?m)^\s*(kubectl patch crd .*)$`)

func aCRDOfAnotherChart(s *story) {
	foreign(s)
	err := helm(s, "install")
	if err == nil {
		s.Fatal("helm install was expected to say what to do")
	}
	command := cure.FindStringSubmatch(err.Error())
	if command == nil {
		s.Fatalf("helm install does not say the command: %v", err)
	}
	_, err = the.Run(s.Context(), "", "sh", "-c", command[1])
	s.ok(err)
	s.ok(helm(s, "install"))
	s.bothHalvesWork("patched")
}

func aCRDOfAnotherChartTakenOver(s *story) {
	foreign(s)
	s.ok(helm(s, "install", "--take-ownership", "--set", "crds.adopt=true"))
	s.upgrade()
	s.bothHalvesWork("taken")
}
