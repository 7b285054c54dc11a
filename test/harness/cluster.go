// SPDX-License-Identifier: Apache-2.0

// Package harness puts the product, as a user installs it, onto a real cluster:
// images from this checkout, the emulator in the place of Azure, the chart. The
// demo and the end-to-end tests share it.
package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A Cluster is where things run: the test cluster of this checkout, or the one
// that the current kubeconfig context names.
type Cluster struct {
	root    string    // of the checkout
	current bool      // use the current context
	log     io.Writer // progress of what takes long
}

// NewCluster is the test cluster, or with current the one of the current context.
func NewCluster(root string, current bool, log io.Writer) *Cluster {
	return &Cluster{root: root, current: current, log: log}
}

// Root finds the checkout: the nearest folder above the working directory that
// holds go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("run this inside the checkout: no go.mod above the working directory")
		}
	}
}

// Local says whether this is the test cluster, whose node can be looked into.
func (c *Cluster) Local() bool { return !c.current }

// Up starts the test cluster, or checks that the current context answers.
func (c *Cluster) Up(ctx context.Context) error {
	if c.current {
		if _, err := c.Kubectl(ctx, "", "version"); err != nil {
			return fmt.Errorf("the current kubeconfig context does not answer: %w", err)
		}
		return nil
	}
	return c.stream(exec.CommandContext(ctx, filepath.Join(c.root, "test/cluster/up.sh")))
}

// Down ends the test cluster; another is left as it is.
func (c *Cluster) Down(ctx context.Context) error {
	if c.current {
		return nil
	}
	return c.stream(exec.CommandContext(ctx, filepath.Join(c.root, "test/cluster/down.sh")))
}

// Command is a command that reaches the cluster's network and finds its
// kubeconfig.
func (c *Cluster) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	var cmd *exec.Cmd
	if c.current {
		cmd = exec.CommandContext(ctx, name, args...)
	} else {
		cmd = exec.CommandContext(ctx, filepath.Join(c.root, "test/cluster/run"), append([]string{name}, args...)...)
	}
	cmd.Dir = c.root
	return cmd
}

// Kubectl runs kubectl with an input and returns what it printed on standard
// output. Its error holds what it printed on standard error.
func (c *Cluster) Kubectl(ctx context.Context, input string, args ...string) (string, error) {
	name := "kubectl"
	if !c.current { // it needs no names of the cluster, so less than Command prepares
		name = filepath.Join(c.root, "test/cluster/kubectl")
	}
	return c.output(exec.CommandContext(ctx, name, args...), input)
}

func (c *Cluster) output(cmd *exec.Cmd, input string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// stream runs a command whose output is progress to look at.
func (c *Cluster) stream(cmd *exec.Cmd) error {
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.root, c.log, c.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(cmd.Path), err)
	}
	return nil
}
