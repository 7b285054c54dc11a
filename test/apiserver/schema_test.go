// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// aSpec is a manifest with this object and output.
func aSpec(name, object, rest string) string {
	return "kind: AzureKeyVaultSecret\nmetadata: {name: " + name + "}\nspec:\n  vault: {name: my-kv, object: {" + object + "}}\n  " + rest + "\n"
}

// The same golden for what the options of outputs refuse; every sentence names the
// field, and what to write instead.
func TestRefusalsOfOptionsReadWell(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	const db, web, key = "name: db, type: secret", "name: web, type: certificate", "name: rsa, type: key"
	const multi = "name: db, type: multi-key-value-secret, contentType: application/x-yaml"
	output := func(text string) string { return "output: {" + text + "}" }
	secretWith := func(text string) string { return output("secret: {name: out, dataKey: k, " + text + "}") }
	refresh := func(text string) string { return "refresh: {" + text + "}" }
	var got strings.Builder
	for _, tc := range []struct{ name, object, rest string }{
		{"IntervalOfNothing", db, refresh("interval: 10x")},
		{"IntervalZero", db, refresh("interval: 0s")},
		{"IntervalNegative", db, refresh("interval: -10s")},
		{"IntervalNumber", db, refresh("interval: 30")},
		{"IntervalEmpty", db, refresh("interval: ''")},
		{"IntervalTooLong", db, refresh("interval: 100000000000000000000000000h")},
		{"IntervalFraction", db, refresh("interval: 1.5h")},
		{"IntervalOnChange", db, refresh("policy: OnChange, interval: 10m")},
		{"IntervalOnce", db, refresh("policy: Once, interval: 10m")},
		{"Policy", db, refresh("policy: Always")},
		{"FormatOfASecret", db, output("format: pem, secret: {name: out, dataKey: k}")},
		{"FormatOfACertificate", web, output("format: pem, secret: {name: out, dataKey: k}")},
		{"Format", key, output("format: der, secret: {name: out, dataKey: k}")},
		{"AnnotationOfKubernetes", db, secretWith("annotations: {kubernetes.io/service-account.name: default}")},
		{"AnnotationBelowKubernetes", db, secretWith("annotations: {kubectl.kubernetes.io/last-applied-configuration: x}")},
		{"AnnotationOfConfigMap", db, output("configMap: {name: out, dataKey: k, annotations: {x.k8s.io/y: z}}")},
		{"TypeOfServiceAccounts", db, output("secret: {name: out, dataKey: k, type: kubernetes.io/service-account-token}")},
		{"TypeOfBootstrap", db, output("secret: {name: out, dataKey: k, type: bootstrap.kubernetes.io/token}")},
		{"DataKeyOfCertificate", web, output("secret: {name: out}")},
		{"DataKeyOfCertificateOpaque", web, output("secret: {name: out, type: Opaque}")},
		{"DataKeyOfCertificateAsLogin", web, output("secret: {name: out, type: kubernetes.io/basic-auth}")},
		{"DataKeyOfKey", key, output("secret: {name: out}")},
		{"DataKeyOfKeyAsTLS", key, output("secret: {name: out, type: kubernetes.io/tls}")},
		{"DataKeyOfCustom", db, output("secret: {name: out, type: example.com/x}")},
		{"DataKeyEmpty", db, output("secret: {name: out, dataKey: ''}")},
		{"DataKeyOfConfigMap", db, output("configMap: {name: out}")},
		{"DataKeyOfConfigMapEmpty", db, output("configMap: {name: out, dataKey: ''}")},
		{"DataKeyOfConfigMapInvalid", db, output("configMap: {name: out, dataKey: a b}")},
		{"ConfigMapName", multi, output("configMap: {name: a_b}")},
		{"ConfigMapNameMissing", multi, output("configMap: {}")},
		{"Adopt", db, secretWith("adopt: maybe")},
		{"Labels", db, secretWith("labels: {a: 1}")},
	} {
		err := admin.Create(t.Context(), manifest(t, aSpec("bad", tc.object, tc.rest), "v2beta1", ns))
		if err == nil {
			t.Errorf("%s was accepted", tc.name)
			_ = admin.Delete(t.Context(), manifest(t, aSpec("bad", tc.object, tc.rest), "v2beta1", ns))
			continue
		}
		fmt.Fprintf(&got, "%s\n  %s\n", tc.name, strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	golden(t, "refusals-options.txt", got.String())
}

// What users of the original have in their repositories, odd spellings that its
// schema asked for or let pass among them.
func TestManifestsOfTheOriginalAreTaken(t *testing.T) {
	t.Parallel()
	const multi = "name: db, type: multi-key-value-secret, contentType: application/x-json"
	// Every version of the original has these.
	all := map[string]string{
		"no-output":         aSpec("no-output", "name: db, type: secret", ""),
		"opaque":            aSpec("opaque", "name: db, type: secret", "output: {secret: {name: out, dataKey: k}}"),
		"opaque-written":    aSpec("opaque-written", "name: db, type: secret", "output: {secret: {name: out, dataKey: k, type: Opaque}}"),
		"type-empty":        aSpec("type-empty", "name: db, type: secret", "output: {secret: {name: out, dataKey: k, type: ''}}"),
		"version":           aSpec("version", "name: db, type: secret, version: 0123456789abcdef0123456789abcdef", "output: {secret: {name: out, dataKey: k}}"),
		"version-empty":     aSpec("version-empty", "name: db, type: secret, version: ''", "output: {secret: {name: out, dataKey: k}}"),
		"login":             aSpec("login", "name: db, type: secret", "output: {secret: {name: out, type: kubernetes.io/basic-auth}}"),
		"login-datakey":     aSpec("login-datakey", "name: db, type: secret", "output: {secret: {name: out, type: kubernetes.io/basic-auth, dataKey: k}}"),
		"docker":            aSpec("docker", "name: db, type: secret", "output: {secret: {name: out, type: kubernetes.io/dockerconfigjson}}"),
		"dockercfg":         aSpec("dockercfg", "name: db, type: secret", "output: {secret: {name: out, type: kubernetes.io/dockercfg}}"),
		"ssh":               aSpec("ssh", "name: db, type: secret", "output: {secret: {name: out, type: kubernetes.io/ssh-auth}}"),
		"pfx":               aSpec("pfx", "name: db, type: secret", "output: {secret: {name: out, type: kubernetes.io/tls}}"),
		"tls":               aSpec("tls", "name: web, type: certificate", "output: {secret: {name: out, type: kubernetes.io/tls}}"),
		"tls-datakey":       aSpec("tls-datakey", "name: web, type: certificate", "output: {secret: {name: out, type: kubernetes.io/tls, dataKey: k}}"),
		"tls-datakey-empty": aSpec("tls-datakey-empty", "name: web, type: certificate", "output: {secret: {name: out, type: kubernetes.io/tls, dataKey: ''}}"),
		"public":            aSpec("public", "name: web, type: certificate", "output: {secret: {name: out, dataKey: k}}"),
		"export":            aSpec("export", "name: web, type: certificate", "output: {secret: {name: out, type: Opaque, dataKey: k}}"),
		"key":               aSpec("key", "name: rsa, type: key", "output: {secret: {name: out, dataKey: k}}"),
		"multi":             aSpec("multi", multi, "output: {secret: {name: out}}"),
		"multi-datakey":     aSpec("multi-datakey", multi, "output: {secret: {name: out, type: Opaque, dataKey: k}}"),
		"multi-empty":       aSpec("multi-empty", multi, "output: {secret: {name: out, dataKey: ''}}"),
		"content-type":      aSpec("content-type", "name: db, type: secret, contentType: application/x-yaml", "output: {secret: {name: out, dataKey: k}}"),
	}
	newer := map[string]string{
		"transform":       aSpec("transform", "name: db, type: secret", "output: {transform: [trim, base64decode, base64encode], secret: {name: out, dataKey: k}}"),
		"transform-empty": aSpec("transform-empty", "name: db, type: secret", "output: {transform: [], secret: {name: out, dataKey: k}}"),
		"transform-key":   aSpec("transform-key", "name: rsa, type: key", "output: {transform: [trim], secret: {name: out, dataKey: k}}"),
		"chain-order":     aSpec("chain-order", "name: web, type: certificate", "output: {secret: {name: out, type: kubernetes.io/tls, chainOrder: ensureserverfirst}}"),
	}
	newest := map[string]string{
		"map":            aSpec("map", "name: db, type: secret", "output: {configMap: {name: out, dataKey: k}}"),
		"map-multi":      aSpec("map-multi", multi, "output: {configMap: {name: out, dataKey: ignored}}"),
		"map-empty":      aSpec("map-empty", multi, "output: {configMap: {name: out, dataKey: ''}}"), // its schema wanted the field
		"both":           aSpec("both", "name: db, type: secret", "output: {secret: {name: out, dataKey: k}, configMap: {name: out, dataKey: k}}"),
		"identity":       strings.Replace(aSpec("identity", "name: db, type: secret", "output: {secret: {name: out, dataKey: k}}"), "name: my-kv,", "name: my-kv, azureIdentity: {name: x},", 1),
		"identity-empty": strings.Replace(aSpec("identity-empty", "name: db, type: secret", "output: {secret: {name: out, dataKey: k}}"), "name: my-kv,", "name: my-kv, azureIdentity: {name: ''},", 1),
	}
	oldest := map[string]string{
		"transforms": aSpec("transforms", "name: db, type: secret", "output: {transforms: [trim], secret: {name: out, dataKey: k}}"),
	}
	for version, sets := range map[string][]map[string]string{
		"v1alpha1": {all, oldest}, "v1": {all, newer}, "v2alpha1": {all, newer, newest}, "v2beta1": {all, newer, newest},
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			for _, set := range sets {
				for name, text := range set {
					if err := admin.Create(t.Context(), manifest(t, text, version, ns), client.FieldValidation("Strict")); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		})
	}
}

// Times that people write.
func TestIntervals(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	for i, interval := range []string{"90s", "10m", "24h", "1h30m", "1h0m5s", "0h10m"} {
		text := aSpec(fmt.Sprintf("i%d", i), "name: db, type: secret", "refresh: {interval: "+interval+"}")
		if err := admin.Create(t.Context(), manifest(t, text, "v2beta1", ns), client.FieldValidation("Strict")); err != nil {
			t.Errorf("%s: %v", interval, err)
		}
	}
}
