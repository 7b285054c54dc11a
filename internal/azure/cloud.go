// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
)

// Cloud is one of the separate Azures: where its vaults are and where one signs in.
type Cloud struct {
	Name           string
	VaultSuffix    string // of a vault's host name, without the leading dot
	queueSuffix    string // of a storage account's host name for queues, likewise
	registrySuffix string // of a container registry's host name, likewise
	authority      cloud.Configuration
}

// clouds lists what ParseCloud knows. The public cloud leaves the authority to
// the SDK, which honours AZURE_AUTHORITY_HOST for it.
var clouds = []struct {
	Cloud

	aliases []string
}{
	{Cloud{"AzurePublicCloud", "vault.azure.net", "queue.core.windows.net", "azurecr.io", cloud.Configuration{}}, []string{"", "azurecloud", "azurepublic"}},
	{Cloud{"AzureChinaCloud", "vault.azure.cn", "queue.core.chinacloudapi.cn", "azurecr.cn", cloud.AzureChina}, []string{"azurechina"}},
	{Cloud{"AzureUSGovernmentCloud", "vault.usgovcloudapi.net", "queue.core.usgovcloudapi.net", "azurecr.us", cloud.AzureGovernment}, []string{"azureusgovernment", "azuregovernment"}},
}

// ParseCloud finds a cloud by its name in any case; empty is the public cloud.
func ParseCloud(name string) (Cloud, error) {
	var known []string
	for _, c := range clouds {
		known = append(known, c.Name)
		for _, alias := range append(c.aliases, c.Name) {
			if strings.EqualFold(alias, name) {
				return c.Cloud, nil
			}
		}
	}
	return Cloud{}, fmt.Errorf("the Azure cloud is not one of %s", strings.Join(known, ", "))
}

// A suffix is chosen by the operator only: it decides which hosts may ever see a
// token of ours. A port is for development.
var suffixPattern = regexp.MustCompile(`\A[a-z0-9-]+(\.[a-z0-9-]+)+(:[0-9]{1,5})?\z`)

func parseSuffix(suffix string) (string, error) {
	suffix = strings.ToLower(strings.TrimPrefix(suffix, "."))
	if !suffixPattern.MatchString(suffix) {
		return "", fmt.Errorf("the vault DNS suffix %q is not a domain such as vault.azure.net", suffix)
	}
	return suffix, nil
}
