// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package examples

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/process"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// startVIP has an address follow the group. A member answers unless there is a file down-NAME.
func (w *world) startVIP() *process.Process {
	w.Helper()
	return w.start("vip", "--group", "web", "--port", "8443",
		"--check", fmt.Sprintf(`test ! -e %q/down-"$NAME"`, w.dir))
}

// carrier waits until the only address is attached to a member other than `not`.
func (w *world) carrier(not string) rack.FloatingIP {
	w.Helper()
	var carried rack.FloatingIP
	w.eventually("the address is on another member than "+not,
		func(ctx context.Context) (bool, string, error) {
			state, err := w.rack.State(ctx)
			if len(state.FloatingIPs) == 1 {
				carried = state.FloatingIPs[0]
			}
			return len(state.FloatingIPs) == 1 && carried.AttachState == rack.Attached &&
				carried.Instance != not, fmt.Sprintf("%+v", state.FloatingIPs), err
		})
	return carried
}

func TestAnAddressFollowsTheHealthyMemberOfAGroup(t *testing.T) {
	w := newWorld(t)
	w.startVIP()
	first := w.carrier("")

	began := time.Now()
	w.must(os.WriteFile(filepath.Join(w.dir, "down-"+first.Instance), nil, 0o600))
	second := w.carrier(first.Instance)
	t.Logf("its member ceased to answer: %.1f s", time.Since(began).Seconds())

	began = time.Now()
	w.must(w.rack.StopInstance(w.within(), second.Instance))
	third := w.carrier(second.Instance)
	t.Logf("its member was stopped: %.1f s", time.Since(began).Seconds())
	if second.IP != first.IP || third.IP != first.IP {
		t.Errorf("the address was %s, then %s, then %s", first.IP, second.IP, third.IP)
	}
	if third.Instance == first.Instance {
		t.Errorf("it is on %s, which does not answer", third.Instance)
	}
}

func TestAnAddressStaysWhileNoMemberAnswers(t *testing.T) {
	w := newWorld(t)
	w.startVIP()
	first := w.carrier("")
	before, err := w.rack.Requests(w.within())
	w.must(err)
	for _, name := range []string{"web-1", "web-2", "web-3"} {
		w.must(os.WriteFile(filepath.Join(w.dir, "down-"+name), nil, 0o600))
	}
	// Long enough for the two failed checks that would move it, and for the move.
	w.rest(5 * time.Second)
	w.checkUnchanged(before)
	if now := w.carrier(""); now != first {
		t.Errorf("the address was %+v and is %+v", first, now)
	}
}

func TestAnAddressStaysWhenItsProgramEndsAndIsKnownAgain(t *testing.T) {
	w := newWorld(t)
	vip := w.startVIP()
	first := w.carrier("")
	w.must(vip.Stop(10 * time.Second))
	before, err := w.rack.Requests(w.within())
	w.must(err)
	again := w.startVIP()
	w.awaitLine(again, "is on "+first.Instance, 2)
	w.checkUnchanged(before)
	if now := w.carrier(""); now != first {
		t.Errorf("the address was %+v and is %+v", first, now)
	}
}

// Of two programs with one scope the newer one acts, and the other ends and says why.
func TestTheSecondProgramWithAScopeTakesItOverAndTheFirstEnds(t *testing.T) {
	w := newWorld(t)
	first := w.startVIP()
	w.carrier("")
	second := w.startAs("vip-2", "vip", "--group", "web", "--port", "8443")
	select {
	case <-first.Done():
	case <-time.After(patience):
		t.Fatal("the first program goes on")
	}
	w.awaitLine(first, "a newer session", 1)
	w.awaitLine(second, "is on ", 1)
}
