// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
)

// In this order: the other stories have init containers, which is the default.
var deliveryStories = []tale{
	{"ImageVolume", imageVolume},
	{"AutoOnThisNode", autoOnThisNode},
	{"AutoBesideAnOldNode", autoBesideAnOldNode},
	{"BackToTheDefault", backToTheDefault},
}

// mounting is a pod that nothing less than the restricted standard is asked of,
// with a Guaranteed container of one static binary and one that has a shell.
var mounting = pod(usual+guaranteed+`
  - name: shell
    image: `+shellImage+`
    command: [sh, -c, 'exec sleep 3600']
    env: [{name: VALUE, value: it@azurekeyvault}]
`+guaranteed, `
  securityContext: {runAsNonRoot: true, runAsUser: 4711, seccompProfile: {type: RuntimeDefault}}
`)

const guaranteed = `
    resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {cpu: 50m, memory: 64Mi}}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
`

func imageVolume(s *story) {
	s.delivers("imageVolume")
	s.mountsTheImage()
}

func autoOnThisNode(s *story) {
	s.delivers("auto")
	s.mountsTheImage()
}

// delivers upgrades the release, and waits until no webhook of before answers any
// more: they do for a while after they were told to stop.
func (s *story) delivers(by string) {
	s.Helper()
	if by == "initContainer" { // by default
		s.upgrade()
	} else {
		s.upgrade("--set", "env_injector.delivery="+by)
	}
	s.eventually("only webhooks of now should run", func() error {
		pods := s.product("get", "pods", "-l", "app.kubernetes.io/component=env-injector", "-o",
			`jsonpath={range .items[*]}{.spec.containers[0].env[?(@.name=="DELIVERY")].value}{"\n"}{end}`)
		if pods != by+"\n"+by+"\n" {
			return fmt.Errorf("they deliver by %q", pods)
		}
		return nil
	})
}

// mountsTheImage checks what an image volume promises.
func (s *story) mountsTheImage() {
	s.Helper()
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.kubectl("label", "namespace", s.ns, "pod-security.kubernetes.io/enforce=restricted")
	s.running(mounting)
	r := s.reported("app", "app")
	s.got(r, map[string]string{"VALUE": value})
	if r.UID != 4711 || r.Writable {
		s.Errorf("user %d, root file system writable: %v", r.UID, r.Writable)
	}
	if got := s.delivered("app"); got != "0 init containers, an image, Guaranteed" {
		s.Errorf("the pod has %s", got)
	}
	_, err := s.try("", "exec", "app", "-c", "shell", "--", "touch", "/azure-keyvault/new", "/azure-keyvault/azure-keyvault-env")
	if err == nil || strings.Count(err.Error(), "Read-only file system") != 2 {
		s.Errorf("writing to the volume should fail: %v", err)
	}
}

// delivered says how the wrapper got into a pod, and the pod's QoS class.
func (s *story) delivered(name string) string {
	s.Helper()
	return described(s, s.kubectl("get", "pod", name, "-o", "json"))
}

func described(s *story, text string) string {
	s.Helper()
	var pod struct {
		Spec struct {
			InitContainers []any `json:"initContainers"`
			Volumes        []struct {
				Name  string         `json:"name"`
				Image map[string]any `json:"image"`
			} `json:"volumes"`
		} `json:"spec"`
		Status struct {
			QOSClass string `json:"qosClass"`
		} `json:"status"`
	}
	s.ok(json.Unmarshal([]byte(text), &pod))
	volume := "memory"
	for _, v := range pod.Spec.Volumes {
		if v.Name == "azure-keyvault-env" && v.Image != nil {
			volume = "an image"
		}
	}
	if len(pod.Spec.InitContainers) > 0 {
		return "an init container, " + volume + ", " + pod.Status.QOSClass
	}
	return "0 init containers, " + volume + ", " + pod.Status.QOSClass
}

// autoBesideAnOldNode: one node that could not mount the image is enough, ready or
// not; its end is noticed too.
func autoBesideAnOldNode(s *story) {
	s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.apply(`
apiVersion: v1
kind: Node
metadata: {name: old, labels: {kubernetes.io/os: linux}}
spec: {taints: [{key: e2e.example/absent, effect: NoSchedule}]}`)
	s.Cleanup(func() { _, _ = the.Kubectl(s.afterwards(), "", "delete", "node", "old", "--ignore-not-found") })
	s.kubectl("patch", "node", "old", "--subresource=status", "--type=merge", "-p",
		`{"status":{"nodeInfo":{"kubeletVersion":"v1.34.1","containerRuntimeVersion":"containerd://2.4.2"}}}`)
	become := func(want string) {
		s.eventually("pods should have "+want, func() error {
			made, err := s.try(mounting, "create", "--dry-run=server", "-o", "json", "-f", "-")
			if err != nil {
				return err
			}
			if got := described(s, made); got != want {
				return fmt.Errorf("they have %s", got)
			}
			return nil
		})
	}
	become("an init container, memory, Guaranteed")
	s.kubectl("cordon", "old")
	become("0 init containers, an image, Guaranteed")
	s.kubectl("uncordon", "old")
	become("an init container, memory, Guaranteed")
	s.kubectl("delete", "node", "old")
	become("0 init containers, an image, Guaranteed")
}

// backToTheDefault: a pod that is copied keeps what it has, and does not get both.
func backToTheDefault(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.running(mounting)
	var app map[string]any
	s.ok(json.Unmarshal([]byte(s.kubectl("get", "pod", "app", "-o", "json")), &app))
	s.delivers("initContainer")
	delete(app, "status")
	app["metadata"] = map[string]any{"name": "copy"}
	copied, err := json.Marshal(app)
	s.ok(err)
	s.apply(string(copied))
	s.apply(strings.Replace(mounting, "name: app}", "name: fresh}", 1))
	s.wait("condition=Ready", "pod/copy", "pod/fresh")
	for name, want := range map[string]string{
		"copy":  "0 init containers, an image, Guaranteed",
		"fresh": "an init container, memory, Guaranteed",
	} {
		if got := s.delivered(name); got != want {
			s.Errorf("%s has %s; want %s", name, got, want)
		}
		s.got(s.reported(name, "app"), map[string]string{"VALUE": value})
	}
}
