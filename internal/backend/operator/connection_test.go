// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package operator

import (
	"testing"
)

// One command works where a socket is not at its default path, without a flag.
func TestTheSocketIsNamedByFlagThenEnvironmentThenDefault(t *testing.T) {
	p := newPeer(t, rule("lb-web"))
	const elsewhere = "/nowhere/at/all.sock"
	ask := func(address string, args ...string) ended {
		return runAt(t, address, nil, append([]string{"list"}, args...)...)
	}
	if got := ask("unix://" + p.socket); got.err != nil {
		t.Errorf("the default: %v", got.err)
	}
	t.Setenv(SocketVariable, "")
	if got := ask("unix://" + p.socket); got.err != nil {
		t.Errorf("the default, with an empty variable: %v", got.err)
	}
	t.Setenv(SocketVariable, p.socket)
	if got := ask(elsewhere); got.err != nil {
		t.Errorf("the variable: %v", got.err)
	}
	ask(elsewhere, "--socket", elsewhere).failed(t, 1, "there is no oxide-backend at "+elsewhere, SocketVariable)
	t.Setenv(SocketVariable, "127.0.0.1:80")
	ask(elsewhere).failed(t, 2, SocketVariable+`: "127.0.0.1:80"`, "unix:///")
	if got := ask(elsewhere, "--socket", p.socket); got.err != nil {
		t.Errorf("the flag, beside a variable that is wrong: %v", got.err)
	}
}
