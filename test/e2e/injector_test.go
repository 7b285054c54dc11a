// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

var injectorStories = []tale{
	{"CommandGiven", commandGiven},
	{"PodsOfEveryKind", podsOfEveryKind},
	{"ImagesOfEveryKind", imagesOfEveryKind},
	{"RestrictedNamespace", restrictedNamespace},
	{"TheQoSClassStays", theQoSClassStays},
	{"RSACertificate", func(s *story) { certificateInEnvironment(s, certificateKinds["rsa-pfx"]) }},
	{"ECCertificate", func(s *story) { certificateInEnvironment(s, certificateKinds["ec-pem"]) }},
	{"OddValues", oddValues},
	{"PlaceholdersForEveryoneElse", placeholdersForEveryoneElse},
	{"JobsEndAsTheirProgramsDo", jobsEndAsTheirProgramsDo},
	{"SIGTERMReachesTheProgram", sigtermReachesTheProgram},
	{"ServiceAccountWithoutRights", serviceAccountWithoutRights},
	{"NamespaceWithoutTheLabel", namespaceWithoutTheLabel},
	{"NeverKubeSystemNorItself", neverKubeSystemNorItself},
	{"DryRunIsHonest", dryRunIsHonest},
	{"VaultComesBackInTime", vaultComesBackInTime},
	{"PodsOfTheOriginal", podsOfTheOriginal},
}

// pod is a pod with one container "app"; the rest is YAML of the container and of
// the pod, each line indented as its place asks for.
func pod(container string, more ...string) string {
	return `
apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  terminationGracePeriodSeconds: 5
` + strings.Join(more, "") + `
  containers:
  - name: app
` + container
}

// usual is a container with one value and the wrapper at its most talkative.
const usual = `
    image: ` + appImage + `
    command: [/app, report]
    env:
    - {name: VALUE, value: it@azurekeyvault}
    - {name: ENV_INJECTOR_LOG_LEVEL, value: debug}
`

// running applies a pod and waits until it is ready.
func (s *story) running(manifest string) {
	s.Helper()
	s.apply(manifest)
	s.wait("condition=Ready", "pod/app")
}

func commandGiven(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	synced := the.planted.draw(inSecret, 40) // of one with an output, which is a value like any other
	s.setSecret("synced", synced)
	s.akvs("synced", "secret", "synced", opaque("out"))
	s.running(pod(usual + "    - {name: SYNCED, value: synced@azurekeyvault}\n"))
	r := s.reported("app", "app")
	s.got(r, map[string]string{"VALUE": value, "SYNCED": synced})
	s.becomes("out", "value", synced)
	if want := []string{"/app", "report"}; !slices.Equal(r.Args, want) {
		s.Errorf("arguments %q; want %q", r.Args, want)
	}
	spec := s.kubectl("get", "pod", "app", "-o", "yaml")
	if !strings.Contains(spec, "it@azurekeyvault") || !strings.Contains(spec, "copy-azurekeyvault-env") {
		s.Error("the pod's spec is not what admission makes of it")
	}
}

// restrictedNamespace runs one static binary, as somebody, on a read-only root,
// where nothing less than the restricted standard is let in.
func restrictedNamespace(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.kubectl("label", "namespace", s.ns, "pod-security.kubernetes.io/enforce=restricted")
	s.running(pod(usual+`
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
`, `
  securityContext: {runAsNonRoot: true, runAsUser: 4711, seccompProfile: {type: RuntimeDefault}}
`))
	r := s.reported("app", "app")
	s.got(r, map[string]string{"VALUE": value})
	if r.UID != 4711 || r.Writable {
		s.Errorf("user %d, root file system writable: %v", r.UID, r.Writable)
	}
}

func theQoSClassStays(s *story) {
	s.secret("it")
	s.akvs("it", "secret", "it", "")
	for class, resources := range map[string]string{
		"BestEffort": "",
		"Burstable":  "    resources: {requests: {cpu: 10m}}\n",
		"Guaranteed": "    resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {cpu: 10m, memory: 32Mi}}\n",
	} {
		got, err := s.try(pod(usual+resources), "create", "--dry-run=server", "-o", "jsonpath={.status.qosClass} {.spec.initContainers[0].name}", "-f", "-")
		s.ok(err)
		if got != class+" copy-azurekeyvault-env" {
			s.Errorf("%s became %s", class, got)
		}
	}
}

