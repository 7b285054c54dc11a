// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/diff"
	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// oldKey is a value key of the chart of akv2k8s 1.x, as in testdata/values-1.x.yaml.
type oldKey struct {
	Default yaml.Node `yaml:"default"`
	Other   yaml.Node `yaml:"other"`
	Refused string    `yaml:"refused"`
}

func oldKeys(t *testing.T) map[string]oldKey {
	t.Helper()
	var keys map[string]oldKey
	if err := yaml.Unmarshal(read(t, "testdata", "values-1.x.yaml"), &keys); err != nil {
		t.Fatal(err)
	}
	return keys
}

// valuesFile writes a values file out of dotted keys.
func valuesFile(t *testing.T, values map[string]any) string {
	t.Helper()
	root := map[string]any{}
	for key, value := range values {
		parts, at := strings.Split(key, "."), root
		for _, part := range parts[:len(parts)-1] {
			if at[part] == nil {
				at[part] = map[string]any{}
			}
			at = at[part].(map[string]any)
		}
		at[parts[len(parts)-1]] = value
	}
	text, err := yaml.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func content(t *testing.T, node yaml.Node) any {
	t.Helper()
	var value any
	if err := node.Decode(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// TestValuesOfTheOldChart: who kept a whole values file of akv2k8s 1.x installs with
// it, but for the images. What its defaults change here is a golden.
func TestValuesOfTheOldChart(t *testing.T) {
	t.Parallel()
	defaults, others := map[string]any{}, map[string]any{}
	for key, old := range oldKeys(t) {
		if !old.Default.IsZero() {
			defaults[key] = content(t, old.Default)
		}
		if old.Refused == "" {
			others[key] = content(t, old.Other)
		}
	}
	file := valuesFile(t, defaults)
	render := func(args ...string) []byte {
		return mustTemplate(t, product, "akv2k8s", append(args, "--set", "crds.install=false")...)
	}
	change := diff.Diff("default", render(), "1.x", render("--values", file))
	golden(t, "testdata/values-1.x.diff", change)
	for name, values := range map[string]map[string]any{"Defaults": defaults, "Others": others} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, d := range deployments(t, valuesFile(t, values)) {
				understands(t, d.Spec.Template.Spec.Containers[0])
			}
		})
	}
}

