// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package version

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The shim only translates: what only it links stays small. `make lines` prints the same figures.
func TestTheShimIsThin(t *testing.T) {
	const most, mostOfServices = 3900, 1500
	backend := dependencies(t, "./cmd/oxide-backend")
	sum, services := 0, 0
	for dep := range dependencies(t, "./cmd/ccm-shim") {
		dir, internal := strings.CutPrefix(dep, module+"internal/")
		if !internal || backend[dep] {
			continue
		}
		lines := codeLines(t, filepath.Join("internal", dir))
		t.Logf("%6d internal/%s", lines, dir)
		sum += lines
		if dir == "shim/services" {
			services = lines
		}
	}
	if sum > most {
		t.Errorf("the packages that only ccm-shim links have %d lines of code, want %d at most", sum, most)
	}
	if services == 0 {
		t.Error("ccm-shim does not link internal/shim/services: the test inspects the wrong thing")
	}
	if services > mostOfServices {
		t.Errorf("internal/shim/services has %d lines of code, want %d at most", services, mostOfServices)
	}
}

// codeLines counts the lines of a package that are neither blank nor comments, without its tests.
func codeLines(t *testing.T, dir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
				count++
			}
		}
	}
	return count
}