func certificateInEnvironment(s *story, spec harness.CertificateSpec) {
	held := s.certificate("it", spec)
	key, err := privatePEM(held)
	s.ok(err)
	s.akvs("it", "certificate", "it", "")
	s.running(pod(`
    image: ` + appImage + `
    command: [/app, report]
    env:
    - {name: CERT, value: it@azurekeyvault}
    - {name: CRT, value: 'it@azurekeyvault?tls.crt'}
    - {name: KEY, value: 'it@azurekeyvault?tls.key'}
    - {name: ENV_INJECTOR_LOG_LEVEL, value: debug}
`))
	s.got(s.reported("app", "app"), map[string]string{"CERT": held.LeafPEM, "CRT": held.LeafPEM, "KEY": key})
}

func oddValues(s *story) {
	a, b := the.planted.draw(s.reach, 24), the.planted.draw(s.reach, 24)
	values := map[string]string{
		"EQUALS":   a + "=" + b + "==",
		"NEWLINES": a + "\n" + b + "\r\n\t" + a + "\n",
		"QUOTES":   `"` + a + `'"` + b + "`$(HOME) ${HOME} \\",
		"UTF8":     "ü" + a + "日本" + b + "🔑",
		"SPACES":   " " + a + "  " + b + " ",
		"EMPTY":    "",
		"LARGE":    the.planted.draw(s.reach, 24<<10),
	}
	var env strings.Builder
	for name, value := range values {
		object := strings.ToLower(name)
		s.setSecret(object, value)
		s.akvs(object, "secret", object, "")
		fmt.Fprintf(&env, "    - {name: %s, value: %s@azurekeyvault}\n", name, object)
	}
	s.running(pod(`
    image: ` + appImage + `
    command: [/app, report]
    env:
    - {name: ENV_INJECTOR_LOG_FORMAT, value: text}
    - {name: ENV_INJECTOR_LOG_LEVEL, value: debug}
` + env.String()))
	s.got(s.reported("app", "app"), values)
}

// placeholdersForEveryoneElse looks with a user's eyes, at an image with a shell.
func placeholdersForEveryoneElse(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.running(pod(`
    image: ` + shellImage + `
    command: [sh, -c, 'printf %s "$VALUE" | sha256sum; env | cut -d= -f1; exec sleep 3600']
    env: [{name: VALUE, value: it@azurekeyvault}]
`))
	seen := s.kubectl("exec", "app", "--", "env")
	if !strings.Contains(seen, "VALUE=it@azurekeyvault\n") || strings.Contains(seen, value) {
		s.Error("kubectl exec -- env does not show the placeholder alone")
	}
	if text := s.kubectl("get", "pod", "app", "-o", "yaml") + s.kubectl("describe", "pod", "app"); strings.Contains(text, value) {
		s.Error("the value is in the pod's YAML or description")
	}
	s.eventually("the shell should report", func() error {
		text := s.kubectl("logs", "app")
		if !strings.Contains(text, digest(value)) {
			return fmt.Errorf("%d bytes, without the value's digest", len(text))
		}
		if strings.Contains(text, "ENV_INJECTOR_") {
			s.Error("the program sees variables of the wrapper")
		}
		return nil
	})
}

func jobsEndAsTheirProgramsDo(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	for code, condition := range map[string]string{"0": "Complete", "7": "Failed"} {
		s.apply(`
apiVersion: batch/v1
kind: Job
metadata: {name: job` + code + `}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {ends: "` + code + `"}}
    spec:
      restartPolicy: Never
      containers:
      - name: app
        image: ` + appImage + `
        command: [/app, exit, "` + code + `"]
        env: [{name: VALUE, value: it@azurekeyvault}]
`)
		s.wait("condition="+condition, "job/job"+code)
		pod := s.kubectl("get", "pods", "-l", "ends="+code, "-o", "jsonpath={.items[0].metadata.name}")
		s.got(s.reported(pod, "app"), map[string]string{"VALUE": value})
		if got := s.exitCode(pod); got != code {
			s.Errorf("the pod ended with %s; want %s", got, code)
		}
	}
}

func (s *story) exitCode(pod string) string {
	s.Helper()
	return s.kubectl("get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}")
}

