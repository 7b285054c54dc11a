// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/emulator/pki"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// TestEmulatorStartsWithWhatTheChartMakes feeds the rendered Secrets to the
// emulator's own readers.
func TestEmulatorStartsWithWhatTheChartMakes(t *testing.T) {
	t.Parallel()
	all := objects(t, mustTemplate(t, emulator, "keyvault-emulator", "--values", "testdata/emulator-seed.yaml"))
	secrets := map[string]*corev1.Secret{}
	for _, s := range each[*corev1.Secret](all) {
		secrets[s.Name] = s
	}
	dir := t.TempDir()
	for file, content := range secrets["keyvault-emulator-ca"].Data {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca, err := pki.LoadOrCreate(dir)
	if err != nil {
		t.Fatalf("the emulator cannot use the CA that the chart makes: %v", err)
	}
	published := map[string]string{}
	for _, m := range each[*corev1.ConfigMap](all) {
		published[m.Namespace+"/"+m.Name] = m.Data["ca.crt"]
	}
	want := map[string]string{
		"keyvault-emulator-system/keyvault-emulator-ca": string(ca.PEM()),
		"akv2k8s/keyvault-emulator-ca":                  string(ca.PEM()),
	}
	if diff := cmp.Diff(want, published); diff != "" {
		t.Errorf("published certificates (-want +got):\n%s", diff)
	}
	parsed, err := seed.Parse([]byte(secrets["keyvault-emulator-seed"].StringData["seed.yaml"]), nil)
	if err != nil {
		t.Fatalf("the emulator cannot read the seed: %v", err)
	}
	if len(parsed.Vaults) != 1 || parsed.Vaults[0].Name != "my-kv" {
		t.Errorf("the seed has vaults %v, want my-kv", parsed.Vaults)
	}
}

func TestEmulatorWithACAOfOnesOwn(t *testing.T) {
	t.Parallel()
	all := objects(t, mustTemplate(t, emulator, "keyvault-emulator", "--set", "ca.existingSecret=mine,seed.existingSecret=seeds"))
	if n := len(each[*corev1.Secret](all)); n > 0 {
		t.Errorf("%d Secrets are made, want none", n)
	}
	pod := each[*appsv1.Deployment](all)[0].Spec.Template
	var mounted []string
	for _, v := range pod.Spec.Volumes {
		mounted = append(mounted, v.Secret.SecretName)
	}
	if diff := cmp.Diff([]string{"mine", "seeds"}, mounted); diff != "" {
		t.Errorf("mounted Secrets (-want +got):\n%s", diff)
	}
}

func TestEmulatorPodSecurity(t *testing.T) {
	t.Parallel()
	for _, d := range each[*appsv1.Deployment](objects(t, mustTemplate(t, emulator, "keyvault-emulator"))) {
		if got := violations(t, &d.Spec.Template); len(got) > 0 {
			t.Errorf("%s is not restricted: %v", d.Name, got)
		}
		hardened(t, d)
	}
}
