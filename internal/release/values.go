// SPDX-License-Identifier: Apache-2.0

package release

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// Values are what the charts must be told to run these very images: one file's
// content for each chart, by the chart's name. The registry is the one that the
// cluster's nodes pull from; digests are by image name.
func Values(registry, tag string, digests map[string]string) (map[string][]byte, error) {
	image := func(name string) map[string]any {
		return map[string]any{"image": map[string]any{"tag": tag, "digest": digests[name]}}
	}
	injector := image("azure-keyvault-webhook")
	injector["envImage"] = image("azure-keyvault-env")["image"]
	injector["envDirectImage"] = image("azure-keyvault-env-direct")["image"]
	injector["broker"] = image("azure-keyvault-broker")
	global := map[string]any{"imageRegistry": registry}
	emulator := image("keyvault-emulator")
	emulator["global"] = global
	files := map[string][]byte{}
	for chart, values := range map[string]any{
		"akv2k8s": map[string]any{
			"global":       global,
			"controller":   image("azure-keyvault-controller"),
			"env_injector": injector,
		},
		"keyvault-emulator": emulator,
	} {
		text, err := yaml.Marshal(values)
		if err != nil {
			return nil, fmt.Errorf("writing values for chart %s: %w", chart, err)
		}
		files[chart] = text
	}
	return files, nil
}

// WriteValues puts each chart's values into dir as CHART.yaml.
func WriteValues(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the directory of values: %w", err)
	}
	for chart, text := range files {
		if err := os.WriteFile(filepath.Join(dir, chart+".yaml"), text, 0o644); err != nil {
			return fmt.Errorf("writing values for chart %s: %w", chart, err)
		}
	}
	return nil
}
