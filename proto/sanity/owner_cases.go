// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// operations are the features that cases about the owners of addresses need.
var operations = []feature{
	backendv1.Feature_FEATURE_SESSIONS, backendv1.Feature_FEATURE_ADDRESS_OPERATIONS,
	backendv1.Feature_FEATURE_RESERVED_ADDRESSES,
}

const notOwnedContract = "FAILED_PRECONDITION: the address or the name belongs to somebody else: " +
	"another scope, another load balancer, or a person. Nothing was changed."

func ownerCases() []Case {
	none := needs{changes: true, features: operations}
	one := needs{changes: true, instances: 1, features: operations}
	return []Case{
		{Name: "addresses/adopt-and-release", run: adoptAndRelease, needs: none, Contract: []string{
			"AdoptAddress marks an existing floating IP or external subnet as the address of a load balancer. " +
				"Its name stays, and so does the text of its description.",
			"ReleaseAddress removes the marker from an address, which from then on belongs to the user. It " +
				"stays attached, and the rest of its description stays.",
			"If true nothing is changed, and the answer tells what would be.",
		}},
		{Name: "addresses/adopt-refused", run: adoptRefused, needs: none, Contract: []string{
			"ADDRESS_NOT_OWNED if it is marked as another load balancer's", notOwnedContract,
		}},
		{Name: "addresses/of-a-load-balancer", run: ofLoadBalancer, needs: one, Contract: []string{
			"An address with the marker of a load balancer, while this backend has no acting session of that " +
				"scope that is in sync (SESSION_REQUIRED), or while that session desires it (ADDRESS_NOT_OWNED).",
		}},
		{Name: "addresses/named-by-a-load-balancer", run: namedByLoadBalancer, needs: one, Contract: []string{
			"One that a load balancer of an acting session of this backend has or names as its user's own " +
				"(ADDRESS_IN_USE).",
			"it is attached and detached, and never marked, renamed or deleted.",
		}},
	}
}

func (c *checker) adoption(address *backendv1.Address, key *backendv1.LoadBalancerKey,
) *backendv1.AdoptAddressRequest {
	return &backendv1.AdoptAddressRequest{
		Source: address.GetSource(), Resource: address.GetResourceId(), Key: key,
		OwnerUid: c.options.Scope + "-owner",
	}
}

// owned expects whose an address is in what Oxide has now.
func (c *checker) owned(ctx context.Context, address *backendv1.Address,
	want backendv1.AddressOwnership,
) *backendv1.Address {
	found, err := c.listAddresses(ctx, &backendv1.ListAddressesRequest{
		Names: []string{address.GetName()}, MaxAge: durationpb.New(0),
	})
	c.must("ListAddresses", err)
	if !equal(c, "the number of addresses "+address.GetName(), len(found), 1) {
		panic(abort{})
	}
	equal(c, "the ownership of "+address.GetName(), found[0].GetOwnership(), want)
	return found[0]
}

// plannedOnly expects actions, of which none was made.
func (c *checker) plannedOnly(what string, actions []*backendv1.Action) {
	made := slices.ContainsFunc(actions, func(a *backendv1.Action) bool { return a.GetEndTime() != nil })
	c.holds(len(actions) > 0 && !made, "the actions of "+what, "some, of which none was made", actions)
}

func adoptAndRelease(ctx context.Context, c *checker) {
	address := c.reserve(ctx, c.reservation("adopted"))
	key := c.balancer("adopted").GetKey()
	request := c.adoption(address, key)
	request.DryRun = true
	dry, err := c.addresses.AdoptAddress(ctx, request)
	c.must("AdoptAddress as a dry run", err)
	c.plannedOnly("AdoptAddress as a dry run", dry.GetActions())
	c.owned(ctx, address, backendv1.AddressOwnership_ADDRESS_OWNERSHIP_RESERVED)
	request.DryRun = false
	for i := range repetitions {
		answer, err := c.addresses.AdoptAddress(ctx, request)
		if !c.ok("AdoptAddress", err) {
			break
		}
		equal(c, "the adopted address", answer.GetAddress().GetResourceId(), address.GetResourceId())
		c.holds(i == 0 || len(answer.GetActions()) == 0, "the actions when it is adopted again", "none",
			answer.GetActions())
	}
	marked := c.owned(ctx, address, backendv1.AddressOwnership_ADDRESS_OWNERSHIP_LOAD_BALANCER)
	equal(c, "the marker's name", marked.GetMarker().GetKey().GetName(), key.GetName())
	equal(c, "the marker's scope", marked.GetMarker().GetKey().GetScope(), key.GetScope())
	equal(c, "the description", marked.GetDescription(), address.GetDescription())
	got, err := c.balancers.GetLoadBalancer(ctx, &backendv1.GetLoadBalancerRequest{Key: key})
	if c.ok("GetLoadBalancer", err) {
		equal(c, "its addresses", len(got.GetLoadBalancer().GetAddresses()), 1)
	}
	s := c.acting(ctx, nil)
	s.await(ctx, "the session is in sync", func(e *events) bool { return e.synced })
	release := &backendv1.ReleaseAddressRequest{
		Source: address.GetSource(), Resource: address.GetResourceId(), DryRun: true,
	}
	_, err = c.addresses.ReleaseAddress(ctx, release)
	c.ok("ReleaseAddress as a dry run", err)
	c.owned(ctx, address, backendv1.AddressOwnership_ADDRESS_OWNERSHIP_LOAD_BALANCER)
	release.DryRun = false
	for range repetitions {
		if _, err := c.addresses.ReleaseAddress(ctx, release); !c.ok("ReleaseAddress", err) {
			break
		}
	}
	freed := c.owned(ctx, address, backendv1.AddressOwnership_ADDRESS_OWNERSHIP_NONE)
	equal(c, "the name of a released address", freed.GetName(), address.GetName())
	s.close(ctx)
}

