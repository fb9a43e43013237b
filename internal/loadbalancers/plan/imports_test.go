// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The planner is pure: it can read no clock, take no lock, log nothing and call nobody. What it
// imports directly is listed here; what it imports indirectly of this module does none of that
// either, but for the registry of package ownership, of which the planner uses nothing.
func TestThePlannerIsPure(t *testing.T) {
	const module = "github.com/oxidecomputer/oxide-cloud-controller-manager/"
	list := func(format, pkg string, flags ...string) []string {
		t.Helper()
		args := append(append([]string{"list"}, flags...), "-f", format, pkg)
		out, err := exec.CommandContext(t.Context(), "go", args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out))
	}
	allowed := []string{
		"cmp", "fmt", "maps", "net/netip", "slices", "strconv", "strings", "unicode/utf8",
		module + "internal/firewall", module + "internal/loadbalancers/ownership",
	}
	for _, direct := range list(`{{join .Imports "\n"}}`, ".") {
		if !slices.Contains(allowed, direct) {
			t.Errorf("it imports %s", direct)
		}
	}
	ours := []string{
		module + "internal/firewall", module + "internal/loadbalancers/ownership",
		module + "internal/loadbalancers/plan",
	}
	for _, dependency := range list(`{{.ImportPath}}`, ".", "-deps") {
		host, _, _ := strings.Cut(dependency, "/")
		if strings.Contains(host, ".") && !slices.Contains(ours, dependency) {
			t.Errorf("it depends on %s", dependency)
		}
		if slices.Contains([]string{"context", "log", "log/slog", "net", "net/http"}, dependency) {
			t.Errorf("it depends on %s", dependency)
		}
	}
	if direct := list(`{{join .Imports "\n"}}`, module+"internal/firewall"); slices.Contains(direct, "time") {
		t.Error("package firewall reads the clock")
	}
}
