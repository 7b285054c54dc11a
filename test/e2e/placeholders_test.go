// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"strings"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

var placeholderStories = []tale{
	{"WithinTexts", withinTexts},
	{"DoneWithout", doneWithout},
	{"FromConfigMapsAndSecrets", fromConfigMapsAndSecrets},
	{"SourceThatComesLater", sourceThatComesLater},
	{"EveryQuery", everyQuery},
	{"ProbesAndHooks", probesAndHooks},
	{"OptedOut", optedOut},
	{"EntrypointByHand", entrypointByHand},
}

// withinTexts: what Kubernetes and the wrapper make of a text together.
func withinTexts(s *story) {
	a, b := s.secret("a"), s.secret("b")
	s.akvs("a", "secret", "a", "")
	s.akvs("b", "secret", "b", "")
	s.running(pod(`
    image: ` + appImage + `
    command: [/app, report]
    env:
    - {name: PASSWORD, value: a@azurekeyvault}
    - {name: HOST, value: db.example}
    - {name: URL, value: 'postgres://u:$(PASSWORD)@$(HOST)/x?y=$$(HOST)'}
    - {name: DSN, value: 'Server=$(HOST);Password=<a@azurekeyvault>;Key=<b@azurekeyvault>;Again=<a@azurekeyvault>'}
    - {name: COPY, value: '($(URL))'}
    - {name: MAIL, value: ops@@azurekeyvault.example}
`))
	url := "postgres://u:" + a + "@db.example/x?y=$(HOST)"
	r := s.reported("app", "app")
	s.got(report{Args: r.Args, PID: r.PID, Digests: r.Digests, Proc: r.Proc}, map[string]string{
		"PASSWORD": a, "URL": url, "COPY": "(" + url + ")",
		"DSN":  "Server=db.example;Password=" + a + ";Key=" + b + ";Again=" + a,
		"MAIL": "ops@azurekeyvault.example",
	})
}

func doneWithout(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.akvs("gone", "secret", "gone", "") // the vault has no such object
	s.running(pod(`
    image: ` + appImage + `
    command: [/app, report]
    env:
    - {name: THERE, value: it@azurekeyvault;optional}
    - {name: OMITTED, value: gone@azurekeyvault;optional}
    - {name: NO_AKVS, value: 'nosuch@azurekeyvault?x;optional'}
    - {name: DEFAULTED, value: gone@azurekeyvault;default=plain text}
    - {name: INLINE, value: 'a<gone@azurekeyvault;default=b>c<gone@azurekeyvault;optional>d<it@azurekeyvault;default=e>'}
`))
	r := s.reported("app", "app")
	s.got(r, map[string]string{"THERE": value, "DEFAULTED": "plain text", "INLINE": "abcd" + value})
	for _, name := range []string{"OMITTED", "NO_AKVS"} {
		if _, set := r.Digests[name]; set {
			s.Errorf("%s is set", name)
		}
	}
	// An outage is no reason to do without.
	s.misbehave("secrets/gone", harness.Fault{Kind: "error", Status: 503})
	s.apply(strings.Replace(pod(`
    image: `+appImage+`
    command: [/app, report]
    env:
    - {name: DEFAULTED, value: gone@azurekeyvault;default=plain text}
    - {name: ENV_INJECTOR_RETRIES, value: "0"}
`), "name: app}", "name: outage}", 1))
	s.ended("outage", "app", "DEFAULTED (VaultUnavailable)")
}

// ended waits until a container has ended with these words in its message.
func (s *story) ended(pod, container, words string) {
	s.Helper()
	s.eventually("container "+container+" of "+pod+" should say why it does not start", func() error {
		said := s.kubectl("get", "pod", pod, "-o", `jsonpath={range .status.containerStatuses[?(@.name=="`+container+`")]}{.state.terminated.message}{.lastState.terminated.message}{end}`)
		if !strings.Contains(said, words) {
			return fmt.Errorf("it says %q", said)
		}
		return nil
	})
}

