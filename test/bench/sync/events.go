// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net/http"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/pki"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
	"github.com/akv2k8s/akv2k8s/test/azurite"
)

const queueName = "bench-events"

// eventQueue is a queue that the vault's events go into, and a Controller's settings
// to listen to it.
type eventQueue struct {
	controller controllerOptions
	stop       func()
}

// startEventQueue starts Azurite, has the emulator send events there as Event Grid
// does, and names the queue to the Controller as production does: the emulator's proxy
// knows the way.
func startEventQueue(ctx context.Context, s *stage) (*eventQueue, error) {
	ca, err := pki.LoadOrCreate(s.vault.caDir)
	if err != nil {
		return nil, err
	}
	server, err := azurite.Launch(ctx, ca, queueName)
	if err != nil {
		return nil, err
	}
	to := seed.EventGrid{Queue: server.URL(queueName), Address: server.Address, Schema: seed.SchemaCloud}
	if err := s.vault.Call(ctx, http.MethodPut, "/event-grid", to, nil); err != nil {
		server.Stop()
		return nil, err
	}
	stop := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := s.vault.Call(ctx, http.MethodDelete, "/event-grid", nil, nil); err != nil {
			s.report.Note("the emulator goes on sending events: %v", err)
		}
		server.Stop()
	}
	return &eventQueue{controllerOptions{args: []string{"--event-queue=" + server.URL(queueName)}}, stop}, nil
}
