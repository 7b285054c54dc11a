// SPDX-License-Identifier: Apache-2.0

package v2beta1_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// One schema for all versions: nothing is lost between them without a conversion.
func TestTheFourVersionsAreOne(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../charts/akv2k8s/files/azurekeyvaultsecrets.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &crd); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range crd.Spec.Versions {
		names = append(names, v.Name)
		if !v.Served || v.Storage != (v.Name == "v2beta1") || v.Subresources == nil || v.Subresources.Status == nil {
			t.Errorf("%s: served %v, stored %v, subresources %v", v.Name, v.Served, v.Storage, v.Subresources)
		}
		first := crd.Spec.Versions[0]
		if diff := cmp.Diff(first.Schema, v.Schema); diff != "" {
			t.Errorf("schema (-%s +%s):\n%s", first.Name, v.Name, diff)
		}
		if diff := cmp.Diff(first.AdditionalPrinterColumns, v.AdditionalPrinterColumns); diff != "" {
			t.Errorf("columns (-%s +%s):\n%s", first.Name, v.Name, diff)
		}
	}
	if diff := cmp.Diff([]string{"v1alpha1", "v1", "v2alpha1", "v2beta1"}, names); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	if crd.Spec.Conversion != nil || crd.Annotations["helm.sh/resource-policy"] != "keep" {
		t.Errorf("conversion %v, annotations %v", crd.Spec.Conversion, crd.Annotations)
	}
}
