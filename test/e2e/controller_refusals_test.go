// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

var controllerRefusals = []tale{
	{"MissingVault", func(s *story) {
		refuses(s, v2beta1.ReasonVaultNotFound, "no-such-kv", vault.ErrNoVault, func() {
			s.kubectl("patch", "akvs", "it", "--type=merge", "-p", `{"spec":{"vault":{"name":"no-such-kv"}}}`)
		})
	}},
	{"MissingObject", func(s *story) {
		refuses(s, v2beta1.ReasonObjectNotFound, s.object("it"), vault.ErrNotFound, func() {
			s.ok(the.Vault().Delete(s.Context(), vaultName, "secrets", s.object("it")))
		})
	}},
	{"DisabledObject", func(s *story) {
		refuses(s, v2beta1.ReasonObjectDisabled, s.object("it"), vault.ErrDisabled, func() {
			s.ok(the.Vault().SetSecret(s.Context(), vaultName, s.object("it"), harness.Secret{
				Value: the.planted.draw(inProcess, 40), Enabled: new(false),
			}))
		})
	}},
	{"ForbiddenVault", func(s *story) {
		refuses(s, v2beta1.ReasonForbidden, "forbidden-kv", vault.ErrForbidden, func() {
			s.kubectl("patch", "akvs", "it", "--type=merge", "-p", `{"spec":{"vault":{"name":"forbidden-kv","object":{"name":"my-secret"}}}}`)
		})
	}},
	{"ForbiddenObject", func(s *story) {
		refuses(s, v2beta1.ReasonForbidden, s.object("it"), vault.ErrForbidden, func() {
			s.misbehave("secrets/it", harness.Fault{Kind: "forbid"})
			s.asks("it") // a list tells nothing of it
		})
	}},
	{"Firewall", func(s *story) {
		refuses(s, v2beta1.ReasonNetworkDenied, s.object("it"), vault.ErrFirewall, func() {
			s.misbehave("secrets/it", harness.Fault{Kind: "firewall"})
			s.asks("it")
		})
	}},
	{"NotABase64Value", func(s *story) {
		refuses(s, v2beta1.ReasonOutputInvalid, s.object("bad"), render.ErrTransform, func() {
			s.setSecret("bad", the.planted.draw(inProcess, 30)+"!")
			s.kubectl("patch", "akvs", "it", "--type=merge", "-p",
				`{"spec":{"vault":{"object":{"name":"`+s.object("bad")+`"}},"output":{"transform":["base64decode"]}}}`)
		})
	}},
	{"NotExportable", notExportable},
	{"SomebodyElsesSecret", somebodyElsesSecret},
	{"Outage503", func(s *story) { outage(s, harness.Fault{Kind: "error", Status: 503}) }},
	{"Outage429", func(s *story) { outage(s, harness.Fault{Kind: "throttle", RetryAfter: 1}) }},
	{"OutageReset", func(s *story) { outage(s, harness.Fault{Kind: "reset"}) }},
	{"OutageFromTheStart", outageFromTheStart},
	{"InvalidSpecs", invalidSpecs},
}

// asks has an AzureKeyVaultSecret looked at now.
func (s *story) asks(name string) {
	s.Helper()
	s.kubectl("annotate", "akvs", name, "spv.no/refresh=now")
}

// refuses breaks what works and checks that the person hears once, clearly, while
// the last good output stays.
func refuses(s *story, reason, about string, why error, breakIt func()) {
	s.Helper()
	s.reach = inSecret
	value := s.secret("it")
	s.akvs("it", "secret", "it", opaque("out"))
	before := s.becomes("out", "value", value)
	s.says(v2beta1.ReasonSynced)
	breakIt()
	s.refused(reason, about, why)
	if diff := cmp.Diff(before.Metadata, s.output("out").Metadata); diff != "" {
		s.Errorf("the last good output was touched (-before +after):\n%s", diff)
	}
}

// refused checks condition, event and `kubectl get` of "it" for one clear message.
func (s *story) refused(reason, about string, why error) {
	s.Helper()
	const akvs = "it"
	message := s.says(reason)
	s.oneClear(message, about, why.Error())
	if len(message) > 140 {
		s.Errorf("%d characters in %q", len(message), message)
	}
	stalled := s.kubectl("get", "akvs", akvs, "-o", `jsonpath={.status.conditions[?(@.type=="Stalled")].status}`)
	if stalled != "True" {
		s.Errorf("Stalled is %q", stalled)
	}
	s.eventually("an event should tell it too", func() error {
		notes := s.notes(akvs, reason)
		if len(notes) != 1 || notes[0] != message {
			return fmt.Errorf("the events are %q", notes)
		}
		return nil
	})
	if row := s.kubectl("get", "akvs", akvs, "--no-headers"); !strings.Contains(row, "False") || !strings.Contains(row, reason) {
		s.Errorf("kubectl get akvs shows %q", row)
	}
	if text := s.kubectl("describe", "akvs", akvs); !strings.Contains(text, message) {
		s.Errorf("kubectl describe akvs does not show %q", message)
	}
}

