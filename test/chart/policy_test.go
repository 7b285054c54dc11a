// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// TestPodSecurity holds every pod to the restricted standard, with the library
// that the API server judges by. The node's azure.json is the one exception, and
// its extent is spelled out.
func TestPodSecurity(t *testing.T) {
	t.Parallel()
	files := cases(t)
	files["default"] = ""
	for name, values := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, d := range deployments(t, values) {
				var want []string
				if mountsNode(d) {
					want = []string{"runAsNonRoot != true", "runAsUser=0", "restricted volume types"}
				}
				if component(d) == "env-injector" && len(want) > 0 && name != "registry-identity-node" {
					t.Error("the webhook mounts a file of the node")
				}
				if diff := cmp.Diff(sorted(want), violations(t, &d.Spec.Template)); diff != "" {
					t.Errorf("%s against the restricted standard (-want +got):\n%s", d.Name, diff)
				}
				hardened(t, d)
			}
		})
	}
}

// hardened is what we promise beyond the standard, in every case.
func hardened(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	for _, c := range d.Spec.Template.Spec.Containers {
		context := c.SecurityContext
		if context.ReadOnlyRootFilesystem == nil || !*context.ReadOnlyRootFilesystem {
			t.Errorf("%s: the root file system is writable", d.Name)
		}
		if diff := cmp.Diff([]corev1.Capability{"ALL"}, context.Capabilities.Drop); diff != "" {
			t.Errorf("%s: dropped capabilities (-want +got):\n%s", d.Name, diff)
		}
		for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
			if probe == nil || probe.HTTPGet == nil {
				t.Errorf("%s: a probe is missing", d.Name)
			}
		}
		for _, mount := range c.VolumeMounts {
			if !mount.ReadOnly && mount.Name != "scratch" { // the value set scheduling asks for scratch
				t.Errorf("%s: mount %s is writable", d.Name, mount.Name)
			}
		}
	}
}

func violations(t *testing.T, pod *corev1.PodTemplateSpec) []string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	var out []string
	for _, result := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
		if !result.Allowed {
			out = append(out, result.ForbiddenReason)
		}
	}
	return sorted(out)
}

func mountsNode(d *appsv1.Deployment) bool {
	return slices.ContainsFunc(d.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool { return v.HostPath != nil })
}

// TestOnlyTheNodesFileNeedsRoot: each other way of signing in is restricted.
func TestOnlyTheNodesFileNeedsRoot(t *testing.T) {
	t.Parallel()
	files := cases(t)
	for _, name := range []string{
		"workload-identity", "workload-identity-projected", "managed-identity", "cloud-config-secret", "cloud-config-map", "environment", "registry-identity",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, d := range deployments(t, files[name]) {
				if mountsNode(d) || len(violations(t, &d.Spec.Template)) > 0 {
					t.Errorf("%s is not restricted", d.Name)
				}
			}
		})
	}
	if !slices.ContainsFunc(deployments(t, ""), mountsNode) {
		t.Error("no pod mounts the node's azure.json by default: the exception is tested by nothing")
	}
}

func deployments(t *testing.T, values string) []*appsv1.Deployment {
	t.Helper()
	return each[*appsv1.Deployment](rendered(t, values))
}

func rendered(t *testing.T, values string) []runtime.Object {
	t.Helper()
	var args []string
	if values != "" {
		args = []string{"--values", values}
	}
	return objects(t, mustTemplate(t, product, "akv2k8s", args...))
}

func component(d *appsv1.Deployment) string { return d.Labels["app.kubernetes.io/component"] }

func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return out
}

// The service accounts of release akv2k8s. Azure trusts the first two by name.
const (
	controllerAccount = "akv2k8s-controller"
	brokerAccount     = "akv2k8s-envinjector"
	webhookAccount    = "akv2k8s-webhook"
)

