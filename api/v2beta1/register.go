// SPDX-License-Identifier: Apache-2.0

package v2beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kind is the one kind of this API.
const Kind = "AzureKeyVaultSecret"

// GroupVersion names this API.
var GroupVersion = schema.GroupVersion{Group: "spv.no", Version: "v2beta1"}

// AddToScheme teaches a scheme these types.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &AzureKeyVaultSecret{}, &AzureKeyVaultSecretList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
