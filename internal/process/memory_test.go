// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package process_test

import (
	"runtime/debug"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/process"
)

func TestWhenGarbageIsCollectedIsTheUsersToSay(t *testing.T) {
	const before = 123
	for set, want := range map[string]int{"": 40, "200": before} {
		t.Setenv("GOGC", set) // which Go has read already
		usual := debug.SetGCPercent(before)
		process.SaveMemory()
		if got := debug.SetGCPercent(usual); got != want {
			t.Errorf("with GOGC=%q garbage is collected at %d %%, want %d", set, got, want)
		}
	}
}
