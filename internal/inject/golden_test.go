// SPDX-License-Identifier: Apache-2.0

package inject_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4" // the one that the API server applies patches with
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/inject"
)

var update = flag.Bool("update", false, "rewrite testdata/*/out.yaml and report.txt")

func settings() inject.Settings {
	return inject.Settings{
		Image:      "registry.example/azure-keyvault-env:1",
		PullPolicy: corev1.PullIfNotPresent,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse("5m"), "memory": resource.MustParse("32Mi")},
			Limits:   corev1.ResourceList{"memory": resource.MustParse("32Mi")},
		},
		Brokers:    []string{"10.96.0.7:9443", "[fd00::7]:9443"},
		ServerName: "akv2k8s-broker.akv2k8s.svc",
		CABundle:   "-----BEGIN CERTIFICATE-----\nQ0E=\n-----END CERTIFICATE-----\n",
	}
}

// commands are the images that the cases use.
var commands = map[string]inject.Command{
	"registry.example/both:1":   {Entrypoint: []string{"/entry", "--flag"}, Cmd: []string{"serve"}},
	"registry.example/dollar:1": {Entrypoint: []string{"sh", "-c"}, Cmd: []string{"echo $HOME $(date) $$ $$(x)"}},
	"registry.example/empty:1":  {},
	"registry.example/private:1": {Err: inject.ErrImageForbidden, Asked: inject.Asked{
		Registries: []string{"mirror.example", "registry.example"},
		Ways:       []string{inject.WayPullSecret("regcred"), inject.WayIdentity, inject.WayAnonymous},
		Unusable: []string{
			inject.UnusablePullSecret("typo", inject.Missing).Unusable, inject.UnusableAccount("default", inject.Unreadable).Unusable,
			inject.UnusablePullSecret("cut", inject.NoDocker).Unusable, inject.NoPullSecrets().Unusable,
		},
	}},
	"registry.example/throttled:1":  {Err: inject.ErrImageThrottled, Asked: inject.Asked{Registries: []string{"registry.example"}, Ways: []string{inject.WayAnonymous}}},
	"registry.example/untrusted:1":  {Err: inject.ErrImageUntrusted},
	"registry.example/plain:1":      {Err: inject.ErrImagePlain},
	"registry.example/gone:1":       {Err: inject.ErrImageNotFound},
	"registry.example/slow:1":       {Err: inject.ErrImageUnavailable},
	"registry.example/amd64-only:1": {Err: inject.ErrImagePlatform},
	"registry.example/two-faced:1":  {Err: inject.ErrImageAmbiguous},
	"registry.example/garbage:1":    {Err: inject.ErrImageUnreadable},
	"Not An Image":                  {Err: inject.ErrImageName},
}

func secrets() map[string]*v2beta1.AzureKeyVaultSecret {
	entries := akvs(v2beta1.ObjectMultiKeyValue)
	entries.Spec.Vault.Object.ContentType = v2beta1.ContentJSON
	return map[string]*v2beta1.AzureKeyVaultSecret{
		"my-secret": akvs(v2beta1.ObjectSecret), "my-cert": akvs(v2beta1.ObjectCertificate), "my-many": akvs(v2beta1.ObjectMultiKeyValue), "my-entries": entries, "absent": nil,
	}
}

func akvs(t v2beta1.ObjectType) *v2beta1.AzureKeyVaultSecret {
	return &v2beta1.AzureKeyVaultSecret{Spec: v2beta1.AzureKeyVaultSecretSpec{
		Vault: v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: "object", Type: t}},
	}}
}

// sources are what the cases refer to.
func sources() inject.Sources {
	return inject.Sources{
		{Kind: inject.ConfigMap, Name: "settings"}: {
			"PASSWORD": "my-secret@azurekeyvault", "URL": "p://u:<my-secret@azurekeyvault>@h/$(HOME)", "PLAIN": "plain", "C": "my-cert@azurekeyvault",
			"costs": "a $(dollar) and my-secret@@azurekeyvault",
		},
		{Kind: inject.ConfigMap, Name: "files"}: {"CERT": "my-cert@azurekeyvault;file", "ALL": "<my-many@azurekeyvault;directory>/x"},
		{Kind: inject.Secret, Name: "login"}: {
			"PASSWORD": "my-cert@azurekeyvault?tls.key", "DSN": "Password=s3cr3t;Token=<my-secret@azurekeyvault;default=s3cr3t>", "PLAIN": "s3cr3t",
		},
		{Kind: inject.Secret, Name: "garbled"}:   {"PASSWORD": "p://u:s3cr3t@azurekeyvault", "QUERY": "my-secret@azurekeyvault? s3cr3t"},
		{Kind: inject.Secret, Name: "defaults"}:  {"P": "my-secret@azurekeyvault;default=s3cr3t", "1x": "my-cert@azurekeyvault"},
		{Kind: inject.ConfigMap, Name: "absent"}: nil,
		{Kind: inject.Secret, Name: "absent"}:    nil,
	}
}

