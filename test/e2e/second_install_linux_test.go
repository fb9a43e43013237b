// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/objects"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/stack"
)

// A second installation does no harm, since there is one lease, and does nothing: that it will not
// is said where it is installed, and by itself.
func TestASecondInstallationIsToldThatItIdles(t *testing.T) {
	const atWork = "Another cloud controller manager is at work in this cluster: "
	e := newEnvironment(t, settings{idle: true})
	e.forgetLease()
	notes := e.helmInstall("first")
	if strings.Contains(notes, atWork) {
		t.Errorf("the only installation is told of another:\n%s", notes)
	}

	var err error
	e.ccm, err = stack.StartCCM(t.Context(), e.ccmOptions(settings{}))
	e.must(err)
	holder := e.holder()
	notes = e.helmInstall("second")
	if !strings.Contains(notes, atWork+holder) {
		t.Errorf("the second installation is not told of %s:\n%s", holder, notes)
	}
	options := e.ccmOptions(settings{})
	options.Standby, options.Name, options.Dir = true, "-second", filepath.Join(e.dir, "second")
	e.must(os.Mkdir(options.Dir, 0o700))
	second, err := stack.StartCCM(t.Context(), options)
	e.must(err)
	e.eventually(func(context.Context) (string, error) {
		text, err := os.ReadFile(second.Shim.LogFile())
		if err != nil || strings.Contains(string(text), "Standing by and changing nothing") &&
			strings.Contains(string(text), holder) {
			return "", err
		}
		return "the line in which the second says that it stands by, and for whom", nil
	})
	// Meanwhile the first one works as if it were alone.
	e.join("node-a")
	e.create("web", objects.TCP(80))
	e.served("web")
}
