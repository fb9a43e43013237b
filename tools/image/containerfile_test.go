// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The two ways of building the image must not drift apart, and where no container engine is at
// hand nothing else would tell: so the shell commands of the Containerfile are run in a folder.
func TestContainerfileMakesTheSameFiles(t *testing.T) {
	text := containerfile(t)
	commands := regexp.MustCompile(`(?m)^RUN ROOTFS=/rootfs && OWNED=/owned && `).
		FindStringIndex(text)
	if commands == nil {
		t.Fatal("the Containerfile has no RUN that makes /rootfs and /owned")
	}
	script, _, _ := strings.Cut(text[commands[1]:], "\n\n")
	for _, line := range []string{
		"COPY --from=build /rootfs/ /",
		fmt.Sprintf("COPY --from=build --chown=%d:%d /owned/ /run/", user, user),
		"-o /rootfs/usr/bin/ ./cmd/ccm-shim ./cmd/oxide-backend",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the Containerfile lacks: %s", line)
		}
	}
	rootfs, owned := t.TempDir(), t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", script)
	cmd.Env = append(os.Environ(), "ROOTFS="+rootfs, "OWNED="+owned)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := map[string]string{}
	listing(t, rootfs, "", 0, got)
	listing(t, owned, "run/", user, got)
	want := map[string]string{}
	for _, each := range entries() {
		// The Go toolchain makes the folder that it writes the programs to.
		if strings.HasPrefix(each.name, "usr/") {
			continue
		}
		want[strings.TrimSuffix(each.name, "/")] = fmt.Sprintf(
			"%#o %d %q", each.mode, each.owner, each.content)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-this program +Containerfile):\n%s", diff)
	}
}

func TestContainerfileStartsTheSameProgram(t *testing.T) {
	text := containerfile(t)
	for _, line := range []string{
		"FROM scratch", fmt.Sprintf("USER %d:%d", user, user), "WORKDIR /", "ENV PATH=/usr/bin",
		`ENTRYPOINT ["/usr/bin/ccm-shim"]`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("the Containerfile lacks: %s", line)
		}
	}
	opts := options{version: "1", revision: "abc"}
	for name := range labels(opts) {
		if !strings.Contains(text, name+"=") {
			t.Errorf("the Containerfile lacks the label %s", name)
		}
	}
}

// What the programs take for their versions is stamped by the Makefile's flags, which read these files.
func TestContainerfileBuildsWithTheFlagsOfTheMakefile(t *testing.T) {
	if flags := `-tags "$(make -s tags)" -ldflags "$(make -s ldflags)"`; !strings.Contains(containerfile(t), flags) {
		t.Errorf("the Containerfile lacks: %s", flags)
	}
	ignored, err := os.ReadFile("../../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"Makefile", "VERSION", "go.mod", "go.sum"} {
		if !strings.Contains(string(ignored), "\n!"+file+"\n") {
			t.Errorf("the build of the Containerfile does not see the file %s", file)
		}
	}
}

func containerfile(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("../../Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// listing adds mode, owner and content of all that is below a folder, under their names in the
// image.
func listing(t *testing.T, folder, prefix string, owner int, all map[string]string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || path == folder {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		var content []byte
		if !entry.IsDir() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		mode := int64(info.Mode().Perm())
		if info.Mode()&os.ModeSticky != 0 {
			mode |= 0o1000
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		all[prefix+filepath.ToSlash(name)] = fmt.Sprintf("%#o %d %q", mode, owner, content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
