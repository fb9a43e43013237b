// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

const (
	etcdModule       = "go.etcd.io/etcd/server/v3"
	kubernetesModule = "k8s.io/kubernetes"
)

// CacheDir returns the folder that keeps what is slow to make: $OXIDE_CCM_CACHE if set, else the
// folder oxide-ccm in the user's cache ($XDG_CACHE_HOME or ~/.cache).
func CacheDir() (string, error) {
	if dir := os.Getenv("OXIDE_CCM_CACHE"); dir != "" {
		return filepath.Join(dir, "oxide-ccm"), nil
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "oxide-ccm"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no place for built programs (set OXIDE_CCM_CACHE): %w", err)
	}
	return filepath.Join(home, ".cache", "oxide-ccm"), nil
}

// openCache prepares to build what moduleDir pins into its folder of the cache.
func openCache(
	ctx context.Context, moduleDir, cacheDir string, report progress.Reporter,
) (*builder, error) {
	versions, err := pinned(ctx, moduleDir, etcdModule, kubernetesModule)
	if err != nil {
		return nil, err
	}
	b := &builder{dir: moduleDir, report: report, etcd: versions[0], kube: versions[1]}
	b.cache, err = cacheFolder(moduleDir, cacheDir, b.kube)
	return b, err
}

// pinned returns the versions of modules in the order asked.
func pinned(ctx context.Context, moduleDir string, modules ...string) ([]string, error) {
	args := append([]string{"list", "-m", "-f", "{{.Version}}"}, modules...)
	out, err := goCommand(ctx, moduleDir, args...).Output()
	if err != nil {
		return nil, fmt.Errorf("cannot read the pinned versions in %s: %w", moduleDir,
			withOutput(err))
	}
	versions := strings.Fields(string(out))
	if len(versions) != len(modules) {
		return nil, fmt.Errorf("%s pins no version of one of %s", moduleDir,
			strings.Join(modules, ", "))
	}
	return versions, nil
}

// cacheFolder names the folder of these very sources: other dependencies or another compiler
// make another folder.
func cacheFolder(moduleDir, cacheDir, kubeVersion string) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version(), runtime.GOOS, runtime.GOARCH, versionFlags(kubeVersion))
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(moduleDir, name))
		if err != nil {
			return "", fmt.Errorf("the module of the cluster's programs is incomplete: %w", err)
		}
		sum.Write(data)
	}
	key := kubeVersion + "-" + hex.EncodeToString(sum.Sum(nil))[:12]
	dir := filepath.Join(cacheDir, "kube", key)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("no place for built programs (set OXIDE_CCM_CACHE): %w", err)
	}
	return dir, nil
}

// versionFlags are the linker flags without which kube-apiserver calls itself v0.0.0.
func versionFlags(version string) string {
	const pkg = "k8s.io/component-base/version."
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	flags := []string{
		"-X " + pkg + "gitVersion=" + version,
		"-X " + pkg + "gitTreeState=clean",
		"-X " + pkg + "buildDate=1970-01-01T00:00:00Z",
	}
	if len(parts) == 3 {
		flags = append(flags, "-X "+pkg+"gitMajor="+parts[0], "-X "+pkg+"gitMinor="+parts[1])
	}
	return strings.Join(flags, " ")
}

type builder struct {
	dir    string
	cache  string
	report progress.Reporter
	// etcd and kube are the pinned versions.
	etcd, kube string
}

// kubernetes builds one of the programs in cmd/ of Kubernetes.
func (b *builder) kubernetes(ctx context.Context, name string) (string, error) {
	return b.build(ctx, name, b.kube, kubernetesModule+"/cmd/"+name, versionFlags(b.kube))
}

// both returns etcd and kube-apiserver, built if need be.
func (b *builder) both(ctx context.Context) (Binaries, error) {
	result := b.inCache()
	if _, err := b.build(ctx, "etcd", b.etcd, etcdModule, ""); err != nil {
		return Binaries{}, err
	}
	_, err := b.kubernetes(ctx, "kube-apiserver")
	return result, err
}

// inCache returns etcd and kube-apiserver as they are once they are built.
func (b *builder) inCache() Binaries {
	return Binaries{
		Etcd: filepath.Join(b.cache, "etcd"), KubeAPIServer: filepath.Join(b.cache, "kube-apiserver"),
		Kubernetes: b.kube, EtcdVersion: b.etcd, Source: "built from their modules",
	}
}

// build returns the path of the program in the cache, made first if need be.
func (b *builder) build(ctx context.Context, name, version, pkg, flags string) (string, error) {
	path := filepath.Join(b.cache, name)
	if isFile(path) {
		return path, nil
	}
	began := time.Now()
	b.report.Step("building " + name + " " + version)
	unlock, err := Lock(ctx, filepath.Join(b.cache, "lock"), func() {
		b.report.Note(progress.Note{
			Text: "another run builds it, waiting for " + progress.Seconds(time.Since(began)),
		})
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	if isFile(path) {
		b.report.Done("built by the other run")
		return path, nil
	}
	half := path + ".unfinished"
	os.Remove(half) // a killed run may have left it, and go build refuses to write over it
	defer os.Remove(half)
	if err := GoBuild(ctx, b.report, BuildSpec{
		Title: name + " " + version, Dir: b.dir, Output: half, Packages: []string{pkg},
		LinkerFlags: strings.TrimSpace(smallProgram + " " + flags),
	}); err != nil {
		return "", err
	}
	if err := os.Rename(half, path); err != nil {
		return "", fmt.Errorf("cannot keep the built %s: %w", name, err)
	}
	return path, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// Lock takes an exclusive lock on a file, which it makes if need be. The system drops the lock with
// the process, however it ends. While it waits for another holder it calls waiting, unless nil,
// again and again.
func Lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the cache of built programs: %w", err)
	}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("cannot lock the cache of built programs: %w", err)
		}
		if waiting != nil {
			waiting()
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// goCommand runs the go tool in dir, for the machine it runs on and without cgo.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOOS="+runtime.GOOS,
		"GOARCH="+runtime.GOARCH)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// withOutput adds the last line that a failed command wrote to its error.
func withOutput(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(exit.Stderr)), "\n")
	return fmt.Errorf("%w: %s", err, lines[len(lines)-1])
}
