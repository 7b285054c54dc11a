// SPDX-License-Identifier: Apache-2.0

// Command crd turns the one version that controller-gen writes into the four
// that are served. They share one schema, so that the API server's strategy None
// loses nothing between them.
//
//	crd generated.yaml chart-file.yaml
package main

import (
	"fmt"
	"os"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// The stored version comes last; kubectl shows the newest by its own ordering.
var versions = []string{"v1alpha1", "v1", "v2alpha1", "v2beta1"}

const stored = "v2beta1"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crd:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("want two arguments, the generated file and the one to write")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &crd); err != nil {
		return err
	}
	if len(crd.Spec.Versions) != 1 {
		return fmt.Errorf("want one version in %s, found %d", args[0], len(crd.Spec.Versions))
	}
	one := crd.Spec.Versions[0]
	crd.Spec.Versions = nil
	for _, name := range versions {
		v := *one.DeepCopy()
		v.Name, v.Served, v.Storage = name, true, name == stored
		crd.Spec.Versions = append(crd.Spec.Versions, v)
	}
	// Uninstalling the chart must not delete every resource with it.
	crd.Annotations["helm.sh/resource-policy"] = "keep"
	out, err := yaml.Marshal(map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1",
		"kind":       "CustomResourceDefinition",
		"metadata":   map[string]any{"name": crd.Name, "annotations": crd.Annotations},
		"spec":       crd.Spec,
	})
	if err != nil {
		return err
	}
	header := "# Generated from api/v2beta1 by `make generate`; do not edit.\n"
	return os.WriteFile(args[1], append([]byte(header), out...), 0o644)
}
