// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"go.yaml.in/yaml/v3"
)

// TestTyposAreRefused: a value that nothing reads would look set and do nothing.
func TestTyposAreRefused(t *testing.T) {
	t.Parallel()
	for name, setting := range map[string]string{
		"Top":             "controler.enabled=false",
		"Component":       "controller.replicas=3",
		"Broker":          "env_injector.broker.replicas=3",
		"Deep":            "global.workloadIdentity.clientID=x",
		"Proxy":           "global.proxy.htttps=http://x",
		"WrongKind":       "controller.replicaCount=two",
		"SignIn":          "global.keyVaultAuth=cloudConfig",
		"Level":           "env_injector.logLevel=verbose",
		"Digest":          "controller.image.digest=latest",
		"Delivery":        "env_injector.delivery=post",
		"FailurePolicy":   "env_injector.failurePolicy=Maybe",
		"Variable":        "global.env.A-B=c",
		"CABundle":        "global.caBundle.pem=/etc/ssl/ca.crt",
		"ProxyAddress":    "global.proxy.https=proxy:3128",
		"InitContainer":   "env_injector.initContainerResources.requests.gpu=1",
		"TwoRegistries":   "controller.image.repository=registry.example/azure-keyvault-controller",
		"NothingLeft":     "controller.enabled=false,env_injector.enabled=false",
		"WebhookAsBroker": "env_injector.webhook.serviceAccount.name=akv2k8s-envinjector",
		"WebhookAsOther":  "env_injector.webhook.serviceAccount.name=akv2k8s-controller",
		"MinRefresh":      "controller.minRefreshInterval=often",
		"NoMinRefresh":    "controller.minRefreshInterval=0",
		"StatusRate":      "controller.statusRate=0",
		"NeverStale":      "controller.staleAfter=1",
		"NoPoll":          "controller.eventQueue.pollInterval=0",
		"NoEventResync":   "controller.eventQueue.resyncPeriod=0",
		"QueueInBlank":    "controller.eventQueue.url=http://account.queue.core.windows.net/queue",
		"QueueOfBlobs":    "controller.eventQueue.url=https://account.blob.core.windows.net/queue",
		"LongWindow":      "global.keyVaultReads.shareWindow=301",
		"NoRate":          "global.keyVaultReads.rate=0",
		"OwnRate":         "controller.keyVaultReads.rate=401",
		"Burst":           "env_injector.keyVaultReads.burst=4001",
		"NoGlobalRate":    "global.keyVaultReads.rate=",
		"Unavailable":     "env_injector.onVaultUnavailable=ignore",
		"NoAge":           "env_injector.cachedMaxAge=0",
		"OldAge":          "env_injector.cachedMaxAge=604801",
		"BothDefault":     "controller.serviceAccount.create=false,env_injector.serviceAccount.create=false",
		"Warnings":        "env_injector.workloadWarnings=false",
		"AuthService":     "env_injector.authService=no broker",
		"ByLabel":         "env_injector.direct.byNamespaceLabel=direct",
		"Guard":           "env_injector.execGuard=true",
		"GuardScope":      "env_injector.execGuard.scope=pod",
		"GuardBudget":     "env_injector.execGuard.startBudget=29",
		"GuardGroup":      "env_injector.execGuard.breakGlassGroups=oncall",
		"Sources":         "env_injector.sources.configmaps=true",
		"TokenNoTenant":   "global.workloadIdentity.enabled=true,global.workloadIdentity.projectToken=true",
		"RegistryAuth":    "env_injector.registry.identity.auth=managed",
		"TokenForNobody":  "env_injector.registry.identity.projectToken=true",
		"TokenOfNobody":   "env_injector.registry.identity.projectToken=true,env_injector.registry.identity.auth=workloadIdentity",
		"MirrorNoURL":     "env_injector.registry.mirrors.ghcr\\.io={mirror.example}",
		"MirrorPassword":  "env_injector.registry.mirrors.ghcr\\.io={https://me:pw@mirror.example}",
		"InsecureURL":     "env_injector.registry.insecureRegistries={http://a.example}",
		"LongTagTTL":      "env_injector.registry.tagTTL=3601",
		"NoRegistryRate":  "env_injector.registry.rate=0",
		"NoConcurrency":   "env_injector.registry.concurrency=0",
		"PullSecrets":     "env_injector.pullSecrets=false",
		"TwoCloudConfigs": "cloudConfigFrom.secret.name=a,cloudConfigFrom.configMap.name=b",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := template(t, product, "akv2k8s", "--set", setting); err == nil {
				t.Errorf("helm accepted --set %s", setting)
			}
		})
	}
}

// TestSchemaKnowsEveryValue walks values.yaml and the schema side by side, so that
// neither can gain a key that the other lacks.
func TestSchemaKnowsEveryValue(t *testing.T) {
	t.Parallel()
	for _, chart := range []string{product, emulator} {
		t.Run(filepath.Base(chart), func(t *testing.T) {
			t.Parallel()
			var schema map[string]any
			if err := json.Unmarshal(read(t, chart, "values.schema.json"), &schema); err != nil {
				t.Fatal(err)
			}
			var values map[string]any
			if err := yaml.Unmarshal(read(t, chart, "values.yaml"), &values); err != nil {
				t.Fatal(err)
			}
			definitions, _ := schema["$defs"].(map[string]any)
			for _, problem := range compare("", schema, values, definitions) {
				t.Error(problem)
			}
		})
	}
}

