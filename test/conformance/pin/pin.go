// SPDX-License-Identifier: Apache-2.0

// Package pin names what the suites are compiled from, so that "go mod tidy" keeps it. Nothing imports it.
package pin

import (
	_ "github.com/Azure/azure-sdk-for-go/sdk/internal/mock"
	_ "github.com/Azure/azure-sdk-for-go/sdk/internal/recording"
	_ "github.com/Azure/azure-sdk-for-go/sdk/internal/test/credential"
	_ "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	_ "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	_ "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	_ "github.com/stretchr/testify/require"
)
