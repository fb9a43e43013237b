// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// write makes the archive and returns the digest of what it names: the image, or the index of the
// images when there are several platforms.
func write(opts options) (v1.Hash, error) {
	var images []v1.Image
	for _, each := range opts.platforms {
		image, err := build(opts, each)
		if err != nil {
			return v1.Hash{}, err
		}
		images = append(images, image)
	}
	folder, err := os.MkdirTemp("", "image-")
	if err != nil {
		return v1.Hash{}, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	digest, err := lay(opts, images, folder)
	if err != nil {
		return v1.Hash{}, err
	}
	return digest, pack(folder, opts.output, opts.time)
}

// build makes the image for one platform.
func build(opts options, on platform) (v1.Image, error) {
	files, err := rootfs(on, opts.time)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files)), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: opts.time}
	image := mutate.ConfigMediaType(
		mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS: on.OS, Architecture: on.Architecture, Created: created,
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:       fmt.Sprintf("%d:%d", user, user),
			Entrypoint: []string{"/usr/bin/ccm-shim"},
			WorkingDir: "/",
			Env:        []string{"PATH=/usr/bin"},
			Labels:     labels(opts),
		},
	})
	if err != nil {
		return nil, err
	}
	return mutate.Append(image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: created, CreatedBy: "tools/image"},
	})
}

func labels(opts options) map[string]string {
	all := map[string]string{
		"org.opencontainers.image.title":    "oxide-cloud-controller-manager",
		"org.opencontainers.image.licenses": "MPL-2.0",
		"org.opencontainers.image.version":  opts.version,
	}
	if opts.revision != "" {
		all["org.opencontainers.image.revision"] = opts.revision
	}
	return all
}

// lay writes an OCI image layout, whose one entry carries the name by which engines load it.
func lay(opts options, images []v1.Image, folder string) (v1.Hash, error) {
	annotations := layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": opts.version,
		"io.containerd.image.name":          opts.tagged.String(),
	})
	path, err := layout.Write(folder, empty.Index)
	if err != nil {
		return v1.Hash{}, err
	}
	if len(images) == 1 {
		if err := path.AppendImage(images[0], annotations,
			layout.WithPlatform(opts.platforms[0].Platform)); err != nil {
			return v1.Hash{}, err
		}
		return images[0].Digest()
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for i, image := range images {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &opts.platforms[i].Platform},
		})
	}
	if err := path.AppendIndex(index, annotations); err != nil {
		return v1.Hash{}, err
	}
	return index.Digest()
}

// pack writes the files of a folder as a tar archive; it appears whole or not at all.
func pack(folder, output string, modified time.Time) (err error) {
	var names []string
	err = filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	file, err := os.CreateTemp(filepath.Dir(output), ".image-")
	if err != nil {
		return fmt.Errorf("--output %s cannot be written: %w", output, err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	archive := tar.NewWriter(file)
	for _, path := range names {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: filepath.ToSlash(name), Mode: 0o644,
			Size: int64(len(content)), ModTime: modified, Format: tar.FormatPAX,
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(content); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	if err := file.Chmod(0o644); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), output)
}