// surroundings are what a case says in delivery.yaml.
type surroundings struct {
	Delivery inject.Delivery
	Nodes    []inject.Node
	Direct   *inject.Direct // the pod reads its vaults itself
	Account  inject.Account
}

// Each folder of testdata is a pod, what becomes of it, and what is said about
// it. A pod that is refused or left alone has no out.yaml. A folder may say in
// delivery.yaml how the wrapper is delivered, on which nodes, and where values come from.
func TestGoldens(t *testing.T) {
	t.Parallel()
	ins, err := filepath.Glob("testdata/*/in.yaml")
	if err != nil || len(ins) == 0 {
		t.Fatal("no cases", err)
	}
	for _, in := range ins {
		dir := filepath.Dir(in)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			golden(t, dir)
		})
	}
}

func golden(t *testing.T, dir string) {
	t.Helper()
	raw := readJSON(t, filepath.Join(dir, "in.yaml"))
	around := surround(t, dir)
	out, report := around.decide(t, raw)
	compare(t, filepath.Join(dir, "report.txt"), []byte(report))
	if out == nil {
		if _, err := os.Stat(filepath.Join(dir, "out.yaml")); !errors.Is(err, os.ErrNotExist) {
			t.Error("there is an out.yaml, but the pod is not changed")
		}
		return
	}
	text, err := yaml.JSONToYAML(out)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, filepath.Join(dir, "out.yaml"), text)
	for _, other := range []inject.Delivery{around.Delivery, inject.DeliveryInitContainer, inject.DeliveryImageVolume} {
		around.Delivery = other
		if again, _ := around.decide(t, out); again != nil {
			t.Errorf("an injected pod is changed again by %q:\n%s", other, cmp.Diff(string(out), string(again)))
		}
	}
}

func surround(t *testing.T, dir string) surroundings {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "delivery.yaml"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var around surroundings
	if err := yaml.UnmarshalStrict(text, &around); err != nil {
		t.Fatal(err)
	}
	return around
}

// decide returns the changed pod, or nil, and what is said about it.
func decide(t *testing.T, raw []byte) ([]byte, string) {
	t.Helper()
	return surroundings{}.decide(t, raw)
}

func (around surroundings) decide(t *testing.T, raw []byte) ([]byte, string) {
	t.Helper()
	s := settings()
	s.Delivery, s.Direct = around.Delivery, around.Direct
	if s.Direct != nil { // there need be no broker
		s.Image, s.Brokers, s.ServerName, s.CABundle = "registry.example/azure-keyvault-env-direct:1", nil, "", ""
	}
	pod, err := inject.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	pod.Learn(sources())
	patch, report, err := inject.Decide(inject.Facts{Pod: pod, Namespace: "default", Commands: commands, Secrets: secrets(), Nodes: around.Nodes, Account: around.Account}, s)
	var refusal inject.Refusal
	switch {
	case errors.As(err, &refusal):
		text := ""
		for _, p := range refusal.Problems {
			text += "refused: " + p + "\n"
		}
		return nil, text
	case err != nil:
		t.Fatal(err)
	case len(patch) == 0:
		return nil, report.String()
	}
	return apply(t, raw, patch), report.String()
}

func apply(t interface {
	Helper()
	Fatal(args ...any)
}, raw []byte, patch inject.Patch,
) []byte {
	t.Helper()
	text, err := json.Marshal(patch)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	out, err := decoded.Apply(raw)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readJSON(tb testing.TB, path string) []byte {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := yaml.YAMLToJSON(text)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func compare(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test ./internal/inject -update writes it", err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s: -want +got\n%s", path, d)
	}
}
