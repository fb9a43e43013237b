// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package cluster

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/progress"
)

func TestAnUnfinishedBuildIsNeverUsed(t *testing.T) {
	b := newBuilder(t, "package main\n\nfunc main() { println(1")
	if _, err := b.build(t.Context(), "program", "v1", ".", ""); err == nil {
		t.Fatal("a program that does not compile was built")
	} else if !strings.Contains(err.Error(), "main.go") {
		t.Errorf("the error does not say what the compiler said: %v", err)
	}
	// What a killed run leaves behind: part of a program.
	unfinished := filepath.Join(b.cache, "program.unfinished")
	if err := os.WriteFile(unfinished, []byte("half"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(b.dir, "main.go"), "package main\n\nfunc main() { println(1) }\n")
	path, err := b.build(t.Context(), "program", "v1", ".", "")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path).CombinedOutput()
	if err != nil || string(out) != "1\n" {
		t.Errorf("the built program says %q, %v", out, err)
	}
	if _, err := os.Stat(unfinished); !os.IsNotExist(err) {
		t.Errorf("the unfinished file is still there: %v", err)
	}
}

func TestTwoRunsAtOnceBuildOnce(t *testing.T) {
	b := newBuilder(t, "package main\n\nfunc main() {}\n")
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			if _, err := b.build(t.Context(), "program", "v1", ".", ""); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	ends := b.report.(*recorder).ends()
	built := 0
	for _, end := range ends {
		if strings.HasPrefix(end, "done in ") {
			built++
		}
	}
	if built != 1 || len(ends) != 3 {
		t.Errorf("built %d times by 3 runs: %q", built, ends)
	}
}

func TestWaitingForAnotherRunCanBeInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Lock(ctx, path, cancel); err == nil {
		t.Error("the lock was taken twice")
	}
	unlock()
	again, err := Lock(t.Context(), path, nil)
	if err != nil {
		t.Fatalf("a released lock: %v", err)
	}
	again()
}

func TestTheCacheFollowsSourcesAndCompiler(t *testing.T) {
	module, cache := t.TempDir(), t.TempDir()
	folder := func(mod, version string) string {
		t.Helper()
		writeFile(t, filepath.Join(module, "go.mod"), mod)
		writeFile(t, filepath.Join(module, "go.sum"), "")
		dir, err := cacheFolder(module, cache, version)
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	one := folder("module a", "v1.2.3")
	if again := folder("module a", "v1.2.3"); again != one {
		t.Errorf("the same sources: %s and %s", one, again)
	}
	if other := folder("module a // changed", "v1.2.3"); other == one {
		t.Error("other sources share a folder")
	}
	if other := folder("module a", "v1.2.4"); other == one {
		t.Error("another version shares a folder")
	}
}

func TestProgressCountsWhatTheCompilerSays(t *testing.T) {
	out := &buildOutput{}
	var got []string
	for _, piece := range []string{
		"", "go: downloading k8s.io/api v0.37.2\ngo: downl", "oading k8s.io/klog v2.1.0\n",
		"internal/abi\nruntime\n", "k8s.io/api/core/v1\n# broken\nx.go:1:2: no\n",
	} {
		if _, err := out.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
		got = append(got, out.note(3*time.Second).String())
	}
	want := []string{
		"3.0 s", "modules downloaded: 1, 3.0 s", "modules downloaded: 2, 3.0 s", "packages compiled: 2",
		"packages compiled: 3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	if last := out.last(5); last != "# broken; x.go:1:2: no" {
		t.Errorf("last lines: %q", last)
	}
}

// A package is compiled once for all, so what is in Go's cache is no work, and a large package is
// more than a small one.
func TestTheShareOfABuildGoesByTheSizesOfWhatIsCompiled(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GOCACHE", t.TempDir())
	for path, text := range map[string]string{
		"go.mod":     "module example.test/program\n\ngo 1.26\n",
		"main.go":    "package main\n\nimport _ \"example.test/program/large\"\n\nfunc main() {}\n",
		"large/a.go": "package large\n\n// " + strings.Repeat("x", 4*linkWork) + "\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, path), text)
	}
	spec := BuildSpec{Title: "program", Dir: dir, Output: t.TempDir() + "/", Packages: []string{"."}}
	before := measurePackages(t.Context(), spec)
	const large, program = "example.test/program/large", "example.test/program"
	if !before.stale[large] || !before.stale["runtime"] || !before.programs[program] || before.isLinking(nil) {
		t.Fatalf("nothing was compiled before; it is %+v", before)
	}
	if share := before.share(nil); share != 0 {
		t.Errorf("nothing is compiled: share %g", share)
	}
	if some := before.share([]string{large}); some <= before.share([]string{"runtime"}) || some >= 1 {
		t.Errorf("the largest package is compiled: share %g", some)
	}
	if all := before.share(slices.Sorted(maps.Keys(before.stale))); all >= 1 || all < 0.5 {
		t.Errorf("all is compiled but not linked: share %g", all)
	}
	if err := GoBuild(t.Context(), &recorder{}, spec); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "main.go"), "package main\n\nfunc main() {}\n")
	after := measurePackages(t.Context(), spec)
	if want := map[string]bool{program: true}; !maps.Equal(after.stale, want) || !after.isLinking(nil) {
		t.Errorf("the program alone has changed, and it is %+v", after)
	}
}

func TestTimeIsEstimatedOnlyFromEnoughWork(t *testing.T) {
	for _, tc := range []struct {
		share       float64
		since, want time.Duration
	}{
		{0, time.Minute, 0}, {0.5, time.Second, 0}, {0.01, time.Minute, 0},
		{0.25, time.Minute, 3 * time.Minute}, {1, time.Minute, 0},
	} {
		if got := timeLeft(tc.share, tc.since); got != tc.want {
			t.Errorf("%g after %s: %s left, want %s", tc.share, tc.since, got, tc.want)
		}
	}
}

func newBuilder(t *testing.T, source string) *builder {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "go.mod"), "module example.test/program\n\ngo 1.26\n")
	writeFile(t, filepath.Join(dir, "main.go"), source)
	return &builder{dir: dir, cache: t.TempDir(), report: &recorder{}}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// recorder keeps how the steps ended.
type recorder struct {
	mu   sync.Mutex
	told []string
}

func (r *recorder) Step(string)        {}
func (r *recorder) Note(progress.Note) {}
func (r *recorder) Say(text string)    { r.Done(text) }

func (r *recorder) Done(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, text)
}

func (r *recorder) ends() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.told...)
}
