// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const upgradeGuide = "docs/upgrading-from-akv2k8s-1.x.md"

// guided runs a command of the upgrade guide as it stands there: the code blocks
// of a section, by their place in it.
func (s *story) guided(dir, section string, block int) string {
	s.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", upgradeGuide))
	s.ok(err)
	_, rest, found := strings.Cut(string(page), "\n## "+section+"\n")
	text, _, _ := strings.Cut(rest, "\n## ")
	blocks := strings.Split(text, "\n```\n")
	if !found || 2*block+1 >= len(blocks) {
		s.Fatalf("%s has no %q with %d code blocks", upgradeGuide, section, block+1)
	}
	said, err := the.Run(s.Context(), "", "bash", "-c", "cd "+dir+"\n"+blocks[2*block+1])
	s.ok(err)
	return said
}

// ofTheOriginal is what akv2k8s 1.x makes of the pod below: the same containers,
// volumes and variables, but for an image and a client certificate that exist
// only there. A script takes the place of its wrapper.
const ofTheOriginal = `
apiVersion: v1
kind: Pod
metadata:
  name: NAME
  labels: LABELS
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: copy-azurekeyvault-env
    image: ` + shellImage + `
    command: [sh, -c, 'printf "#!/bin/sh\nexec \"\$@\"\n" >/azure-keyvault/azure-keyvault-env; chmod 755 /azure-keyvault/azure-keyvault-env']
    volumeMounts: [{name: azure-keyvault-env, mountPath: /azure-keyvault/}]
  volumes:
  - {name: azure-keyvault-env, emptyDir: {medium: Memory}}
  - {name: akv2k8s-client-cert, secret: {secretName: akv2k8s-web, optional: true}}
  containers:
  - name: app
    image: ` + shellImage + `
    command: [/azure-keyvault/azure-keyvault-env]
    args: ` + digestsValue + `
    env:
    - {name: VALUE, value: it@azurekeyvault}
    - {name: ENV_INJECTOR_ARGS_SIGNATURE, value: c2lnbmF0dXJl}
    - {name: ENV_INJECTOR_ARGS_KEY, value: a2V5}
    - {name: ENV_INJECTOR_USE_AUTH_SERVICE, value: "true"}
    - {name: ENV_INJECTOR_CLIENT_CERT_DIR, value: /var/client-cert/}
    - {name: ENV_INJECTOR_AUTH_SERVICE, value: "https://akv2k8s-envinjector.akv2k8s.svc:9443"}
    volumeMounts:
    - {name: azure-keyvault-env, mountPath: /azure-keyvault/, readOnly: true}
    - {name: akv2k8s-client-cert, mountPath: /var/client-cert/, readOnly: true}
`

// digestsValue is a command that tells the digest of VALUE, and stays.
const digestsValue = `[sh, -c, 'printf %s "$VALUE" | sha256sum; exec sleep 3600']`

// podsOfTheOriginal go on when this product comes; the upgrade guide's commands
// find and replace them. A copy of one is refused.
func podsOfTheOriginal(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.kubectl("label", "namespace", s.ns, optInLabel+"-") // until the switch
	s.adopted("old")
	s.showsDigest("old", "it@azurekeyvault")

	s.kubectl("label", "namespace", s.ns, optInLabel+"=enabled")
	if pods := s.kubectl("get", "pods", "-o", "jsonpath={.items[*].metadata.name} {.items[*].status.containerStatuses[*].restartCount}"); pods != "old 0" {
		s.Errorf("want the old pod alone, running as before: %q", pods)
	}
	copied := s.applyFails(strings.NewReplacer("NAME", "copied", "LABELS", "{}").Replace(ofTheOriginal))
	for _, word := range []string{"akv2k8s 1.x has injected the pod", "the manifest that the pod was made from"} {
		if !strings.Contains(copied, word) {
			s.Errorf("%q is missing in %q", word, copied)
		}
	}

	dir := s.TempDir()
	const restart = "Restart injected pods"
	if found := s.guided(dir, restart, 0); !strings.Contains(found, s.ns+"/ReplicaSet/web-") || !strings.Contains(found, "/old\n") {
		s.Errorf("the guide's command does not find the old pod: %q", found)
	}
	s.guided(dir, restart, 1)
	s.wait("delete", "pod/old")
	s.showsDigest(s.kubectl("get", "pods", "-o", "jsonpath={.items[0].metadata.name}"), value)
	if found := s.guided(dir, restart, 0); strings.Contains(found, s.ns) {
		s.Errorf("the guide's command finds %q when none is left", found)
	}
}

// adopted makes a Deployment "web", of which this pod of the original is the one
// pod. A ReplicaSet takes over what has its labels and is nobody's; the hash
// among them is that of the template, so an earlier Deployment of the same tells it.
func (s *story) adopted(name string) {
	s.Helper()
	web := `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: app, image: ` + shellImage + `, command: ` + digestsValue + `, env: [{name: VALUE, value: it@azurekeyvault}]}
`
	s.apply(strings.Replace(web, "REPLICAS", "0", 1))
	s.kubectl("rollout", "status", "deployment/web", "--timeout="+patience.String())
	labels := s.kubectl("get", "replicaset", "-l", "app=web", "-o", "jsonpath={.items[0].spec.template.metadata.labels}")
	s.kubectl("delete", "deployment/web", "--cascade=foreground")
	s.apply(strings.NewReplacer("NAME", name, "LABELS", labels).Replace(ofTheOriginal))
	s.wait("condition=Ready", "pod/"+name)
	s.apply(strings.Replace(web, "REPLICAS", "1", 1))
	s.kubectl("rollout", "status", "deployment/web", "--timeout="+patience.String())
}

// showsDigest waits until a pod has told the digest of a value.
func (s *story) showsDigest(pod, value string) {
	s.Helper()
	s.eventually(pod+" should have told what it has", func() error {
		text, err := s.try("", "logs", pod, "-c", "app")
		if err != nil || !strings.Contains(text, digest(value)) {
			return fmt.Errorf("%w in %d bytes of log", err, len(text))
		}
		return nil
	})
}