func adoptRefused(ctx context.Context, c *checker) {
	address := c.reserve(ctx, c.reservation("adopted"))
	first, second := c.balancer("first").GetKey(), c.balancer("second").GetKey()
	_, err := c.addresses.AdoptAddress(ctx, c.adoption(address, first))
	c.must("AdoptAddress", err)
	_, err = c.addresses.AdoptAddress(ctx, c.adoption(address, second))
	c.refused("to adopt the address of another load balancer", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_OWNED)
	c.owned(ctx, address, backendv1.AddressOwnership_ADDRESS_OWNERSHIP_LOAD_BALANCER)
	nothing := c.adoption(address, first)
	nothing.Resource = absentID
	_, err = c.addresses.AdoptAddress(ctx, nothing)
	c.refused("to adopt nothing", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND)
	_, err = c.addresses.ReleaseAddress(ctx, &backendv1.ReleaseAddressRequest{
		Source: address.GetSource(), Resource: absentID,
	})
	c.refused("to release nothing", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_RESOURCE_NOT_FOUND)
	for what, change := range map[string]func(*backendv1.AdoptAddressRequest){
		"no key":   func(r *backendv1.AdoptAddressRequest) { r.Key = nil },
		"no owner": func(r *backendv1.AdoptAddressRequest) { r.OwnerUid = "" },
		"a source that is not": func(r *backendv1.AdoptAddressRequest) {
			r.Source = backendv1.AddressSource_ADDRESS_SOURCE_UNSPECIFIED
		},
	} {
		request := c.adoption(address, first)
		change(request)
		_, err := c.addresses.AdoptAddress(ctx, request)
		c.invalid("to adopt with "+what, err)
	}
}

func ofLoadBalancer(ctx context.Context, c *checker) {
	lb := c.balancer("owner")
	s := c.acting(ctx, c.nodes[:1], lb)
	state := s.ready(ctx, lb.GetKey().GetName())
	if !equal(c, "its addresses", len(state.GetAddresses()), 1) {
		return
	}
	address := &backendv1.Address{
		Source:     state.GetAddresses()[0].GetSource(),
		ResourceId: state.GetAddresses()[0].GetResourceId(),
	}
	calls := map[string]func() error{
		"DeleteAddress": func() error {
			_, err := c.addresses.DeleteAddress(ctx, &backendv1.DeleteAddressRequest{
				Source: address.GetSource(), ResourceId: address.GetResourceId(),
			})
			return err
		},
		"DetachAddress": func() error {
			_, err := c.addresses.DetachAddress(ctx, &backendv1.DetachAddressRequest{
				Source: address.GetSource(), ResourceId: address.GetResourceId(),
				InstanceId: c.nodes[0].GetId(),
			})
			return err
		},
		"AttachAddress": func() error {
			_, err := c.addresses.AttachAddress(ctx, attachRequest(address, c.nodes[0]))
			return err
		},
	}
	for what, call := range calls {
		c.refused(what+" of a load balancer's address", call(), codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_OWNED)
	}
	_, err := c.addresses.ReleaseAddress(ctx, &backendv1.ReleaseAddressRequest{
		Source: address.GetSource(), Resource: address.GetResourceId(),
	})
	c.refused("ReleaseAddress of one that is desired", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_ADDRESS_IN_USE)
	_, err = c.addresses.DeleteOrphanedAddress(ctx, &backendv1.DeleteOrphanedAddressRequest{
		Scope: c.options.Scope, ResourceId: address.GetResourceId(),
	})
	c.refused("DeleteOrphanedAddress of one that is desired", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_OWNED)
	s.close(ctx)
	for what, call := range calls {
		c.refused(what+" without a session", call(), codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_SESSION_REQUIRED)
	}
	s = c.acting(ctx, c.nodes[:1], lb)
	again := s.ready(ctx, lb.GetKey().GetName())
	if equal(c, "its addresses afterwards", len(again.GetAddresses()), 1) {
		equal(c, "its address afterwards", again.GetAddresses()[0].GetResourceId(), address.GetResourceId())
	}
	s.release(ctx)
}

func namedByLoadBalancer(ctx context.Context, c *checker) {
	address := c.reserve(ctx, c.reservation("named"))
	lb := c.balancer("names")
	lb.Addresses[0].Source = &backendv1.DesiredAddress_FloatingIp{FloatingIp: &backendv1.FloatingIpSource{
		Selector: &backendv1.FloatingIpSource_Existing{Existing: address.GetName()},
	}}
	s := c.acting(ctx, c.nodes[:1], lb)
	state := s.ready(ctx, lb.GetKey().GetName())
	if equal(c, "its addresses", len(state.GetAddresses()), 1) {
		equal(c, "its address", state.GetAddresses()[0].GetResourceId(), address.GetResourceId())
		equal(c, "managed", state.GetAddresses()[0].GetManaged(), false)
	}
	for range repetitions {
		_, err := c.addresses.DeleteAddress(ctx, &backendv1.DeleteAddressRequest{
			Source: address.GetSource(), ResourceId: address.GetResourceId(),
		})
		if !c.refused("DeleteAddress of one that a load balancer names", err, codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_ADDRESS_IN_USE) {
			break
		}
	}
	s.release(ctx)
	after := c.owned(ctx, address, backendv1.AddressOwnership_ADDRESS_OWNERSHIP_RESERVED)
	equal(c, "the address after its load balancer", after.GetResourceId(), address.GetResourceId())
	equal(c, "its instance after its load balancer", after.GetInstanceId(), "")
}
