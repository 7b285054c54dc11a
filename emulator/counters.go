// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"

	"github.com/akv2k8s/akv2k8s/emulator/admin"
)

// counters count what the vaults themselves do not see.
type counters struct {
	mu          sync.Mutex
	connections map[string]int
	requests    map[string]int
}

func newCounters() *counters {
	return &counters{connections: map[string]int{}, requests: map[string]int{}}
}

func (c *counters) connection(listener string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connections[listener]++
}

// signIns counts what next answers, by the last word of the path and the status; status 0 is no answer.
func (c *counters) signIns(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &statusWriter{ResponseWriter: w}
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.requests[fmt.Sprintf("%s %d", operation(r.URL.Path), seen.status)]++
		}()
		next.ServeHTTP(seen, r)
	})
}

// statusWriter remembers the status, which handlers may leave to the first Write.
type statusWriter struct {
	http.ResponseWriter

	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(part []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(part)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// operations of a sign-in are a bounded set of names: strangers do not choose what is counted.
var operations = []string{
	"/metadata/identity/oauth2/token", "/oauth2/v2.0/token", "/oauth2/token", "/.well-known/openid-configuration",
	"/discovery/instance",
}

const otherOperation = "other"

func operation(path string) string {
	for _, known := range operations {
		if strings.HasSuffix(path, known) {
			return known
		}
	}
	return otherOperation
}

// Counters reads all counters.
func (e *Emulator) Counters() admin.Counters {
	e.counters.mu.Lock()
	defer e.counters.mu.Unlock()
	return admin.Counters{
		Requests: e.Vaults.Counters(), SignIns: maps.Clone(e.counters.requests),
		Connections: maps.Clone(e.counters.connections), Events: e.Events.Counts(),
	}
}

// ResetCounters starts all counters at zero again.
func (e *Emulator) ResetCounters() {
	e.counters.mu.Lock()
	defer e.counters.mu.Unlock()
	clear(e.counters.requests)
	clear(e.counters.connections)
	e.Vaults.ResetCounters()
	e.Events.ResetCounts()
}