func fromConfigMapsAndSecrets(s *story) {
	a, b := s.secret("a"), s.secret("b")
	s.akvs("a", "secret", "a", "")
	s.akvs("b", "secret", "b", "")
	hidden := the.planted.draw(inSecret, 24)
	s.apply(`
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data:
  WHOLE: a@azurekeyvault
  TEXT: 'x $(WHOLE) $$ <b@azurekeyvault>'
  PLAIN: plain
---
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData:
  WHOLE: b@azurekeyvault
  DSN: 'User=` + hidden + `;Password=<a@azurekeyvault>'`)
	s.running(pod(`
    image: `+appImage+`
    command: [/app, report]
    envFrom:
    - configMapRef: {name: settings}
    - {prefix: S_, secretRef: {name: login}}
    - configMapRef: {name: absent, optional: true}
    env:
    - {name: KEY, valueFrom: {configMapKeyRef: {name: settings, key: TEXT}}}
    - {name: ALL, valueFrom: {secretKeyRef: {name: login, key: DSN}}}
    - {name: NONE, valueFrom: {secretKeyRef: {name: login, key: absent, optional: true}}}
    - {name: BOTH, value: '$(WHOLE)$(S_WHOLE)$(KEY)$(ALL)'}
`, `
  initContainers:
  - name: before
    image: `+appImage+`
    command: [/app, exit, "0"]
    envFrom: [{secretRef: {name: login}}]
  - name: beside
    image: `+appImage+`
    command: [/app, report]
    restartPolicy: Always
    envFrom: [{configMapRef: {name: settings}}]
`))
	text, dsn := "x $(WHOLE) $$ "+b, "User="+hidden+";Password="+a
	s.got(s.reported("app", "app"), map[string]string{
		"WHOLE": a, "TEXT": text, "PLAIN": "plain", "S_WHOLE": b, "S_DSN": dsn, "KEY": text, "ALL": dsn, "BOTH": a + b + text + dsn,
	})
	s.got(s.reported("app", "before"), map[string]string{"WHOLE": b, "DSN": dsn})
	s.got(s.reported("app", "beside"), map[string]string{"WHOLE": a, "TEXT": text})
	spec := s.kubectl("get", "pod", "app", "-o", "yaml")
	if strings.Contains(spec, hidden) {
		s.Error("the pod's spec shows what is in the Secret")
	}
	for _, written := range []string{"value: b@azurekeyvault", "ENV_INJECTOR_FOR_ALL", "<a@azurekeyvault>"} {
		if !strings.Contains(spec, written) {
			s.Errorf("the pod's spec does not list %s", written)
		}
	}
}

// sourceThatComesLater: a placeholder that was not there when the pod was made is not
// one that the pod may have.
func sourceThatComesLater(s *story) {
	s.secret("it")
	s.akvs("it", "secret", "it", "")
	said, err := s.try(pod(`
    image: `+appImage+`
    command: [/app, exit, "0"]
    envFrom: [{configMapRef: {name: later, optional: true}}]
`), "apply", "-f", "-")
	s.ok(err)
	s.oneClear(strings.TrimSpace(strings.Split(said, "\n")[0]))
	s.eventually("the program should run without it", func() error {
		if n := s.kubectl("get", "pod", "app", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); n == "0" {
			return fmt.Errorf("restarts: %s", n)
		}
		return nil
	})
	s.reported("app", "app")
	s.apply(`
apiVersion: v1
kind: ConfigMap
metadata: {name: later}
data: {VALUE: it@azurekeyvault}`)
	s.ended("app", "app", "create the pod again")
}