// TestPermissions lists all that each process may do. A new line here is a
// decision, not a formality: SECURITY.md argues from this list.
func TestPermissions(t *testing.T) {
	t.Parallel()
	common := []string{
		"cluster: authentication.k8s.io/tokenreviews create",
		"cluster: core/pods get",
		"cluster: spv.no/azurekeyvaultsecrets get,list,watch",
	}
	pull := func(scope string) []string {
		return []string{scope + ": core/secrets get", scope + ": core/serviceaccounts get"}
	}
	account := []string{"cluster: core/serviceaccounts get"} // as whom pods sign in that read their vaults themselves
	webhookAlone := []string{
		"cluster: admissionregistration.k8s.io/mutatingwebhookconfigurations[akv2k8s-env-injector] get,patch",
		"cluster: admissionregistration.k8s.io/validatingwebhookconfigurations[akv2k8s-env-injector] get,patch",
		"cluster: core/nodes list,watch",
		"cluster: spv.no/azurekeyvaultsecrets get,list,watch",
		"akv2k8s-system: core/secrets[akv2k8s-broker-tls akv2k8s-ca] get,update",
		"akv2k8s-system: core/services[akv2k8s-broker] get,list,watch",
	}
	sources := []string{"cluster: core/configmaps get", "cluster: core/secrets get"}
	webhook := slices.Concat(webhookAlone, sources, account)
	controller := func(scope string) []string {
		return []string{
			scope + ": core/configmaps create,delete,get,list,patch,watch",
			scope + ": core/secrets create,delete,get,list,patch,watch",
			scope + ": events.k8s.io/events create,patch",
			scope + ": spv.no/azurekeyvaultsecrets get,list,watch",
			scope + ": spv.no/azurekeyvaultsecrets/finalizers update",
			scope + ": spv.no/azurekeyvaultsecrets/status patch",
			"akv2k8s-system: coordination.k8s.io/leases create",
			"akv2k8s-system: coordination.k8s.io/leases[akv2k8s-controller] get,update",
			"akv2k8s-system: core/events create,patch",
		}
	}
	files := cases(t)
	for name, tc := range map[string]struct {
		values string
		want   map[string][]string
	}{
		"Default": {"", map[string][]string{
			brokerAccount: common, webhookAccount: webhook, controllerAccount: controller("cluster"),
		}},
		"ControllerAlone": {files["controller-alone"], map[string][]string{controllerAccount: controller("cluster")}},
		"OneNamespace":    {files["one-namespace"], map[string][]string{controllerAccount: controller("akv2k8s-system")}},
		"NoSources": {files["no-sources"], map[string][]string{
			controllerAccount: controller("cluster"), brokerAccount: common, webhookAccount: slices.Concat(webhookAlone, pull("cluster")),
		}},
		"EnvInjectorAlone": {files["env-injector-alone"], map[string][]string{brokerAccount: common, webhookAccount: webhook}},
		"PullSecretsOfSomeNamespaces": {files["registries"], map[string][]string{
			brokerAccount: common, webhookAccount: slices.Concat(webhookAlone, sources, account, pull("default"), pull("kube-public")), controllerAccount: controller("cluster"),
		}},
		"NoPullSecrets": {files["registry-identity"], map[string][]string{
			brokerAccount: common, webhookAccount: slices.Concat(webhookAlone, sources, account), controllerAccount: controller("cluster"),
		}},
		"NobodyButTheBroker": {files["broker-for-all"], map[string][]string{
			brokerAccount: common, webhookAccount: slices.Concat(webhookAlone, sources), controllerAccount: controller("cluster"),
		}},
		"NoBroker": {files["no-broker"], map[string][]string{
			webhookAccount: slices.Concat(webhookAlone[:4], sources, account, []string{"akv2k8s-system: core/secrets[akv2k8s-ca] get,update"}), controllerAccount: controller("cluster"),
		}},
		"ExecGuard": {files["exec-guard"], map[string][]string{
			brokerAccount: slices.Concat(common, []string{"cluster: core/namespaces get"}), webhookAccount: webhook, controllerAccount: controller("cluster"),
		}},
		"ExecGuardOfInjectedPods": {files["exec-guard-injected"], map[string][]string{
			brokerAccount: slices.Concat(common, []string{"cluster: core/namespaces get"}), webhookAccount: slices.Concat(webhook, []string{"cluster: core/pods get"}), controllerAccount: controller("cluster"),
		}},
		"NoRoles": {files["scheduling"], map[string][]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for account, want := range tc.want {
				tc.want[account] = sorted(want)
			}
			if diff := cmp.Diff(tc.want, permissions(t, rendered(t, tc.values))); diff != "" {
				t.Errorf("permissions by service account (-want +got):\n%s", diff)
			}
		})
	}
}

