// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/pki"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
	"github.com/akv2k8s/akv2k8s/test/bench"
)

const (
	vaultName    = "bench-kv"
	clientID     = "22222222-2222-4222-8222-222222222222"
	clientSecret = "opens-nothing-but-the-emulator"

	// vaultLatency is what each request that signed in waits for its answer, about as
	// long as from a node to a vault of its region.
	vaultLatency = seed.Duration(10 * time.Millisecond)

	// tokenLatency is what a token takes.
	tokenLatency = seed.Duration(50 * time.Millisecond)
)

// A keyVault is the emulator, as a process of its own, so that its work is not
// counted as ours.
type keyVault struct {
	bench.Emulator  // its back door
	cmd             *exec.Cmd
	proxy           string // URL
	caDir           string // holds its CA, key included
	caFile, logFile string
}

func objectName(i int) string { return fmt.Sprintf("object-%05d", i) }

// valueOf is the nth value of an object.
func valueOf(object, n int) string { return fmt.Sprintf("value %d of %s", n, objectName(object)) }

// latency is the fault that is always there; who sets others names it too.
var latency = seed.Fault{Kind: seed.FaultLatency, Latency: vaultLatency}

// seedOf is a vault with n secrets, and the sign-in of who may read them.
func seedOf(n int) seed.Seed {
	v := seed.Vault{
		Name:        vaultName,
		Permissions: []seed.Permission{{Principal: "controller", Roles: []string{"Key Vault Secrets User"}}},
		Faults:      []seed.Fault{latency},
	}
	for i := range n {
		v.Secrets = append(v.Secrets, seed.Secret{Meta: seed.Meta{Name: objectName(i)}, Value: valueOf(i, 0)})
	}
	return seed.Seed{
		Principals: []seed.Principal{{Name: "controller", ClientID: clientID, Secrets: []string{clientSecret}}},
		SignIn: seed.SignIn{Faults: []seed.Fault{
			{Kind: seed.FaultLatency, Latency: tokenLatency, Operations: []string{"/oauth2/v2.0/token"}},
		}},
		Vaults: []seed.Vault{v},
	}
}

// startVault starts one with n secrets.
func startVault(ctx context.Context, program, dir string, n int) (*keyVault, error) {
	seedFile := filepath.Join(dir, "seed.yaml")
	text, err := json.Marshal(seedOf(n)) // which is YAML too
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(seedFile, text, 0o600); err != nil {
		return nil, err
	}
	v := &keyVault{caDir: filepath.Join(dir, "ca"), logFile: filepath.Join(dir, "emulator.log")}
	v.caFile = filepath.Join(v.caDir, pki.CertificateFile)
	v.cmd = exec.CommandContext(ctx, program, "--seed-file="+seedFile, "--ca-dir="+v.caDir, "--log-level=error",
		"--proxy-port=0", "--https-port=0", "--admin-port=0", "--imds-port=0")
	outFile := filepath.Join(dir, "emulator.out")
	if err := startLogged(v.cmd, outFile, v.logFile); err != nil {
		return nil, fmt.Errorf("starting the emulator: %w", err)
	}
	if err := v.findURLs(ctx, outFile); err != nil {
		v.stop()
		return nil, err
	}
	return v, nil
}

var (
	adminLine = regexp.MustCompile(`(?m)^# admin: +(http://\S+)`)
	proxyLine = regexp.MustCompile(`(?m)^export HTTPS_PROXY=(\S+)`)
)

// findURLs waits for what the emulator tells a person once it runs.
func (v *keyVault) findURLs(ctx context.Context, file string) error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		at, through := adminLine.FindSubmatch(text), proxyLine.FindSubmatch(text)
		if at != nil && through != nil {
			v.Emulator, v.proxy = bench.Emulator(at[1]), string(through[1])
			return nil
		}
		if err := bench.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the emulator did not start; see %s", v.logFile)
}

func (v *keyVault) stop() {
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
}

// set gives an object its nth value.
func (v *keyVault) set(ctx context.Context, object, n int) error {
	return v.SetSecret(ctx, vaultName, objectName(object), valueOf(object, n))
}

// misbehave replaces what the vault does besides answering late.
func (v *keyVault) misbehave(ctx context.Context, faults ...seed.Fault) error {
	all := map[string]any{"faults": append([]seed.Fault{latency}, faults...)}
	return v.Call(ctx, http.MethodPut, "/vaults/"+vaultName+"/faults", all, nil)
}
