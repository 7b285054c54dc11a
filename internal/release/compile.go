// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// goarch says, for each architecture, which variables pin the instruction set,
// so that the builder's own defaults never reach the binary.
var goarch = map[string][]string{
	"amd64": {"GOAMD64=v1"},
	"arm64": {"GOARM64=v8.0"},
}

// A Builder compiles the programs of one Go module.
type Builder struct {
	Module  string // directory of go.mod
	Version string // what the programs call themselves: main.version
	Created string // RFC 3339, the images' creation time; empty for 1970-01-01T00:00:00Z
}

// Exists says whether the module has this product's program.
func (b Builder) Exists(p Product) bool {
	files, err := filepath.Glob(filepath.Join(b.Module, "cmd", p.Binary, "*.go"))
	return err == nil && len(files) > 0
}

// compile writes the product's program for one platform to a file. Nothing of
// the machine goes in: no path, no version control, no C library.
func (b Builder) compile(ctx context.Context, p Product, on v1.Platform, file string) error {
	cmd := exec.CommandContext(ctx, "go", "build",
		"-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version="+b.Version,
		"-o", file, "./cmd/"+p.Binary)
	cmd.Dir = b.Module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+on.OS, "GOARCH="+on.Architecture, "GOEXPERIMENT=")
	cmd.Env = append(cmd.Env, goarch[on.Architecture]...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("compiling cmd/%s for %s: %w\n%s", p.Binary, on, err, output.Bytes())
	}
	return nil
}
