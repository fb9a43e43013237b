// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package stack

import (
	"errors"
	"os"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
)

// EndLogs is for the end of a test whose processes have ended: it fails the test if a credential is in
// their logs, and removes the folder of the test unless that has failed.
func EndLogs(t testing.TB, group *process.Group, dir string) {
	t.Helper()
	secrets, err := NewSecrets()
	if err = errors.Join(err, secrets.InFiles(group.LogDir())); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("the logs are in %s", group.LogDir())
		return
	}
	os.RemoveAll(dir)
}
