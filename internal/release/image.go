// SPDX-License-Identifier: Apache-2.0

package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user and group of every process; the chart says the same, for a kubelet
// cannot check runAsNonRoot against a name.
const user = "65532:65532"

// Index compiles the product for each platform and returns the image index.
func (b Builder) Index(ctx context.Context, p Product, platforms []v1.Platform) (v1.ImageIndex, error) { //nolint:ireturn // the library has no concrete type
	created, err := b.created()
	if err != nil {
		return nil, err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, on := range platforms {
		image, err := b.image(ctx, p, on, created)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: on.OS, Architecture: on.Architecture}},
		})
	}
	annotated, ok := mutate.Annotations(index, b.labels(p)).(v1.ImageIndex)
	if !ok {
		return nil, fmt.Errorf("annotating an index of %s gave no index", p.Image)
	}
	return annotated, nil
}

func (b Builder) created() (time.Time, error) {
	if b.Created == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, b.Created)
	if err != nil {
		return time.Time{}, fmt.Errorf("creation time: want the form 2006-01-02T15:04:05Z")
	}
	return t.UTC(), nil
}

func (b Builder) labels(p Product) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       p.Title,
		"org.opencontainers.image.description": p.Summary,
		"org.opencontainers.image.version":     b.Version,
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.source":      "https://github.com/akv2k8s/akv2k8s",
	}
}

func (b Builder) image(ctx context.Context, p Product, on v1.Platform, created time.Time) (v1.Image, error) { //nolint:ireturn // as above
	binary, err := b.binary(ctx, p, on)
	if err != nil {
		return nil, err
	}
	layer, err := layerOf(p.RootFile(), binary)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS:           on.OS,
		Architecture: on.Architecture,
		Created:      v1.Time{Time: created},
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint: []string{"/" + p.RootFile()},
			User:       user,
			WorkingDir: "/",
			Labels:     b.labels(p),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("configuring image %s: %w", p.Image, err)
	}
	return mutate.Append(image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "COPY " + p.RootFile() + " /"},
	})
}

func (b Builder) binary(ctx context.Context, p Product, on v1.Platform) ([]byte, error) {
	dir, err := os.MkdirTemp("", "akv2k8s-image-")
	if err != nil {
		return nil, fmt.Errorf("making a build directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, p.Binary)
	if err := b.compile(ctx, p, on, file); err != nil {
		return nil, err
	}
	binary, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the compiled %s: %w", p.Binary, err)
	}
	return binary, nil
}

// layerOf is a layer with one executable file at the root. It is compressed
// once, here: the library would do it again for the digest and for the upload.
func layerOf(name string, content []byte) (v1.Layer, error) { //nolint:ireturn // as above
	var packed bytes.Buffer
	gz, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("compressing %s: %w", name, err)
	}
	archive := tar.NewWriter(gz)
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)),
		Mode: 0o755, ModTime: time.Unix(0, 0).UTC(), Format: tar.FormatPAX,
	}
	if err := archive.WriteHeader(header); err != nil {
		return nil, fmt.Errorf("archiving %s: %w", name, err)
	}
	if _, err := archive.Write(content); err != nil {
		return nil, fmt.Errorf("archiving %s: %w", name, err)
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("archiving %s: %w", name, err)
	}
	if err := gz.Close(); err != nil {
		return nil, fmt.Errorf("compressing %s: %w", name, err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}
