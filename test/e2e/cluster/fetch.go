// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

const setupEnvtest = "sigs.k8s.io/controller-runtime/tools/setup-envtest"

// Fetch says how setup-envtest fetches etcd and kube-apiserver.
type Fetch struct {
	// Module is the folder of the module that pins setup-envtest (test/e2e/envtest).
	Module string
	// Index is the URL of the index of what there is; empty: that of setup-envtest.
	Index string
	// Limits bound each part; zero: those that are usual.
	Limits FetchLimits
}

// FetchLimits are what each part of a fetch is given: beyond that, a build is no slower.
type FetchLimits struct {
	// Build is for setup-envtest itself, List for its index, Download for the programs.
	Build, List, Download time.Duration
}

// usual has what is zero replaced.
func (l FetchLimits) usual() FetchLimits {
	return FetchLimits{
		Build: cmp.Or(l.Build, time.Minute), List: cmp.Or(l.List, 10*time.Second),
		Download: cmp.Or(l.Download, 2*time.Minute),
	}
}

// fetch returns etcd and kube-apiserver of the pinned release, fetched into a folder of cache if
// they are not there. setup-envtest compares what it fetches with the checksum in the index.
func (b *builder) fetch(ctx context.Context, cache string, options Fetch) (Binaries, error) {
	dir := filepath.Join(cache, strings.Join([]string{b.kube, runtime.GOOS, runtime.GOARCH}, "-"))
	if isFile(filepath.Join(dir, "etcd")) {
		return fetchedIn(ctx, dir)
	}
	began := time.Now()
	b.report.Step("fetching etcd and kube-apiserver")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Binaries{}, err
	}
	unlock, err := Lock(ctx, filepath.Join(cache, "lock"), func() {
		b.report.Note(progress.Note{
			Text: "another run fetches them, waiting for " + progress.Seconds(time.Since(began)),
		})
	})
	if err != nil {
		return Binaries{}, err
	}
	defer unlock()
	if isFile(filepath.Join(dir, "etcd")) {
		b.report.Done("fetched by the other run")
		return fetchedIn(ctx, dir)
	}
	work, err := os.MkdirTemp(cache, "unfinished-")
	if err != nil {
		return Binaries{}, err
	}
	defer removeReadOnly(work)
	f := fetcher{builder: b, options: options, limits: options.Limits.usual(), work: work}
	path, err := f.download(ctx)
	if err != nil {
		return Binaries{}, err
	}
	if _, err := inspect(ctx, path); err != nil {
		return Binaries{}, err
	}
	// Only what is complete, and runs, has this name.
	if err := errors.Join(os.Chmod(path, 0o755), os.Rename(path, dir)); err != nil {
		return Binaries{}, err
	}
	b.report.Done("done in " + progress.Seconds(time.Since(began)))
	return fetchedIn(ctx, dir)
}

func fetchedIn(ctx context.Context, dir string) (Binaries, error) {
	result, err := inspect(ctx, dir)
	result.Source = "fetched by setup-envtest"
	return result, err
}

// fetcher is one run of fetch.
type fetcher struct {
	*builder
	options Fetch
	limits  FetchLimits
	// program is setup-envtest, and work the folder of everything that is not complete.
	program, work string
}

// download has setup-envtest fetch the programs, and returns the folder that they are in.
func (f *fetcher) download(ctx context.Context) (string, error) {
	f.program = filepath.Join(f.work, "setup-envtest")
	building, cancel := context.WithTimeoutCause(ctx, f.limits.Build,
		errors.New("setup-envtest was not built within "+f.limits.Build.String()))
	defer cancel()
	if err := GoBuild(building, quiet{f.report}, BuildSpec{
		Title: "setup-envtest", Dir: f.options.Module, Output: f.program, Packages: []string{setupEnvtest},
	}); err != nil {
		return "", err
	}
	version, err := f.choose(ctx)
	if err != nil {
		return "", err
	}
	path, err := f.run(ctx, f.limits.Download, "use", "-p", "path", version)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(path), nil
}

// available matches a line of `setup-envtest list`.
var available = regexp.MustCompile(`(?m)^\(available\)\s+v(1\.\d+\.(\d+))\s`)

// choose returns the pinned version if the index has it, else the newest of the same minor release.
func (f *fetcher) choose(ctx context.Context) (string, error) {
	release := "1." + strconv.Itoa(minor(f.kube))
	list, err := f.run(ctx, f.limits.List, "list", release+".x")
	if err != nil {
		return "", err
	}
	found := available.FindAllStringSubmatch(list, -1)
	if len(found) == 0 {
		return "", fmt.Errorf("the index has no Kubernetes %s for %s/%s", release, runtime.GOOS,
			runtime.GOARCH)
	}
	best := slices.MaxFunc(found, func(a, b []string) int {
		rank := func(match []string) (n int) {
			if n, _ = strconv.Atoi(match[2]); "v"+match[1] == f.kube {
				n = 1 << 30
			}
			return n
		}
		return cmp.Compare(rank(a), rank(b))
	})
	return best[1], nil
}

// run runs setup-envtest within a limit and returns what it prints.
func (f *fetcher) run(
	ctx context.Context, limit time.Duration, command string, args ...string,
) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	flags := []string{command, "--bin-dir=" + f.work}
	if f.options.Index != "" {
		flags = append(flags, "--index="+f.options.Index)
	}
	cmd := exec.CommandContext(ctx, f.program, append(flags, args...)...)
	// Its temporary files have no other place either.
	cmd.Env = append(os.Environ(), "TMPDIR="+f.work, assetsVariable+"=")
	cmd.SysProcAttr, cmd.WaitDelay = ownGroup(), time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("setup-envtest does not run: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	ticker := time.NewTicker(noteInterval)
	defer ticker.Stop()
	began := time.Now()
	for {
		select {
		case err := <-done:
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return "", fmt.Errorf("setup-envtest %s had no answer within %s", command, limit)
			}
			if err != nil {
				return "", fmt.Errorf("setup-envtest %s: %s", command, reason(stderr.String(), err))
			}
			return stdout.String(), nil
		case <-ticker.C:
			f.report.Note(progress.Note{Text: fmt.Sprintf("%.0f MB, %s", float64(sizeOf(f.work, "*.gz"))/1e6,
				progress.Seconds(time.Since(began)))})
		}
	}
}

// reason returns the last line that setup-envtest wrote, without the end of one that is long by
// checksums, else how it ended.
func reason(stderr string, err error) string {
	const enough = 200
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	text := cmp.Or(strings.TrimSpace(lines[len(lines)-1]), err.Error())
	if len(text) > enough {
		text = text[:enough] + "…"
	}
	return text
}

// sizeOf returns the size of all files in dir that match a pattern.
func sizeOf(dir, pattern string) (sum int64) {
	files, _ := filepath.Glob(filepath.Join(dir, pattern))
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// removeReadOnly removes a folder in which folders may be read-only.
func removeReadOnly(dir string) {
	if root, err := os.OpenRoot(dir); err == nil {
		_ = fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				return root.Chmod(path, 0o700)
			}
			return nil
		})
		root.Close()
	}
	_ = os.RemoveAll(dir)
}

// quiet reports what a step within a step does as notes of the outer one, whose share it is not.
type quiet struct{ progress.Reporter }

func (quiet) Step(string) {}
func (quiet) Done(string) {}

func (q quiet) Note(note progress.Note) {
	q.Reporter.Note(progress.Note{Text: "building setup-envtest, " + note.String()})
}
