// SPDX-License-Identifier: Apache-2.0

// Command run is `make e2e`: the test cluster, the product with everything at its
// highest log level, the end-to-end tests, and the cluster's end.
//
//	KEEP=1   leave cluster and installation running
//	RUN=…    tests to run, as of `go test -run`
//
// A cluster that was up before stays up.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

// resync is short, so that tests of the Controller need not wait.
const resync = "3"

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "\nend-to-end tests: %s\n", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	began := time.Now()
	root, err := harness.Root()
	if err != nil {
		return err
	}
	c := harness.NewCluster(root, false, os.Stdout)
	keep := os.Getenv("KEEP") != "" || c.Running(ctx)
	if err := c.Up(ctx); err != nil {
		return err
	}
	if !keep {
		defer down(ctx, c)
	}
	evidence, err := os.MkdirTemp("", "akv2k8s-e2e-")
	if err != nil {
		return err
	}
	if err := play(ctx, c, root, evidence); err != nil {
		save(ctx, c, evidence)
		return fmt.Errorf("%w\nlogs, events and objects are in %s", err, evidence)
	}
	fmt.Printf("\nAll end-to-end tests passed in %s.\n", time.Since(began).Round(time.Second))
	return os.RemoveAll(evidence)
}

func play(ctx context.Context, c *harness.Cluster, root, evidence string) error {
	if err := c.Install(ctx, harness.Images{}, "--set", "global.logLevel=debug", "--set", "azureKeyVaultResyncPeriod="+resync); err != nil {
		return err
	}
	args := []string{"test", "-json", "-count=1", "-timeout=30m", "-parallel=8", "./test/e2e"}
	if only := os.Getenv("RUN"); only != "" {
		args = append(args, "-run", only)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cmd.Env = append(os.Environ(), "AKV2K8S_E2E=1", "AKV2K8S_E2E_EVIDENCE="+evidence)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	failed := follow(stdout, os.Stdout)
	switch err := cmd.Wait(); {
	case failed > 0:
		return fmt.Errorf("%d tests failed", failed)
	case err != nil:
		return fmt.Errorf("running the tests: %w", err)
	default:
		return nil
	}
}

// event is a line of `go test -json`.
type event struct {
	Action  string
	Test    string
	Elapsed float64 // seconds
	Output  string
}

// follow shows one line per test, and what a failed one said.
func follow(from io.Reader, to io.Writer) int {
	failed := 0
	said := map[string][]string{}
	group := map[string]bool{} // tests that only hold others
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			_, _ = fmt.Fprintln(to, lines.Text()) // of the compiler
			continue
		}
		if e.Action == "output" {
			said[e.Test] = append(said[e.Test], e.Output)
			continue
		}
		if at := strings.LastIndexByte(e.Test, '/'); at > 0 {
			group[e.Test[:at]] = true
		}
		mark := map[string]string{"pass": "ok  ", "fail": "FAIL", "skip": "skip"}[e.Action]
		if mark == "" || e.Test == "" && e.Action != "fail" {
			continue
		}
		if group[e.Test] {
			tell(to, said[e.Test])
			continue
		}
		if e.Test != "" {
			_, _ = fmt.Fprintf(to, "%s %6.1fs  %s\n", mark, e.Elapsed, strings.TrimPrefix(e.Test, "TestStories/"))
		}
		if e.Action != "pass" {
			tell(to, said[e.Test])
		}
		if e.Action == "fail" && e.Test != "" {
			failed++
		}
		delete(said, e.Test)
	}
	return failed
}

// tell leaves out what `go test` says of its own.
func tell(to io.Writer, lines []string) {
	for _, line := range lines {
		if text := strings.TrimSpace(line); strings.HasPrefix(text, "=== ") || strings.HasPrefix(text, "--- ") || text == "FAIL" {
			continue
		}
		_, _ = fmt.Fprintf(to, "       %s", line)
	}
}

// save keeps what a person needs to find out what went wrong.
func save(ctx context.Context, c *harness.Cluster, dir string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	for file, args := range map[string][]string{
		"events.txt":  {"get", "events", "-A", "--sort-by=.metadata.creationTimestamp"},
		"pods.txt":    {"get", "pods", "-A", "-o", "wide"},
		"pods.yaml":   {"get", "pods", "-A", "-o", "yaml"},
		"akvs.yaml":   {"get", "akvs", "-A", "-o", "yaml"},
		"webhook.yml": {"get", "mutatingwebhookconfigurations", "-o", "yaml"},
	} {
		text, err := c.Kubectl(ctx, "", args...)
		if err != nil {
			text += err.Error()
		}
		_ = os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600)
	}
	for name, from := range map[string]string{"logs": harness.LogDir, "logs-of-pods": harness.StateDir + "/e2e"} {
		_ = exec.CommandContext(ctx, "cp", "-r", from, filepath.Join(dir, name)).Run() // what can be had
	}
}

func down(ctx context.Context, c *harness.Cluster) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	if err := c.Down(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
