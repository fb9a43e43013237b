// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// acting opens an acting session with load balancers, publishes what it is asked to, and returns it once
// each is as desired, or has a problem.
func (r *rig) acting(scope string, lbs ...*backendv1.DesiredLoadBalancer) clientStream {
	r.Helper()
	items := []*backendv1.SyncLoadBalancersRequest{
		itemOpen(&backendv1.OpenSession{Scope: scope}), itemCandidate(&backendv1.Candidate{
			InstanceId: r.node, DisplayName: "node-1", Readiness: backendv1.Readiness_READINESS_READY,
		}),
	}
	for _, lb := range lbs {
		items = append(items, itemBalancer(lb))
	}
	stream := r.stream(append(items, itemInSync())...)
	settled := make(map[string]bool)
	for inSync := false; !inSync || len(settled) < len(lbs); {
		event, err := stream.Recv()
		r.must(err)
		inSync = inSync || event.GetInSync() != nil
		state := event.GetState()
		if state.GetPhase() == backendv1.Phase_PHASE_READY || state.GetProblem() != nil {
			settled[state.GetKey().GetName()] = true
		}
		for _, lb := range lbs {
			if state != nil && state.GetKey().GetName() == lb.GetKey().GetName() &&
				!slices.Equal(state.GetPublish(), lb.GetPublishedAddresses()) {
				lb.PublishedAddresses = state.GetPublish()
				lb.Generation++
				r.must(stream.Send(itemBalancer(lb)))
			}
		}
	}
	return stream
}

// balancer desires one floating IP for a load balancer; from says which, nil: any.
func balancer(name string, from *backendv1.FloatingIpSource) *backendv1.DesiredLoadBalancer {
	lb := goodDesired()
	lb.Key.Name, lb.OwnerUid, lb.EligibleInstances = name, "u1", nil
	lb.PublishedAddresses = nil
	if from == nil {
		from = &backendv1.FloatingIpSource{}
	}
	lb.Addresses = []*backendv1.DesiredAddress{{
		Family: familyV4, Source: &backendv1.DesiredAddress_FloatingIp{FloatingIp: from},
	}}
	return lb
}

// named returns an address of the project by its name.
func (r *rig) named(name string) *backendv1.Address {
	r.Helper()
	resp, err := r.addresses.ListAddresses(r.Context(), &backendv1.ListAddressesRequest{
		Names: []string{name},
	})
	r.must(err)
	if len(resp.GetAddresses()) != 1 {
		r.Fatalf("%d addresses named %s", len(resp.GetAddresses()), name)
	}
	return resp.GetAddresses()[0]
}

// What carries a marker is changed only where an acting session knows that no load balancer desires it.
func TestInvariant2NobodyTakesALoadBalancersAddress(t *testing.T) {
	r := newRig(t)
	second := r.instance(oxidesim.InstanceSeed{Name: "node-2"})
	const marker = "oxide-ccm/v1 scope=c1 name=default/old uid=u0 family=v4 source=default"
	for _, seed := range []oxidesim.FloatingIPSeed{
		{Name: "orphan", Description: marker, Instance: "node-1"},
		{Name: "edited", Description: marker + " by hand"},
		{Name: "legacy", Description: "Managed by oxide-cloud-controller-manager."},
		{Name: "existing"},
		{Name: "free", Instance: "node-1"},
	} {
		_, err := r.rack.AddFloatingIP(oxidesim.DefaultProject, seed)
		r.must(err)
	}
	refused := func(t *testing.T, name, reason, says string) {
		t.Helper()
		ip := r.named(name)
		before := r.placeOf(ip)
		_, attached := r.attach(t.Context(), ip, second, moveAnywhere)
		_, detached := r.detach(ip, r.node)
		for _, err := range []error{attached, detached, r.delete(ip)} {
			wantEnd(t, err, codes.FailedPrecondition, reason, says)
		}
		if after := r.placeOf(ip); after != before {
			t.Errorf("%s went from %q to %q", name, before, after)
		}
	}
	refused(t, "orphan", "SESSION_REQUIRED", "no acting session of the scope c1")
	refused(t, "edited", "ADDRESS_NOT_OWNED", "which was edited")
	refused(t, "legacy", "ADDRESS_NOT_OWNED", "existing Oxide cloud controller manager")

	own := balancer("default/own", &backendv1.FloatingIpSource{
		Selector: &backendv1.FloatingIpSource_Existing{Existing: "existing"},
	})
	own.Ports[0].Port = 81
	stream := r.acting("c1", balancer("default/web", nil), own)
	listed, err := r.addresses.ListAddresses(t.Context(), &backendv1.ListAddressesRequest{Scope: "c1"})
	r.must(err)
	for _, ip := range listed.GetAddresses() {
		if ip.GetName() != "orphan" {
			refused(t, ip.GetName(), "ADDRESS_NOT_OWNED", "of the load balancer default/web in the scope c1")
		}
	}
	refused(t, "existing", "ADDRESS_IN_USE", "the load balancer default/own uses the floating IP existing")

	// A marker that was lost while its load balancer has the address proves as much.
	for _, ip := range listed.GetAddresses() {
		if ip.GetName() != "orphan" {
			_, err := r.api.DescribeFloatingIP(t.Context(), ip.GetResourceId(), "lost")
			r.must(err)
			_, err = r.detach(ip, r.node)
			if at := r.placeOf(ip); err == nil || at != r.node {
				t.Errorf("detached: %v; it is at %q", err, at)
			}
		}
	}

	orphan := r.named("orphan")
	if resp, err := r.attach(t.Context(), orphan, second, moveFrom(r.node)); err != nil ||
		r.placeOf(orphan) != second {
		t.Errorf("an orphan: %v, %v", resp, err)
	}
	_, err = r.detach(orphan, second)
	r.must(err)
	r.must(r.delete(orphan))
	free := r.named("free")
	if _, err := r.attach(t.Context(), free, second, moveAnywhere); err != nil || r.placeOf(free) != second {
		t.Errorf("an address without an owner: %v", err)
	}
	// A backend without the session knows nothing of it.
	standby := newRigOn(t, r.rack, rigOptions{})
	for _, ip := range listed.GetAddresses() {
		if ip.GetName() != "orphan" && standby.delete(ip) == nil {
			t.Error("a standby's backend deleted a load balancer's address")
		}
	}
	r.must(stream.CloseSend())
}

