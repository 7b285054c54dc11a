// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/internal/config"
)

// webhookVariables are those that the chart sets.
func webhookVariables() map[string]string {
	return map[string]string{
		"POD_NAMESPACE": "akv2k8s", "WEBHOOK_SERVICE": "x-env-injector", "WEBHOOK_CONFIGURATION": "x-env-injector",
		"BROKER_SERVICE": "x-broker", "CA_SECRET": "x-ca", "BROKER_TLS_SECRET": "x-broker-tls",
		"AZUREKEYVAULT_ENV_IMAGE": "registry.example/azure-keyvault-env:1",
	}
}

func webhookDefaults() config.Webhook {
	return config.Webhook{
		Log:     config.Log{Level: "info", Format: "text"},
		TLSPort: 8443, HTTPPort: 8080, DrainTime: 10 * time.Second,
		Namespace: "akv2k8s", Service: "x-env-injector", Registration: "x-env-injector",
		AuthService: true, BrokerService: "x-broker", AuthoritySecret: "x-ca", BrokerSecret: "x-broker-tls",
		LeafLife: 90 * 24 * time.Hour,
		EnvImage: "registry.example/azure-keyvault-env:1", PullPolicy: "IfNotPresent", Delivery: "initContainer",
		Installer:      config.InstallerResources{RequestsCPU: "5m", RequestsMemory: "32Mi", LimitsMemory: "32Mi"},
		Direct:         config.Direct{PullPolicy: "IfNotPresent"},
		ReadConfigMaps: true, ReadSecrets: true,
		Registries: config.Registries{
			Timeout: 8 * time.Second, TagTTL: 30 * time.Second, Rate: 20, Concurrency: 10, PullSecrets: true, CloudConfig: config.DefaultConfigPath,
		},
	}
}

func TestWebhookHelp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if _, err := config.ParseWebhook([]string{"-h"}, variables(nil), &out); !errors.Is(err, config.ErrHelp) {
		t.Errorf("error %v, want %v", err, config.ErrHelp)
	}
	golden(t, "webhook-help.txt", out.String())
}

