// SPDX-License-Identifier: Apache-2.0

package sweep_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/sweep"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// pages is a vault of 25 objects a page in which nothing changes.
type pages struct {
	all     []vault.Page
	updated time.Time
}

func newPages(objects int) *pages {
	p := &pages{updated: time.Now().Add(-time.Hour)}
	for i := range objects {
		if i%25 == 0 {
			p.all = append(p.all, vault.Page{Next: strconv.Itoa(len(p.all) + 1)})
		}
		page := &p.all[len(p.all)-1]
		page.Items = append(page.Items, vault.Properties{Name: fmt.Sprint("object-", i), Updated: p.updated, Enabled: true})
	}
	p.all[len(p.all)-1].Next = ""
	return p
}

func (p *pages) Read(context.Context, vault.Reference) (vault.Object, error) {
	return vault.Object{Version: "v", Updated: p.updated, Answered: time.Now()}, nil
}

func (p *pages) List(_ context.Context, _ vault.Collection, next string) (vault.Page, error) {
	i, _ := strconv.Atoi(next)
	return p.all[i], nil
}

// BenchmarkSweep sweeps 10,000 objects, each with a follower.
func BenchmarkSweep(b *testing.B) {
	const objects = 10_000
	source := newPages(objects)
	s := sweep.New(source, sweep.Options{Wake: func(string) {}, StaleAfter: 3, StaleRate: 100})
	for i := range objects {
		who, ref := fmt.Sprint("f", i), object(fmt.Sprint("object-", i))
		s.Follow(who, []vault.Watch{{Reference: ref, Every: interval}})
		obj, err := source.Read(b.Context(), ref)
		s.Saw(who, ref, time.Now(), obj, err)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.SweepNow(b.Context(), object("").Collection())
	}
}
