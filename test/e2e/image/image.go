// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
)

// Image says what an image is made of.
type Image struct {
	// Name is the full name with registry and tag, since runtimes look for nothing shorter.
	Name string
	// Programs are the files of the image: static programs on this machine, by their absolute paths
	// in the image.
	Programs map[string]string
	// Entrypoint is what it runs.
	Entrypoint []string
}

const (
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
)

type object map[string]any

// Write writes the image as an OCI archive to the file output.
func Write(output string, image Image) error {
	layer, err := layer(image.Programs)
	if err != nil {
		return fmt.Errorf("cannot make the image %s: %w", image.Name, err)
	}
	var a archive
	layerBlob := a.blob(typeLayer, layer)
	config := a.document(typeConfig, object{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": object{"Entrypoint": image.Entrypoint, "User": "65532:65532", "WorkingDir": "/"},
		"rootfs": object{"type": "layers", "diff_ids": []any{layerBlob["digest"]}},
	})
	manifest := a.document(typeManifest, object{
		"schemaVersion": 2, "mediaType": typeManifest,
		"config": config, "layers": []object{layerBlob},
	})
	manifest["annotations"] = object{"io.containerd.image.name": image.Name}
	a.json("index.json", object{
		"schemaVersion": 2, "mediaType": typeIndex, "manifests": []object{manifest},
	})
	a.json("oci-layout", object{"imageLayoutVersion": "1.0.0"})
	text, err := a.close()
	if err != nil {
		return fmt.Errorf("cannot make the image %s: %w", image.Name, err)
	}
	return os.WriteFile(output, text, 0o644)
}

// layer is the image's file system: the programs and the folders that they are in.
func layer(programs map[string]string) ([]byte, error) {
	var out bytes.Buffer
	files := tar.NewWriter(&out)
	made := map[string]bool{}
	for _, name := range sorted(programs) {
		for _, folder := range folders(name) {
			if made[folder] {
				continue
			}
			made[folder] = true
			if err := files.WriteHeader(&tar.Header{
				Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o755,
			}); err != nil {
				return nil, err
			}
		}
		content, err := os.ReadFile(programs[name])
		if err != nil {
			return nil, err
		}
		if err := files.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: 0o755,
			Size: int64(len(content)),
		}); err != nil {
			return nil, err
		}
		if _, err := files.Write(content); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), files.Close()
}

// folders returns those that a file is in, the outermost first, without a slash before them.
func folders(name string) []string {
	var all []string
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		all = append([]string{strings.TrimPrefix(dir, "/")}, all...)
	}
	return all
}

func sorted(programs map[string]string) []string {
	names := make([]string, 0, len(programs))
	for name := range programs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// archive is an OCI image layout in a tar file, under construction. Its first error stays.
type archive struct {
	out   bytes.Buffer
	files *tar.Writer
	err   error
}

func (a *archive) add(name string, content []byte) {
	if a.files == nil {
		a.files = tar.NewWriter(&a.out)
	}
	if a.err == nil {
		a.err = a.files.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)),
		})
	}
	if a.err == nil {
		_, a.err = io.Copy(a.files, bytes.NewReader(content))
	}
}

// blob adds content and returns its descriptor.
func (a *archive) blob(mediaType string, content []byte) object {
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	a.add("blobs/sha256/"+digest, content)
	return object{"mediaType": mediaType, "digest": "sha256:" + digest, "size": len(content)}
}

func (a *archive) document(mediaType string, content object) object {
	text, err := json.Marshal(content)
	if a.err == nil {
		a.err = err
	}
	return a.blob(mediaType, text)
}

func (a *archive) json(name string, content object) {
	text, err := json.Marshal(content)
	if a.err == nil {
		a.err = err
	}
	a.add(name, text)
}

func (a *archive) close() ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	err := a.files.Close()
	return a.out.Bytes(), err
}
