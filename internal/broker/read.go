// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"maps"
	"sync"

	"github.com/akv2k8s/akv2k8s/internal/grant"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// read reads each object once, a few at a time. A certificate that was renewed
// meanwhile is read again, so that its two halves are of one version.
func (b *Broker) read(ctx context.Context, refs []vault.Reference) map[vault.Reference]grant.Read {
	wanted := make(map[vault.Reference]vault.Reference, len(refs))
	for _, ref := range refs {
		wanted[ref] = ref
	}
	reads := b.readAll(ctx, wanted)
	maps.Copy(reads, b.readAll(ctx, grant.Torn(reads)))
	return reads
}

// readAll reads each value of wanted and returns it under its key.
func (b *Broker) readAll(ctx context.Context, wanted map[vault.Reference]vault.Reference) map[vault.Reference]grant.Read {
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		slots = make(chan struct{}, readsAtOnce)
		reads = make(map[vault.Reference]grant.Read, len(wanted))
	)
	for key, ref := range wanted {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			read := b.readOne(ctx, ref)
			mu.Lock()
			defer mu.Unlock()
			reads[key] = read
		})
	}
	all.Wait()
	return reads
}

// readOne keeps a panic in an adapter from ending the process.
func (b *Broker) readOne(ctx context.Context, ref vault.Reference) (read grant.Read) { //nolint:nonamedreturns // recover can speak through a named result only
	defer func() {
		if recover() != nil {
			b.log.Error("reading the vault ended in a panic", "stack", stack())
			read = grant.Read{Err: vault.ErrUnavailable}
		}
	}()
	obj, err := b.vault.Read(vault.WithDemand(ctx, vault.Demand{Priority: vault.PodStart}), ref)
	return grant.Read{Object: obj, Err: err}
}
