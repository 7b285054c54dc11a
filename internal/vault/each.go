// SPDX-License-Identifier: Apache-2.0

package vault

import "sync"

// Each reads what wanted has, at most atOnce at a time, and returns each result under its
// key.
func Each[K comparable, R any](wanted map[K]Reference, atOnce int, read func(Reference) R) map[K]R {
	var (
		all     sync.WaitGroup
		mu      sync.Mutex
		slots   = make(chan struct{}, atOnce)
		results = make(map[K]R, len(wanted))
	)
	for key, ref := range wanted {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			result := read(ref)
			mu.Lock()
			defer mu.Unlock()
			results[key] = result
		})
	}
	all.Wait()
	return results
}
