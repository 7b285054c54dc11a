// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const crdName = "azurekeyvaultsecrets.spv.no"

// TestCRDIsInstalledAndKept: as a template it is upgraded; the annotation keeps it,
// and with it everybody's objects, on uninstall.
func TestCRDIsInstalledAndKept(t *testing.T) {
	t.Parallel()
	crds := each[*apiextensionsv1.CustomResourceDefinition](rendered(t, ""))
	if len(crds) != 1 || crds[0].Name != crdName {
		t.Fatalf("want the CRD %s alone, got %d", crdName, len(crds))
	}
	if crds[0].Annotations["helm.sh/resource-policy"] != "keep" {
		t.Error("uninstalling would delete the CRD and every AzureKeyVaultSecret")
	}
	file, err := os.ReadFile(filepath.Join(product, "files/azurekeyvaultsecrets.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var generated apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(file, &generated); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(generated.Spec, crds[0].Spec); diff != "" {
		t.Errorf("the chart changes the generated schema (-generated +rendered):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(product, "crds")); err == nil {
		t.Error("the chart has a crds/ folder, which helm would never upgrade")
	}
	without := objects(t, mustTemplate(t, product, "akv2k8s", "--set", "crds.install=false"))
	if n := len(each[*apiextensionsv1.CustomResourceDefinition](without)); n > 0 {
		t.Error("crds.install=false installs the CRD")
	}
}

// TestNamesOfTheResource: manifests, scripts and roles in people's hands know them.
func TestNamesOfTheResource(t *testing.T) {
	t.Parallel()
	crd := each[*apiextensionsv1.CustomResourceDefinition](rendered(t, ""))[0]
	want := apiextensionsv1.CustomResourceDefinitionNames{
		Kind: "AzureKeyVaultSecret", ListKind: "AzureKeyVaultSecretList", Plural: "azurekeyvaultsecrets", Singular: "azurekeyvaultsecret",
		ShortNames: []string{"akvs"}, Categories: []string{"all"},
	}
	if diff := cmp.Diff(want, crd.Spec.Names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if crd.Spec.Group != "spv.no" || crd.Spec.Scope != apiextensionsv1.NamespaceScoped {
		t.Errorf("group %s and scope %s, want spv.no and Namespaced", crd.Spec.Group, crd.Spec.Scope)
	}
}

// TestForeignCRD lets helm look into a cluster that has the CRD already.
func TestForeignCRD(t *testing.T) {
	t.Parallel()
	ours := meta{labels: map[string]string{"app.kubernetes.io/managed-by": "Helm"}, annotations: map[string]string{
		"meta.helm.sh/release-name": "akv2k8s", "meta.helm.sh/release-namespace": "akv2k8s-system",
	}}
	another := meta{labels: ours.labels, annotations: map[string]string{
		"meta.helm.sh/release-name": "other", "meta.helm.sh/release-namespace": "elsewhere",
	}}
	for name, tc := range map[string]struct {
		live *meta
		args []string
		says []string // nothing: it renders
	}{
		"None":             {nil, nil, nil},
		"OurOwn":           {&ours, nil, nil},
		"FromACRDsFolder":  {&meta{}, nil, []string{"did not come from this release", "kubectl patch crd " + crdName, `"meta.helm.sh/release-name":"akv2k8s"`, `"meta.helm.sh/release-namespace":"akv2k8s-system"`, "--take-ownership --set crds.adopt=true"}},
		"OfAnotherRelease": {&another, nil, []string{"belongs to release other of namespace elsewhere", "--set crds.install=false"}},
		"Adopted":          {&meta{}, []string{"--set", "crds.adopt=true"}, nil},
		"NotInstalled":     {&another, []string{"--set", "crds.install=false"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kubeconfig := cluster(t, tc.live, "")
			args := []string{"template", "akv2k8s", product, "--namespace", "akv2k8s-system", "--dry-run=server", "--kube-version", kubeVersion, "--kubeconfig", kubeconfig}
			_, err := runHelm(t, append(args, tc.args...)...)
			if (err != nil) != (len(tc.says) > 0) {
				t.Fatalf("helm: %v, want refused = %v", err, len(tc.says) > 0)
			}
			for _, part := range tc.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the refusal lacks %q:\n%v", part, err)
				}
			}
		})
	}
}

// TestDeploymentOfTheOldChart: the names are equal and the selectors are not, which
// Kubernetes would refuse after helm had changed half of the rest.
func TestDeploymentOfTheOldChart(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		component string
		says      []string // nothing: it renders
	}{
		"None": {"", nil},
		"Ours": {"controller", nil},
		"Old":  {"akv2k8s-controller", []string{"kubectl delete deployment akv2k8s-controller --namespace akv2k8s-system", "repeat what you did"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := runHelm(t, "template", "akv2k8s", product, "--namespace", "akv2k8s-system", "--dry-run=server",
				"--kube-version", kubeVersion, "--kubeconfig", cluster(t, nil, tc.component))
			if (err != nil) != (len(tc.says) > 0) {
				t.Fatalf("helm: %v, want refused = %v", err, len(tc.says) > 0)
			}
			for _, part := range tc.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the refusal lacks %q:\n%v", part, err)
				}
			}
		})
	}
}