// TestRefusalsSayWhatToDo sets every key that is refused, all at once: helm shows
// each with its sentence.
func TestRefusalsSayWhatToDo(t *testing.T) {
	t.Parallel()
	keys, refused := oldKeys(t), map[string]any{}
	for key, old := range keys {
		if old.Refused != "" {
			refused[key] = content(t, old.Other)
		}
	}
	_, err := template(t, product, "akv2k8s", "--values", valuesFile(t, refused))
	if err == nil {
		t.Fatal("helm accepted them")
	}
	lines := strings.Split(err.Error(), "\n")
	for key := range refused {
		path := "'/" + strings.ReplaceAll(key, ".", "/")
		said := slices.ContainsFunc(lines, func(line string) bool {
			return (strings.Contains(line, path+"'") || strings.Contains(line, path+"/")) && strings.Contains(line, keys[key].Refused)
		})
		if !said {
			t.Errorf("%s is not refused with %q", key, keys[key].Refused)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

// TestOldKeysAreAllKnown: a key that only the old chart has is in the list, and so
// is a sentence for it.
func TestOldKeysAreAllKnown(t *testing.T) {
	t.Parallel()
	var schema map[string]any
	if err := yaml.Unmarshal(read(t, product, "values.schema.json"), &schema); err != nil {
		t.Fatal(err)
	}
	keys := oldKeys(t)
	for _, key := range deprecated("", schema) {
		if keys[key].Refused == "" {
			t.Errorf("the schema refuses %s, which values-1.x.yaml does not know", key)
		}
	}
}

// deprecated lists the schema's innermost keys of the old chart.
func deprecated(path string, schema map[string]any) []string {
	properties, _ := schema["properties"].(map[string]any)
	var out []string
	for key, property := range properties {
		inner, _ := property.(map[string]any)
		out = append(out, deprecated(strings.TrimPrefix(path+"."+key, "."), inner)...)
	}
	if len(properties) == 0 && schema["deprecated"] == true {
		out = append(out, path)
	}
	return out
}

// TestAccountsThatAzureTrusts: federated credentials name service accounts, so
// controller and broker keep the names of the two that read vaults in akv2k8s 1.x,
// and the webhook runs as neither.
func TestAccountsThatAzureTrusts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long-", 9) + "name"
	for name, tc := range map[string]struct {
		release string
		args    []string
		want    map[string]string
	}{
		"Usual":        {"akv2k8s", nil, map[string]string{"controller": "akv2k8s-controller", "broker": "akv2k8s-envinjector", "env-injector": "akv2k8s-webhook"}},
		"OtherRelease": {"kv", nil, map[string]string{"controller": "kv-akv2k8s-controller", "broker": "kv-akv2k8s-envinjector", "env-injector": "kv-akv2k8s-webhook"}},
		"NameOverride": {"kv", []string{"--set", "nameOverride=vault"}, map[string]string{"controller": "kv-vault-controller", "broker": "kv-vault-envinjector", "env-injector": "kv-vault-webhook"}},
		"Fullname":     {"kv", []string{"--set", "fullnameOverride=" + long}, map[string]string{"controller": long + "-controller", "broker": long + "-envinjector", "env-injector": long + "-webhook"}},
		"GivenNames": {
			"akv2k8s",
			[]string{"--set", "controller.serviceAccount.name=a,env_injector.serviceAccount.name=b,env_injector.webhook.serviceAccount.name=c"},
			map[string]string{"controller": "a", "broker": "b", "env-injector": "c"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := objects(t, mustTemplate(t, product, tc.release, tc.args...))
			got := map[string]string{}
			for _, d := range each[*appsv1.Deployment](all) {
				got[component(d)] = d.Spec.Template.Spec.ServiceAccountName
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("service accounts by component (-want +got):\n%s", d)
			}
			made := map[string]bool{}
			for _, account := range each[*corev1.ServiceAccount](all) {
				made[account.Name] = true
			}
			for account := range maps.Values(tc.want) {
				if !made[account] {
					t.Errorf("account %s is not made", account)
				}
			}
		})
	}
}

// TestLabelThatAsksForAToken: values files of akv2k8s 1.x put it on the Env
// Injector's pods; the broker's need it and the webhook's must not have it.
func TestLabelThatAsksForAToken(t *testing.T) {
	t.Parallel()
	const use = "azure.workload.identity/use"
	file := valuesFile(t, map[string]any{
		"global.keyVaultAuth":    "environment-azidentity",
		"env_injector.podLabels": map[string]any{use: "true", "team": "a"},
		"controller.podLabels":   map[string]any{use: "true"},
	})
	got := map[string]string{}
	for _, d := range deployments(t, file) {
		labels := d.Spec.Template.Labels
		got[component(d)] = fmt.Sprint(labels[use], labels["team"])
	}
	want := map[string]string{"controller": "true", "broker": "true", "env-injector": "a"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("labels by component (-want +got):\n%s", d)
	}
}

// TestPorts: probes, scrapers and network policies know them.
func TestPorts(t *testing.T) {
	t.Parallel()
	want := map[string][]string{
		"akv2k8s-controller":   {"9000→metrics 9000"},
		"akv2k8s-env-injector": {"443→https 8443", "80→http 8080"},
		"akv2k8s-broker":       {"8080→http 8080", "9443→https 9443"},
	}
	all := rendered(t, "")
	inside := map[string]int32{}
	for _, d := range each[*appsv1.Deployment](all) {
		for _, port := range d.Spec.Template.Spec.Containers[0].Ports {
			inside[d.Name+port.Name] = port.ContainerPort
		}
	}
	got := map[string][]string{}
	for _, s := range each[*corev1.Service](all) {
		for _, port := range s.Spec.Ports {
			target := port.TargetPort.String()
			got[s.Name] = append(got[s.Name], fmt.Sprintf("%d→%s %d", port.Port, target, inside[s.Name+target]))
		}
		slices.Sort(got[s.Name])
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ports by Service (-want +got):\n%s", d)
	}
}

// TestUpgradePageHasEveryRefusal: the page lists what the schema refuses.
func TestUpgradePageHasEveryRefusal(t *testing.T) {
	t.Parallel()
	var known []*regexp.Regexp
	for line := range strings.Lines(string(read(t, "../../docs/upgrading-from-akv2k8s-1.x.md"))) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.TrimSpace(cells[2]) != "refused" {
			continue
		}
		for _, code := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			pattern := strings.ReplaceAll(regexp.QuoteMeta(code[1]), `\*`, ".*")
			known = append(known, regexp.MustCompile("^"+pattern+"$"))
		}
	}
	for key, old := range oldKeys(t) {
		listed := slices.ContainsFunc(known, func(r *regexp.Regexp) bool { return r.MatchString(key) })
		if old.Refused != "" && !listed {
			t.Errorf("the page does not say that %s is refused", key)
		}
	}
}
