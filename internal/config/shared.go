// SPDX-License-Identifier: Apache-2.0

package config

import "errors"

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
