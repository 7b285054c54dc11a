// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"time"
)

// Log says how a binary logs.
type Log struct {
	Level  string // error, warn, info, debug
	Format string // json, text
}

func (l *Log) declare(o *options) {
	o.text(&l.Level, "log-level", "LOG_LEVEL", "info", "what to log: error, warn, info or debug")
	o.text(&l.Format, "logging-format", "LOG_FORMAT", "text", "how to log: text or json")
}

func (l *Log) validate() error {
	return errors.Join(
		oneOf("--log-level", l.Level, "error", "warn", "info", "debug"),
		oneOf("--logging-format", l.Format, "text", "json"),
	)
}

// The ways of signing in, as users of AUTH_TYPE know them.
const (
	AuthCloudConfig   = "azureCloudConfig"
	AuthEnvironment   = "environment"
	AuthAzidentity    = "environment-azidentity"
	DefaultConfigPath = "/etc/kubernetes/azure.json"
)

// Azure says how a binary signs in and where its vaults are.
type Azure struct {
	AuthType    string // AuthCloudConfig, AuthEnvironment or AuthAzidentity
	CloudConfig string // path of the node's azure.json, for AuthCloudConfig
	Environment string // name of the cloud, for the other two; empty is the public one
	VaultSuffix string // DNS suffix of the vaults; empty is the cloud's
	CABundle    string // PEM file of authorities to trust besides the usual ones; empty adds none
}

func (a *Azure) declare(o *options) {
	o.text(&a.AuthType, "auth-type", "AUTH_TYPE", AuthCloudConfig,
		"how to sign in to Azure: azureCloudConfig (the node's azure.json), environment (AZURE_* variables) or environment-azidentity (every way that the Azure SDK knows, workload identity among them)")
	o.text(&a.CloudConfig, "cloudconfig", "CLOUD_CONFIG", DefaultConfigPath, "path of azure.json")
	o.text(&a.Environment, "azure-environment", "AZURE_ENVIRONMENT", "",
		"the Azure cloud: AzurePublicCloud, AzureChinaCloud or AzureUSGovernmentCloud; azure.json names its own")
	o.text(&a.VaultSuffix, "vault-dns-suffix", "VAULT_DNS_SUFFIX", "", "DNS suffix of the vaults, when the cloud's own does not fit")
	o.text(&a.CABundle, "ca-bundle", "CA_BUNDLE", "",
		"PEM file of certificate authorities to trust besides the usual ones, for a proxy that opens TLS")
}

func (a *Azure) validate() error {
	return oneOf("--auth-type", a.AuthType, AuthCloudConfig, AuthEnvironment, AuthAzidentity)
}

// Reading is how the vaults are spared.
type Reading struct {
	ShareWindow time.Duration // how long an answer may be given again; zero is not at all
	Rate        int           // requests per second to one vault, in the long run
	Burst       int           // requests to one vault at once, after a quiet time
}

func (r *Reading) declare(o *options) {
	o.duration(&r.ShareWindow, "share-window", "SHARE_WINDOW", 5*time.Second,
		"how long an answer of a vault may be given again: the longest time that a withdrawn permission or a new value goes unnoticed at the start of a pod; 0 shares only reads that are under way")
	o.integer(&r.Rate, "vault-rate", "VAULT_RATE", 100, "requests per second that this process sends to one vault, in the long run; Key Vault takes 4000 in 10 seconds of all its clients together")
	o.integer(&r.Burst, "vault-burst", "VAULT_BURST", 500, "requests that this process sends to one vault at once, after a quiet time")
}

// maxShareWindow keeps a mistake from hiding a rotation for hours.
const maxShareWindow = 5 * time.Minute

func (r *Reading) validate() error {
	errs := []error{between("--vault-rate", r.Rate, 1, 400), between("--vault-burst", r.Burst, 1, 4000)}
	if r.ShareWindow < 0 || r.ShareWindow > maxShareWindow {
		errs = append(errs, fmt.Errorf("--share-window: %s is not between 0 and %s", r.ShareWindow, maxShareWindow))
	}
	return errors.Join(errs...)
}
