// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

//go:build e2epod

package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/cluster"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/image"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/node"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// productName is the name of the chart, of the image, and of the release that users are told to make.
const productName = "oxide-cloud-controller-manager"

// built is what every test uses; it is made once and then only read.
var built struct {
	root     string
	programs stack.Programs
	pods     cluster.PodBinaries
	helm     string
	version  string
	// image and debugImage are archives: the product's, and that of grpcurl.
	image, debugImage string
}

// debugImageName is the image that the debug container is made of: grpcurl and a shell, as in the one
// that the documentation names, which no registry serves here.
const debugImageName = "e2e.local/grpcurl:1"

// busybox is the shell.
var busybox = node.Package{Name: "busybox-static", Program: "busybox"}

// live is the world of the running test, which an interrupt takes down.
var live struct {
	sync.Mutex
	world *world
}

// report says what is built, while it is built.
var report = progress.ForTest("e2e-pod")

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(),
		os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, func() {
		stop() // a second signal ends it at once; the next run cleans up then
		live.Lock()
		defer live.Unlock()
		fmt.Println("e2e-pod: interrupted, cleaning up")
		if live.world != nil {
			if err := live.world.close(); err != nil {
				fmt.Fprintln(os.Stderr, "e2e-pod:", err)
			}
			os.RemoveAll(live.world.dir)
		}
		os.Exit(130)
	})
	if err := build(ctx); err != nil {
		if ctx.Err() != nil {
			select {} // the end is under way
		}
		fmt.Fprintln(os.Stderr, "e2e-pod:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// build makes or finds everything that is slow to make, so that the tests' times are their own.
func build(ctx context.Context) (err error) {
	if err := node.EnsurePackages(ctx, report.Say, busybox); err != nil {
		return err
	}
	if built.root, err = stack.Root(); err != nil {
		return err
	}
	version, err := os.ReadFile(filepath.Join(built.root, "VERSION"))
	if err != nil {
		return err
	}
	built.version = strings.TrimSpace(string(version))
	built.image = filepath.Join(built.root, "dist",
		fmt.Sprintf("%s-%s-linux-%s.tar", productName, built.version, runtime.GOARCH))
	if _, err := os.Stat(built.image); err != nil {
		return fmt.Errorf("the image is missing, make it with `make image`: %w", err)
	}
	if built.programs, err = stack.Build(ctx, built.root, report); err != nil {
		return err
	}
	cache, err := cluster.CacheDir()
	if err != nil {
		return err
	}
	built.pods, err = cluster.BuildForPods(ctx, filepath.Join(built.root, "test", "e2e", "kube"),
		cache, built.programs.Binaries, report)
	if err != nil {
		return err
	}
	if err := buildDebugImage(ctx); err != nil {
		return err
	}
	built.helm, err = tool(ctx, "helm")
	return err
}

// buildDebugImage puts the pinned grpcurl and a shell into an image.
func buildDebugImage(ctx context.Context) error {
	shell, err := exec.LookPath(busybox.Program)
	if err != nil {
		return err
	}
	dist := filepath.Join(built.root, "dist")
	program := filepath.Join(dist, "grpcurl")
	if err := cluster.GoBuild(ctx, report, cluster.BuildSpec{
		Title: "grpcurl", Dir: filepath.Join(built.root, "tools"), Output: program,
		Packages: []string{"github.com/fullstorydev/grpcurl/cmd/grpcurl"},
	}); err != nil {
		return err
	}
	built.debugImage = program + ".tar"
	return image.Write(built.debugImage, image.Image{
		Name:       debugImageName,
		Programs:   map[string]string{"/bin/grpcurl": program, "/bin/sh": shell},
		Entrypoint: []string{"/bin/grpcurl"},
	})
}

// tool returns the path of a program that tools/go.mod pins, built first if need be.
func tool(ctx context.Context, name string) (string, error) {
	report.Say("building " + name)
	cmd := exec.CommandContext(ctx, "go", "tool", "-modfile=tools/go.mod", "-n", name)
	cmd.Dir = built.root
	cmd.Env = append(cmd.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("cannot build %s of tools/go.mod: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}
