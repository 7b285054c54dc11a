// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"

	"github.com/akv2k8s/akv2k8s/internal/grant"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// read reads what is needed, a few at a time.
func (b *Broker) read(ctx context.Context, refs []vault.Reference) map[vault.Reference]grant.Read {
	return grant.Gather(refs, func(wanted map[vault.Reference]vault.Reference) map[vault.Reference]grant.Read {
		return vault.Each(wanted, readsAtOnce, func(ref vault.Reference) grant.Read { return b.readOne(ctx, ref) })
	})
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
