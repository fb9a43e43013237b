// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package version

import (
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/oxidecomputer/oxide-cloud-controller-manager/"

// notForDomain is what packages that know Oxide and its rules must not link: other processes, and how this one
// is reached.
var notForDomain = []string{
	"google.golang.org/grpc", "k8s.io/", module + "proto",
	module + "internal/backend", module + "internal/shim", module + "internal/oxidesim",
}

// The import rules hold for everything that is linked in, however indirectly.
func TestImportBoundaries(t *testing.T) {
	for _, tc := range []struct {
		// of are the packages whose dependencies are checked; needs is one that they must have, so
		// that the test cannot pass by checking nothing.
		of, needs string
		// never are prefixes of what must not be among them.
		never []string
	}{
		{
			of: "./cmd/oxide-backend/...", needs: "github.com/oxidecomputer/oxide.go/oxide",
			never: []string{"k8s.io/", module + "internal/shim", module + "internal/oxidesim"},
		},
		{
			of: "./cmd/ccm-shim/...", needs: "k8s.io/cloud-provider",
			never: []string{
				"github.com/oxidecomputer/oxide.go", module + "internal/oxide",
				module + "internal/instances", module + "internal/firewall",
				module + "internal/loadbalancers", module + "internal/preflight",
				module + "internal/backend", module + "internal/oxidesim", module + "internal/pools",
			},
		},
		{
			of: "./internal/oxide/...", needs: "github.com/oxidecomputer/oxide.go/oxide",
			never: append([]string{module + "internal/loadbalancers"}, notForDomain...),
		},
		{of: "./internal/instances/...", needs: module + "internal/oxide", never: notForDomain},
		{
			of: "./internal/firewall/...", needs: "encoding/json",
			never: append([]string{module + "internal/oxide"}, notForDomain...),
		},
		{of: "./internal/loadbalancers/...", needs: module + "internal/oxide", never: notForDomain},
		{of: "./internal/pools/...", needs: module + "internal/oxide", never: notForDomain},
		{of: "./internal/preflight/...", needs: module + "internal/oxide", never: notForDomain},
		{
			of: "./cmd/oxide-sim/...", needs: module + "internal/oxidesim",
			never: []string{
				"github.com/oxidecomputer/oxide.go", module + "internal/oxide/",
				module + "internal/backend", module + "internal/shim", "k8s.io/",
				"google.golang.org/grpc",
			},
		},
		{
			of: "./cmd/oxide-backend-sanity/...", needs: module + "proto/sanity",
			never: []string{
				"github.com/oxidecomputer/oxide.go", "k8s.io/", module + "internal/oxide", module + "internal/backend",
				module + "internal/shim", module + "internal/oxidesim", module + "internal/loadbalancers",
			},
		},
		{
			of: module + "proto/...", needs: "google.golang.org/grpc",
			never: []string{module + "internal", "k8s.io/", "github.com/oxidecomputer/oxide.go"},
		},
	} {
		t.Run(tc.of, func(t *testing.T) {
			deps := dependencies(t, tc.of)
			if !deps[tc.needs] {
				t.Errorf("%s is not among the dependencies: the test checks the wrong thing", tc.needs)
			}
			for dep := range deps {
				for _, prefix := range tc.never {
					if strings.HasPrefix(dep+"/", strings.TrimSuffix(prefix, "/")+"/") {
						t.Errorf("links %s", dep)
					}
				}
			}
		})
	}
}

// The API and its client are a module of their own, which the product builds against its own sources.
func TestTheAPIAndItsClientImportNothingElseOfTheModule(t *testing.T) {
	deps := dependencies(t, module+"proto/client")
	if !deps[module+"proto/oxide/backend/v1"] {
		t.Error("the client does not import the API: the test checks the wrong thing")
	}
	for dep := range deps {
		if strings.HasPrefix(dep+"/", module) && !strings.HasPrefix(dep, module+"proto/") {
			t.Errorf("links %s", dep)
		}
	}
}

// The conformance suite sees a backend as anybody does, by the API alone.
func TestTheConformanceSuiteImportsTheAPIAlone(t *testing.T) {
	deps := dependencies(t, module+"proto/sanity")
	if !deps[module+"proto/oxide/backend/v1"] {
		t.Error("the suite does not import the API: the test checks the wrong thing")
	}
	for dep := range deps {
		own := dep == module+"proto/sanity" || dep == module+"proto/oxide/backend/v1"
		if strings.HasPrefix(dep+"/", module) && !own {
			t.Errorf("links %s", dep)
		}
	}
}

// Only internal/oxide imports the Oxide SDK itself.
func TestOnlyOnePackageCallsOxide(t *testing.T) {
	out := list(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	var importers []string
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		for _, imported := range fields[1:] {
			if strings.HasPrefix(imported, "github.com/oxidecomputer/oxide.go/") {
				importers = append(importers, fields[0])
			}
		}
	}
	if len(importers) != 1 || importers[0] != module+"internal/oxide" {
		t.Errorf("imported by %v", importers)
	}
}

// A name says what a package is for, and no two say the same: an import needs no other name.
func TestEachPackageHasANameOfItsOwn(t *testing.T) {
	out := list(t, "-f", "{{.Name}} {{.ImportPath}}", "./...", module+"proto/...")
	paths := make(map[string][]string)
	for line := range strings.Lines(out) {
		name, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		paths[name] = append(paths[name], path)
	}
	delete(paths, "main")
	if len(paths) < 10 {
		t.Errorf("checked %d packages only: the test checks the wrong thing", len(paths))
	}
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		switch name {
		case "util", "utils", "common", "helpers", "shared":
			t.Errorf("the name of %s says nothing", paths[name])
		}
		if len(paths[name]) > 1 {
			t.Errorf("%v have one name", paths[name])
		}
	}
}

func dependencies(t *testing.T, pattern string) map[string]bool {
	t.Helper()
	deps := make(map[string]bool)
	for dep := range strings.FieldsSeq(list(t, "-deps", pattern)) {
		deps[dep] = true
	}
	return deps
}

// list returns what `go list` prints, of this module as it is built, whether there is a workspace or
// not.
func list(t *testing.T, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	command.Env = append(command.Environ(), "GOWORK=off")
	out, err := command.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	return string(out)
}
