// SPDX-License-Identifier: Apache-2.0

// Command conformance starts the emulator, runs compiled test suites against it and judges their results by the list
// of exclusions. run.sh compiles what it needs.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	dir := flag.String("dir", "", "directory with keyvault-emulator, <suite>.test and <suite>.dir")
	seedFile := flag.String("seed", "seed.yaml", "seed of the emulator")
	list := flag.String("exclusions", "exclusions.txt", "list of exclusions")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *dir, *seedFile, *list, flag.Args(), os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

var errFailed = errors.New("not everything passed")

func run(ctx context.Context, dir, seedFile, list string, suites []string, out io.Writer) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return fmt.Errorf("reading the exclusions: %w", err)
	}
	excluded, err := parseExclusions(string(text))
	if err != nil {
		return err
	}
	env, stop, err := startEmulator(ctx, dir, seedFile)
	if err != nil {
		return err
	}
	defer stop()
	var total report
	for _, suite := range suites {
		one := runSuite(ctx, dir, suite, excluded.of(suite), env, out)
		one.print(out, suite)
		total.passed += one.passed
		total.failed = append(total.failed, one.failed...)
		total.excluded = append(total.excluded, one.excluded...)
	}
	_, _ = fmt.Fprintf(out, "conformance: %d passed, %d failed, %d excluded\n", total.passed, len(total.failed), len(total.excluded))
	if len(total.failed) > 0 {
		return errFailed
	}
	return nil
}

// startEmulator starts the emulator on free ports and returns the environment that leads a suite to it.
func startEmulator(ctx context.Context, dir, seedFile string) ([]string, func(), error) {
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "keyvault-emulator"), "--seed-file", seedFile, "--log-level", "error",
		"--proxy-port", "0", "--https-port", "0", "--admin-port", "0", "--imds-port", "0", "--ca-file", filepath.Join(dir, "ca.crt"))
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("starting the emulator: %w", err)
	}
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	var env []string
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if settings, is := strings.CutPrefix(lines.Text(), "export "); is {
			env = append(env, strings.Fields(settings)...)
		}
		if strings.Contains(lines.Text(), "SSL_CERT_FILE=") {
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return env, stop, nil
		}
	}
	stop()
	return nil, nil, errors.New("the emulator did not start; what it said stands above")
}

// suiteLimit is generous: the suites wait ten seconds at a time when something is not there yet.
const suiteLimit = 15 * time.Minute

func runSuite(ctx context.Context, dir, suite string, excluded []exclusion, env []string, out io.Writer) report {
	ctx, cancel := context.WithTimeout(ctx, suiteLimit)
	defer cancel()
	listed, err := suiteCommand(ctx, dir, suite, env, "-test.list", ".").Output()
	if err != nil {
		return report{failed: []string{suite + " cannot list its tests"}}
	}
	said, err := suiteCommand(ctx, dir, suite, env, "-test.v", "-test.skip", skipPattern(excluded)).CombinedOutput()
	result := judge(parseResults(string(said)), excluded, strings.Fields(string(listed)))
	if err != nil && len(result.failed) == 0 {
		result.failed = append(result.failed, suite+" ended abnormally")
	}
	if len(result.failed) > 0 {
		_, _ = out.Write(said)
	}
	return result
}

// suiteCommand runs a suite's binary in live mode and in its own directory, where its test data is.
func suiteCommand(ctx context.Context, dir, suite string, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(dir, suite+".test"), args...)
	cmd.Dir = filepath.Join(dir, suite+".dir")
	cmd.Env = append(os.Environ(), env...)
	cmd.Env = append(cmd.Env, "AZURE_RECORD_MODE=live", "AZURE_KEYVAULT_URL=https://conformance.vault.azure.net",
		"AZURE_SERVICE_DIRECTORY=SUITE", "SUITE_TENANT_ID=72f988bf-0000-4000-8000-00000000e111",
		"SUITE_CLIENT_ID=22222222-2222-4222-8222-222222222222", "SUITE_CLIENT_SECRET=conformance")
	return cmd
}