func compare(path string, schema map[string]any, value any, definitions map[string]any) []string {
	if ref, ok := schema["$ref"].(string); ok {
		schema, _ = definitions[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	properties, closed := schema["properties"].(map[string]any)
	fields, isMap := value.(map[string]any)
	if !closed || !isMap {
		return nil // a scalar, or a map whose keys are the user's
	}
	var problems []string
	if schema["additionalProperties"] != false {
		problems = append(problems, fmt.Sprintf("schema of %q lets unknown keys pass", path))
	}
	for key := range properties {
		property, _ := properties[key].(map[string]any)
		if property["deprecated"] == true {
			continue // a key of akv2k8s 1.x, known to be refused with a sentence
		}
		// envImage and envDirectImage share a definition with the images of processes and need less.
		if _, ok := fields[key]; !ok && len(fields) > 0 && !strings.HasSuffix(path, "Image") {
			problems = append(problems, fmt.Sprintf("values.yaml lacks %s.%s, which the schema has", path, key))
		}
	}
	for key, inner := range fields {
		property, ok := properties[key].(map[string]any)
		if !ok {
			problems = append(problems, fmt.Sprintf("the schema lacks %s.%s", path, key))
			continue
		}
		problems = append(problems, compare(path+"."+key, property, inner, definitions)...)
	}
	return problems
}

// TestREADME holds the table of values to the comments of values.yaml.
func TestREADME(t *testing.T) {
	t.Parallel()
	const marker = "<!-- values -->\n"
	for _, chart := range []string{product, emulator} {
		t.Run(filepath.Base(chart), func(t *testing.T) {
			t.Parallel()
			var document yaml.Node
			if err := yaml.Unmarshal(read(t, chart, "values.yaml"), &document); err != nil {
				t.Fatal(err)
			}
			table := bytes.NewBufferString("| key | default | meaning |\n|---|---|---|\n")
			rows(t, table, "", document.Content[0])
			file := filepath.Join(chart, "README.md")
			got := read(t, chart, "README.md")
			intro, _, found := bytes.Cut(got, []byte(marker))
			if !found {
				t.Fatalf("%s has no line %q", file, marker)
			}
			want := append(append(bytes.Clone(intro), marker+"\n"...), table.Bytes()...)
			if *update {
				if err := os.WriteFile(file, want, 0o644); err != nil {
					t.Fatal(err)
				}
			} else if !bytes.Equal(want, got) {
				t.Errorf("%s is not what values.yaml says; -update rewrites it:\n%s", file, diff.Diff("README.md", got, "values.yaml", want))
			}
		})
	}
}

// rows writes one row for each key that has a description, and complains about
// values without one.
func rows(t *testing.T, table *bytes.Buffer, path string, node *yaml.Node) {
	t.Helper()
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := strings.TrimPrefix(path+"."+key.Value, ".")
		_, description, described := strings.Cut(key.HeadComment, "# -- ")
		switch {
		case described:
			fmt.Fprintf(table, "| `%s` | `%s` | %s |\n", name, inline(t, value), strings.ReplaceAll(description, "|", `\|`))
		case value.Kind == yaml.MappingNode && len(value.Content) > 0:
			rows(t, table, name, value)
		default:
			t.Errorf("values.yaml does not describe %s", name)
		}
	}
}

func inline(t *testing.T, node *yaml.Node) string {
	t.Helper()
	if node.Kind == yaml.ScalarNode && node.Value == "" {
		return `""`
	}
	if node.Kind == yaml.ScalarNode {
		return node.Value
	}
	var value any
	if err := node.Decode(&value); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func read(t *testing.T, parts ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestNotes renders the notes, which helm template leaves out, as a template of
// another name.
func TestNotes(t *testing.T) {
	t.Parallel()
	files := cases(t)
	for name, tc := range map[string]struct {
		values string
		says   []string
		not    []string
	}{
		"Default":          {"", []string{"controller and broker run as root", "workload identity", "kubectl label namespace NAME azure-key-vault-env-injection=enabled"}, nil},
		"ControllerAlone":  {files["controller-alone"], []string{"controller runs as root"}, []string{"broker", "kubectl label"}},
		"WorkloadIdentity": {files["workload-identity"], []string{"kubectl get akvs --all-namespaces"}, []string{"root"}},
		"OneNamespace":     {files["one-namespace"], []string{"--namespace akv2k8s-system"}, []string{"--all-namespaces"}},
		"NoBroker":         {files["no-broker"], []string{"There is no broker", "controller runs as root"}, []string{"broker run"}},
		"Ignore":           {files["scheduling"], []string{"failurePolicy is Ignore"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			notes := notes(t, tc.values)
			for _, part := range tc.says {
				if !strings.Contains(notes, part) {
					t.Errorf("the notes lack %q:\n%s", part, notes)
				}
			}
			for _, part := range tc.not {
				if strings.Contains(notes, part) {
					t.Errorf("the notes have %q:\n%s", part, notes)
				}
			}
		})
	}
}

func notes(t *testing.T, values string) string {
	t.Helper()
	chart := filepath.Join(t.TempDir(), "akv2k8s")
	if err := os.CopyFS(chart, os.DirFS(product)); err != nil {
		t.Fatal(err)
	}
	from, to := filepath.Join(chart, "templates/NOTES.txt"), filepath.Join(chart, "notes.tpl")
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	render := `notes: {{ tpl (.Files.Get "notes.tpl") . | quote }}`
	if err := os.WriteFile(filepath.Join(chart, "templates/notes.yaml"), []byte(render), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--show-only", "templates/notes.yaml"}
	if values != "" {
		args = append(args, "--values", values)
	}
	var out struct {
		Notes string `yaml:"notes"`
	}
	if err := yaml.Unmarshal(mustTemplate(t, chart, "akv2k8s", args...), &out); err != nil {
		t.Fatal(err)
	}
	return out.Notes
}
