// SPDX-License-Identifier: Apache-2.0

package reader_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/reader"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// instant is a vault that answers at once.
type instant struct{ vault.Source }

func (instant) Read(context.Context, vault.Reference) (vault.Object, error) {
	return vault.Object{}, nil
}

func BenchmarkRead(b *testing.B) {
	for name, o := range map[string]reader.Options{
		"Gate":   {Rate: 1e9, Burst: 1e9},
		"Cached": {Rate: 1e9, Burst: 1e9, CachedMaxAge: time.Hour},
		"Shared": {Rate: 1e9, Burst: 1e9, ShareWindow: time.Hour},
	} {
		b.Run(name, func(b *testing.B) {
			r := reader.New(instant{}, o)
			refs := make([]vault.Reference, 1000)
			for i := range refs {
				refs[i] = object(fmt.Sprint("object-", i))
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if _, err := r.Read(b.Context(), refs[i%len(refs)]); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
