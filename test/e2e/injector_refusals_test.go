// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"strings"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

var injectorRefusals = []tale{
	{"ContainersThatMayNotStart", containersThatMayNotStart},
	{"Outages", outagesAtTheStart},
	{"ProgramsThatAreNotThere", programsThatAreNotThere},
	{"PodsThatAreNotAdmitted", podsThatAreNotAdmitted},
	{"AuthorsAreTold", authorsAreTold},
}

// doomed is a pod whose container does not start and is not started again.
func doomed(name, placeholder string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: Never
  containers:
  - name: app
    image: %s
    command: [/app, report]
    env:
    - {name: OTHER, value: plain}
    - {name: VALUE, value: '%s'}
    - {name: ENV_INJECTOR_RETRIES, value: "0"}
    - {name: ENV_INJECTOR_LOG_LEVEL, value: debug}
`, name, appImage, placeholder)
}

// akvsIn names an object of any vault.
func akvsIn(name, vault, kind, object string) string {
	return fmt.Sprintf(`
---
apiVersion: spv.no/v2beta1
kind: AzureKeyVaultSecret
metadata: {name: %s}
spec: {vault: {name: %s, object: {type: %s, name: %s}}}
`, name, vault, kind, object)
}

func containersThatMayNotStart(s *story) {
	s.secret("gone")
	s.ok(the.Vault().Delete(s.Context(), vaultName, "secrets", s.object("gone")))
	s.ok(the.Vault().SetSecret(s.Context(), vaultName, s.object("disabled"), harness.Secret{
		Value: the.planted.draw(s.reach, 40), Enabled: new(false),
	}))
	s.certificate("locked", harness.CertificateSpec{Exportable: new(false)})
	s.secret("forbidden")
	s.misbehave("secrets/forbidden", harness.Fault{Kind: "forbid"})
	s.apply(akvsIn("no-vault", "no-such-kv", "secret", "it") +
		akvsIn("gone", vaultName, "secret", s.object("gone")) +
		akvsIn("never", vaultName, "secret", s.object("never")) +
		akvsIn("disabled", vaultName, "secret", s.object("disabled")) +
		akvsIn("locked", vaultName, "certificate", s.object("locked")) +
		akvsIn("forbidden", vaultName, "secret", s.object("forbidden")) +
		akvsIn("forbidden-vault", "forbidden-kv", "secret", "my-secret"))
	doomedPods := map[string]struct {
		placeholder, reason, about string
		why                        error
	}{
		"no-vault":        {"no-vault@azurekeyvault", v2beta1.ReasonVaultNotFound, "no-such-kv", vault.ErrNoVault},
		"gone":            {"gone@azurekeyvault", v2beta1.ReasonObjectNotFound, s.object("gone"), vault.ErrNotFound},
		"never":           {"never@azurekeyvault", v2beta1.ReasonObjectNotFound, s.object("never"), vault.ErrNotFound},
		"disabled":        {"disabled@azurekeyvault", v2beta1.ReasonObjectDisabled, s.object("disabled"), vault.ErrDisabled},
		"locked":          {"locked@azurekeyvault?tls.key", v2beta1.ReasonNotExportable, s.object("locked"), render.ErrNotExportable},
		"forbidden":       {"forbidden@azurekeyvault", v2beta1.ReasonForbidden, s.object("forbidden"), vault.ErrForbidden},
		"forbidden-vault": {"forbidden-vault@azurekeyvault", v2beta1.ReasonForbidden, "forbidden-kv", vault.ErrForbidden},
	}
	var manifests strings.Builder
	for name, each := range doomedPods {
		manifests.WriteString(doomed(name, each.placeholder))
	}
	s.apply(manifests.String())
	for name, each := range doomedPods {
		s.failed(name, "125", "VALUE", each.reason, each.about, each.why.Error())
	}
}

// failed waits until a container has failed to start, and looks where a person
// does: `kubectl describe pod` and `kubectl logs`.
func (s *story) failed(pod, code string, words ...string) {
	s.Helper()
	s.wait("jsonpath={.status.phase}=Failed", "pod/"+pod)
	if got := s.exitCode(pod); got != code {
		s.Errorf("%s: exit code %s; want %s", pod, got, code)
	}
	message := s.kubectl("get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].state.terminated.message}")
	s.oneClear(message, words...)
	if !strings.HasPrefix(message, "azure-keyvault-env: ") {
		s.Errorf("%s: %q does not say whose word it is", pod, message)
	}
	if text := s.kubectl("describe", "pod", pod); !strings.Contains(text, message) {
		s.Errorf("kubectl describe pod %s does not show %q", pod, message)
	}
	logs := s.kubectl("logs", pod, "-c", "app")
	if strings.Count(logs, `"level":"ERROR"`) != 1 || !strings.Contains(logs, words[0]) {
		s.Errorf("kubectl logs %s is not one clear message: %q", pod, logs)
	}
	if strings.Contains(logs, "REPORT") {
		s.Errorf("%s: the program was started", pod)
	}
}

// outagesAtTheStart has a vault of its own: one that throttles is left alone for a
// while by the brokers, for whomever they read.
func outagesAtTheStart(s *story) {
	const failing = "failing-kv"
	outages := map[string]harness.Fault{
		"error":    {Kind: "error", Status: 503},
		"throttle": {Kind: "throttle", RetryAfter: 1},
		"reset":    {Kind: "reset"},
	}
	var manifests strings.Builder
	var faults []harness.Fault
	for name, fault := range outages {
		s.ok(the.Vault().SetSecret(s.Context(), failing, s.object(name), harness.Secret{Value: the.planted.draw(s.reach, 40)}))
		fault.Objects = []string{"secrets/" + s.object(name)}
		faults = append(faults, fault)
		manifests.WriteString(akvsIn(name, failing, "secret", s.object(name)) + doomed(name, name+"@azurekeyvault"))
	}
	s.ok(the.Vault().Misbehave(s.Context(), failing, faults))
	s.apply(manifests.String())
	for name := range outages {
		s.failed(name, "125", "VALUE", v2beta1.ReasonVaultUnavailable, s.object(name), vault.ErrUnavailable.Error())
	}
}

// programsThatAreNotThere fail as they do in a shell.
func programsThatAreNotThere(s *story) {
	s.secret("it")
	s.akvs("it", "secret", "it", "")
	missing := strings.Replace(doomed("missing", "it@azurekeyvault"), "[/app, report]", "[no-such-program]", 1)
	directory := strings.Replace(doomed("directory", "it@azurekeyvault"), "[/app, report]", "[/proc]", 1)
	s.apply(missing + directory)
	s.failed("missing", "127", "no-such-program")
	s.failed("directory", "126", "/proc")
}

// podsThatAreNotAdmitted: kubectl says why, and does not repeat what may be a
// password.
func podsThatAreNotAdmitted(s *story) {
	password := the.planted.draw(inProcess, 30)
	s.secret("it")
	s.akvs("it", "secret", "it", "")
	for name, each := range map[string]struct {
		manifest string
		words    []string
	}{
		"Malformed":         {doomed("bad", "it@azurekeyvault?"), []string{"VALUE", placeholder.ErrQuery.Error()}},
		"NoDNSName":         {doomed("bad", "my_secret@azurekeyvault"), []string{"VALUE", placeholder.ErrName.Error()}},
		"Capitals":          {doomed("bad", "My-Secret@azurekeyvault"), []string{"VALUE", placeholder.ErrName.Error()}},
		"InsideAnotherText": {doomed("bad", password+":it@azurekeyvault"), []string{"VALUE", "NAME" + placeholder.Marker}},
		"NoSuchImage": {
			pod("    image: "+harness.Registry+"/e2e/no-such-image:1\n    env: [{name: VALUE, value: it@azurekeyvault}]\n", "  imagePullSecrets: [{name: forgotten}]\n"),
			[]string{
				"no-such-image", inject.ErrImageNotFound.Error(), harness.Registry + " was asked " + inject.WayAnonymous,
				inject.UnusablePullSecret("forgotten", inject.Missing).Unusable, "command",
			},
		},
		"NoSuchRegistry": {
			pod("    image: registry.localhost:1/e2e/app:1\n    env: [{name: VALUE, value: it@azurekeyvault}]\n"),
			[]string{"registry.localhost:1", inject.ErrImageUnavailable.Error(), "command"},
		},
		"CopiedByKubernetes": {pod(strings.Replace(usual, "[/app, report]", "[/app, report, $(VALUE)]", 1)), []string{"$(VALUE)", "command[2]"}},
		"InAnArgument":       {pod(strings.Replace(usual, "[/app, report]", "[/app, report, it@azurekeyvault]", 1)), []string{"command[2]", "filled in env only"}},
		"BadAnnotation":      {strings.Replace(pod(usual), "name: app}", "name: app, annotations: {exec.env-injector.spv.no/app: liveness}}", 1), []string{"exec.env-injector.spv.no/app", "livenessProbe"}},
		"VolumeOfOurName": {
			pod(usual, "  volumes: [{name: azure-keyvault-env, emptyDir: {}}]\n"), []string{"azure-keyvault-env"},
		},
	} {
		message := s.applyFails(each.manifest)
		for _, word := range each.words {
			if !strings.Contains(message, word) {
				s.Errorf("%s: %q is missing in %q", name, word, message)
			}
		}
		for _, word := range append(remoteWords, password) {
			if strings.Contains(message, word) && word != "EOF" {
				s.Errorf("%s: %q holds what it should not", name, strings.ReplaceAll(message, password, "***"))
			}
		}
	}
	if left := s.kubectl("get", "pods", "-o", "name"); left != "" {
		s.Errorf("there are %s", left)
	}
}
