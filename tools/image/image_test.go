// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func TestTwoBuildsGiveTheSameBytes(t *testing.T) {
	var archives [][]byte
	for _, age := range []time.Duration{0, time.Hour} {
		amd64, arm64 := binaries(t, elf.EM_X86_64), binaries(t, elf.EM_AARCH64)
		for _, folder := range []string{amd64, arm64} {
			when := time.Now().Add(-age)
			if err := os.Chtimes(filepath.Join(folder, programs[0]), when, when); err != nil {
				t.Fatal(err)
			}
		}
		archives = append(archives, archiveOf(t, "linux/amd64="+amd64, "linux/arm64="+arm64))
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of the same binaries differ")
	}
}

func TestArchiveHoldsTheImage(t *testing.T) {
	index := unpack(t, archiveOf(t, "linux/amd64="+binaries(t, elf.EM_X86_64)))
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("the archive names %d images, want 1", len(manifest.Manifests))
	}
	descriptor := manifest.Manifests[0]
	wantNames := map[string]string{
		"org.opencontainers.image.ref.name": "1.2.3",
		"io.containerd.image.name":          "registry.example.com/team/ccm:1.2.3",
	}
	if diff := cmp.Diff(wantNames, descriptor.Annotations); diff != "" {
		t.Errorf("names of the image (-want +got):\n%s", diff)
	}
	image, err := index.Image(descriptor.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Errorf("the image contradicts itself: %v", err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		User: "65532:65532", Entrypoint: []string{"/usr/bin/ccm-shim"}, WorkingDir: "/",
		Env: []string{"PATH=/usr/bin"},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "oxide-cloud-controller-manager",
			"org.opencontainers.image.licenses": "MPL-2.0",
			"org.opencontainers.image.version":  "1.2.3",
		},
	}
	if diff := cmp.Diff(want, file.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if file.OS != "linux" || file.Architecture != "amd64" {
		t.Errorf("made for %s/%s, want linux/amd64", file.OS, file.Architecture)
	}
	wantFiles := map[string]string{
		"etc/": "drwxr-xr-x 0", "etc/group": "-rw-r--r-- 0", "etc/passwd": "-rw-r--r-- 0",
		"run/": "drwxr-xr-x 0", "run/oxide/": "drwx------ 65532", "tmp/": "dtrwxrwxrwx 0",
		"usr/": "drwxr-xr-x 0", "usr/bin/": "drwxr-xr-x 0",
		"usr/bin/ccm-shim": "-rwxr-xr-x 0", "usr/bin/oxide-backend": "-rwxr-xr-x 0",
	}
	if diff := cmp.Diff(wantFiles, files(t, image)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestSeveralPlatformsShareOneName(t *testing.T) {
	index := unpack(t, archiveOf(t, "linux/amd64="+binaries(t, elf.EM_X86_64),
		"linux/arm64="+binaries(t, elf.EM_AARCH64)))
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	inner, err := index.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(inner); err != nil {
		t.Errorf("the index contradicts itself: %v", err)
	}
	innerManifest, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, each := range innerManifest.Manifests {
		got = append(got, each.Platform.String())
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, got); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

// A kubelet asks its runtime for the full name, whatever stands in the pod.
func TestShortNameBecomesTheOneThatRuntimesLookFor(t *testing.T) {
	opts := options{
		name: "ccm", version: "1", output: "x", created: "1970-01-01T00:00:00Z",
		binaries: []string{"linux/amd64=a"},
	}
	if err := opts.Complete(nil); err != nil {
		t.Fatal(err)
	}
	if err := opts.Validate(); err != nil {
		t.Fatal(err)
	}
	if got := opts.tagged.String(); strings.Count(got, "/") != 2 || !strings.HasSuffix(got, "/ccm:1") {
		t.Errorf("the image is named %s, want a registry and a folder before ccm:1", got)
	}
}

func TestBinariesThatCouldNotRunAreRefused(t *testing.T) {
	tests := []struct {
		name    string
		content []byte
		want    string
	}{
		{"missing", nil, "is missing: build the binaries for linux/amd64 first"},
		{"a script", []byte("#!/bin/sh\n"), "is no program for Linux"},
		{"another machine", program64(elf.EM_AARCH64, elf.PT_LOAD), "not for linux/amd64"},
		{"linked dynamically", program64(elf.EM_X86_64, elf.PT_INTERP), "CGO_ENABLED=0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			folder := binaries(t, elf.EM_X86_64)
			path := filepath.Join(folder, "oxide-backend")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if test.content != nil {
				if err := os.WriteFile(path, test.content, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			output := filepath.Join(t.TempDir(), "image.tar")
			var stderr strings.Builder
			code := run([]string{
				"--version=1", "--output=" + output, "--binaries=linux/amd64=" + folder,
			}, io.Discard, &stderr)
			if code != 1 || !strings.Contains(stderr.String(), test.want) {
				t.Errorf("exit code %d and %q, want 1 and %q", code, stderr.String(), test.want)
			}
			if !strings.Contains(stderr.String(), path) {
				t.Errorf("%q does not name the file", stderr.String())
			}
			if _, err := os.Stat(output); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("an archive is left behind: %v", err)
			}
		})
	}
}

func TestMistakesAreReportedTogether(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"nothing given", nil, []string{"--version", "--output", "--binaries"}},
		{
			"several wrong",
			[]string{"--created=today", "--binaries=amd64", "extra"},
			[]string{"--created", "--binaries", "extra"},
		},
		{
			"a platform twice",
			[]string{
				"--version=1", "--output=x", "--binaries=linux/amd64=a", "--binaries=linux/amd64=b",
			},
			[]string{"linux/amd64 twice"},
		},
		{
			"tag in the name",
			[]string{"--name=a:1", "--version=1", "--output=x", "--binaries=linux/amd64=a"},
			[]string{"--name \"a:1\" has a tag"},
		},
		{
			"upper case name",
			[]string{"--name=CCM", "--version=1", "--output=x", "--binaries=linux/amd64=a"},
			[]string{"--name \"CCM\"", "lowercase"},
		},
		{"unknown flag", []string{"--tag=1"}, []string{"--tag"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var stderr strings.Builder
			if code := run(test.args, io.Discard, &stderr); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			for _, want := range test.want {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("%q says nothing of %s", stderr.String(), want)
				}
			}
			for line := range strings.Lines(stderr.String()) {
				if !strings.HasPrefix(line, "image: ") {
					t.Errorf("a line that is no report: %q", line)
				}
			}
		})
	}
}