func everyQuery(s *story) {
	user, password := the.planted.draw(s.reach, 16), the.planted.draw(s.reach, 24)
	s.setSecret("login", user+":"+password)
	s.akvs("login", "secret", "login", "")
	entry := the.planted.draw(s.reach, 24)
	s.setSecret("many", `{"db.password":"`+entry+`","1-port":5432}`)
	s.apply(strings.Replace(s.akvsYAML("many", "multi-key-value-secret", "many", ""), "object: {", "object: {contentType: application/x-json, ", 1))
	held := s.certificate("pair", certificateKinds["rsa-pfx"])
	key, err := privatePEM(held)
	s.ok(err)
	s.akvs("pair", "certificate", "pair", "")
	s.akvs("my.dotted-name.1", "secret", "login", "")
	s.running(pod(`
    image: ` + appImage + `
    command: [/app, report]
    env:
    - {name: USER_NAME, value: 'login@azurekeyvault?username'}
    - {name: PASSWORD, value: 'login@azurekeyvault?password'}
    - {name: RAW, value: 'my.dotted-name.1@azurekeyvault?raw'}
    - {name: ENTRY, value: 'many@azurekeyvault?db.password'}
    - {name: PORT, value: 'many@azurekeyvault?1-port'}
    - {name: NO_ENTRY, value: 'many@azurekeyvault?nosuch;default=none'}
    - {name: CRT, value: 'pair@azurekeyvault?tls.crt'}
    - {name: KEY, value: 'pair@azurekeyvault?tls.key'}
`))
	s.got(s.reported("app", "app"), map[string]string{
		"USER_NAME": user, "PASSWORD": password, "RAW": user + ":" + password, "ENTRY": entry, "PORT": "5432", "NO_ENTRY": "none",
		"CRT": held.LeafPEM, "KEY": key,
	})
}

// probesAndHooks get values where an annotation asks for it, while the pod is deleted
// too.
func probesAndHooks(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	check := func(who string) string {
		return "{exec: {command: [/app, check, VALUE, '" + digest(value) + "', " + who + "]}}"
	}
	manifest := pod(`
    image: ` + appImage + `
    command: [/app, report]
    env: [{name: VALUE, value: it@azurekeyvault}]
    readinessProbe: ` + check("readinessProbe") + `
    lifecycle:
      postStart: ` + check("postStart") + `
      preStop: ` + check("preStop") + `
`)
	named := func(name, annotations string) string {
		return strings.Replace(manifest, "name: app}", "name: "+name+", finalizers: [e2e.example/keep], annotations: {"+annotations+"}}", 1)
	}
	s.apply(named("app", "exec.env-injector.spv.no/app: all"))
	s.wait("condition=Ready", "pod/app")
	log := make(chan string)
	go func() {
		text, _ := s.try("", "logs", "--follow", "app") // until the container ends; what it said counts
		log <- text
	}()
	s.kubectl("delete", "pod", "app", "--wait=false")
	if said := <-log; strings.Count(said, "CHECKED postStart") != 1 || strings.Count(said, "CHECKED preStop") != 1 {
		s.Errorf("a hook did not see the value: %s", said)
	}
	s.kubectl("patch", "pod", "app", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)

	s.apply(strings.Replace(named("unasked", "exec.env-injector.spv.no/app: postStart"), "finalizers: [e2e.example/keep], ", "", 1))
	s.eventually("a probe that was not asked for should see the placeholder", func() error {
		for _, note := range s.notes("unasked", "Unhealthy") {
			if strings.Contains(note, "it is another value") {
				return nil
			}
		}
		return fmt.Errorf("no such event")
	})
}

func optedOut(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.running(strings.Replace(pod(usual+`
  - name: other
`+usual), "name: app}", `name: app, annotations: {inject.env-injector.spv.no/other: "false"}}`, 1))
	s.got(s.reported("app", "app"), map[string]string{"VALUE": value})
	if r := s.reported("app", "other"); len(r.Placeholders) != 1 {
		s.Errorf("the container that is opted out sees placeholders in %q", r.Placeholders)
	}
}

// entrypointByHand: no registry is asked, so one that only the nodes know will do.
func entrypointByHand(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.running(strings.Replace(pod(`
    image: any.example/e2e/app:1
    args: [by-hand, '$(HOST)']
    env: [{name: HOST, value: h}, {name: VALUE, value: it@azurekeyvault}]
`), "name: app}", `name: app, annotations: {entrypoint.env-injector.spv.no/app: '["/app","report"]'}}`, 1))
	r := s.reported("app", "app")
	s.got(r, map[string]string{"VALUE": value})
	if got := strings.Join(r.Args, " "); got != "/app report by-hand h" {
		s.Errorf("arguments %q", got)
	}
}
