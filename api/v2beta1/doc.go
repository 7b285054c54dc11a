// SPDX-License-Identifier: Apache-2.0

// Package v2beta1 is the public API: the AzureKeyVaultSecret kind, the
// conditions and reasons it reports, and nothing else.
//
// The four served versions v1alpha1, v1, v2alpha1 and v2beta1 share this one
// schema, so that a manifest written for any of them means the same.
//
// +kubebuilder:object:generate=true
// +groupName=spv.no
package v2beta1
