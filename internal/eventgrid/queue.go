// SPDX-License-Identifier: Apache-2.0

package eventgrid

import (
	"context"
	"time"
)

// Message is one delivery of a message in a queue. A queue delivers at least once
// and in no order: the same message may come again, and two may say the same.
type Message struct {
	ID string // of the message, the same at each delivery
	// Receipt names this delivery; only its holder can delete the message.
	Receipt string
	Body    []byte // what Parse takes; nobody has looked at it yet
	// Deliveries counts the deliveries so far, this one included.
	Deliveries int
	Inserted   time.Time // when it was put in, by the queue's clock
}

// A Queue is where messages wait. Its errors are those of package vault, possibly
// wrapped; whatever else it returns counts as vault.ErrUnavailable.
type Queue interface {
	// Receive takes what is there, up to some number, and waits for nothing. What is
	// not deleted in time is delivered again.
	Receive(ctx context.Context) ([]Message, error)
	// Delete ends a message. One that is gone, or delivered again to somebody else
	// meanwhile, is no error.
	Delete(ctx context.Context, m Message) error
}
