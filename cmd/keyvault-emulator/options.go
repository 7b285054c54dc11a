// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
)

// options are the command's settings; each is a flag and an environment variable.
type options struct {
	seedFile, caDir, caFile, listen           string
	proxyPort, httpsPort, imdsPort, adminPort int
	level                                     slog.Level
}

const usage = `keyvault-emulator plays Azure Key Vault, Entra ID sign-in and the instance metadata service.

Programs need no change to use it: start it in one shell, and paste the "export" lines that it prints into the shell
of the program. It stops on Ctrl-C.

Flags (each also as the environment variable in brackets):
`

// setting is one option: how it is called and what it is for.
type setting struct {
	flag, env, help string
	set             func(o *options, text string) error
	fallback        string
}

var settings = []setting{
	{"seed-file", "SEED_FILE", "YAML file with vaults, objects, principals and permissions; without it a vault my-kv to play with", text(func(o *options) *string { return &o.seedFile }), ""},
	{"listen", "LISTEN", "address to listen on; 0.0.0.0 or :: opens the emulator to everyone who can reach this machine", text(func(o *options) *string { return &o.listen }), "127.0.0.1"},
	{"proxy-port", "PROXY_PORT", "port of the proxy that programs are pointed to", port(func(o *options) *int { return &o.proxyPort }), "8080"},
	{"https-port", "HTTPS_PORT", "port of vaults and login hosts, behind the proxy", port(func(o *options) *int { return &o.httpsPort }), "8443"},
	{"admin-port", "ADMIN_PORT", "port of the admin endpoint, which asks nobody for a password", port(func(o *options) *int { return &o.adminPort }), "8081"},
	{"imds-port", "IMDS_PORT", "port of the instance metadata service, also reached through the proxy", port(func(o *options) *int { return &o.imdsPort }), "8082"},
	{"ca-dir", "CA_DIR", "directory that keeps the CA (ca.crt, ca.key) from start to start; without it every start has a new one", text(func(o *options) *string { return &o.caDir }), ""},
	{"ca-file", "CA_FILE", "where to write the CA certificate for clients", text(func(o *options) *string { return &o.caFile }), ""},
	{"log-level", "LOG_LEVEL", "debug, info, warn or error", func(o *options, text string) error {
		if o.level.UnmarshalText([]byte(text)) != nil {
			return errors.New("must be debug, info, warn or error")
		}
		return nil
	}, "info"},
}

const prefix = "KEYVAULT_EMULATOR_"

func text(field func(*options) *string) func(*options, string) error {
	return func(o *options, value string) error {
		*field(o) = value
		return nil
	}
}

func port(field func(*options) *int) func(*options, string) error {
	return func(o *options, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > 65535 {
			return errors.New("must be a port, 0 for any free one")
		}
		*field(o) = n
		return nil
	}
}

// parse reads flags, then the environment, then defaults, and reports everything that is wrong.
func parse(args []string, getenv func(string) string, stderr io.Writer) (options, error) {
	flags := flag.NewFlagSet("keyvault-emulator", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		_, _ = io.WriteString(stderr, usage)
		for _, s := range settings {
			line := fmt.Sprintf("  --%s  [%s%s]", s.flag, prefix, s.env)
			if s.fallback != "" {
				line += "  default " + s.fallback
			}
			_, _ = fmt.Fprintf(stderr, "%s\n        %s\n", line, s.help)
		}
	}
	given := map[string]*string{}
	for _, s := range settings {
		given[s.flag] = flags.String(s.flag, "", s.help)
	}
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	var out options
	var errs []error
	if flags.NArg() > 0 {
		errs = append(errs, fmt.Errorf("%q is not a flag; see --help", flags.Arg(0)))
	}
	for _, s := range settings {
		value, from := *given[s.flag], "--"+s.flag
		if value == "" {
			value, from = getenv(prefix+s.env), prefix+s.env
		}
		if value == "" {
			value = s.fallback
		}
		if err := s.set(&out, value); err != nil {
			errs = append(errs, fmt.Errorf("%s %w", from, err))
		}
	}
	if net.ParseIP(out.listen) == nil {
		errs = append(errs, errors.New("--listen must be an IP address"))
	}
	return out, errors.Join(errs...)
}

func (o options) address(port int) string { return net.JoinHostPort(o.listen, strconv.Itoa(port)) }
