// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/internal/config"
)

func brokerDefaults() config.Broker {
	return config.Broker{
		Log:     config.Log{Level: "info", Format: "text"},
		Azure:   config.Azure{AuthType: config.AuthCloudConfig, CloudConfig: config.DefaultConfigPath},
		TLSPort: 9443, HTTPPort: 8080,
		CertDir: "/etc/azure-keyvault-broker/tls",
		Reading: config.Reading{ShareWindow: 5 * time.Second, Rate: 100, Burst: 500}, OnVaultUnavailable: "fail", CachedMaxAge: time.Hour,
	}
}

func TestParseBroker(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args []string
		env  map[string]string
		want func(*config.Broker)
	}{
		"Defaults":  {nil, nil, func(*config.Broker) {}},
		"Flags":     {[]string{"--tls-port=1", "--http-port", "2", "--cert-dir=/x"}, nil, func(b *config.Broker) { b.TLSPort, b.HTTPPort, b.CertDir = 1, 2, "/x" }},
		"Variables": {nil, map[string]string{"TLS_PORT": "1", "AUTH_TYPE": "environment"}, func(b *config.Broker) { b.TLSPort, b.Azure.AuthType = 1, "environment" }},
		"Reading": {nil, map[string]string{"SHARE_WINDOW": "0", "VAULT_RATE": "7", "VAULT_BURST": "8"}, func(b *config.Broker) {
			b.Reading = config.Reading{Rate: 7, Burst: 8}
		}},
		"Cached": {[]string{"--on-vault-unavailable=use-cached", "--cached-max-age=24h"}, nil, func(b *config.Broker) {
			b.OnVaultUnavailable, b.CachedMaxAge = config.UnavailableUseCached, 24*time.Hour
		}},
		"Guarding":       {nil, map[string]string{"EXEC_GUARD_START_BUDGET": "3m"}, func(b *config.Broker) { b.ExecGuardBudget = 3 * time.Minute }},
		"FlagOutranks":   {[]string{"--tls-port=3"}, map[string]string{"TLS_PORT": "1"}, func(b *config.Broker) { b.TLSPort = 3 }},
		"EmptyIsDefault": {nil, map[string]string{"TLS_PORT": ""}, func(*config.Broker) {}},
		"Version":        {[]string{"--version"}, nil, func(b *config.Broker) { b.Version = true }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := brokerDefaults()
			tc.want(&want)
			got, err := config.ParseBroker(tc.args, func(n string) string { return tc.env[n] }, &bytes.Buffer{})
			if d := cmp.Diff(want, got); d != "" || err != nil {
				t.Errorf("%v, -want +got\n%s", err, d)
			}
		})
	}
}

// Every problem is named at once, by its flag.
func TestParseBrokerRefuses(t *testing.T) {
	t.Parallel()
	nothing := func(string) string { return "" }
	_, err := config.ParseBroker([]string{"--auth-type=x", "--log-level=x", "--logging-format=x", "--tls-port=0", "--http-port=70000", "--cert-dir=", "--share-window=6m", "--vault-rate=401", "--vault-burst=0", "--on-vault-unavailable=x", "--cached-max-age=169h", "--exec-guard-start-budget=29s"}, nothing, &bytes.Buffer{})
	for _, flag := range []string{"--auth-type", "--log-level", "--logging-format", "--tls-port", "--http-port", "--cert-dir", "--share-window", "--vault-rate", "--vault-burst", "--on-vault-unavailable", "--cached-max-age", "--exec-guard-start-budget"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not in %v", flag, err)
		}
	}
	if _, err := config.ParseBroker([]string{"--tls-port=8080"}, nothing, &bytes.Buffer{}); err == nil {
		t.Error("two servers on one port")
	}
	if _, err := config.ParseBroker([]string{"serve"}, nothing, &bytes.Buffer{}); err == nil {
		t.Error("an argument that is no flag")
	}
	if _, err := config.ParseBroker(nil, func(n string) string { return map[string]string{"TLS_PORT": "s3cr3t"}[n] }, &bytes.Buffer{}); err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("a variable that does not parse: %v", err)
	}
}

func TestParseBrokerHelp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	_, err := config.ParseBroker([]string{"-h"}, func(string) string { return "" }, &out)
	if !errors.Is(err, config.ErrHelp) || !strings.Contains(out.String(), "--tls-port") || !strings.Contains(out.String(), "TLS_PORT") {
		t.Errorf("%v: %s", err, &out)
	}
}
