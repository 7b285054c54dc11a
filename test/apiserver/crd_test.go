// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/cluster"
)

var versions = []string{"v1alpha1", "v1", "v2alpha1", "v2beta1"}

// article is the manifest that introduced the project, in its own words.
const article = `
apiVersion: spv.no/v1alpha1
kind: AzureKeyVaultSecret
metadata:
  name: my-first-azure-keyvault-certificate
spec:
  vault:
    name: my-kv
    object:
      type: certificate
      name: test-cert
  output:
    secret:
      name: keyvault-certificate
      type: kubernetes.io/tls
`

func manifest(t *testing.T, text, version, ns string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), u); err != nil {
		t.Fatal(err)
	}
	u.SetAPIVersion("spv.no/" + version)
	u.SetNamespace(ns)
	return u
}

func TestEveryVersionTakesTheArticlesManifests(t *testing.T) {
	t.Parallel()
	withoutOutput, _, _ := strings.Cut(article, "  output:")
	for _, version := range versions {
		for name, text := range map[string]string{"Output": article, "NoOutput": withoutOutput} {
			t.Run(version+name, func(t *testing.T) {
				t.Parallel()
				u := manifest(t, text, version, namespace(t))
				if err := admin.Create(t.Context(), u, client.FieldValidation("Strict")); err != nil {
					t.Fatal(err)
				}
				var stored v2beta1.AzureKeyVaultSecret
				if err := admin.Get(t.Context(), client.ObjectKeyFromObject(u), &stored); err != nil {
					t.Fatal(err)
				}
				want := v2beta1.AzureKeyVaultSecretSpec{Vault: v2beta1.Vault{
					Name: "my-kv", Object: v2beta1.VaultObject{Name: "test-cert", Type: v2beta1.ObjectCertificate},
				}}
				if name == "Output" {
					want.Output.Secret = &v2beta1.SecretOutput{Name: "keyvault-certificate", Type: "kubernetes.io/tls"}
				}
				if diff := cmp.Diff(want, stored.Spec); diff != "" {
					t.Errorf("stored (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// The schema adds nothing to what a person wrote, or GitOps would see a change.
func TestNoDefaultsAreWrittenIntoASpec(t *testing.T) {
	t.Parallel()
	u := manifest(t, article, "v1", namespace(t))
	before := u.DeepCopy().Object["spec"]
	if err := admin.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, u.Object["spec"]); diff != "" {
		t.Errorf("(-written +stored):\n%s", diff)
	}
}

func TestOldSpellingOfTransformIsKept(t *testing.T) {
	t.Parallel()
	u := manifest(t, `
kind: AzureKeyVaultSecret
metadata: {name: old}
spec:
  vault: {name: my-kv, object: {name: db, type: secret}}
  output: {transforms: [trim], secret: {name: out, dataKey: k}}
`, "v1alpha1", namespace(t))
	if err := admin.Create(t.Context(), u, client.FieldValidation("Strict")); err != nil {
		t.Fatal(err)
	}
	var stored v2beta1.AzureKeyVaultSecret
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(u), &stored); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]v2beta1.Transform{"trim"}, stored.Spec.Output.Transforms); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEveryVersionShowsTheSameColumns(t *testing.T) {
	t.Parallel()
	var want []string
	for _, version := range versions {
		got := columns(t, version)
		if want == nil {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s against %s (-want +got):\n%s", version, versions[0], diff)
		}
	}
	for _, column := range []string{"Vault", "Vault Object", "Secret Name", "Ready", "Reason", "Last Synched", "Age"} {
		if !strings.Contains("\n"+strings.Join(want, "\n")+"\n", "\n"+column+"\n") {
			t.Errorf("no column %s among %q", column, want)
		}
	}
}

// columns are what kubectl get shows, the hidden ones left out.
func columns(t *testing.T, version string) []string {
	t.Helper()
	cfg := rest.CopyConfig(adminConfig)
	cfg.GroupVersion, cfg.APIPath = &v2beta1.GroupVersion, "/apis"
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(cluster.Scheme()).WithoutConversion()
	c, err := rest.RESTClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.Get().AbsPath("/apis/spv.no/"+version+"/azurekeyvaultsecrets").
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var table metav1.Table
	if err := json.Unmarshal(raw, &table); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range table.ColumnDefinitions {
		if c.Priority == 0 {
			out = append(out, c.Name)
		}
	}
	return out
}

// Each refusal is a golden: it is what `kubectl apply` shows, so it must read well.
func TestRefusalsReadWell(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	spec := func(vault, object, output string) string {
		return fmt.Sprintf("kind: AzureKeyVaultSecret\nmetadata: {name: bad}\nspec:\n  vault: {%s, object: {%s}}\n%s", vault, object, output)
	}
	const kv, db, out = "name: my-kv", "name: db, type: secret", "  output: {secret: {name: out, dataKey: k}}\n"
	var got strings.Builder
	for _, tc := range []struct{ name, text string }{
		{"VaultName", spec("name: https://my-kv.vault.azure.net", db, out)},
		{"ObjectName", spec(kv, "name: my_secret, type: secret", out)},
		{"ObjectType", spec(kv, "name: db, type: password", out)},
		{"ObjectTypeMissing", spec(kv, "name: db", out)},
		{"Version", spec(kv, db+", version: latest", out)},
		{"ContentTypeMissing", spec(kv, "name: db, type: multi-key-value-secret", "  output: {secret: {name: out}}\n")},
		{"DataKeyMissing", spec(kv, db, "  output: {secret: {name: out}}\n")},
		{"DataKeyMissingOpaque", spec(kv, db, "  output: {secret: {name: out, type: Opaque}}\n")},
		{"DataKey", spec(kv, db, "  output: {secret: {name: out, dataKey: a/b}}\n")},
		{"SecretName", spec(kv, db, "  output: {secret: {name: Out, dataKey: k}}\n")},
		{"SecretNameEmpty", spec(kv, db, "  output: {secret: {name: '', dataKey: k}}\n")},
		{"Transform", spec(kv, db, "  output: {transform: [rot13], secret: {name: out, dataKey: k}}\n")},
		{"ChainOrder", spec(kv, db, "  output: {secret: {name: out, dataKey: k, chainOrder: rootfirst}}\n")},
		{"SpecMissing", "kind: AzureKeyVaultSecret\nmetadata: {name: bad}\n"},
	} {
		u := manifest(t, tc.text, "v2beta1", ns)
		err := admin.Create(t.Context(), u)
		if err == nil {
			t.Errorf("%s was accepted", tc.name)
			continue
		}
		fmt.Fprintf(&got, "%s\n  %s\n", tc.name, strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	golden(t, "refusals.txt", got.String())
}

func TestAcceptedShapes(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	for name, text := range map[string]string{
		"pinned":     "vault: {name: my-kv, object: {name: db, type: secret, version: 0123456789abcdef0123456789ABCDEF}}\noutput: {secret: {name: out, dataKey: k}}",
		"empty-pin":  "vault: {name: my-kv, object: {name: db, type: secret, version: ''}}\noutput: {secret: {name: out, dataKey: k}}",
		"multi":      "vault: {name: my-kv, object: {name: db, type: multi-key-value-secret, contentType: application/x-json}}\noutput: {secret: {name: out}}",
		"tls":        "vault: {name: my-kv, object: {name: db, type: certificate}}\noutput: {secret: {name: out, type: kubernetes.io/tls, chainOrder: ensureserverfirst}}",
		"config-map": "vault: {name: my-kv, object: {name: db, type: secret}}\noutput: {configMap: {name: out, dataKey: k}}",
		"identity":   "vault: {name: my-kv, azureIdentity: {name: x}, object: {name: db, type: key}}",
	} {
		u := manifest(t, "kind: AzureKeyVaultSecret\nmetadata: {name: "+name+"}\nspec:\n  "+strings.ReplaceAll(text, "\n", "\n  "), "v2beta1", ns)
		if err := admin.Create(t.Context(), u, client.FieldValidation("Strict")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -update rewrites it (-want +got):\n%s", file, diff)
	}
}
