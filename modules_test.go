// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package version

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// maxModules is how many modules a program gets into its graph, itself among them, that imports the API
// and nothing else.
const maxModules = 45

func TestAProgramThatImportsTheAPIGetsFewModulesAndNoneOfKubernetes(t *testing.T) {
	api, err := filepath.Abs("proto")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sums, err := os.ReadFile("proto/go.sum")
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("module example.com/importer\n\ngo 1.25.0\n\nrequire %[1]s v0.0.0\n\nreplace %[1]s => %[2]s\n",
		module+"proto", api)
	program := fmt.Sprintf("package main\n\nimport _ %q\n\nfunc main() {}\n", module+"proto/client")
	for name, content := range map[string]string{
		"go.mod": text, "go.sum": string(sums), "main.go": program,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// As an importer does: before that, the graph is not complete.
	tidy := exec.CommandContext(t.Context(), "go", "mod", "tidy")
	tidy.Dir = dir
	tidy.Env = append(tidy.Environ(), "GOWORK=off")
	if out, err := tidy.CombinedOutput(); err != nil {
		t.Fatalf("go mod tidy: %v: %s", err, out)
	}
	modules := strings.Fields(list(t, "-C", dir, "-m", "-f", "{{.Path}}", "all"))
	t.Logf("%d modules", len(modules))
	if !slices.Contains(modules, "google.golang.org/grpc") {
		t.Errorf("gRPC is not in %v: the test checks the wrong thing", modules)
	}
	if len(modules) > maxModules {
		t.Errorf("%d modules, want at most %d:\n%s", len(modules), maxModules, strings.Join(modules, "\n"))
	}
	for _, path := range modules {
		if strings.HasPrefix(path, "k8s.io/") || strings.HasPrefix(path, "sigs.k8s.io/") ||
			strings.HasPrefix(path, "github.com/oxidecomputer/oxide.go") {
			t.Errorf("%s is in the graph", path)
		}
	}
}

// test/importer has versions of its own, older than ours, of what the API and Kubernetes are made of.
// `make verify` builds it, with exactly these.
func TestAProgramThatImportsTheAPIKeepsItsVersions(t *testing.T) {
	for path, want := range map[string]string{
		"k8s.io/apimachinery": "v0.34.1", "google.golang.org/grpc": "v1.72.1",
	} {
		got := strings.TrimSpace(list(t, "-C", "test/importer", "-m", "-f", "{{.Version}}", path))
		if got != want {
			t.Errorf("%s is used in version %s, want %s", path, got, want)
		}
	}
}

// Every module is kept tidy without the workspace. Those with code are built without it as well, and are in
// it, but for the importer, whose versions it would raise. Those that only say which programs are used are
// not in it.
func TestNoModuleIsForgotten(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	listed := func(name string) []string {
		found := regexp.MustCompile(`(?m)^` + name + ` := (.*)$`).FindSubmatch(makefile)
		if found == nil {
			t.Fatalf("the Makefile has no list %s", name)
		}
		return strings.Fields(string(found[1]))
	}
	workspace, err := os.ReadFile("go.work")
	if err != nil {
		t.Fatal(err)
	}
	pins := listed("PINS")
	inMakefile := append(listed("MODULES"), pins...)
	var inWorkspace, found []string
	for _, match := range regexp.MustCompile(`(?m)^\t(\S+)$`).FindAllStringSubmatch(string(workspace), -1) {
		inWorkspace = append(inWorkspace, filepath.Clean(match[1]))
	}
	err = filepath.WalkDir(".", func(path string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules"):
			return filepath.SkipDir
		case entry.Name() == "go.mod":
			found = append(found, filepath.Dir(path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range found {
		if !slices.Contains(inMakefile, dir) {
			t.Errorf("the module in %s is neither among MODULES nor among PINS in the Makefile", dir)
		}
		if dir != "test/importer" && !slices.Contains(pins, dir) && !slices.Contains(inWorkspace, dir) {
			t.Errorf("the module in %s is not in go.work", dir)
		}
	}
	if len(found) != len(inMakefile) {
		t.Errorf("there are modules in %v, and the Makefile has %v", found, inMakefile)
	}
}

// A module that nobody looks after gets old, with what is found to be vulnerable in it.
func TestUpdatesAreLookedForInEveryModule(t *testing.T) {
	text, err := os.ReadFile(".github/dependabot.yml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Updates []struct {
			Ecosystem   string   `json:"package-ecosystem"`
			Directory   string   `json:"directory"`
			Directories []string `json:"directories"`
		} `json:"updates"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"gomod": "go.mod", "npm": "package.json", "helm": "Chart.yaml", "github-actions": ".github/workflows",
	}
	var got, want []string
	for _, update := range config.Updates {
		for _, dir := range append(update.Directories, update.Directory) {
			if dir != "" {
				got = append(got, filepath.Join(dir, files[update.Ecosystem])[1:])
			}
		}
	}
	err = filepath.WalkDir(".", func(path string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "dist", "node_modules", "testdata"}, entry.Name()):
			return filepath.SkipDir
		case slices.Contains([]string{"go.mod", "package.json", "Chart.yaml"}, entry.Name()):
			want = append(want, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, ".github/workflows")
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what there is, and what is looked after (-want +got):\n%s", diff)
	}
}

func TestEachExampleHasLessThan150Lines(t *testing.T) {
	files, err := filepath.Glob("examples/*/*.[gm]*")
	if err != nil {
		t.Fatal(err)
	}
	lines := make(map[string]int)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines[filepath.Dir(file)] += strings.Count(string(text), "\n")
	}
	if len(lines) < 3 {
		t.Errorf("counted %v only", lines)
	}
	for dir, n := range lines {
		if n >= 150 {
			t.Errorf("%s has %d lines", dir, n)
		}
	}
}