// permissions follows the bindings: what no binding grants nobody has.
func permissions(t *testing.T, all []runtime.Object) map[string][]string {
	t.Helper()
	roles := map[string][]rbacv1.PolicyRule{}
	for _, r := range each[*rbacv1.ClusterRole](all) {
		roles["ClusterRole/"+r.Name] = r.Rules
	}
	for _, r := range each[*rbacv1.Role](all) {
		roles["Role/"+r.Name] = r.Rules
	}
	found := map[string]map[string]bool{}
	grant := func(scope string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		rules, ok := roles[ref.Kind+"/"+ref.Name]
		if !ok {
			t.Errorf("a binding names %s %s, which does not exist", ref.Kind, ref.Name)
		}
		for _, s := range subjects {
			if s.Kind != rbacv1.ServiceAccountKind || s.Namespace != "akv2k8s-system" {
				t.Errorf("a binding names %s %s/%s", s.Kind, s.Namespace, s.Name)
			}
			if found[s.Name] == nil {
				found[s.Name] = map[string]bool{}
			}
			for _, rule := range rules {
				for _, line := range spell(rule) {
					found[s.Name][scope+": "+line] = true
				}
			}
		}
	}
	for _, b := range each[*rbacv1.ClusterRoleBinding](all) {
		grant("cluster", b.RoleRef, b.Subjects)
	}
	for _, b := range each[*rbacv1.RoleBinding](all) {
		grant(b.Namespace, b.RoleRef, b.Subjects)
	}
	out := map[string][]string{}
	for account, lines := range found {
		out[account] = slices.Sorted(maps.Keys(lines))
	}
	return out
}

func spell(rule rbacv1.PolicyRule) []string {
	var out []string
	for _, group := range rule.APIGroups {
		if group == "" {
			group = "core"
		}
		for _, resource := range rule.Resources {
			if len(rule.ResourceNames) > 0 {
				resource += fmt.Sprint(sorted(rule.ResourceNames))
			}
			out = append(out, fmt.Sprintf("%s/%s %s", group, resource, strings.Join(sorted(rule.Verbs), ",")))
		}
	}
	return out
}

// TestNoPermissionIsTooMuch says why about the lines above, so that a change of
// the list alone cannot let these in.
func TestNoPermissionIsTooMuch(t *testing.T) {
	t.Parallel()
	for account, lines := range permissions(t, rendered(t, "")) {
		for _, line := range lines {
			if why := tooMuch(account, line); why != "" {
				t.Errorf("%s: %s: %s", account, why, line)
			}
		}
	}
}

// outputs are what the Controller keeps.
var outputs = []string{"core/secrets", "core/configmaps"}

func tooMuch(account, line string) string {
	_, permission, _ := strings.Cut(line, ": ")
	resource, list, _ := strings.Cut(permission, " ")
	verbs := strings.Split(list, ",")
	may := func(these ...string) bool {
		return slices.ContainsFunc(verbs, func(v string) bool { return slices.Contains(these, v) })
	}
	switch {
	case strings.Contains(line, "*"):
		return "a wildcard"
	case may("deletecollection", "escalate", "bind", "impersonate"):
		return "none of us needs this"
	case may("delete") && (account != controllerAccount || !slices.Contains(outputs, resource)):
		return "the Controller alone deletes, and outputs alone"
	case account == brokerAccount && may("create", "update", "patch") && resource != "authentication.k8s.io/tokenreviews":
		return "the broker writes nothing"
	case account == brokerAccount && slices.ContainsFunc(outputs, func(o string) bool { return strings.HasPrefix(resource, o) }):
		return "the broker reads no Secret and no ConfigMap"
	case account == webhookAccount:
		return tooMuchForTheWebhook(permission)
	}
	return ""
}

func tooMuchForTheWebhook(permission string) string {
	switch {
	case strings.HasPrefix(permission, "core/secrets["):
		if !strings.HasSuffix(permission, "] get,update") {
			return "the webhook tends two Secrets by name"
		}
	case strings.HasPrefix(permission, "core/serviceaccounts"):
		if permission != "core/serviceaccounts get" {
			return "the webhook reads the service account of a pod, one by one"
		}
	case strings.HasPrefix(permission, "core/secrets "):
		if !strings.HasSuffix(permission, " get") {
			return "the webhook reads the Secrets that a pod names, one by one"
		}
	case strings.HasPrefix(permission, "core/configmaps"):
		if permission != "core/configmaps get" {
			return "the webhook reads the ConfigMaps that a pod names, one by one"
		}
	}
	return ""
}

