// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package version

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// workflow is what is looked at of a GitHub workflow.
type workflow struct {
	Name        string            `json:"name"`
	Permissions map[string]string `json:"permissions"`
	Jobs        map[string]struct {
		Permissions map[string]string `json:"permissions"`
		Timeout     int               `json:"timeout-minutes"`
		Uses        string            `json:"uses"`
		Steps       []struct {
			Uses string            `json:"uses"`
			With map[string]string `json:"with"`
			Run  string            `json:"run"`
		} `json:"steps"`
	} `json:"jobs"`
}

// Tags of actions can be moved by whoever takes over their repository; a commit cannot.
var pinned = regexp.MustCompile(`^[a-z0-9-]+/[a-z0-9-]+@[0-9a-f]{40}$`)

func TestWorkflowsPinTheirActionsAndAskForTheLeastPermissions(t *testing.T) {
	files, err := filepath.Glob(".github/workflows/*.yml")
	if err != nil || len(files) < 2 {
		t.Fatalf("found %v, %v", files, err)
	}
	// The only rights beyond reading, and the only job that has them.
	publishing := map[string]string{"contents": "write", "packages": "write", "id-token": "write"}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var w workflow
		if err := yaml.Unmarshal(text, &w); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
			t.Errorf("%s: jobs have the permissions %v by default, want to read the contents alone",
				file, w.Permissions)
		}
		for name, job := range w.Jobs {
			for what, right := range job.Permissions {
				if right != "read" && (name != "publish" || publishing[what] != right) {
					t.Errorf("%s: the job %s may %s %s", file, name, right, what)
				}
			}
			if job.Timeout == 0 && job.Uses == "" {
				t.Errorf("%s: the job %s may run for six hours", file, name)
			}
			for _, step := range job.Steps {
				if step.Uses != "" && !pinned.MatchString(step.Uses) {
					t.Errorf("%s: %s is not pinned by a full commit", file, step.Uses)
				}
				if strings.HasPrefix(step.Uses, "actions/checkout@") &&
					step.With["persist-credentials"] != "false" {
					t.Errorf("%s: the job %s leaves a token in the checkout", file, name)
				}
				if strings.Contains(step.Run, "${{") {
					t.Errorf("%s: the job %s puts an expression into a script: give it by env",
						file, name)
				}
			}
		}
	}
}

// Everything that a release publishes is signed before the release is made, by the identity of the workflow
// and no key: whoever takes over a registry or a mirror cannot sign in its place.
func TestAReleaseSignsAllThatItPublishes(t *testing.T) {
	text, err := os.ReadFile(".github/workflows/release.yml")
	if err != nil {
		t.Fatal(err)
	}
	var w workflow
	if err := yaml.Unmarshal(text, &w); err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, step := range w.Jobs["publish"].Steps {
		script.WriteString(step.Run + "\n")
	}
	before, after, found := strings.Cut(script.String(), "gh release create")
	if !found {
		t.Fatal("the workflow makes no release: the test looks for the wrong command")
	}
	for what, command := range map[string]string{
		"images, of each platform":  `cosign sign --yes --recursive "$image"`,
		"what they are made of":     `cosign attest --yes --type cyclonedx --predicate "$file" "$image"`,
		"the chart":                 `cosign sign --yes "$charts/`,
		"the checksums of all else": "cosign sign-blob --yes --new-bundle-format --bundle dist/SHA256SUMS.sigstore.json dist/SHA256SUMS",
	} {
		if !strings.Contains(before, command) {
			t.Errorf("before the release is made, nothing signs %s: %s", what, command)
		}
	}
	if !strings.Contains(after, "dist/SHA256SUMS.sigstore.json") {
		t.Error("the release does not have the signature of its checksums")
	}
	if strings.Contains(script.String(), "--key") {
		t.Error("something is signed by a key, which somebody has to keep")
	}
}

// A workflow calls targets that there are, and no other way to build, lint or test.
func TestWorkflowsCallTargetsOfTheMakefile(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(".github/workflows/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`\bmake ([a-z0-9-]+)`).FindAllStringSubmatch(
			string(text), -1) {
			if !strings.Contains(string(makefile), "\n.PHONY: "+match[1]+"\n") {
				t.Errorf("%s: there is no target %s", file, match[1])
			}
		}
	}
}
