// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

// The other stories sign in with the service principal of the node's azure.json,
// which is the default.
var signInStories = []tale{
	{"RefusedAndMendedInPlace", refusedAndMendedInPlace},
	{"ManagedIdentity", managedIdentity},
	{"ManagedIdentityOfTheChart", managedIdentityOfTheChart},
	{"WorkloadIdentity", workloadIdentity},
	{"WorkloadIdentityOfSomebodyElse", workloadIdentityOfSomebodyElse},
	{"Environment", environment},
	{"BackToTheDefault", func(s *story) { s.upgrade(); s.bothHalvesWork("again") }},
}

const (
	tenant        = "00000000-0000-4000-8000-0000000000aa"
	nodeClient    = "00000000-0000-4000-8000-0000000000c1"
	federated     = "00000000-0000-4000-8000-0000000000c2"
	managed       = "00000000-0000-4000-8000-0000000000c3"
	clientSecret  = "vX7~qL0wTz3RkYb9NfHs5JdPm2CgUe8AoW1iVtB6"
	imdsToken     = "/metadata/identity/oauth2/token 200"
	principalJSON = `{"cloud": "AzurePublicCloud", "tenantId": "%s", "aadClientId": "%s", "aadClientSecret": "%s"}`
)

// azureJSON replaces the content of the node's file. Whoever has mounted it sees
// that; tokens that were issued before are revoked, so that it is read.
func (s *story) azureJSON(content string) {
	s.Helper()
	_, err := the.OnNode(s.afterwards(), content, "sh", "-c", "cat >/etc/kubernetes/azure.json")
	s.ok(err)
	s.ok(the.Vault().RevokeTokens(s.afterwards()))
}

// changeAzureJSON changes it; the good one is put back when the story ends, however it ends.
func (s *story) changeAzureJSON(content string) {
	s.Helper()
	s.Cleanup(func() { s.azureJSON(fmt.Sprintf(principalJSON, tenant, nodeClient, clientSecret)) })
	s.azureJSON(content)
}

func refusedAndMendedInPlace(s *story) {
	s.reach = inSecret
	value := s.secret("it")
	s.akvs("it", "secret", "it", opaque("out"))
	before := s.becomes("out", "value", value)
	s.changeAzureJSON(fmt.Sprintf(principalJSON, tenant, nodeClient, the.planted.draw(inProcess, 34)))
	s.refused(v2beta1.ReasonSignInFailed, s.object("it"), vault.ErrSignIn)
	s.apply(doomed("refused", "it@azurekeyvault"))
	s.failed("refused", "125", "VALUE", v2beta1.ReasonSignInFailed, vault.ErrSignIn.Error())
	if after := s.output("out"); after.Metadata != before.Metadata {
		s.Error("the last good output was touched")
	}
	s.azureJSON(fmt.Sprintf(principalJSON, tenant, nodeClient, clientSecret))
	s.becomes("out", "value", s.secret("it"))
	s.says(v2beta1.ReasonSynced)
	s.bothHalvesWork("mended")
}

func managedIdentity(s *story) {
	asked := s.metadataService()
	s.changeAzureJSON(fmt.Sprintf(`{"cloud": "AzurePublicCloud", "tenantId": "%s", "useManagedIdentityExtension": true, "userAssignedIdentityID": "%s"}`, tenant, managed))
	s.bothHalvesWork("managed")
	asked()
}

// managedIdentityOfTheChart needs no file of the node.
func managedIdentityOfTheChart(s *story) {
	asked := s.metadataService()
	s.upgrade("--set", "global.userDefinedMSI.enabled=true", "--set", "global.userDefinedMSI.msi="+managed,
		"--set", "global.userDefinedMSI.tenantId="+tenant)
	s.bothHalvesWork("managed")
	asked()
}

// metadataService returns a check that the node's was asked for a token since.
func (s *story) metadataService() func() {
	s.Helper()
	before, err := the.Vault().SignIns(s.Context())
	s.ok(err)
	return func() {
		after, err := the.Vault().SignIns(s.Context())
		if err != nil || after[imdsToken] == before[imdsToken] {
			s.Errorf("the metadata service was not asked for a token: %v %v", after, err)
		}
	}
}

var workloadIdentityArgs = []string{
	"--set", "global.workloadIdentity.enabled=true", "--set", "global.workloadIdentity.projectToken=true",
	"--set", "global.workloadIdentity.clientId=" + federated, "--set", "global.workloadIdentity.tenantId=" + tenant,
}