// The reader of archive/tar forgives a missing end, other readers do not.
func TestLayerHasItsEnd(t *testing.T) {
	content, err := rootfs(platform{
		Platform: v1.Platform{OS: "linux", Architecture: "amd64"},
		folder:   binaries(t, elf.EM_X86_64),
	}, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	const block = 512
	if len(content)%block != 0 || !bytes.HasSuffix(content, make([]byte, 2*block)) {
		t.Errorf("the archive of %d bytes does not end with two empty blocks", len(content))
	}
}

// archiveOf runs the program and returns the archive it wrote.
func archiveOf(t *testing.T, binaries ...string) []byte {
	t.Helper()
	output := filepath.Join(t.TempDir(), "image.tar")
	args := []string{"--name=registry.example.com/team/ccm", "--version=1.2.3", "--output=" + output}
	for _, each := range binaries {
		args = append(args, "--binaries="+each)
	}
	var stderr strings.Builder
	if code := run(args, io.Discard, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	content, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// unpack reads an archive as an engine would.
func unpack(t *testing.T, archive []byte) v1.ImageIndex {
	t.Helper()
	folder := t.TempDir()
	reader := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, header.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// files returns mode and owner of everything in an image.
func files(t *testing.T, image v1.Image) map[string]string {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		reader := tar.NewReader(content)
		for {
			header, err := reader.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			all[header.Name] = fmt.Sprint(header.FileInfo().Mode(), " ", header.Uid)
		}
		if err := content.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// binaries makes a folder with the programs for a machine.
func binaries(t *testing.T, machine elf.Machine) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range programs {
		content := program64(machine, elf.PT_LOAD)
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// program64 is the beginning of an ELF file with one segment of a type, which is all that is read.
func program64(machine elf.Machine, segment elf.ProgType) []byte {
	const headerSize, segmentSize = 64, 56
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{
			0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT),
		},
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Ehsize: headerSize, Phoff: headerSize, Phentsize: segmentSize, Phnum: 1,
	}
	var buffer bytes.Buffer
	for _, part := range []any{header, elf.Prog64{Type: uint32(segment)}} {
		if err := binary.Write(&buffer, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	return buffer.Bytes()
}
