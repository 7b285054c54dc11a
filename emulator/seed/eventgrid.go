// SPDX-License-Identifier: Apache-2.0

package seed

import (
	"errors"
	"net"
	"net/url"
)

// Schema is the form of an event.
type Schema string

// The two schemas that Event Grid delivers vaults' events in.
const (
	SchemaEventGrid Schema = "eventgrid"
	SchemaCloud     Schema = "cloudevents"
)

// EventGrid says where events go.
type EventGrid struct {
	// Queue is the URL of a Storage queue, such as https://account.queue.core.windows.net/events.
	Queue string `json:"queue" yaml:"queue"`
	// Address is where the queue's host really is, as host:port, when DNS does not know or must not be asked. The proxy
	// leads clients there too.
	Address string `json:"address,omitempty" yaml:"address"`
	// Schema is eventgrid when absent.
	Schema Schema `json:"schema,omitempty" yaml:"schema"`
}

// CheckEventGrid checks what came from elsewhere than a seed file and fills in defaults.
func CheckEventGrid(e *EventGrid) error {
	p := &problems{}
	p.eventGrid("eventGrid", e)
	return errors.Join(p.found...)
}

func (p *problems) eventGrid(where string, e *EventGrid) {
	if e == nil {
		return
	}
	if e.Schema == "" {
		e.Schema = SchemaEventGrid
	}
	p.oneOf(where+": schema", string(e.Schema), string(SchemaEventGrid), string(SchemaCloud))
	u, err := url.Parse(e.Queue)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(u.Path) < 2 {
		p.add(where+": queue", "must be the https URL of a queue, without user, query and fragment")
	}
	if e.Address != "" {
		if _, port, err := net.SplitHostPort(e.Address); err != nil || port == "" {
			p.add(where+": address", "must be host:port")
		}
	}
}