// A load balancer ends, and the plan looks for what was its own.
func TestInvariant2AReservedAddressIsNoLeftover(t *testing.T) {
	r := newRig(t)
	ip := r.reserve(nil)
	_, err := r.attach(t.Context(), ip, r.node, nil)
	r.must(err)
	stream := r.acting("c1", balancer("default/web", nil))
	ending := balancer("default/web", nil)
	ending.Generation = 100
	ending.Ending = backendv1.Ending_ENDING_RELEASE
	r.must(stream.Send(itemBalancer(ending)))
	// A Service of which nothing is left is the one that asks what belongs to nobody.
	nothing := balancer("default/never", nil)
	nothing.Ending = backendv1.Ending_ENDING_RELEASE
	r.must(stream.Send(itemBalancer(nothing)))
	for released := 0; released < 2; {
		event, err := stream.Recv()
		r.must(err)
		if event.GetReleased() != nil {
			released++
		}
		for _, c := range event.GetState().GetConditions() {
			if c.GetType() == backendv1.ConditionType_CONDITION_TYPE_LEFT_ATTACHED {
				t.Errorf("said of a reserved address: %s", c.GetMessage())
			}
		}
		if orphans := event.GetOrphans().GetOrphans(); len(orphans) > 0 {
			t.Errorf("orphans: %v", orphans)
		}
	}
	if at := r.placeOf(ip); at != r.node {
		t.Errorf("the reserved address is at %q", at)
	}
	r.must(stream.CloseSend())
}

// A user may name a reserved address as an existing one: it is the load balancer's for as long.
func TestALoadBalancerMayUseAReservedAddress(t *testing.T) {
	r := newRig(t)
	ip := r.reserve(nil)
	stream := r.acting("c1", balancer("default/web", &backendv1.FloatingIpSource{
		Selector: &backendv1.FloatingIpSource_Existing{Existing: "vip"},
	}))
	if at := r.placeOf(ip); at != r.node {
		t.Fatalf("it is at %q", at)
	}
	_, err := r.detach(ip, r.node)
	wantEnd(t, err, codes.FailedPrecondition, "ADDRESS_IN_USE", "default/web uses")
	if again := r.reserve(nil); again.GetResourceId() != ip.GetResourceId() ||
		again.GetInstanceId() != r.node {
		t.Errorf("reserved again: %v", again)
	}
	r.must(stream.CloseSend())
}

// An address that an operator gives to a load balancer is no reserved one any more.
func TestAnAdoptedAddressIsNotReservedAnyMore(t *testing.T) {
	r := newRig(t)
	ip := r.reserve(nil)
	_, err := r.addresses.AdoptAddress(t.Context(), &backendv1.AdoptAddressRequest{
		Source: floatingIP, Resource: "vip", OwnerUid: "u1",
		Key: &backendv1.LoadBalancerKey{Scope: "c1", Name: "default/web"},
	})
	r.must(err)
	adopted := r.named("vip")
	if adopted.GetOwnership() != backendv1.AddressOwnership_ADDRESS_OWNERSHIP_LOAD_BALANCER ||
		adopted.GetDescription() != ip.GetDescription() ||
		adopted.GetMarker().GetKey().GetName() != "default/web" {
		t.Errorf("got %v", adopted)
	}
	_, err = r.addresses.ReserveAddress(t.Context(), aReservation(nil))
	wantEnd(t, err, codes.FailedPrecondition, "ADDRESS_NOT_OWNED", "default/web in the scope c1")
}
