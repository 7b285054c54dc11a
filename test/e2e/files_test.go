// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/render"
)

var fileStories = []tale{
	{"EveryKind", filesOfEveryKind},
	{"AnewAtEachStart", filesAnewAtEachStart},
	{"ThatCannotBe", filesThatCannotBe},
}

// filesOfEveryKind, where nothing less than the restricted standard is let in, on a
// read-only root, as somebody. Each container finds its own, and nothing of the others'.
func filesOfEveryKind(s *story) {
	held := s.certificate("pair", certificateKinds["ec-pem"])
	key, err := privatePEM(held)
	s.ok(err)
	s.akvs("pair", "certificate", "pair", "")
	binary := "\x00\xff" + the.planted.draw(s.reach, 24) + "\n\x00"
	s.setSecret("binary", base64.StdEncoding.EncodeToString([]byte(binary)))
	s.akvs("binary", "secret", "binary", "{transform: [base64decode]}")
	entry, text := the.planted.draw(s.reach, 24), s.secret("text")
	s.setSecret("many", `{"db.password":"`+entry+`","empty":""}`)
	s.apply(strings.Replace(s.akvsYAML("many", "multi-key-value-secret", "many", ""), "object: {", "object: {contentType: application/x-json, ", 1))
	s.akvs("text", "secret", "text", "")
	s.kubectl("label", "namespace", s.ns, "pod-security.kubernetes.io/enforce=restricted")
	security := `
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
`
	s.running(pod(`
    image: `+appImage+`
    command: [/app, report]
    args: ['--tls=$(TLS)', '$(BINARY)']
    env:
    - {name: TLS, value: pair@azurekeyvault;directory}
    - {name: BINARY, value: binary@azurekeyvault;file}
    - {name: TEXT, value: text@azurekeyvault}
    - {name: OPTIONS, value: 'key=<pair@azurekeyvault?tls.key;file>;entry=<many@azurekeyvault?db.password;file>;cert=$(TLS)/tls.crt'}
    - {name: NONE, value: nosuch@azurekeyvault;file;optional}
    - {name: DEFAULTED, value: 'many@azurekeyvault?nosuch;file;default=plain text'}`+security+`
  - name: other
    image: `+appImage+`
    command: [/app, report]
    env: [{name: ENTRIES, value: many@azurekeyvault;directory}]`+security, `
  securityContext: {runAsNonRoot: true, runAsUser: 4711, fsGroup: 4712, seccompProfile: {type: RuntimeDefault}}
  initContainers:
  - name: before
    image: `+appImage+`
    command: [/app, exit, "0"]
    env: [{name: FILE, value: text@azurekeyvault;file}]`+security))
	root := brokerapi.FilesDir + "/"
	app := s.reported("app", "app")
	s.got(app, map[string]string{
		"TLS": root + "pair", "BINARY": root + "binary/value", "TEXT": text, "DEFAULTED": root + "many/nosuch",
		"OPTIONS": "key=" + root + "pair/tls.key;entry=" + root + "many/db.password;cert=" + root + "pair/tls.crt",
	})
	if want := []string{"/app", "report", "--tls=" + root + "pair", root + "binary/value"}; !slices.Equal(app.Args, want) {
		s.Errorf("arguments %q; want %q", app.Args, want)
	}
	if _, set := app.Digests["NONE"]; set || app.UID != 4711 || app.Writable {
		s.Errorf("NONE set: %v, user %d, root file system writable: %v", set, app.UID, app.Writable)
	}
	s.has("app", app, map[string]string{
		"pair/tls.crt": held.ChainPEM, "pair/tls.key": key, "binary/value": binary, "many/db.password": entry, "many/nosuch": "plain text",
	})
	other := s.reported("app", "other")
	s.got(other, map[string]string{"ENTRIES": root + "many"})
	s.has("other", other, map[string]string{"many/db.password": entry, "many/empty": ""})
	before := s.reported("app", "before")
	s.got(before, map[string]string{"FILE": root + "text/value"})
	s.has("before", before, map[string]string{"text/value": text})
}

// has checks that a container has these files and no other, for its user alone.
func (s *story) has(container string, r report, contents map[string]string) {
	s.Helper()
	want := map[string]file{}
	for path, content := range contents {
		want[path] = file{digest(content), "-r-------- drwx------", uint32(r.UID)}
	}
	if !maps.Equal(r.Files, want) {
		s.Errorf("%s has the files %v; want %v", container, r.Files, want)
	}
}

// filesAnewAtEachStart: they are those of the start, whatever the vault and probes do
// meanwhile, and the next start leaves nothing of them.
func filesAnewAtEachStart(s *story) {
	old := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.running(strings.Replace(pod(`
    image: `+shellImage+`
    command:
    - sh
    - -c
    - 'ls "$D"; sha256sum <"$FILE"; until [ -e "$D/go" ]; do sleep 0.2; done; sha256sum <"$FILE"'
    env:
    - {name: D, value: `+brokerapi.FilesDir+`}
    - {name: FILE, value: it@azurekeyvault;file}
    - {name: VALUE, value: it@azurekeyvault}
    readinessProbe:
      periodSeconds: 1
      timeoutSeconds: 10
      exec: {command: [sh, -c, 'echo "PROBED $(printf %s "$VALUE" | sha256sum)" >/proc/1/fd/1']}
`), "name: app}", "name: app, annotations: {exec.env-injector.spv.no/app: readinessProbe}}", 1))
	fresh := s.secret("it")
	s.logs("app", "PROBED "+digest(fresh))
	time.Sleep(6 * time.Second) // for the share window the other broker may give what it read before
	s.kubectl("exec", "app", "--", "touch", brokerapi.FilesDir+"/go")
	s.logs("app", "it\n"+digest(fresh)) // the list has no more than the one directory
	earlier := s.kubectl("logs", "app", "--previous")
	if strings.Count(earlier, "\n"+digest(old)) != 2 || strings.Contains(earlier, "\n"+digest(fresh)) {
		s.Error("the file did not stay as it was at the start")
	}
}

// logs waits for words in a container's log.
func (s *story) logs(pod, words string) {
	s.Helper()
	s.eventually(pod+" should log what is expected", func() error {
		text, err := s.try("", "logs", pod)
		if err == nil && !strings.Contains(text, words) {
			err = fmt.Errorf("%q is not in %q", words, text)
		}
		return err
	})
}

func filesThatCannotBe(s *story) {
	s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.certificate("pair", certificateKinds["ec-pem"])
	s.akvs("pair", "certificate", "pair", "")
	s.oneClear(s.applyFails(doomed("taken", "it@azurekeyvault;file")+`    volumeMounts: [{name: mine, mountPath: `+brokerapi.FilesDir+`}]
  volumes: [{name: mine, emptyDir: {}}]
`), "mounts volume", `"mine"`, brokerapi.FilesDir, "mount it elsewhere")
	s.apply(doomed("one-value", "it@azurekeyvault;directory") + doomed("clash", "<pair@azurekeyvault;directory>:<pair@azurekeyvault?tls.crt;file>"))
	s.failed("one-value", "125", "VALUE", v2beta1.ReasonPlaceholderQuery, render.ErrDirectory.Error(), ";file")
	s.failed("clash", "125", "VALUE (pair@azurekeyvault;directory)", "VALUE (pair@azurekeyvault?tls.crt;file)", "pair/tls.crt")
}
