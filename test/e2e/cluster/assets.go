// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// assetsVariable names a folder with etcd and kube-apiserver, by the convention of envtest.
	assetsVariable = "KUBEBUILDER_ASSETS"
	unset          = "unset " + assetsVariable + " to have them built"

	// oldestKubernetes is the oldest release, 1.x, that the product supports.
	oldestKubernetes = 27
	// oldestEtcd is the oldest release, 3.x, that knows the flags that it is started with.
	oldestEtcd = 5

	// versionLimit is what a program is given to print its version.
	versionLimit = 30 * time.Second
)

var (
	kubernetesVersion = regexp.MustCompile(`(?m)^Kubernetes v(1\.\d+\.\d+\S*)`)
	etcdVersion       = regexp.MustCompile(`(?m)^etcd Version: (3\.\d+\.\d+\S*)`)
)

// assets returns the programs in the folder that KUBEBUILDER_ASSETS names; found is false if it is
// not set.
func assets(ctx context.Context) (result Binaries, found bool, err error) {
	dir := os.Getenv(assetsVariable)
	if dir == "" {
		return Binaries{}, false, nil
	}
	if !filepath.IsAbs(dir) {
		// The tests of each package run in its own folder.
		return Binaries{}, true, fmt.Errorf("%s=%s is not an absolute path: make it one, or %s",
			assetsVariable, dir, unset)
	}
	result, err = inspect(ctx, dir)
	if err != nil {
		return Binaries{}, true, fmt.Errorf("%s=%s: %w: set it to what `setup-envtest use -p path` "+
			"prints, or %s", assetsVariable, dir, err, unset)
	}
	result.Source = "from " + assetsVariable + "=" + dir
	return result, true, nil
}

// inspect returns the programs in a folder with their versions, if they run and are not too old.
func inspect(ctx context.Context, dir string) (Binaries, error) {
	result := Binaries{
		Etcd: filepath.Join(dir, "etcd"), KubeAPIServer: filepath.Join(dir, "kube-apiserver"),
	}
	var err error
	result.Kubernetes, err = versionOf(ctx, result.KubeAPIServer, kubernetesVersion, oldestKubernetes)
	if err != nil {
		return Binaries{}, err
	}
	result.EtcdVersion, err = versionOf(ctx, result.Etcd, etcdVersion, oldestEtcd)
	return result, err
}

// versionOf returns what a program says of its version, which must not be older than a minor
// release.
func versionOf(ctx context.Context, path string, pattern *regexp.Regexp, oldest int) (string, error) {
	name := filepath.Base(path)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", errors.New("there is no " + name)
	case err != nil:
		return "", fmt.Errorf("%s cannot be read: %w", name, err)
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return "", errors.New(name + " is no executable file")
	}
	ctx, cancel := context.WithTimeout(ctx, versionLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s does not run here (%w)", name, err)
	}
	match := pattern.FindSubmatch(out)
	if match == nil {
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return "", fmt.Errorf("%s is another program: its version is %.60q", name, first)
	}
	version := "v" + string(match[1])
	if minor(version) < oldest {
		major, _, _ := strings.Cut(version, ".")
		return "", fmt.Errorf("%s is too old: it is %s, and %s.%d is needed", name, version, major, oldest)
	}
	return version, nil
}

// minor returns the second number of a version, 0 if there is none.
func minor(version string) int {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return 0
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		return 0
	}
	return n
}
