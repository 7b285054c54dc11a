// SPDX-License-Identifier: Apache-2.0

// Command run is `make e2e`: the test cluster, the product with everything at its
// highest log level, the end-to-end tests, and the cluster's end.
//
//	KEEP=1   leave cluster and installation running
//	RUN=…    stories to tell, as of `go test -run`: one that matches none is a failure
//
// A cluster that was up before stays up.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

// settings of the product: everything is logged, and stories need not wait long, be it
// for the Controller to look again or for new pods to replace the old ones. The webhook
// rolls out as it does by default, under load too.
var settings = []string{
	"--set", "global.logLevel=debug",
	"--set", "azureKeyVaultResyncPeriod=3",
	"--set", "env_injector.onVaultUnavailable=use-cached",
	"--set", "controller.strategy.rollingUpdate.maxSurge=100%",
	"--set", "env_injector.broker.strategy.rollingUpdate.maxSurge=100%",
	// It concerns the namespaces that ask for it alone.
	"--set", "env_injector.execGuard.enabled=true",
	"--set", "env_injector.execGuard.breakGlassGroups={oncall}",
	"--set", "env_injector.execGuard.startBudget=30s",
}

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
	only := os.Getenv("RUN")
	if err := named(ctx, root, only); err != nil {
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
	told, err := play(ctx, c, root, evidence, only)
	if err != nil {
		save(ctx, c, evidence)
		return fmt.Errorf("%w\nlogs, events and objects are in %s", err, evidence)
	}
	if err := os.RemoveAll(evidence); err != nil {
		return err
	}
	if err := told.verdict(only); err != nil {
		return err
	}
	what := "All end-to-end stories"
	if only != "" {
		what = "What RUN=" + only + " matched"
	}
	fmt.Printf("\n%s: %s in %s.\n", what, told, time.Since(began).Round(time.Second))
	return nil
}

func play(ctx context.Context, c *harness.Cluster, root, evidence, only string) (tally, error) {
	if err := c.Install(ctx, harness.Images{}, settings...); err != nil {
		return tally{}, err
	}
	cmd := tests(ctx, root, only, "AKV2K8S_E2E=1", "AKV2K8S_E2E_EVIDENCE="+evidence)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return tally{}, err
	}
	if err := cmd.Start(); err != nil {
		return tally{}, err
	}
	told := follow(stdout, os.Stdout)
	if err := cmd.Wait(); err != nil && told.failed == 0 {
		return told, fmt.Errorf("running the tests: %w", err)
	}
	if told.failed > 0 {
		return told, fmt.Errorf("%d of %d stories failed", told.failed, told.all())
	}
	return told, nil
}

func tests(ctx context.Context, root, only string, env ...string) *exec.Cmd {
	args := []string{"test", "-json", "-count=1", "-timeout=30m", "-parallel=8", "./test/e2e"}
	if only != "" {
		args = append(args, "-run", only)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// named says which stories there are to tell, before a cluster is made for none.
func named(ctx context.Context, root, only string) error {
	text, err := tests(ctx, root, only, "AKV2K8S_E2E=names").Output()
	var shown bytes.Buffer
	matched := follow(bytes.NewReader(text), &shown)
	if err != nil {
		return fmt.Errorf("reading the stories' names: %w\n%s", err, shown.String())
	}
	if err := matched.verdict(only); err != nil {
		return err
	}
	fmt.Printf("%d stories to tell\n", matched.passed)
	return nil
}

// tally counts stories by how they ended.
type tally struct{ passed, failed, skipped int }

func (t tally) all() int { return t.passed + t.failed + t.skipped }

func (t tally) String() string {
	text := fmt.Sprintf("%d passed", t.passed)
	if t.skipped > 0 {
		text += fmt.Sprintf(", %d skipped", t.skipped)
	}
	return text
}

// verdict is an error for a run that proves nothing.
func (t tally) verdict(only string) error {
	if t.passed > 0 {
		return nil
	}
	if only == "" {
		return errors.New("no story was told")
	}
	return fmt.Errorf("RUN=%s matches no story: a name is TestStories/Together/Injector/CommandGiven, or TestStories/Disruption/NoBroker for a group that is told alone; see groups in test/e2e", only)
}

// event is a line of `go test -json`.
type event struct {
	Action  string
	Test    string
	Elapsed float64 // seconds
	Output  string
}

// isStory tells a story's name, TestStories/GROUP/STORY, from that of a test that
// only holds others: such a one passes also when RUN leaves nothing in it.
func isStory(test string) bool {
	_, name, _ := strings.Cut(test, "/")
	return strings.Contains(strings.TrimPrefix(name, "Together/"), "/")
}

// follow shows one line per story, and what a failed one said.
func follow(from io.Reader, to io.Writer) tally {
	var told tally
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
		if e.Action == "output" || e.Action == "build-output" {
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
		if group[e.Test] || !isStory(e.Test) {
			tell(to, said[e.Test])
			continue
		}
		_, _ = fmt.Fprintf(to, "%s %6.1fs  %s\n", mark, e.Elapsed, strings.TrimPrefix(e.Test, "TestStories/"))
		if e.Action != "pass" {
			tell(to, said[e.Test])
		}
		told.count(e.Action)
		delete(said, e.Test)
	}
	return told
}

func (t *tally) count(action string) {
	switch action {
	case "pass":
		t.passed++
	case "fail":
		t.failed++
	default:
		t.skipped++
	}
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
