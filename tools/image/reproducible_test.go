// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Whoever doubts an image can build it again and compare: neither the folder, nor the user's umask,
// nor the time of day gets into it. `make image-all` differs by the architectures alone, and the
// release builds it twice.
func TestTwoBuildsFromSourceGiveOneDigest(t *testing.T) {
	if old := syscall.Umask(0o022); old != 0o022 {
		t.Cleanup(func() { syscall.Umask(old) })
	}
	var digests []v1.Hash
	for _, umask := range []int{0o022, 0o077} {
		syscall.Umask(umask)
		digests = append(digests, buildFromSource(t, t.TempDir()))
		syscall.Umask(0o022)
	}
	if digests[0] != digests[1] {
		t.Errorf("the images %s and %s differ", digests[0], digests[1])
	}
}

// buildFromSource copies what the image is built from into a folder, runs `make image` there, and
// returns the image's digest.
func buildFromSource(t *testing.T, folder string) v1.Hash {
	t.Helper()
	const repository = "../.."
	list := exec.CommandContext(t.Context(), "git", "ls-files", "--cached", "--others",
		"--exclude-standard", "--", "Makefile", "VERSION", "version.go", "go.mod", "go.sum",
		"cmd", "internal", "proto", "tools")
	list.Dir = repository
	names, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	for name := range strings.Lines(string(names)) {
		name = strings.TrimSpace(name)
		content, err := os.ReadFile(filepath.Join(repository, name))
		if os.IsNotExist(err) || strings.HasSuffix(name, "_test.go") {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "make", "image", "REVISION=test", "DIST=out")
	build.Dir = folder
	// Settings of the make that runs this test are none of that one's.
	build.Env = append(os.Environ(), "MAKEFLAGS=", "MFLAGS=", "MAKELEVEL=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make image: %v: %s", err, out)
	}
	archives, err := filepath.Glob(filepath.Join(folder, "out", "*.tar"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("make image wrote %v, want one archive", archives)
	}
	content, err := os.ReadFile(archives[0])
	if err != nil {
		t.Fatal(err)
	}
	index := unpack(t, content)
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	all := files(t, image)
	for _, name := range programs {
		if mode := all["usr/bin/"+name]; mode != "-rwxr-xr-x 0" {
			t.Errorf("%s has mode and owner %q", name, mode)
		}
	}
	if !bytes.Contains(content, []byte(fmt.Sprintf(`"architecture":%q`, archOf(t)))) {
		t.Error("the image is not for this machine's architecture")
	}
	return manifest.Manifests[0].Digest
}

func archOf(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOARCH").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
