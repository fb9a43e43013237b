// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

// Programs are the paths of everything that a stack runs.
type Programs struct {
	cluster.Binaries
	Sim     string
	Backend string
	Shim    string
}

// rootModule is the first line of the go.mod at the root of the repository.
const rootModule = "module github.com/oxidecomputer/oxide-cloud-controller-manager"

// Root returns the root of the repository that holds the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		text, err := os.ReadFile(filepath.Join(at, "go.mod"))
		first, _, _ := strings.Cut(string(text), "\n")
		if err == nil && strings.TrimSpace(first) == rootModule {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not inside the repository of the Oxide cloud controller "+
				"manager: change to a folder of it", dir)
		}
	}
}

// Build returns everything that a stack runs: the control plane that KUBEBUILDER_ASSETS names or
// that is built into the cache, and this project's programs, which are built into bin/ of the
// repository.
func Build(ctx context.Context, root string, report progress.Reporter) (Programs, error) {
	return get(ctx, root, report, nil)
}

// BuildOrFetch is Build, but for a control plane that is in no cache yet: it is fetched, if that is
// possible, from what an index at a URL names; empty: the index of setup-envtest.
func BuildOrFetch(ctx context.Context, root, index string, report progress.Reporter) (Programs, error) {
	return get(ctx, root, report, &cluster.Fetch{
		Module: filepath.Join(root, "test", "e2e", "envtest"), Index: index,
	})
}

func get(
	ctx context.Context, root string, report progress.Reporter, fetch *cluster.Fetch,
) (Programs, error) {
	cache, err := cluster.CacheDir()
	if err != nil {
		return Programs{}, err
	}
	binaries, err := cluster.Get(ctx, cluster.Options{
		Module: filepath.Join(root, "test", "e2e", "kube"), Cache: cache, Report: report, Fetch: fetch,
	})
	if err != nil {
		return Programs{}, err
	}
	programs, err := BuildOwn(ctx, root, report)
	programs.Binaries = binaries
	return programs, err
}

// BuildOwn builds this project's programs into bin/ of the repository, and leaves out the control
// plane.
func BuildOwn(ctx context.Context, root string, report progress.Reporter) (Programs, error) {
	bin := filepath.Join(root, "bin")
	programs := Programs{
		Sim:     filepath.Join(bin, "oxide-sim"),
		Backend: filepath.Join(bin, "oxide-backend"),
		Shim:    filepath.Join(bin, "ccm-shim"),
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return Programs{}, fmt.Errorf("no place for this project's programs: %w", err)
	}
	flags, err := exec.CommandContext(ctx, "make", "-s", "-C", root, "ldflags").Output()
	if err != nil {
		return Programs{}, fmt.Errorf("the linker flags of this project's programs (make ldflags): %w", err)
	}
	tags, err := exec.CommandContext(ctx, "make", "-s", "-C", root, "tags").Output()
	if err != nil {
		return Programs{}, fmt.Errorf("the build tags of this project's programs (make tags): %w", err)
	}
	// Of two runs at once one builds, and the other finds that there is nothing left to build.
	report.Step("building this project's programs")
	unlock, err := cluster.Lock(ctx, filepath.Join(bin, ".lock"), func() {
		report.Note(progress.Note{Text: "another run builds them, waiting"})
	})
	if err != nil {
		return Programs{}, err
	}
	defer unlock()
	return programs, cluster.GoBuild(ctx, report, cluster.BuildSpec{
		Title: "oxide-sim, oxide-backend, ccm-shim", Dir: root,
		Output:   bin + string(filepath.Separator),
		Packages: []string{"./cmd/oxide-sim", "./cmd/oxide-backend", "./cmd/ccm-shim"},
		// As `make binaries` builds them, or each would undo what the other has built.
		LinkerFlags: strings.TrimSpace(string(flags)), Tags: strings.Fields(string(tags)),
	})
}

// manifest returns the manifest that the chart renders to.
func manifest(root string) ([]byte, error) {
	text, err := os.ReadFile(
		filepath.Join(root, "manifests", "oxide-cloud-controller-manager.yaml"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the manifest is missing, make it with `make manifest`: %w", err)
	}
	return text, err
}
