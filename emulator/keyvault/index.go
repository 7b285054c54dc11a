// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"maps"
	"slices"
	"strings"
)

// index holds objects by lower-case name, since names are case-insensitive, and keeps the names sorted for lists: a
// page of a vault of ten thousand must not sort them all again.
type index struct {
	byName map[string]*object
	// sorted is nil until the first list, so that filling a vault sorts once.
	sorted []string
}

func newIndex() *index { return &index{byName: map[string]*object{}} }

func (x *index) get(name string) *object { return x.byName[strings.ToLower(name)] }

func (x *index) put(o *object) {
	key := strings.ToLower(o.name)
	if x.sorted != nil && x.byName[key] == nil {
		at, _ := slices.BinarySearch(x.sorted, key)
		x.sorted = slices.Insert(x.sorted, at, key)
	}
	x.byName[key] = o
}

func (x *index) drop(name string) {
	key := strings.ToLower(name)
	delete(x.byName, key)
	if at, found := slices.BinarySearch(x.sorted, key); found {
		x.sorted = slices.Delete(x.sorted, at, at+1)
	}
}

// names are the lower-case names, sorted. They are the index's own and change with it.
func (x *index) names() []string {
	if x.sorted == nil {
		x.sorted = slices.AppendSeq(make([]string, 0, len(x.byName)), maps.Keys(x.byName))
		slices.Sort(x.sorted)
	}
	return x.sorted
}
