// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// AuditPolicy makes an API server write one line at the end of each request of one
// user, and none about anybody else.
func AuditPolicy(user string) string {
	return fmt.Sprintf(`apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - { level: Metadata, users: [%q] }
  - { level: None }
`, user)
}

// AuditLog reads what an API server appends to a file under AuditPolicy.
type AuditLog struct {
	File string
	// Home is the namespace of the user's Lease. Events there are about the election,
	// which is nobody's work.
	Home string

	offset int64
}

// Requests are how often each kind of request was made.
type Requests map[Request]int

// Request is a kind of request.
type Request struct{ Verb, Resource string }

// entry is what is looked at of a line.
type entry struct {
	Verb      string `json:"verb"`
	ObjectRef struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
	} `json:"objectRef"`
}

func (e entry) request() Request {
	r := Request{e.Verb, e.ObjectRef.Resource}
	if e.ObjectRef.Subresource != "" {
		r.Resource += "/" + e.ObjectRef.Subresource
	}
	return r
}

// election says whether a request was made only to know who leads.
func (l *AuditLog) election(e entry) bool {
	return e.ObjectRef.Resource == "leases" || e.ObjectRef.Resource == "events" && e.ObjectRef.Namespace == l.Home
}

// Next reads what has ended since the last call, or since the start. Requests of
// the leader election are left out.
func (l *AuditLog) Next() (Requests, error) {
	file, err := os.Open(l.File)
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(l.offset, io.SeekStart); err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	out := Requests{}
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return out, nil // a line that is not whole yet is read next time
		} else if err != nil {
			return nil, fmt.Errorf("reading the audit log: %w", err)
		}
		l.offset += int64(len(line))
		var e entry
		if err := json.Unmarshal(bytes.TrimSpace(line), &e); err != nil {
			return nil, fmt.Errorf("a line of the audit log is no entry: %w", err)
		}
		if !l.election(e) {
			out[e.request()]++
		}
	}
}

// Add counts others too.
func (r Requests) Add(others Requests) {
	for kind, n := range others {
		r[kind] += n
	}
}

// Writes are the requests that change anything.
func (r Requests) Writes() int {
	return r.count("create", "update", "patch", "delete", "deletecollection")
}

// Reads are the requests that read and are no watch, which a process at rest need
// not make.
func (r Requests) Reads() int { return r.count("get", "list") }

func (r Requests) count(verbs ...string) int {
	total := 0
	for kind, n := range r {
		if slices.Contains(verbs, kind.Verb) {
			total += n
		}
	}
	return total
}

// String lists them, the most frequent first.
func (r Requests) String() string {
	var kinds []Request
	for kind := range r {
		kinds = append(kinds, kind)
	}
	slices.SortFunc(kinds, func(a, b Request) int {
		if r[a] != r[b] {
			return r[b] - r[a]
		}
		return strings.Compare(a.Verb+a.Resource, b.Verb+b.Resource)
	})
	var out []string
	for _, kind := range kinds {
		out = append(out, fmt.Sprintf("%d %s %s", r[kind], kind.Verb, kind.Resource))
	}
	if out == nil {
		return "none"
	}
	return strings.Join(out, ", ")
}
