// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

// Where a node writes things down. What is mounted below is left out: volumes in
// memory, where values and tokens are meant to be, and containers' file systems, whose
// layers are in containerd's own directory.
var nodeDirs = map[string]string{
	"the runtime's state":    "/run", // config.json and state.json of each container
	"images and containers":  "/var/lib/containerd",
	"the kubelet's pods":     "/var/lib/kubelet",
	"what else there is new": harness.StateDir + "/data",
}

// keptConfigs is where configs of containers are kept that are gone: their links must
// be on the file system that they are on.
const keptConfigs = "/run/e2e-configs"

// nodeRoot is where the node's file system can be seen; empty when there is no node.
func nodeRoot() string {
	pid, err := os.ReadFile(harness.StateDir + "/init.pid")
	if err != nil {
		return ""
	}
	return "/proc/" + strings.TrimSpace(string(pid)) + "/root"
}

// linkConfigs keeps the config of every container that there is now: all that the
// runtime knows of how it starts.
func linkConfigs() {
	root := nodeRoot()
	found, _ := filepath.Glob(root + "/run/containerd/io.containerd.runtime.v2.task/k8s.io/*/config.json")
	_ = os.MkdirAll(root+keptConfigs, 0o700)
	for _, path := range found {
		_ = os.Link(path, root+keptConfigs+"/"+filepath.Base(filepath.Dir(path))) // most exist already
	}
}

// onNode calls see for each file of a directory of the node.
func onNode(dir string, see func(hay)) error {
	root := nodeRoot()
	top, err := os.Lstat(root + dir)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root+dir, func(path string, entry fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = entry.Info()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // gone meanwhile
		case err != nil:
			return err
		case device(info) != device(top) && entry.IsDir():
			return fs.SkipDir
		case device(info) != device(top) || !info.Mode().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		see(hay{strings.TrimPrefix(path, root), data})
		return err
	})
}

func device(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Dev } //nolint:forcetypeassert // on Linux it is nothing else
