// SPDX-License-Identifier: Apache-2.0

// Command images builds the container images of all products and pushes them to
// a registry, or stores them in a directory. It needs Go and nothing else.
//
//	go run ./internal/release/images -registry registry.example/team -tag 1.2.3
//
// It prints name@digest for each image, and can write the values that make the
// charts run exactly these.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/akv2k8s/akv2k8s/internal/release"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

type settings struct {
	module    string
	registry  string
	pull      string
	tag       string
	created   string
	platform  string
	only      string
	layout    string
	valuesOut string
	insecure  bool
	push      bool
	missing   bool
}

func parse(args []string, output io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&s.registry, "registry", "", "where images go, with an optional path: registry.example/team (required)")
	flags.StringVar(&s.pull, "pull-registry", "", "the same registry as the cluster's nodes name it, for -values-out (default: -registry)")
	flags.StringVar(&s.tag, "tag", "dev", "tag of the images and version of the programs")
	flags.StringVar(&s.platform, "platform", "linux/amd64,linux/arm64", "platforms, separated by commas")
	flags.StringVar(&s.only, "only", "", "images to build, separated by commas (default: all)")
	flags.BoolVar(&s.insecure, "insecure", false, "push over plain HTTP")
	flags.BoolVar(&s.push, "push", true, "push to the registry")
	flags.StringVar(&s.layout, "layout", "", "directory to store the images in as an OCI image layout")
	flags.StringVar(&s.valuesOut, "values-out", "", "directory to write Helm values into: CHART.yaml for each chart")
	flags.StringVar(&s.created, "created", "", "creation time of the images, RFC 3339 (default: 1970-01-01T00:00:00Z)")
	flags.StringVar(&s.module, "module", ".", "directory of go.mod")
	flags.BoolVar(&s.missing, "skip-missing", false, "pass over programs that do not exist yet")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if s.pull == "" {
		s.pull = s.registry
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.registry == "":
		return s, errors.New("-registry is required, for instance registry.example/team")
	case !s.push && s.layout == "":
		return s, errors.New("with -push=false, -layout must say where the images go")
	}
	return s, nil
}

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil:
		err = s.build(ctx, stdout, stderr)
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "images:", err)
		return 1
	}
	return 0
}

func (s settings) build(ctx context.Context, stdout, stderr io.Writer) error {
	platforms, err := release.Platforms(list(s.platform))
	if err != nil {
		return err
	}
	products, err := release.Select(release.Products(), list(s.only))
	if err != nil {
		return err
	}
	builder := release.Builder{Module: s.module, Version: s.tag, Created: s.created}
	products, err = s.present(builder, products, stderr)
	if err != nil {
		return err
	}
	digests := map[string]string{}
	for _, p := range products {
		digest, err := s.deliver(ctx, builder, p, platforms, stdout)
		if err != nil {
			return err
		}
		digests[p.Image] = digest.String()
	}
	return s.values(digests)
}

// present refuses to leave a program out silently.
func (s settings) present(b release.Builder, products []release.Product, stderr io.Writer) ([]release.Product, error) {
	var found []release.Product
	for _, p := range products {
		switch {
		case b.Exists(p):
			found = append(found, p)
		case s.missing:
			_, _ = fmt.Fprintf(stderr, "images: cmd/%s does not exist: no image %s\n", p.Binary, p.Image)
		default:
			return nil, fmt.Errorf("cmd/%s does not exist in %s", p.Binary, s.module)
		}
	}
	return found, nil
}

func (s settings) deliver(ctx context.Context, b release.Builder, p release.Product, on []v1.Platform, stdout io.Writer) (v1.Hash, error) {
	ref, err := release.Reference(s.registry, p, s.tag, s.insecure)
	if err != nil {
		return v1.Hash{}, err
	}
	index, err := b.Index(ctx, p, on)
	if err != nil {
		return v1.Hash{}, err
	}
	digest, err := index.Digest()
	if err != nil {
		return v1.Hash{}, fmt.Errorf("computing the digest of %s: %w", ref, err)
	}
	if s.layout != "" {
		if err := release.Store(s.layout, ref, index); err != nil {
			return v1.Hash{}, err
		}
	}
	if s.push {
		if err := release.Push(ctx, ref, index); err != nil {
			return v1.Hash{}, err
		}
	}
	_, _ = fmt.Fprintf(stdout, "%s@%s\n", ref.Context().Name(), digest)
	return digest, nil
}

func (s settings) values(digests map[string]string) error {
	if s.valuesOut == "" {
		return nil
	}
	files, err := release.Values(s.pull, s.tag, digests)
	if err != nil {
		return err
	}
	return release.WriteValues(s.valuesOut, files)
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}