// sigtermReachesTheProgram, which then ends with its own code. A finalizer keeps
// the pod for a look at how its container ended; with this grace period only a
// program that heard the signal can have ended by then.
func sigtermReachesTheProgram(s *story) {
	s.secret("it")
	s.akvs("it", "secret", "it", "")
	manifest := strings.Replace(pod(usual), "terminationGracePeriodSeconds: 5", "terminationGracePeriodSeconds: 600", 1)
	s.running(strings.Replace(manifest, "name: app}", "name: app, finalizers: [e2e.example/keep]}", 1))
	s.reported("app", "app") // it listens for the signal from then on
	s.kubectl("delete", "pod", "app", "--wait=false")
	s.wait("jsonpath={.status.phase}=Failed", "pod/app")
	if got := s.exitCode("app"); got != "43" {
		s.Errorf("the program ended with %s; want its own 43", got)
	}
	s.kubectl("patch", "pod", "app", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
}

func serviceAccountWithoutRights(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.apply(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: nobody}
automountServiceAccountToken: false`)
	if can := s.kubectl("get", "rolebindings", "-o", "name"); can != "" {
		s.Errorf("the namespace has %s", can)
	}
	s.running(pod(usual, "  serviceAccountName: nobody\n  automountServiceAccountToken: false\n"))
	s.got(s.reported("app", "app"), map[string]string{"VALUE": value})
	if spec := s.kubectl("get", "pod", "app", "-o", "yaml"); strings.Contains(spec, "/var/run/secrets/kubernetes.io/serviceaccount") {
		s.Error("a token for the API server is mounted")
	}
}

func namespaceWithoutTheLabel(s *story) {
	s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.kubectl("label", "namespace", s.ns, optInLabel+"-")
	s.running(pod(usual))
	if r := s.reported("app", "app"); !slices.Contains(r.Placeholders, "VALUE") {
		s.Error("the program does not see the placeholder as it is")
	}
	s.untouched(s.kubectl("get", "pod", "app", "-o", "json"))
}

// untouched checks that admission left a pod alone.
func (s *story) untouched(podJSON string) {
	s.Helper()
	var pod struct {
		Spec struct {
			InitContainers []any `json:"initContainers"`
			Containers     []struct {
				Command []string `json:"command"`
			} `json:"containers"`
		} `json:"spec"`
	}
	s.ok(json.Unmarshal([]byte(podJSON), &pod))
	if len(pod.Spec.InitContainers) > 0 || !slices.Equal(pod.Spec.Containers[0].Command, []string{"/app", "report"}) {
		s.Error("the pod was changed")
	}
}

func neverKubeSystemNorItself(s *story) {
	for _, namespace := range []string{"kube-system", harness.Namespace} {
		s.kubectl("label", "namespace", namespace, optInLabel+"=enabled")
		s.Cleanup(func() {
			_, _ = the.Kubectl(s.afterwards(), "", "label", "namespace", namespace, optInLabel+"-")
		})
		made, err := the.Kubectl(s.Context(), pod(usual), "-n", namespace, "create", "--dry-run=server", "-o", "json", "-f", "-")
		s.ok(err)
		s.untouched(made)
	}
}

func dryRunIsHonest(s *story) {
	s.secret("it")
	s.akvs("it", "secret", "it", "")
	planned, err := s.try(pod(usual), "apply", "--dry-run=server", "-o", "yaml", "-f", "-")
	s.ok(err)
	if !strings.Contains(planned, "copy-azurekeyvault-env") || !strings.Contains(planned, "it@azurekeyvault") {
		s.Error("the dry run does not show the injected pod")
	}
	if left := s.kubectl("get", "pods,secrets", "-o", "name"); left != "" {
		s.Errorf("the dry run left %s", left)
	}
}

// vaultComesBackInTime: the wrapper asks again for a while.
func vaultComesBackInTime(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	end := s.misbehave("secrets/it", harness.Fault{Kind: "error", Status: 503})
	s.apply(pod(usual + `
    - {name: ENV_INJECTOR_RETRIES, value: "10"}
    - {name: ENV_INJECTOR_WAIT_BEFORE_RETRY, value: "1"}
`))
	s.eventually("the wrapper should say that it asks again", func() error {
		text, err := s.try("", "logs", "app", "-c", "app")
		if err != nil || !strings.Contains(text, "asking the broker again") {
			return fmt.Errorf("%w in %d bytes of log", err, len(text))
		}
		return nil
	})
	end()
	s.wait("condition=Ready", "pod/app")
	s.got(s.reported("app", "app"), map[string]string{"VALUE": value})
}