type meta struct{ labels, annotations map[string]string }

// cluster is as much of an API server as helm's lookups ask for: with the CRD, and
// with a Deployment akv2k8s-controller that selects this component, if any. It
// returns a kubeconfig file.
func cluster(t *testing.T, crd *meta, controller string) string {
	t.Helper()
	mux := http.NewServeMux()
	for path, answer := range map[string]any{
		"GET /version": map[string]string{"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
		"GET /api":     map[string]any{"kind": "APIVersions", "versions": []string{"v1"}},
		"GET /apis":    map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": []any{group("apiextensions.k8s.io"), group("apps")}},
		"GET /api/v1":  map[string]any{"kind": "APIResourceList", "groupVersion": "v1", "resources": []any{}},
		"GET /apis/apps/v1": map[string]any{"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": []any{map[string]any{
			"name": "deployments", "kind": "Deployment", "namespaced": true, "verbs": []string{"get"},
		}}},
		"GET /apis/apiextensions.k8s.io/v1": map[string]any{
			"kind": "APIResourceList", "groupVersion": "apiextensions.k8s.io/v1", "resources": []any{map[string]any{
				"name": "customresourcedefinitions", "kind": "CustomResourceDefinition", "namespaced": false, "verbs": []string{"get"},
			}},
		},
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, answer) })
	}
	mux.HandleFunc("GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", func(w http.ResponseWriter, r *http.Request) {
		if crd == nil || r.PathValue("name") != crdName {
			reply(w, http.StatusNotFound, notFound)
			return
		}
		reply(w, http.StatusOK, map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": map[string]any{"name": crdName, "labels": crd.labels, "annotations": crd.annotations},
		})
	})
	mux.HandleFunc("GET /apis/apps/v1/namespaces/akv2k8s-system/deployments/akv2k8s-controller", func(w http.ResponseWriter, _ *http.Request) {
		if controller == "" {
			reply(w, http.StatusNotFound, notFound)
			return
		}
		labels := map[string]string{"app.kubernetes.io/component": controller}
		reply(w, http.StatusOK, map[string]any{
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "akv2k8s-controller"},
			"spec": map[string]any{"selector": map[string]any{"matchLabels": labels}},
		})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c,
contexts: [{name: c, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: {server: %q}}], users: [{name: u, user: {}}]}`, server.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

var notFound = map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}

func group(name string) map[string]any {
	version := map[string]string{"groupVersion": name + "/v1", "version": "v1"}
	return map[string]any{"name": name, "versions": []any{version}}
}

func reply(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}
