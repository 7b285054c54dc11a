// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"strings"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

var directStories = []tale{
	{"OwnIdentity", ownIdentity},
}

// directNamespace is known to the emulator's Entra ID, which trusts two of its service
// accounts: "app", that may read the vault, and "stranger", that may not.
const directNamespace = "e2e-direct"

const directClients = "00000000-0000-4000-8000-0000000000%s"

// ownIdentity: in a namespace that chooses so, each pod reads its vaults itself. Its
// service account has no right in the cluster, nor a token for it.
func ownIdentity(s *story) {
	s.kubectl("delete", "namespace", s.ns, "--wait=false")
	s.ns = directNamespace
	s.eventually("the namespace of an earlier run should go", func() error {
		_, err := s.try(`
apiVersion: v1
kind: Namespace
metadata:
  name: `+s.ns+`
  labels: {`+optInLabel+`: enabled, env-injector.spv.no/auth: direct, pod-security.kubernetes.io/enforce: restricted, `+storyLabel+`: ""}`, "create", "-f", "-")
		return err
	})
	s.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.apply(account("app", "c4") + account("stranger", "c5"))

	if said := s.applyFails(direct("nobody", "default", "it")); !strings.Contains(said, "azure.workload.identity/client-id") {
		s.Errorf("a pod without identity is refused with %q", said)
	}
	if said := s.applyFails(direct("early", "app", "missing")); !strings.Contains(said, `no AzureKeyVaultSecret of this name`) {
		s.Errorf("a pod before its AzureKeyVaultSecret is refused with %q", said)
	}
	s.apply(direct("app", "app", "it") + direct("stranger", "stranger", "it"))
	s.wait("condition=Ready", "pod/app")
	r := s.reported("app", "app")
	s.got(r, map[string]string{"VALUE": value, "NONE": "nothing", "AZURE_CLIENT_ID": "other"})
	if r.Files["it/value"].SHA256 != digest(value) {
		s.Errorf("the file is not what the vault holds: %v", r.Files)
	}
	s.failed("stranger", "125", "VALUE", v2beta1.ReasonForbidden, s.object("it"), vault.ErrForbidden.Error())
}

func account(name, client string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: %s
  annotations:
    azure.workload.identity/client-id: `+directClients+`
    azure.workload.identity/tenant-id: %s
`, name, client, tenant)
}

// direct is a pod that reaches Azure by its own proxy, and beside whose own variables
// another webhook has put such as would lead elsewhere.
func direct(name, account, akvs string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: Never
  serviceAccountName: %s
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 5
  securityContext: {runAsNonRoot: true, runAsUser: 4711, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: app
    image: %s
    command: [/app, report]
    env:
    - {name: VALUE, value: %s@azurekeyvault}
    - {name: VALUE_FILE, value: %[4]s@azurekeyvault;file}
    - {name: NONE, value: absent@azurekeyvault;default=nothing}
    - {name: HTTPS_PROXY, value: "http://keyvault-emulator.%[5]s.svc:8080"}
    - {name: AZURE_CLIENT_ID, value: other}
    - {name: AZURE_AUTHORITY_HOST, value: "https://login.chinacloudapi.cn/"}
    - {name: AZURE_SDK_GO_LOGGING, value: all}
    - {name: GODEBUG, value: http2debug=2}
    - {name: ENV_INJECTOR_RETRIES, value: "0"}
    - {name: ENV_INJECTOR_LOG_LEVEL, value: debug}
    resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 32Mi}}
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
`, name, account, appImage, akvs, harness.EmulatorNamespace)
}
