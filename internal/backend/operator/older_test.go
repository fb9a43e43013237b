// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"errors"
	"strings"
	"testing"
)

// As when the socket of another installation is given by --socket: a backend that knows nothing but firewall
// rules.
func TestABackendThatIsTooOldIsNamedAsThat(t *testing.T) {
	p := newPeer(t)
	p.acting = []string{"c1"}
	const tooOld = "oxide-backend does not know this call: it is older than its client"
	address := "unix://" + p.socket
	got := runCommand(t, newStatusCommand(address))
	first, rest, _ := strings.Cut(got.stdout, "\n")
	if !errors.Is(got.err, ErrReported) || first != "Problem: "+tooOld ||
		!strings.Contains(rest, "of c1, not in sync yet") {
		t.Errorf("%v:\n%s", got.err, got.stdout)
	}
	runCommand(t, newAddressesCommand(address)).failed(t, 1, tooOld)
	runCommand(t, newInstancesCommand(address)).failed(t, 1, tooOld)
	runCommand(t, newOrphansCommand(address)).failed(t, 1, tooOld)
	runCommand(t, newWatchCommand(address)).failed(t, 1, tooOld)
}