func TestParseWebhook(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args   []string
		env    map[string]string
		change func(*config.Webhook)
	}{
		"Chart": {nil, nil, func(*config.Webhook) {}},
		"Guarding": {nil, map[string]string{"EXEC_GUARD_GROUPS": "oidc:a, b\ncn=c,dc=d"}, func(w *config.Webhook) {
			w.BreakGlassGroups = []string{"oidc:a, b", "cn=c,dc=d"}
		}},
		"Variables": {
			nil,
			map[string]string{
				"TLS_PORT": "9443", "HTTP_PORT": "9080", "WEBHOOK_CONTAINER_IMAGE_PULL_POLICY": "Always", "CA_BUNDLE": "/ca.pem",
				"DOCKER_IMAGE_INSPECTION_TIMEOUT": "20", "WEBHOOK_INIT_CONTAINER_LIMITS_CPU": "1", "DRAIN_TIME": "0",
				"ADVICE_CONFIGURATION": "x-advice", "DELIVERY": "auto", "READ_SECRETS": "false",
				"IMAGE_TAG_TTL": "0", "REGISTRY_RATE": "5", "REGISTRY_CONCURRENCY": "2", "PULL_SECRETS": "false", "PULL_SECRET_NAMESPACES": "a,b",
				"REGISTRY_MIRRORS": "docker.io=https://mirror.example/hub docker.io=http://other.example:5000", "INSECURE_REGISTRIES": "a.example:5000,localhost",
				"REGISTRY_AUTH": "environment", "CLOUD_CONFIG": "/azure.json", "AZURE_ENVIRONMENT": "AzureChinaCloud",
			},
			func(w *config.Webhook) {
				w.Advice = "x-advice"
				w.TLSPort, w.HTTPPort, w.PullPolicy, w.CABundle = 9443, 9080, "Always", "/ca.pem"
				w.Installer.LimitsCPU, w.DrainTime, w.Delivery, w.ReadSecrets = "1", 0, "auto", false
				w.Registries = config.Registries{
					Timeout: 20 * time.Second, Rate: 5, Concurrency: 2, AuthType: "environment", CloudConfig: "/azure.json", Environment: "AzureChinaCloud",
					Mirrors: "docker.io=https://mirror.example/hub docker.io=http://other.example:5000", Insecure: "a.example:5000,localhost", Namespaces: "a,b",
				}
			},
		},
		"NoBroker": {
			nil,
			map[string]string{
				"AUTH_SERVICE": "false", "BROKER_SERVICE": "", "BROKER_TLS_SECRET": "", "AZUREKEYVAULT_ENV_IMAGE": "",
				"AZUREKEYVAULT_ENV_DIRECT_IMAGE": "registry.example/azure-keyvault-env-direct:1", "DIRECT_IMAGE_PULL_POLICY": "Never",
				"DIRECT_TENANT_ID": "tenant", "DIRECT_AZURE_ENVIRONMENT": "AzureChinaCloud", "DIRECT_VAULT_DNS_SUFFIX": "vault.example",
			},
			func(w *config.Webhook) {
				w.AuthService, w.BrokerService, w.BrokerSecret, w.EnvImage = false, "", "", ""
				w.Direct = config.Direct{
					Image: "registry.example/azure-keyvault-env-direct:1", PullPolicy: "Never",
					TenantID: "tenant", Environment: "AzureChinaCloud", VaultSuffix: "vault.example",
				}
			},
		},
		"FlagsOutrankVariables": {
			[]string{"--tls-port=1", "--namespace=other"},
			map[string]string{"TLS_PORT": "2"},
			func(w *config.Webhook) { w.TLSPort, w.Namespace = 1, "other" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := webhookVariables()
			maps.Copy(env, tc.env)
			want := webhookDefaults()
			tc.change(&want)
			got, err := config.ParseWebhook(tc.args, variables(env), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// Everything that is wrong is said at once.
func TestParseWebhookComplains(t *testing.T) {
	t.Parallel()
	_, err := config.ParseWebhook([]string{
		"--tls-port=0", "--http-port=0", "--env-image-pull-policy=Sometimes", "--init-container-limits-memory=much",
		"--init-container-requests-cpu=2", "--init-container-limits-cpu=1", "--image-timeout=1ms", "--drain-time=2h",
		"--serving-certificate-life=9m", "--log-level=loud", "--delivery=post", "--image-tag-ttl=2h", "--registry-rate=0", "--registry-concurrency=0",
		"--registry-mirrors=docker.io=https://me:hunter2@mirror.example library=https://mirror.example", "--insecure-registries=nodots", "--registry-auth=magic",
	}, variables(nil), io.Discard)
	if err == nil {
		t.Fatal("nothing to complain about")
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password is told: %v", err)
	}
	for _, want := range []string{
		"--tls-port: 0 is not a port", "--http-port: 0 is not", "both are 0", "--env-image-pull-policy", "--init-container-limits-memory: \"much\"",
		"request of cpu is more than its limit", "--image-timeout", "--drain-time", "--serving-certificate-life", "--log-level", `--delivery: "post" is not one of auto, initContainer, imageVolume`,
		"--namespace: is required", "--service: is required", "--webhook-configuration: is required", "--broker-service: is required",
		"--image-tag-ttl", "--registry-rate", "--registry-concurrency", "the mirror of \"docker.io\"", "the mirror of \"library\"",
		"--insecure-registries: \"nodots\"", "--registry-auth", "--ca-secret: is required", "--broker-tls-secret: is required", "--env-image: is required",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in\n%v", want, err)
		}
	}
}

func TestParseWebhookWithoutBrokerComplains(t *testing.T) {
	t.Parallel()
	_, err := config.ParseWebhook([]string{"--auth-service=false", "--direct-env-image-pull-policy=Sometimes"}, variables(nil), io.Discard)
	for _, want := range []string{"--direct-env-image: is required", "--direct-env-image-pull-policy"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "--broker") {
		t.Errorf("it asks for a broker: %v", err)
	}
}

func TestParseMirrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		want map[string][]string // nil is a complaint
	}{
		"None":     {"", map[string][]string{}},
		"Several":  {"docker.io=https://a.example/hub\n docker.io=http://b.example:5000 c.example:5000=https://d.example", map[string][]string{"docker.io": {"https://a.example/hub", "http://b.example:5000"}, "c.example:5000": {"https://d.example"}}},
		"NoURL":    {"docker.io", nil},
		"NoScheme": {"docker.io=mirror.example", nil},
		"NotHTTP":  {"docker.io=ftp://mirror.example", nil},
		"NoHost":   {"docker.io=https://mirror", nil},
		"Query":    {"docker.io=https://mirror.example?x=y", nil},
		"Password": {"docker.io=https://me:pw@mirror.example", nil},
		"Path":     {"docker.io/library=https://mirror.example", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mirrors, err := config.ParseMirrors(tc.text)
			if (err != nil) != (tc.want == nil) {
				t.Fatalf("error %v", err)
			}
			got := map[string][]string{}
			for registry, urls := range mirrors {
				for _, u := range urls {
					got[registry] = append(got[registry], u.String())
				}
			}
			if d := cmp.Diff(tc.want, got); tc.want != nil && d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestReadsPullSecrets(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		registries config.Registries
		want       bool
	}{
		"Everywhere": {config.Registries{PullSecrets: true}, true},
		"Here":       {config.Registries{PullSecrets: true, Namespaces: "other, team"}, true},
		"Elsewhere":  {config.Registries{PullSecrets: true, Namespaces: "other,teams"}, false},
		"Nowhere":    {config.Registries{Namespaces: "team"}, false},
	} {
		if got := tc.registries.ReadsPullSecrets("team"); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
