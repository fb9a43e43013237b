// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A flag renamed in a program, or misspelt here, would leave every pod in a crash loop.
func TestProgramsKnowTheFlagsThatTheChartGives(t *testing.T) {
	known := map[string]map[string]bool{
		backendName: flagsOf(t, "./cmd/oxide-backend"), shimName: flagsOf(t, "./cmd/ccm-shim"),
		"check": flagsOf(t, "./cmd/oxide-backend", "check"),
	}
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			all := render(t, variant.values, variant.args...)
			programs := append(containers(all.deployment.Spec.Template.Spec),
				all.check.Spec.Containers...)
			for _, each := range programs {
				for _, arg := range each.Args {
					name, _, _ := strings.Cut(arg, "=")
					// The one that stands for the user's own.
					if name != "--example" && !known[each.Name][name] {
						t.Errorf("%s has no flag %s", each.Name, name)
					}
				}
			}
		})
	}
}

// flagsOf builds a program and returns the flags that its help, or a subcommand's, names.
func flagsOf(t *testing.T, program string, subcommand ...string) map[string]bool {
	t.Helper()
	watchSources(t)
	folder := t.TempDir()
	// As the Makefile builds them, so that both share the build cache.
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w", "-o", folder, program)
	build.Dir = repository
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	path := filepath.Join(folder, filepath.Base(program))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	help, err := exec.CommandContext(t.Context(), path, append(subcommand, "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s --help: %v: %s", program, err, help)
	}
	all := map[string]bool{}
	for word := range strings.FieldsSeq(string(help)) {
		if strings.HasPrefix(word, "--") {
			name, _, _ := strings.Cut(word, "[")
			all[strings.TrimRight(name, ".,=")] = true
		}
	}
	if len(all) < 5 {
		t.Fatalf("the help of %s names no flags: %s", program, help)
	}
	return all
}

// watchSources opens the sources of the programs, so that the cache of test results knows them.
func watchSources(t *testing.T) {
	t.Helper()
	for _, folder := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(repository, folder),
			func(path string, _ fs.DirEntry, err error) error {
				if err == nil && filepath.Ext(path) == ".go" {
					_, err = os.Stat(path)
				}
				return err
			})
		if err != nil {
			t.Fatal(err)
		}
	}
}
