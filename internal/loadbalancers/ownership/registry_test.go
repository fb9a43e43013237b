// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package ownership

import (
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var someAddr = netip.MustParseAddr("192.0.2.1")

func userOwned(names ...string) Claims {
	c := Claims{UserOwned: make(map[string]bool)}
	for _, name := range names {
		c.UserOwned[name] = true
	}
	return c
}

func TestLoadBalancerAddressesAreRecognized(t *testing.T) {
	for _, tc := range []struct {
		name, description string
		want              bool
	}{
		{"marked", someMarker.String(), true},
		{"marked behind text", "text\n" + someMarker.String(), true},
		{"damaged marker", "oxide-ccm/v1 scope=", true},
		{"marker of a later version", "oxide-ccm/v7 x", true},
		{"the existing CCM's", "Managed by oxide-cloud-controller-manager.", true},
		{"the existing CCM's, edited", "Managed by oxide-cloud-controller-manager. Ann", false},
		{"released", releasedLine, false},
		{"a user's", "bastion", false},
		{"a marker within a line", "see oxide-ccm/v1", false},
		{"empty", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r Registry
			if got := r.IsLoadBalancerAddress("id", "name", tc.description, someAddr); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// What the load balancers of a living scope name or publish is theirs, whatever a description says.
func TestWhatALivingScopeClaimsIsALoadBalancers(t *testing.T) {
	var r Registry
	r.Set("one", userOwned("an-id"))
	r.Set("two", Claims{Published: map[netip.Addr]bool{someAddr: true}})
	other := netip.MustParseAddr("192.0.2.2")
	for _, tc := range []struct {
		what, id, name string
		addr           netip.Addr
		want           bool
	}{
		{"named by id", "an-id", "x", other, true},
		{"named by name", "x", "an-id", other, true},
		{"published", "x", "y", someAddr, true},
		{"neither", "x", "y", other, false},
	} {
		if got := r.IsLoadBalancerAddress(tc.id, tc.name, "mine", tc.addr); got != tc.want {
			t.Errorf("%s: %t", tc.what, got)
		}
	}
	r.Remove("two")
	if r.IsLoadBalancerAddress("x", "y", "mine", someAddr) {
		t.Error("what a scope published that has ended is still a load balancer's")
	}
}

// A user's address that a load balancer releases is no Node's until everybody knows that it is
// detached.
func TestReleasedAddressesAreRememberedForAWhile(t *testing.T) {
	for name, end := range map[string]func(*Registry){
		"another source": func(r *Registry) { r.Set("one", userOwned("other")) },
		"the end":        func(r *Registry) { r.Remove("one") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r Registry
				is := func() bool { return r.IsLoadBalancerAddress("an-id", "mine", "", someAddr) }
				r.Set("one", userOwned("mine"))
				time.Sleep(time.Hour)
				end(&r)
				if !is() {
					t.Error("nobody knows that it may be attached yet")
				}
				time.Sleep(recentlyReleasedFor)
				if !is() {
					t.Error("it is forgotten too soon")
				}
				time.Sleep(time.Second)
				if is() || len(r.released) != 0 {
					t.Errorf("remembered for ever: %v", r.released)
				}
			})
		})
	}
}

// However many are released, a bounded number is remembered: the latest.
func TestReleasedAddressesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Registry
		for i := range maxReleased + 10 {
			r.Set("one", userOwned(strconv.Itoa(i)))
			time.Sleep(time.Millisecond)
		}
		r.Remove("one")
		if len(r.released) != maxReleased {
			t.Errorf("%d are remembered", len(r.released))
		}
		if r.IsLoadBalancerAddress("0", "", "", someAddr) ||
			!r.IsLoadBalancerAddress(strconv.Itoa(maxReleased+9), "", "", someAddr) {
			t.Error("the oldest is remembered, or the latest is not")
		}
	})
}

// What a scope names before and after a change was not released by it.
func TestWhatIsStillNamedIsNotReleased(t *testing.T) {
	var r Registry
	r.Set("one", userOwned("kept", "gone"))
	r.Set("one", userOwned("kept"))
	if _, released := r.released["kept"]; released || len(r.released) != 1 {
		t.Errorf("released: %v", r.released)
	}
}

// Where there is no room, all that is too old makes some: what is recent stays known.
func TestWhatIsTooOldMakesRoomForWhatIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Registry
		for i := range maxReleased - 1 {
			r.Set("one", userOwned("old-"+strconv.Itoa(i)))
		}
		r.Remove("one")
		time.Sleep(recentlyReleasedFor)
		for _, name := range []string{"recent", "late"} {
			r.Set("one", userOwned(name))
			r.Remove("one")
			time.Sleep(time.Second)
		}
		if len(r.released) != 2 || !r.isReleased("recent") || !r.isReleased("late") {
			t.Errorf("%d are remembered", len(r.released))
		}
	})
}

func TestCompleteOnceAScopeIs(t *testing.T) {
	var r Registry
	r.Set("one", Claims{})
	if r.Complete() {
		t.Error("no scope is complete")
	}
	r.Set("two", Claims{Complete: true})
	if !r.Complete() {
		t.Error("one scope is complete")
	}
	r.Remove("two")
	if r.Complete() {
		t.Error("that scope has ended")
	}
}

// Sessions and the inventory use it side by side.
func TestARegistryIsUsedByMany(t *testing.T) {
	var r Registry
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for n := range 200 {
				r.Set(strconv.Itoa(i), userOwned(strconv.Itoa(n)))
				r.IsLoadBalancerAddress(strconv.Itoa(n), "", "", someAddr)
				r.Complete()
			}
			r.Remove(strconv.Itoa(i))
		})
	}
	group.Wait()
}
