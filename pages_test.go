// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package version

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages returns the pages for people by their paths. The changelog may name what is gone.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, file := range sources(t) {
		if path.Ext(file) == ".md" && file != "CHANGELOG.md" {
			found[file] = content(t, file)
		}
	}
	return found
}

// A command that is gone is copied from a page in vain.
func TestPagesNameOnlyMakeTargetsThatExist(t *testing.T) {
	targets := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^([a-z0-9 -]+):`).FindAllStringSubmatch(content(t, "Makefile"), -1) {
		for target := range strings.FieldsSeq(match[1]) {
			targets[target] = true
		}
	}
	span, line := regexp.MustCompile("`make ([^`]*)`"), regexp.MustCompile(`(?m)^ *make (.*)$`)
	named := 0
	for file, text := range pages(t) {
		commands := strings.Join(fenced.FindAllString(text, -1), "\n")
		for _, match := range append(span.FindAllStringSubmatch(text, -1),
			line.FindAllStringSubmatch(commands, -1)...) {
			for word := range strings.FieldsSeq(match[1]) {
				if word == "#" || !regexp.MustCompile(`^[a-z][a-z0-9-]*$`).MatchString(word) {
					break // a variable, or a comment
				}
				named++
				if !targets[word] {
					t.Errorf("%s names `make %s`, which the Makefile does not have", file, word)
				}
			}
		}
	}
	if named < 50 {
		t.Errorf("found %d targets in the pages: the test looks for the wrong thing", named)
	}
}

// Go passes where no test is selected, so whoever tries such a command has run nothing.
func TestPagesSelectOnlyTestsThatExist(t *testing.T) {
	selection := regexp.MustCompile(`(?:make unit PKG=(\S+) RUN=|cd (\S+) && go test -run )(\w+)`)
	named := 0
	for file, text := range pages(t) {
		for _, match := range selection.FindAllStringSubmatch(text, -1) {
			named++
			folder := match[1] + match[2]
			inFolder, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			declared := regexp.MustCompile(`(?m)^func Test\w*` + strings.TrimPrefix(match[3], "Test"))
			if !slices.ContainsFunc(inFolder, func(each string) bool {
				return declared.MatchString(content(t, each))
			}) {
				t.Errorf("%s selects the tests %s of %s, and there is none", file, match[3], folder)
			}
		}
	}
	if named < 3 {
		t.Errorf("found %d selections of tests in the pages", named)
	}
}

func TestPagesNameOnlyFilesThatExist(t *testing.T) {
	name := regexp.MustCompile("`((?:\\.ci|\\.github|charts|cmd|docs|examples|internal|manifests|proto|test|tools)" +
		"/[A-Za-z0-9_./-]+)`")
	named := 0
	for file, text := range pages(t) {
		for _, match := range name.FindAllStringSubmatch(text, -1) {
			named++
			if strings.Contains(match[1], "X.Y.Z") || strings.Contains(match[1], "...") {
				continue // a tag, or a pattern of packages
			}
			_, err := os.Stat(match[1])
			if err != nil {
				_, err = os.Stat(path.Join(path.Dir(file), match[1]))
			}
			if err != nil {
				t.Errorf("%s names %s, which is not there", file, match[1])
			}
		}
	}
	if named < 30 {
		t.Errorf("found %d files in the pages", named)
	}
}

func TestPagesNameOnlyMetricsThatExist(t *testing.T) {
	metric := regexp.MustCompile(`\boxide_(?:backend|ccm)_[a-z_]*[a-z]\b`)
	all := content(t, "docs/reference/metrics.md")
	for file, text := range pages(t) {
		for _, name := range metric.FindAllString(text, -1) {
			base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
			if !strings.Contains(all, "`"+name+"`") && !strings.Contains(all, "`"+base+"`") &&
				!strings.Contains(text, name+"_…") {
				t.Errorf("%s names the metric %s, which docs/reference/metrics.md does not have", file, name)
			}
		}
	}
}

func TestPagesNameOnlyCommandsThatExist(t *testing.T) {
	reference := content(t, "docs/reference/oxide-backend.md")
	command := regexp.MustCompile("(?m)(?:oxide-backend|kubectl oxide) ([a-z][a-z-]*)(?:[ `]|$)")
	named := 0
	for file, text := range pages(t) {
		code := strings.Join(append(fenced.FindAllString(text, -1), codeSpan.FindAllString(text, -1)...), "\n")
		for _, match := range command.FindAllStringSubmatch(code, -1) {
			named++
			if !strings.Contains(reference, "\n## oxide-backend "+match[1]+"\n") && match[1] != "version" &&
				match[1] != "help" && match[1] != "completion" {
				t.Errorf("%s names the command %q, which oxide-backend does not have", file, match[1])
			}
		}
	}
	if named < 30 {
		t.Errorf("found %d commands in the pages", named)
	}
}

// A table of what was tested is true only for the versions that the tests run.
func TestTheCompatibilityTablesNameTheVersionsThatAreTested(t *testing.T) {
	one := func(file, pattern string) string {
		match := regexp.MustCompile(pattern).FindStringSubmatch(content(t, file))
		if match == nil {
			t.Fatalf("%s has no %s", file, pattern)
		}
		return match[1]
	}
	kubernetes := one("test/e2e/kube/go.mod", `k8s\.io/kubernetes v(\d+\.\d+)\.`)
	oxide := one("internal/oxide/client.go", `APIVersion = "([^"]+)"`)
	for file, rows := range map[string][]string{
		"README.md": {"| Kubernetes | " + kubernetes + " |", "| Oxide | API version " + oxide + ","},
		"docs/reference/compatibility.md": {
			"| Kubernetes | " + kubernetes + " |", "| Oxide API | " + oxide + " |",
			"| kube-proxy " + kubernetes + ", iptables mode |",
		},
	} {
		for _, row := range rows {
			if !strings.Contains(content(t, file), "\n"+row) {
				t.Errorf("%s has no row that begins with %q", file, row)
			}
		}
	}
}

// Where is what? A package that is not on the page is one that nobody finds by it.
func TestTheArchitecturePageNamesEachPackage(t *testing.T) {
	const page = "docs/explanation/architecture.md"
	text := content(t, page)
	var packages []string
	for _, file := range sources(t) {
		if dir := path.Dir(file); strings.HasPrefix(dir, "internal/") && path.Ext(file) == ".go" &&
			!slices.Contains(packages, dir) {
			packages = append(packages, dir)
		}
	}
	if len(packages) < 20 {
		t.Fatalf("found %d packages", len(packages))
	}
	for _, each := range packages {
		if base := path.Base(each); base == "command" || strings.HasSuffix(base, "test") {
			continue // part of the package above it
		}
		if !strings.Contains(text, "\n"+each+" ") {
			t.Errorf("%s does not name %s", page, each)
		}
	}
}
