// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// update makes the test write what it would compare with: `make manifest` does so.
var update = os.Getenv("UPDATE_SNAPSHOTS") != ""

// What a change of a template does to the objects is seen in its review.
func TestRenderingsAreAsCommitted(t *testing.T) {
	for name, values := range map[string]struct {
		text string
		args []string
	}{
		"every-value":          {text: everything, args: withMonitors},
		"two-plain-containers": {text: "deployment: {nativeSidecar: false}"},
		"one-replica":          {text: "deployment: {replicas: 1}"},
		"on-trial":             {text: "readOnly: true"},
		"no-load-balancers":    {text: noLoadBalancers},
		"daemon-set-openshift": {text: "deployment: {kind: DaemonSet, openshift: true}"},
	} {
		t.Run(name, func(t *testing.T) {
			out, stderr, err := template(t, values.text, values.args...)
			if err != nil {
				t.Fatalf("helm template: %v\n%s", err, stderr)
			}
			path := filepath.Join("testdata", name+".yaml")
			if update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			committed, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(committed), "\n"),
				strings.Split(out, "\n")); diff != "" {
				t.Errorf("stale: run make manifest (-committed +rendered):\n%s", diff)
			}
		})
	}
}
