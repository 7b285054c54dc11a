// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func free(extra ...string) []string {
	return append([]string{"--proxy-port", "0", "--https-port", "0", "--admin-port", "0", "--imds-port", "0"}, extra...)
}

func noEnv(string) string { return "" }

// signalled is a writer that says when something was written.
type signalled struct {
	text    bytes.Buffer
	written chan struct{}
}

func (s *signalled) Write(p []byte) (int, error) {
	n, err := s.text.Write(p)
	close(s.written) // one write is all there is
	return n, err
}

func TestRunSaysHowToUseItAndStops(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	out := &signalled{written: make(chan struct{})}
	var log bytes.Buffer
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, free("--ca-dir", dir, "--ca-file", filepath.Join(dir, "out", "ca.crt")), noEnv, out, &log)
	}()
	select {
	case <-out.written:
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	}
	said := out.text.String()
	for _, want := range []string{"my-kv.vault.azure.net", "export HTTPS_PROXY=http://127.0.0.1:", "SSL_CERT_FILE=" + dir + "/out/ca.crt", "AZURE_CLIENT_SECRET="} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	admin := regexp.MustCompile(`admin:\s+(\S+)`).FindStringSubmatch(said)[1]
	kept, err := os.ReadFile(filepath.Join(dir, "out", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if served := get(t, admin+"/ca.crt"); served != string(kept) {
		t.Error("the CA written out is not the one in use")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("stopping: %v", err)
	}
	if strings.Contains(log.String(), "hello from the emulator") {
		t.Error("the log holds a value")
	}
}

func get(t *testing.T, target string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "seed.yaml")
	if err := os.WriteFile(broken, []byte("vaults: [{name: x}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		env  map[string]string
		want string
	}{
		"Flag":     {[]string{"--nope"}, nil, "flag provided but not defined"},
		"Argument": {[]string{"seed.yaml"}, nil, `"seed.yaml" is not a flag`},
		"Port":     {[]string{"--proxy-port", "x"}, nil, "--proxy-port must be a port"},
		"EnvPort":  {nil, map[string]string{"KEYVAULT_EMULATOR_ADMIN_PORT": "70000"}, "KEYVAULT_EMULATOR_ADMIN_PORT must be a port"},
		"Level":    {[]string{"--log-level", "loud"}, nil, "--log-level must be debug"},
		"Listen":   {[]string{"--listen", "everywhere"}, nil, "--listen must be an IP address"},
		"NoSeed":   {free("--seed-file", "/nonexistent/seed.yaml"), nil, "reading the seed file"},
		"BadSeed":  {free("--seed-file", broken), nil, "vaults[0] (x): name must be"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := run(t.Context(), tc.args, func(key string) string { return tc.env[key] }, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to say %q", err, tc.want)
			}
		})
	}
}

func TestHelpNamesEverySetting(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, noEnv, io.Discard, &said); err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		if !strings.Contains(said.String(), "--"+s.flag) || !strings.Contains(said.String(), prefix+s.env) {
			t.Errorf("--%s is missing", s.flag)
		}
	}
}
