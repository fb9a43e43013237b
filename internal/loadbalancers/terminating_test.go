// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// terminatingWeb is a rack where web was deleted, and has an address on the first node, which has failed,
// and a user's on the second: neither has left yet. It returns web as it was desired last.
func terminatingWeb(t *testing.T) (*rack, loadbalancers.Desired) {
	t.Helper()
	r := newRack(t)
	r.ensure(t, r.only(0), web())
	r.addUsersOwn(t, "mine")
	if err := r.SetRunState(r.nodes[0], "failed"); err != nil {
		t.Fatal(err)
	}
	was := web()
	was.Wanted[0].Source.Existing = "mine"
	_, err := r.manager.Ensure(t.Context(), r.only(1), was, real)
	mustBeInoperable(t, err)
	return r, was
}

func mustBeInoperable(t *testing.T, err error) {
	t.Helper()
	if !loadbalancers.IsReason(err, loadbalancers.ReasonNotOperable) {
		t.Fatalf("got %v, want that the instance has failed", err)
	}
}

func floatingIP(ip oxidesim.FloatingIP) oxide.FloatingIP {
	return oxide.FloatingIP{ID: ip.ID, Name: ip.Name, Description: ip.Description}
}

// What cannot be given back as long as its instance has failed holds up nothing else.
func TestTheEndOfALoadBalancerGivesBackWhatItCan(t *testing.T) {
	r, was := terminatingWeb(t)
	gone := gone(was.OwnerUID, false)
	gone.Cluster, gone.Wanted = r.cluster(), was.Wanted
	_, err := r.manager.Delete(t.Context(), gone, false)
	mustBeInoperable(t, err)
	for _, ip := range r.FloatingIPs() {
		if left := ip.InstanceID == ""; left != (ip.Name == "mine") {
			t.Errorf("%s is on %q", ip.Name, ip.InstanceID)
		}
	}
}

