// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"os/exec"
	"path/filepath"
)

// Where the test cluster keeps what a node has; see test/cluster.
const (
	StateDir = "/run/akv2k8s-cluster"
	LogDir   = StateDir + "/log"  // of Kubernetes' own processes
	PodLogs  = LogDir + "/pods"   // of all containers, by pod
	EtcdDir  = StateDir + "/etcd" // database and write-ahead log
)

// Registry is the test cluster's own, as pods name it.
const Registry = "registry.localhost:5000"

// Release is the name of the product's Helm release.
const Release = release

// Running says whether the cluster answers.
func (c *Cluster) Running(ctx context.Context) bool {
	_, err := c.Kubectl(ctx, "", "get", "--raw", "/readyz")
	return err == nil
}

// Helm runs helm and returns what it printed on standard output. Its error holds
// what it printed on standard error.
func (c *Cluster) Helm(ctx context.Context, args ...string) (string, error) {
	helm, err := c.helm(ctx)
	if err != nil {
		return "", err
	}
	return c.output(c.Command(ctx, helm, args...), "")
}

// Run runs any command in the cluster's network with an input.
func (c *Cluster) Run(ctx context.Context, input, name string, args ...string) (string, error) {
	return c.output(c.Command(ctx, name, args...), input)
}

// OnNode runs a command among the node's own processes and files.
func (c *Cluster) OnNode(ctx context.Context, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.root, "test/cluster/run"), append([]string{"--node"}, args...)...)
	return c.output(cmd, input)
}

// Push makes an image of local files and pushes it to the test cluster's
// registry; the arguments are those of test/cluster/push.
func (c *Cluster) Push(ctx context.Context, args ...string) error {
	return c.quietly(exec.CommandContext(ctx, filepath.Join(c.root, "test/cluster/push"), args...))
}

// Build compiles a program of this checkout statically.
func (c *Cluster) Build(ctx context.Context, output, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", output, pkg)
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	return c.quietly(cmd)
}
