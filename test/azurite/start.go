// SPDX-License-Identifier: Apache-2.0

package azurite

import (
	"context"
	"testing"

	"github.com/akv2k8s/akv2k8s/emulator/pki"
)

// Instance is a queue service that runs for one test. Its methods end the test when they fail.
type Instance struct {
	Server *Server // for what has no method here
	// Address is where it listens, as host:port of the loopback address.
	Address string

	tb testing.TB
}

// Start is Launch until the test ends.
func Start(tb testing.TB, ca *pki.CA, queues ...string) *Instance {
	tb.Helper()
	// It goes after what the test has started later and stops with its own context.
	server, err := Launch(context.WithoutCancel(tb.Context()), ca, queues...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Stop)
	return &Instance{Server: server, Address: server.Address, tb: tb}
}

// URL is a queue's, as production has it.
func (i *Instance) URL(queue string) string { return i.Server.URL(queue) }

// Create makes a queue that is not there yet.
func (i *Instance) Create(queue string) {
	i.tb.Helper()
	i.check(i.Server.Create(i.tb.Context(), queue))
}

// Put puts a message into a queue, as it is.
func (i *Instance) Put(queue, text string) {
	i.tb.Helper()
	i.check(i.Server.Put(i.tb.Context(), queue, text))
}

// Count is about how many messages a queue holds, those that somebody has received and not yet deleted included.
func (i *Instance) Count(queue string) int {
	i.tb.Helper()
	n, err := i.Server.Count(i.tb.Context(), queue)
	i.check(err)
	return n
}

func (i *Instance) check(err error) {
	i.tb.Helper()
	if err != nil {
		i.tb.Fatal(err)
	}
}
