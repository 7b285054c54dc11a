// SPDX-License-Identifier: Apache-2.0

// Package release turns the product's programs into container images: it
// compiles each one, puts the binary alone into an image, and pushes or stores
// an index over all platforms. No container engine takes part, and the same
// source gives the same digest wherever it is built, so that anyone can check
// a published image by building it again.
//
// It knows nothing of what the programs do. Start at Builder.
package release

import (
	"cmp"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A Product is one program and the image that it is shipped in.
type Product struct {
	Binary  string // folder under cmd/
	Image   string // last part of the image's name
	Title   string
	Summary string
	File    string // at the image's root; empty is Binary
}

// RootFile is the one file of the image.
func (p Product) RootFile() string { return cmp.Or(p.File, p.Binary) }

// Products are the images of a release. Their names are part of what users
// write into values files: renaming one breaks an upgrade.
func Products() []Product {
	return []Product{
		{
			"azure-keyvault-controller", "azure-keyvault-controller", "Azure Key Vault Controller",
			"Keeps Kubernetes Secrets and ConfigMaps equal to objects in Azure Key Vault", "",
		},
		{
			"azure-keyvault-secrets-webhook", "azure-keyvault-webhook", "Azure Key Vault Env Injector webhook",
			"Prepares pods whose environment names objects in Azure Key Vault", "",
		},
		{
			"azure-keyvault-broker", "azure-keyvault-broker", "Azure Key Vault Env Injector broker",
			"Answers a starting container with the values its pod may have", "",
		},
		{
			"azure-keyvault-env", "azure-keyvault-env", "Azure Key Vault Env Injector wrapper",
			"Fills a process's environment from Azure Key Vault and becomes that process", "",
		},
		{
			"azure-keyvault-env-direct", "azure-keyvault-env-direct", "Azure Key Vault Env Injector wrapper without broker",
			"Fills a process's environment from Azure Key Vault, signed in as its pod, and becomes that process", "azure-keyvault-env",
		},
		{
			"keyvault-emulator", "keyvault-emulator", "Azure Key Vault emulator",
			"Speaks the wire protocol of Azure Key Vault for development and tests", "",
		},
	}
}

// Select returns the products with these image names, or all for none.
func Select(all []Product, images []string) ([]Product, error) {
	if len(images) == 0 {
		return all, nil
	}
	var chosen []Product
	for _, image := range images {
		at := slices.IndexFunc(all, func(p Product) bool { return p.Image == image })
		if at < 0 {
			return nil, fmt.Errorf("there is no image named %q", image)
		}
		chosen = append(chosen, all[at])
	}
	return chosen, nil
}

// Platforms reads a list such as linux/amd64,linux/arm64.
func Platforms(list []string) ([]v1.Platform, error) {
	var platforms []v1.Platform
	for _, text := range list {
		p, err := v1.ParsePlatform(text)
		if err != nil || p.OS != "linux" || goarch[p.Architecture] == nil {
			return nil, fmt.Errorf("platform %q: want linux/amd64 or linux/arm64", text)
		}
		platforms = append(platforms, *p)
	}
	if len(platforms) == 0 {
		return nil, fmt.Errorf("no platform given: want linux/amd64, linux/arm64 or both")
	}
	return platforms, nil
}
