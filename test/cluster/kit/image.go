// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// words is a command line: a JSON array, or words separated by spaces.
type words []string

func (w *words) String() string { return strings.Join(*w, " ") }

func (w *words) Set(s string) error {
	if strings.HasPrefix(s, "[") {
		return json.Unmarshal([]byte(s), (*[]string)(w))
	}
	*w = strings.Fields(s)
	return nil
}

// list collects the values of a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}

// push makes a one-layer image of files given as SOURCE=DESTINATION (a copy,
// mode 0755), LINK=>TARGET (a symbolic link) or DIRECTORY/ (an empty directory
// anyone may write to), pushes it and prints its name with its digest.
func push(args []string) error {
	fs := flag.NewFlagSet("push", flag.ExitOnError)
	config := v1.Config{}
	platform := fs.String("platform", "linux/"+runtime.GOARCH, "the platform that the image says it is for")
	env := list{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	fs.StringVar(&config.User, "user", "", "USER, such as 65532:65532")
	fs.StringVar(&config.WorkingDir, "workdir", "", "WORKDIR")
	fs.Var((*words)(&config.Entrypoint), "entrypoint", "ENTRYPOINT: words, or a JSON array")
	fs.Var((*words)(&config.Cmd), "cmd", "CMD: words, or a JSON array")
	fs.Var(&env, "env", "ENV as NAME=VALUE; may be given several times")
	_ = fs.Parse(args)
	if fs.NArg() < 1 {
		return errors.New("usage: kit push [flags] REFERENCE [FILE=DESTINATION | LINK=>TARGET | DIRECTORY/]")
	}
	config.Env = env

	ref, err := name.ParseReference(fs.Arg(0))
	if err != nil {
		return err
	}
	img, err := build(*platform, config, fs.Args()[1:])
	if err != nil {
		return err
	}
	if err := remote.Write(ref, img); err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s@%s\n", ref, digest)
	return nil
}

// image prints the configuration that an image's registry gives for it.
func image(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: kit image REFERENCE")
	}
	ref, err := name.ParseReference(args[0])
	if err != nil {
		return err
	}
	img, err := remote.Image(ref)
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", config)
	return nil
}

//nolint:ireturn // the library has images as interfaces only
func build(platform string, config v1.Config, files []string) (v1.Image, error) {
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		return nil, err
	}
	content, err := archive(files)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	})
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Variant, file.Config = p.OS, p.Architecture, p.Variant, config
	return mutate.ConfigFile(img, file)
}

// layer writes the tar archive that is an image's only layer. The same files
// give the same bytes: no entry carries a time or an owner.
type layer struct {
	*tar.Writer
	made map[string]bool
}

func archive(files []string) ([]byte, error) {
	var out bytes.Buffer
	l := layer{tar.NewWriter(&out), map[string]bool{".": true}}
	for _, spec := range files {
		if err := l.add(spec); err != nil {
			return nil, err
		}
	}
	err := l.Close()
	return out.Bytes(), err
}

func (l layer) add(spec string) error {
	if link, target, ok := strings.Cut(spec, "=>"); ok {
		return l.entry(&tar.Header{Typeflag: tar.TypeSymlink, Name: inside(link), Linkname: target, Mode: 0o777}, nil)
	}
	source, dest, ok := strings.Cut(spec, "=")
	if !ok {
		return l.directory(inside(spec), 0o1777)
	}
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	return l.entry(&tar.Header{Typeflag: tar.TypeReg, Name: inside(dest), Mode: 0o755, Size: int64(len(data))}, data)
}

func (l layer) entry(h *tar.Header, data []byte) error {
	if err := l.directory(path.Dir(h.Name), 0o755); err != nil {
		return err
	}
	h.ModTime = time.Unix(0, 0)
	if err := l.WriteHeader(h); err != nil {
		return err
	}
	_, err := l.Write(data)
	return err
}

func (l layer) directory(dir string, mode int64) error {
	if l.made[dir] {
		return nil
	}
	if err := l.directory(path.Dir(dir), 0o755); err != nil {
		return err
	}
	l.made[dir] = true
	return l.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode, ModTime: time.Unix(0, 0)})
}

// inside is a path as a layer wants it: clean and relative to the root.
func inside(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }
