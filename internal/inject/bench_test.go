// SPDX-License-Identifier: Apache-2.0

package inject_test

import (
	"testing"

	"github.com/akv2k8s/akv2k8s/internal/inject"
)

// BenchmarkDecide is the cost of one admission but for the network.
func BenchmarkDecide(b *testing.B) {
	raw := readJSON(b, "testdata/article/in.yaml")
	for b.Loop() {
		pod, err := inject.Read(raw)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := inject.Decide(inject.Facts{Pod: pod, Secrets: secrets()}, settings()); err != nil {
			b.Fatal(err)
		}
	}
}
