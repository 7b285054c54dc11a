// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

// keptLogs is beside the logs themselves: a hard link keeps what is written to a
// file, until its last byte, after the kubelet has removed its own name for it.
const keptLogs = harness.StateDir + "/e2e"

// keepPodLogs keeps the log and the config of every container that ever runs, also of
// those that are gone when the search begins.
func keepPodLogs(ctx context.Context) func() {
	_ = os.RemoveAll(keptLogs) // of an earlier run
	_ = os.RemoveAll(nodeRoot() + keptConfigs)
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			linkPodLogs()
			linkConfigs()
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

func linkPodLogs() {
	_ = os.MkdirAll(keptLogs, 0o700)
	_ = filepath.WalkDir(harness.PodLogs, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // what has gone meanwhile
		}
		name := strings.ReplaceAll(strings.TrimPrefix(path, harness.PodLogs+"/"), "/", "_")
		_ = os.Link(path, filepath.Join(keptLogs, name)) // most exist already
		return nil
	})
}

// afterwards is a context for what is done when a test's own has ended.
func (s *story) afterwards() context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context()), patience)
	s.Cleanup(cancel)
	return ctx
}
