// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator"
	"github.com/akv2k8s/akv2k8s/emulator/pki"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// grace is how long requests under way may take once the emulator is told to stop.
const grace = 3 * time.Second

// run serves until ctx ends.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	opts, err := parse(args, getenv, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: opts.level}))
	cfg, err := opts.config(log)
	if err != nil {
		return err
	}
	running, err := emulator.Start(ctx, cfg)
	if err != nil {
		return err
	}
	if err := announce(opts, cfg, running, stdout); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		log.InfoContext(ctx, "stopping")
	case err = <-running.Failed():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	return errors.Join(err, running.Close(closing))
}

func (o options) config(log *slog.Logger) (emulator.Config, error) {
	cfg := emulator.Config{
		ProxyAddress: o.address(o.proxyPort), HTTPSAddress: o.address(o.httpsPort), IMDSAddress: o.address(o.imdsPort),
		AdminAddress: o.address(o.adminPort), Log: log,
	}
	var err error
	if cfg.Seed, err = o.seed(); err != nil {
		return cfg, err
	}
	cfg.CA, err = o.ca()
	return cfg, err
}

func (o options) seed() (seed.Seed, error) {
	if o.seedFile == "" {
		return seed.Parse([]byte(defaultSeed), nil)
	}
	return seed.Load(o.seedFile)
}

func (o options) ca() (*pki.CA, error) {
	if o.caDir == "" {
		return pki.New()
	}
	return pki.LoadOrCreate(o.caDir)
}

// announce writes the CA out and tells a person how to use what is running.
func announce(o options, cfg emulator.Config, running *emulator.Emulator, stdout io.Writer) error {
	caFile, err := o.writeCA(cfg.CA.PEM())
	if err != nil {
		return err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "# vaults: %s\n", strings.Join(running.Vaults.Hosts(), " "))
	fmt.Fprintf(&out, "# admin:  %s   metadata service: %s   https: %s\n", running.AdminURL(), running.IMDSAddress(), running.HTTPSAddress())
	fmt.Fprintf(&out, "export HTTPS_PROXY=%s HTTP_PROXY=%s NO_PROXY=localhost,127.0.0.1\n", running.ProxyURL(), running.ProxyURL())
	if caFile == "" {
		fmt.Fprintf(&out, "# the CA certificate is at %s/ca.crt; --ca-file or --ca-dir would write it to a file\n", running.AdminURL())
	} else {
		fmt.Fprintf(&out, "export SSL_CERT_FILE=%[1]s REQUESTS_CA_BUNDLE=%[1]s NODE_EXTRA_CA_CERTS=%[1]s\n", quote(caFile))
	}
	if o.seedFile == "" {
		out.WriteString("# no --seed-file: this sign-in comes with the vault that every emulator starts with\n")
		fmt.Fprintf(&out, "export AZURE_TENANT_ID=%s AZURE_CLIENT_ID=%s AZURE_CLIENT_SECRET=%s\n",
			cfg.Seed.Tenant, cfg.Seed.Principals[0].ClientID, cfg.Seed.Principals[0].Secrets[0])
	}
	if _, err := io.WriteString(stdout, out.String()); err != nil {
		return fmt.Errorf("saying what is running: %w", err)
	}
	return nil
}

// writeCA writes the CA certificate where --ca-file says and returns the place: --ca-dir has it already, and a laptop
// gets it into the user's cache. A container without either has no place, which is no error.
func (o options) writeCA(certificate []byte) (string, error) {
	switch {
	case o.caFile != "":
		return o.caFile, writeFile(o.caFile, certificate)
	case o.caDir != "":
		return filepath.Join(o.caDir, pki.CertificateFile), nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", nil //nolint:nilerr // a container without a home has no cache; the caller says where the CA is
	}
	path := filepath.Join(cache, "keyvault-emulator", pki.CertificateFile)
	if err := writeFile(path, certificate); err != nil {
		return "", nil //nolint:nilerr // read-only file systems have no cache; the caller says where the CA is
	}
	return path, nil
}

func writeFile(path string, certificate []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("making the directory of the CA file: %w", err)
	}
	if err := os.WriteFile(path, certificate, 0o644); err != nil { //nolint:gosec // public by nature
		return fmt.Errorf("writing the CA file: %w", err)
	}
	return nil
}

func quote(path string) string {
	if strings.ContainsAny(path, " '\"$") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

// defaultSeed is what runs without a seed file. The sign-in in it opens nothing but this emulator.
const defaultSeed = `
principals:
  - name: developer
    clientId: 11111111-1111-4111-8111-111111111111
    secrets: [keyvault-emulator]
    managedIdentity: true
vaults:
  - name: my-kv
    permissions:
      - { principal: developer, roles: [Key Vault Administrator] }
    secrets:
      - { name: my-secret, value: hello from the emulator }
    certificates:
      - { name: test-cert, subject: CN=example.com, dnsNames: [example.com] }
    keys:
      - { name: my-key }
`