// Until a load balancer is deleted its addresses are its own, also for a backend that has just started.
func TestALoadBalancerThatIsYetToBeDeletedHasItsAddresses(t *testing.T) {
	r, was := terminatingWeb(t)
	manager := r.restarted(t)
	other := served("default/other", 80)
	other.Created = was.Created.Add(time.Hour)
	if err := r.SetRunState(r.nodes[0], "running"); err != nil {
		t.Fatal(err)
	}
	tell := func(terminating ...loadbalancers.Desired) loadbalancers.SetResult {
		t.Helper()
		found, err := manager.Reconcile(t.Context(), r.only(0), []loadbalancers.Desired{other},
			loadbalancers.SetOptions{DryRun: true, Terminating: terminating})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	check := func(when string, found loadbalancers.SetResult, its bool) {
		t.Helper()
		if isOrphan := len(found.Orphans) > 0; isOrphan == its {
			t.Errorf("%s: the orphans are %+v", when, found.Orphans)
		}
		conflicts := loadbalancers.IsReason(found.Results[0].Err, loadbalancers.ReasonPortConflict)
		if conflicts != its {
			t.Errorf("%s: another one that has its port: %v", when, found.Results[0].Err)
		}
		for _, ip := range r.FloatingIPs() {
			if ip.Name == "mine" && manager.IsLoadBalancerAddress(floatingIP(ip)) != its {
				t.Errorf("%s: the user's address is taken for a load balancer's: %t", when, !its)
			}
		}
	}
	check("before it is told of", tell(), false)
	check("once it is told of", tell(was), true)
	gone := gone(was.OwnerUID, false)
	gone.Cluster, gone.Wanted = r.cluster(), was.Wanted
	if _, err := manager.Delete(t.Context(), gone, false); err != nil {
		t.Fatal(err)
	}
	if ips := r.FloatingIPs(); len(ips) != 1 || ips[0].InstanceID != "" {
		t.Errorf("it has left %+v", ips)
	}
}

// Its owner publishes a user's address until it is deleted, and two Services never publish one.
func TestInvariant3AUsersAddressIsOfTheLoadBalancerThatIsYetToBeDeleted(t *testing.T) {
	r, was := terminatingWeb(t)
	for _, ip := range r.FloatingIPs() {
		if ip.Name == "mine" {
			was.Published = append(was.Published, netip.MustParseAddr(ip.IP))
		}
	}
	for _, instance := range r.Instances() {
		if instance.ID == r.nodes[1] {
			was.Published = append(was.Published, netip.MustParseAddr(instance.PrivateIPs["v4"]))
		}
	}
	other := served("default/other", 81)
	other.Created, other.Wanted[0].Source.Existing = was.Created.Add(time.Hour), "mine"
	tell := func(terminating ...loadbalancers.Desired) loadbalancers.Result {
		t.Helper()
		found, err := r.manager.Reconcile(t.Context(), r.only(1), []loadbalancers.Desired{other},
			loadbalancers.SetOptions{Terminating: terminating})
		if err != nil {
			t.Fatal(err)
		}
		return found.Results[0]
	}
	const want = "the floating IP mine is attached for the load balancer default/web until that is deleted"
	if err := tell(was).Err; !loadbalancers.IsReason(err, loadbalancers.ReasonNotOwned) ||
		err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := r.SetRunState(r.nodes[0], "stopped"); err != nil {
		t.Fatal(err)
	}
	gone := gone(was.OwnerUID, false)
	gone.Cluster, gone.Published, gone.Wanted = r.cluster(), was.Published, was.Wanted
	if _, err := r.manager.Delete(t.Context(), gone, false); err != nil {
		t.Fatal(err)
	}
	for _, ip := range r.FloatingIPs() {
		if ip.InstanceID != "" {
			t.Errorf("%s is left on %s", ip.Name, ip.InstanceID)
		}
	}
	has := tell()
	if has.Err != nil || len(has.LoadBalancer.Addresses) != 1 ||
		has.LoadBalancer.Addresses[0].Name != "mine" ||
		has.LoadBalancer.Addresses[0].Attached.InstanceID != r.nodes[1] {
		t.Errorf("once it is deleted another one has %+v, %v", has.LoadBalancer.Addresses, has.Err)
	}
}

// A detachment may last until a sled answers. Who wants the address again by then has it.
func TestInvariant2WhatIsWantedAgainIsNotDeleted(t *testing.T) {
	another := func() loadbalancers.Desired {
		want := web()
		want.Wanted[0].Source.Addr = netip.MustParseAddr("198.51.100.77")
		return want
	}
	for name, tt := range map[string]struct {
		// end lets the address go, and again wants it after all.
		end, again func(*rack) error
	}{
		"it was deleted": {
			func(r *rack) error {
				_, err := r.manager.Delete(t.Context(), gone(web().OwnerUID, false), false)
				return err
			},
			func(r *rack) error { return tellAgain(t, r, web()) },
		},
		"it was to have another address": {
			func(r *rack) error {
				_, err := r.manager.Ensure(t.Context(), r.only(1), another(), real)
				return err
			},
			func(r *rack) error { return tellAgain(t, r, web()) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRackOf(t, 2, oxidesim.Config{
				Timings: oxidesim.Timings{SledTimeout: 1000 * time.Hour},
			})
			r.ensure(t, r.only(0), web())
			before := r.theOnlyAddress(t)
			if err := r.LoseSled("instance:node-1"); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- tt.end(r) }()
			await(t, "the request that the sled does not answer", func() bool {
				for _, ip := range r.FloatingIPs() {
					if ip.AttachState == "detaching" {
						return true
					}
				}
				return false
			})
			if err := tt.again(r); err != nil {
				t.Fatal(err)
			}
			if err := r.RecoverSled("instance:node-1"); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; !loadbalancers.IsReason(err, loadbalancers.ReasonBusy) {
				t.Errorf("it ended with %v", err)
			}
			for _, ip := range r.FloatingIPs() {
				if ip.ID == before.ID {
					return
				}
			}
			t.Error("the address was deleted")
		})
	}
}

func tellAgain(t *testing.T, r *rack, want loadbalancers.Desired) error {
	t.Helper()
	_, err := r.manager.Reconcile(t.Context(), r.only(1), []loadbalancers.Desired{want}, drySet)
	return err
}
