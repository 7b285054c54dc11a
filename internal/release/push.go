// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Reference is where a product's image lives: REGISTRY/image:tag. The registry
// may carry a path, as in registry.example/team.
func Reference(registry string, p Product, tag string, insecure bool) (name.Tag, error) {
	options := []name.Option{name.StrictValidation}
	if insecure {
		options = append(options, name.Insecure)
	}
	ref, err := name.NewTag(registry+"/"+p.Image+":"+tag, options...)
	if err != nil {
		return name.Tag{}, fmt.Errorf("image name: %w", err)
	}
	return ref, nil
}

// Push uploads the index unless the tag already names it. It signs in as the
// machine's container tools do (their configuration file and helpers).
func Push(ctx context.Context, ref name.Tag, index v1.ImageIndex) error {
	options := []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithUserAgent("akv2k8s-release"),
	}
	digest, err := index.Digest()
	if err != nil {
		return fmt.Errorf("computing the digest of %s: %w", ref, err)
	}
	if there, err := remote.Head(ref, options...); err == nil && there.Digest == digest {
		return nil
	}
	if err := remote.WriteIndex(ref, index, options...); err != nil {
		return fmt.Errorf("pushing %s: %w", ref, err)
	}
	return nil
}

// Store puts the index into an OCI image layout, replacing what had its name.
func Store(dir string, ref name.Tag, index v1.ImageIndex) error {
	path, err := layout.FromPath(dir)
	if errors.Is(err, fs.ErrNotExist) {
		path, err = layout.Write(dir, empty.Index)
	}
	if err != nil {
		return fmt.Errorf("opening the image layout %s: %w", dir, err)
	}
	const refName = "org.opencontainers.image.ref.name"
	err = path.ReplaceIndex(index, match.Annotation(refName, ref.Name()),
		layout.WithAnnotations(map[string]string{refName: ref.Name()}))
	if err != nil {
		return fmt.Errorf("storing %s in %s: %w", ref, filepath.Clean(dir), err)
	}
	return nil
}