// workloadIdentity mounts nothing of the node, so nothing less than the
// restricted standard is needed.
func workloadIdentity(s *story) {
	const standard = "pod-security.kubernetes.io/enforce"
	s.kubectl("label", "namespace", harness.Namespace, standard+"=restricted")
	s.Cleanup(func() {
		_, _ = the.Kubectl(s.afterwards(), "", "label", "namespace", harness.Namespace, standard+"-")
	})
	s.upgrade(append(workloadIdentityArgs, "--set", "env_injector.podAnnotations.again=yes")...) // replaces the webhook's pods too
	s.bothHalvesWork("federated")
	for _, component := range []string{"controller", "broker"} {
		spec := s.product("get", "deployment", harness.Release+"-"+component, "-o", "yaml")
		if strings.Contains(spec, "hostPath:") || strings.Contains(spec, "runAsUser: 0") {
			s.Errorf("%s mounts the node's azure.json, or is root", component)
		}
	}
}

// workloadIdentityOfSomebodyElse: the token is the cluster's, but of a service
// account that Entra ID does not trust.
func workloadIdentityOfSomebodyElse(s *story) {
	s.reach = inSecret
	s.upgrade(append(workloadIdentityArgs,
		"--set", "controller.serviceAccount.name=stranger", "--set", "env_injector.serviceAccount.name=stranger2")...)
	s.secret("it")
	s.akvs("it", "secret", "it", opaque("out"))
	s.refused(v2beta1.ReasonSignInFailed, s.object("it"), vault.ErrSignIn)
	s.apply(doomed("refused", "it@azurekeyvault"))
	s.failed("refused", "125", "VALUE", v2beta1.ReasonSignInFailed, vault.ErrSignIn.Error())
}

func environment(s *story) {
	s.upgrade("--set", "global.keyVaultAuth=environment", "--set", "global.env.AZURE_TENANT_ID="+tenant,
		"--set", "global.env.AZURE_CLIENT_ID="+nodeClient, "--set", "global.env.AZURE_CLIENT_SECRET="+clientSecret)
	s.bothHalvesWork("environment")
}

// bothHalvesWork syncs one value and injects another.
func (s *story) bothHalvesWork(name string) {
	s.Helper()
	s.syncs(name)
	s.injects(name)
}

func (s *story) syncs(name string) {
	s.Helper()
	defer func(r reach) { s.reach = r }(s.reach)
	s.reach = inSecret
	value := s.secret(name + "-sync")
	s.akvs(name+"-sync", "secret", name+"-sync", opaque(name))
	s.becomes(name, "value", value)
}

func (s *story) injects(name string) {
	s.Helper()
	defer func(r reach) { s.reach = r }(s.reach)
	s.reach = inProcess
	value := s.secret(name + "-inject")
	s.akvs(name+"-inject", "secret", name+"-inject", "")
	s.apply(strings.NewReplacer("name: app}", "name: "+name+"}", "it@azurekeyvault", name+"-inject@azurekeyvault").Replace(pod(usual)))
	s.wait("condition=Ready", "pod/"+name)
	s.got(s.reported(name, "app"), map[string]string{"VALUE": value})
}

// upgrade upgrades the release to its values of the beginning and these.
func (s *story) upgrade(args ...string) {
	s.Helper()
	s.ok(helm(s, "upgrade", args...))
}

// helm runs `helm install` or `helm upgrade` of this checkout's chart with the
// values that the release had when the tests began.
func helm(s *story, verb string, args ...string) error {
	values, err := beginning(s)
	if err != nil {
		return err
	}
	full := append([]string{
		verb, harness.Release, "charts/akv2k8s", "--namespace", harness.Namespace,
		"--values", values, "--wait", "--timeout", "120s",
	}, args...)
	_, err = the.Helm(s.Context(), full...)
	return err
}

// beginning is a file with the values of the release as they were at first.
func beginning(s *story) (string, error) {
	file := filepath.Join(the.evidence, "values.yaml")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	text, err := the.Helm(s.Context(), "get", "values", harness.Release, "--namespace", harness.Namespace, "-o", "yaml")
	if err != nil {
		return "", errors.Join(errors.New("reading the values of the release"), err)
	}
	return file, os.WriteFile(file, []byte(text), 0o600)
}