// TestRoleOfOneNamespace: a namespaced Controller has nothing at cluster scope.
func TestRoleOfOneNamespace(t *testing.T) {
	t.Parallel()
	all := rendered(t, cases(t)["one-namespace"])
	if n := len(each[*rbacv1.ClusterRole](all)) + len(each[*rbacv1.ClusterRoleBinding](all)); n > 0 {
		t.Errorf("%d cluster-wide roles and bindings, want none", n)
	}
}

// TestNothingSecretIsRendered: certificates are the webhook's business. A value in
// the manifest would be in the release's record too, and an upgrade would reset it.
func TestNothingSecretIsRendered(t *testing.T) {
	t.Parallel()
	all := rendered(t, "")
	for _, secret := range each[*corev1.Secret](all) {
		if len(secret.Data)+len(secret.StringData) > 0 || secret.Type != corev1.SecretTypeOpaque {
			t.Errorf("Secret %s is not an empty Opaque one", secret.Name)
		}
	}
	configurations := each[*admissionv1.MutatingWebhookConfiguration](all)
	if len(configurations) != 1 {
		t.Fatalf("%d webhook configurations, want 1", len(configurations))
	}
	for _, hook := range configurations[0].Webhooks {
		if hook.ClientConfig.CABundle != nil {
			t.Error("the manifest sets caBundle: each upgrade would take the webhook out of service")
		}
	}
	for _, hook := range each[*admissionv1.ValidatingWebhookConfiguration](all)[0].Webhooks {
		if hook.ClientConfig.CABundle != nil {
			t.Errorf("the manifest sets the caBundle of %s", hook.Name)
		}
	}
}

// TestSignInReachesNoWebhook: variables and files that sign in go to controller
// and broker alone. An identity for registries is the operator's to add, and is not
// that of the vaults.
func TestSignInReachesNoWebhook(t *testing.T) {
	t.Parallel()
	for name, values := range cases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := registryIdentities[name]
			for _, d := range deployments(t, values) {
				if component(d) != "env-injector" {
					continue
				}
				if diff := cmp.Diff(want, signIn(d)); diff != "" {
					t.Errorf("what the webhook signs in with (-want +got):\n%s", diff)
				}
			}
		})
	}
	if accounts := each[*corev1.ServiceAccount](rendered(t, cases(t)["registry-identity"])); !slices.ContainsFunc(accounts, func(a *corev1.ServiceAccount) bool {
		return a.Name == webhookAccount && a.Annotations["azure.workload.identity/client-id"] == "for-registries"
	}) {
		t.Error("the webhook's account names no identity")
	}
}

// registryIdentities are what signs in to registries, by value set.
var registryIdentities = map[string][]string{
	"registry-identity": {"REGISTRY_AUTH=environment-azidentity", "label azure.workload.identity/use"},
	"registry-identity-projected": {
		"AZURE_CLIENT_ID=for-registries", "AZURE_FEDERATED_TOKEN_FILE=/var/run/secrets/azure/tokens/azure-identity-token", "AZURE_TENANT_ID=tenant",
		"REGISTRY_AUTH=environment-azidentity", "volume azure-identity-token",
	},
	"registry-identity-managed": {"AZURE_CLIENT_ID=for-registries", "AZURE_ENVIRONMENT=AzureChinaCloud", "REGISTRY_AUTH=environment"},
	"registry-identity-node":    {"REGISTRY_AUTH=azureCloudConfig", "volume cloud-config"},
}

// signIn lists all with which a pod could sign in to Azure.
func signIn(d *appsv1.Deployment) []string {
	var found []string
	pod := d.Spec.Template
	for _, env := range pod.Spec.Containers[0].Env {
		if strings.HasPrefix(env.Name, "AZURE_") || strings.HasSuffix(env.Name, "_AUTH") || env.Name == "AUTH_TYPE" || env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil {
			found = append(found, env.Name+"="+env.Value)
		}
	}
	for _, from := range pod.Spec.Containers[0].EnvFrom {
		found = append(found, fmt.Sprintf("variables of %v", from.SecretRef))
	}
	if use := "azure.workload.identity/use"; pod.Labels[use] != "" {
		found = append(found, "label "+use)
	}
	for _, volume := range pod.Spec.Volumes {
		if volume.Secret != nil || volume.Projected != nil || volume.HostPath != nil {
			found = append(found, "volume "+volume.Name)
		}
	}
	return sorted(found)
}
