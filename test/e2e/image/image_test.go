// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package image_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/image"
)

// descriptor names a blob of an archive.
type descriptor struct {
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations"`
}

func TestAnArchiveLeadsFromItsNameToItsPrograms(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("text"), 0o755); err != nil {
		t.Fatal(err)
	}
	output := filepath.Join(t.TempDir(), "image.tar")
	if err := image.Write(output, image.Image{
		Name: "registry.test/program:1", Programs: map[string]string{"/usr/bin/program": program},
		Entrypoint: []string{"/usr/bin/program"},
	}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	files := untar(t, text)
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	decode(t, files["index.json"], &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("the index names %d images", len(index.Manifests))
	}
	if got := index.Manifests[0].Annotations["io.containerd.image.name"]; got !=
		"registry.test/program:1" {
		t.Errorf("the image is named %q", got)
	}
	var manifest struct {
		Config descriptor   `json:"config"`
		Layers []descriptor `json:"layers"`
	}
	decode(t, blob(t, files, index.Manifests[0]), &manifest)
	var config struct {
		Config struct {
			Entrypoint []string
			User       string
		} `json:"config"`
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	decode(t, blob(t, files, manifest.Config), &config)
	if diff := cmp.Diff([]string{"/usr/bin/program"}, config.Config.Entrypoint); diff != "" {
		t.Errorf("entrypoint (-want +got):\n%s", diff)
	}
	if config.Config.User != "65532:65532" {
		t.Errorf("the user is %q", config.Config.User)
	}
	if len(manifest.Layers) != 1 {
		t.Fatalf("the image has %d layers", len(manifest.Layers))
	}
	if diff := cmp.Diff([]string{manifest.Layers[0].Digest}, config.RootFS.DiffIDs); diff != "" {
		t.Errorf("layers (-manifest +configuration):\n%s", diff)
	}
	want := map[string]string{"usr/": "", "usr/bin/": "", "usr/bin/program": "text"}
	got := map[string]string{}
	for name, content := range untar(t, blob(t, files, manifest.Layers[0])) {
		got[name] = string(content)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files of the image (-want +got):\n%s", diff)
	}
}

func TestAMissingProgramIsAnErrorAndNoArchive(t *testing.T) {
	output := filepath.Join(t.TempDir(), "image.tar")
	err := image.Write(output, image.Image{
		Name: "registry.test/program:1", Programs: map[string]string{"/program": output + ".absent"},
	})
	if err == nil {
		t.Fatal("an image was made of nothing")
	}
	if _, err := os.Stat(output); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an archive is left behind: %v", err)
	}
}

func untar(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	reader := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
}

// blob returns the content that a descriptor names, which must be what it says.
func blob(t *testing.T, files map[string][]byte, d descriptor) []byte {
	t.Helper()
	algorithm, digest, _ := bytes.Cut([]byte(d.Digest), []byte(":"))
	content := files["blobs/"+string(algorithm)+"/"+string(digest)]
	sum := sha256.Sum256(content)
	if hex.EncodeToString(sum[:]) != string(digest) || len(content) != d.Size {
		t.Fatalf("the blob %s is not what it is named: %d bytes, want %d", d.Digest,
			len(content), d.Size)
	}
	return content
}

func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}