func notExportable(s *story) {
	s.reach = inSecret
	held := s.certificate("good", harness.CertificateSpec{Chain: 3})
	s.certificate("bad", harness.CertificateSpec{Chain: 3, Exportable: new(false)})
	s.akvs("it", "certificate", "good", tlsOutput("out"))
	s.isTLSPair(held)
	before := s.output("out")
	s.kubectl("patch", "akvs", "it", "--type=merge", "-p", `{"spec":{"vault":{"object":{"name":"`+s.object("bad")+`"}}}}`)
	s.refused(v2beta1.ReasonNotExportable, s.object("bad"), render.ErrNotExportable)
	if after := s.output("out"); after.Metadata != before.Metadata {
		s.Error("the last good output was touched")
	}
}

// somebodyElsesSecret is never taken over.
func somebodyElsesSecret(s *story) {
	s.reach = inSecret
	s.secret("it")
	s.kubectl("create", "secret", "generic", "out", "--from-literal=value=mine")
	s.akvs("it", "secret", "it", opaque("out"))
	s.oneClear(s.says(v2beta1.ReasonOutputTaken), "out")
	if got := string(s.output("out").Data["value"]); got != "mine" {
		s.Error("the Secret that somebody else made was changed")
	}
}

// outage keeps everything as it is, says so once, and ends without anybody's help.
func outage(s *story, fault harness.Fault) {
	s.reach = inSecret
	value := s.secret("it")
	s.akvs("it", "secret", "it", opaque("out"))
	before := s.becomes("out", "value", value)
	s.says(v2beta1.ReasonSynced)
	end := s.misbehave("secrets/it", fault)
	next := s.secret("it")
	s.eventually("an event should tell of the outage", func() error {
		if notes := s.notes("it", v2beta1.ReasonVaultUnavailable); len(notes) != 1 || notes[0] == "" {
			return fmt.Errorf("the events are %q", notes)
		}
		return nil
	})
	s.oneClear(s.notes("it", v2beta1.ReasonVaultUnavailable)[0], s.object("it"), vault.ErrUnavailable.Error())
	s.says(v2beta1.ReasonSynced) // the output is still the last confirmed one
	if after := s.output("out"); after.Metadata != before.Metadata {
		s.Error("the output was touched during the outage")
	}
	end()
	s.becomes("out", "value", next)
}

// outageFromTheStart has no output to keep, and must say why there is none.
func outageFromTheStart(s *story) {
	s.reach = inSecret
	end := s.misbehave("secrets/it", harness.Fault{Kind: "error", Status: 500})
	value := s.secret("it")
	s.akvs("it", "secret", "it", opaque("out"))
	s.oneClear(s.says(v2beta1.ReasonVaultUnavailable), s.object("it"), vault.ErrUnavailable.Error())
	if secrets := s.kubectl("get", "secrets", "-o", "name"); secrets != "" {
		s.Errorf("there are %q", secrets)
	}
	end()
	s.becomes("out", "value", value)
	s.says(v2beta1.ReasonSynced)
}

// invalidSpecs are refused by `kubectl apply` already.
func invalidSpecs(s *story) {
	good := s.akvsYAML("it", "secret", "it", opaque("out"))
	s.eventually("the good one should pass", func() error {
		_, err := s.try(good, "apply", "--dry-run=server", "-f", "-")
		return err
	})
	for name, bad := range map[string]struct{ manifest, field string }{
		"VaultName":   {strings.Replace(good, "name: "+vaultName, "name: my_kv.vault.azure.net", 1), "spec.vault.name"},
		"ObjectName":  {strings.Replace(good, s.object("it"), "my_secret", 1), "spec.vault.object.name"},
		"ObjectType":  {strings.Replace(good, "type: secret", "type: password", 1), "spec.vault.object.type"},
		"NoDataKey":   {strings.Replace(good, ", dataKey: value", "", 1), "dataKey"},
		"ContentType": {strings.Replace(good, "type: secret", "type: multi-key-value-secret", 1), "contentType"},
	} {
		message := s.applyFails(bad.manifest)
		if !strings.Contains(message, bad.field) {
			s.Errorf("%s: %q does not name %s", name, message, bad.field)
		}
	}
}
