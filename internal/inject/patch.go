// SPDX-License-Identifier: Apache-2.0

package inject

// Patch is a JSON patch (RFC 6902).
type Patch []Operation

// Operation is one step of a Patch: add or replace with Value, or move with From.
type Operation struct {
	Op    string `json:"op"`
	From  string `json:"from,omitempty"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}
