// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// listed returns the names of the addresses that a request lists, over all pages.
func (r *rig) listed(req *backendv1.ListAddressesRequest) []string {
	r.Helper()
	var names []string
	last := ""
	for {
		resp, err := r.addresses.ListAddresses(r.Context(), req)
		r.must(err)
		for _, ip := range resp.GetAddresses() {
			if ip.GetResourceId() <= last {
				r.Errorf("%s does not follow %s", ip.GetResourceId(), last)
			}
			last = ip.GetResourceId()
			names = append(names, ip.GetName())
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			slices.Sort(names)
			return names
		}
	}
}

func TestAddressesOfBothKindsAreListedByWhatTheyAre(t *testing.T) {
	r := newRig(t)
	for _, seed := range []oxidesim.FloatingIPSeed{
		{Name: "web", Instance: "node-1", Description: "shop\n" +
			"oxide-ccm/v1 scope=c1 name=default/web uid=u1 family=v4 source=default retained"},
		{Name: "other", Description: "oxide-ccm/v1 scope=c2 name=default/web uid=u2 family=v4 source=default"},
		{Name: "edited", Description: "oxide-ccm/v1 scope=c1"},
		{Name: "legacy", Description: "Managed by oxide-cloud-controller-manager."},
		{Name: "plain", Description: "mine"},
	} {
		_, err := r.rack.AddFloatingIP(oxidesim.DefaultProject, seed)
		r.must(err)
	}
	_, err := r.rack.AddExternalSubnet(oxidesim.DefaultProject, oxidesim.ExternalSubnetSeed{
		Name: "block", PrefixLength: 28, Instance: "node-1",
	})
	r.must(err)
	r.reserve(nil)

	yes, no := true, false
	all := []string{"block", "edited", "legacy", "other", "plain", "vip", "web"}
	for _, tc := range []struct {
		name string
		req  *backendv1.ListAddressesRequest
		want []string
	}{
		{"all", &backendv1.ListAddressesRequest{}, all},
		{"all, two at a time", &backendv1.ListAddressesRequest{PageSize: 2}, all},
		{"all, read now", &backendv1.ListAddressesRequest{MaxAge: durationpb.New(0)}, all},
		{"of a scope", &backendv1.ListAddressesRequest{Scope: "c1"}, []string{"web"}},
		{"of a scope that there is not", &backendv1.ListAddressesRequest{Scope: "c9"}, nil},
		{"floating IPs", &backendv1.ListAddressesRequest{Source: floatingIP},
			[]string{"edited", "legacy", "other", "plain", "vip", "web"}},
		{"external subnets", &backendv1.ListAddressesRequest{Source: externalSubnet}, []string{"block"}},
		{"attached", &backendv1.ListAddressesRequest{Attached: &yes}, []string{"block", "web"}},
		{"not attached", &backendv1.ListAddressesRequest{Attached: &no, PageSize: 1},
			[]string{"edited", "legacy", "other", "plain", "vip"}},
		{"of an instance", &backendv1.ListAddressesRequest{InstanceId: r.node}, []string{"block", "web"}},
		{"of an instance and a scope", &backendv1.ListAddressesRequest{InstanceId: r.node, Scope: "c2"}, nil},
		{"by name", &backendv1.ListAddressesRequest{Names: []string{"plain", "vip", "nothing"}},
			[]string{"plain", "vip"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := r.listed(tc.req); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	for name, want := range map[string]backendv1.AddressOwnership{
		"web":    backendv1.AddressOwnership_ADDRESS_OWNERSHIP_LOAD_BALANCER,
		"edited": backendv1.AddressOwnership_ADDRESS_OWNERSHIP_EDITED_MARKER,
		"legacy": backendv1.AddressOwnership_ADDRESS_OWNERSHIP_PREDECESSOR,
		"plain":  backendv1.AddressOwnership_ADDRESS_OWNERSHIP_NONE,
		"vip":    backendv1.AddressOwnership_ADDRESS_OWNERSHIP_RESERVED,
		"block":  backendv1.AddressOwnership_ADDRESS_OWNERSHIP_NONE,
	} {
		if got := r.named(name).GetOwnership(); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	web, block := r.named("web"), r.named("block")
	want := &backendv1.AddressMarker{
		Key: &backendv1.LoadBalancerKey{Scope: "c1", Name: "default/web"}, OwnerUid: "u1", Retained: true,
	}
	if !proto.Equal(web.GetMarker(), want) || web.GetDescription() != "shop" || web.GetInstanceId() != r.node {
		t.Errorf("got %v", web)
	}
	if block.GetPrefixLength() != 28 || block.GetSource() != externalSubnet || block.GetFamily() != familyV4 {
		t.Errorf("got %v", block)
	}
}

// Lists are shared for as long as the caller allows, and show at once what was changed here.
func TestListsOfAddressesAreAsFreshAsTheCallerAsks(t *testing.T) {
	r := newRig(t)
	lists := func() int { return r.rack.Count("floating_ip_list") }
	if got := r.listed(&backendv1.ListAddressesRequest{}); len(got) != 0 {
		t.Fatalf("got %q", got)
	}
	before := lists()
	r.reserve(nil)
	if got := r.listed(&backendv1.ListAddressesRequest{}); !slices.Equal(got, []string{"vip"}) ||
		lists() != before {
		t.Errorf("got %q after %d lists", got, lists()-before)
	}
	_, err := r.rack.AddFloatingIP(oxidesim.DefaultProject, oxidesim.FloatingIPSeed{Name: "by-hand"})
	r.must(err)
	if got := r.listed(&backendv1.ListAddressesRequest{MaxAge: durationpb.New(0)}); len(got) != 2 ||
		lists() == before {
		t.Errorf("read now: %q", got)
	}
}

// What no request can be like is refused before Oxide is asked, with the field that is wrong.
func TestRubbishInACallAboutAddressesIsRefused(t *testing.T) {
	r := newRig(t)
	rubbish := "\x00\n" + strings.Repeat("x", 5000)
	no := false
	type (
		reserve = backendv1.ReserveAddressRequest
		attach  = backendv1.AttachAddressRequest
	)
	good := &attach{Source: floatingIP, ResourceId: someID, InstanceId: someID}
	attached := func(edit func(*attach)) *attach {
		req := proto.CloneOf(good)
		edit(req)
		return req
	}
	hundredAndOne := make([]string, 101)
	for i := range hundredAndOne {
		hundredAndOne[i] = fmt.Sprintf("n%d", i)
	}
	ctx := t.Context()
	for field, requests := range map[string][]proto.Message{
		"name": {
			&reserve{}, aReservation(func(q *reserve) { q.Name = rubbish }),
			aReservation(func(q *reserve) { q.Name = "UPPER" }), aReservation(func(q *reserve) { q.Name = someID }),
			aReservation(func(q *reserve) { q.Name = "lb-default-web-0123456789abcdef" }),
		},
		"source": {
			aReservation(func(q *reserve) { q.Source = 0 }),
			attached(func(q *attach) { q.Source = 0 }),
			&backendv1.DetachAddressRequest{ResourceId: someID}, &backendv1.DeleteAddressRequest{},
			&backendv1.ListAddressesRequest{Source: 9}, &backendv1.ListPoolsRequest{Source: 9},
		},
		"family": {
			aReservation(func(q *reserve) { q.Family = 0 }), &backendv1.ListPoolsRequest{Family: 9},
			aReservation(func(q *reserve) { q.Family, q.Selector = 0, fromPool("default") }),
		},
		"address": {
			aReservation(func(q *reserve) { q.Selector = thisAddress("") }),
			aReservation(func(q *reserve) { q.Selector = thisAddress(rubbish) }),
			aReservation(func(q *reserve) { q.Selector = thisAddress("fe80::1%eth0") }),
			aReservation(func(q *reserve) { q.Selector = thisAddress("192.0.2.0/24") }),
			aReservation(func(q *reserve) { q.Selector = thisAddress("2001:db8::1") }),
		},
		"pool": {
			aReservation(func(q *reserve) { q.Selector = fromPool("") }),
			aReservation(func(q *reserve) { q.Selector = fromPool(rubbish) }),
		},
		"description": {
			aReservation(func(q *reserve) { q.Description = strings.Repeat("ä", maxOwnText+1) }),
			aReservation(func(q *reserve) { q.Description = "a\x00b" }),
			aReservation(func(q *reserve) { q.Description = "a\r\nb" }),
			aReservation(func(q *reserve) { q.Description = "x\noxide-ccm/v1 " }),
		},
		"resource_id": {
			attached(func(q *attach) { q.ResourceId = "" }), attached(func(q *attach) { q.ResourceId = rubbish }),
			attached(func(q *attach) { q.ResourceId = strings.ToUpper(someID) }),
			&backendv1.DetachAddressRequest{Source: floatingIP, InstanceId: someID},
			&backendv1.DeleteAddressRequest{Source: externalSubnet, ResourceId: "vip"},
		},
		"instance_id": {
			attached(func(q *attach) { q.InstanceId = "" }), attached(func(q *attach) { q.InstanceId = rubbish }),
			&backendv1.DetachAddressRequest{Source: floatingIP, ResourceId: someID},
			&backendv1.ListAddressesRequest{InstanceId: "node-1"},
		},
		"from_instance_id": {attached(moveFrom("")), attached(moveFrom("node-1"))},
		"attached":         {&backendv1.ListAddressesRequest{InstanceId: someID, Attached: &no}},
		"scope":            {&backendv1.ListAddressesRequest{Scope: rubbish}},
		"names":            {&backendv1.ListAddressesRequest{Names: hundredAndOne}},
		"names[1]":         {&backendv1.ListAddressesRequest{Names: []string{"good", "BAD"}}},
		"page_size":        {&backendv1.ListAddressesRequest{PageSize: -1}, &backendv1.ListPoolsRequest{PageSize: -1}},
		"page_token": {
			&backendv1.ListAddressesRequest{PageToken: "x"}, &backendv1.ListPoolsRequest{PageToken: rubbish},
		},
		"max_age": {
			&backendv1.ListAddressesRequest{MaxAge: durationpb.New(-1)},
			&backendv1.ListAddressesRequest{MaxAge: durationpb.New(11 * time.Minute)},
			&backendv1.ListAddressesRequest{MaxAge: &durationpb.Duration{Seconds: 1, Nanos: -5}},
		},
	} {
		for i, message := range requests {
			t.Run(fmt.Sprintf("%s %d", field, i), func(t *testing.T) {
				var err error
				switch req := message.(type) {
				case *reserve:
					_, err = r.addresses.ReserveAddress(ctx, req)
				case *attach:
					_, err = r.addresses.AttachAddress(ctx, req)
				case *backendv1.DetachAddressRequest:
					_, err = r.addresses.DetachAddress(ctx, req)
				case *backendv1.DeleteAddressRequest:
					_, err = r.addresses.DeleteAddress(ctx, req)
				case *backendv1.ListAddressesRequest:
					_, err = r.addresses.ListAddresses(ctx, req)
				case *backendv1.ListPoolsRequest:
					_, err = r.pools.ListPools(ctx, req)
				}
				wantEnd(t, err, codes.InvalidArgument, "INVALID_REQUEST", field+" ")
			})
		}
	}
	newerRequest := proto.CloneOf(good)
	newer(newerRequest, 99)
	_, err := r.addresses.AttachAddress(ctx, newerRequest)
	wantEnd(t, err, codes.Unimplemented, "VERSION_SKEW", "field 99 of AttachAddressRequest")
	unknownKind := aReservation(func(q *reserve) { q.Source = 9 })
	_, err = r.addresses.ReserveAddress(ctx, unknownKind)
	wantEnd(t, err, codes.Unimplemented, "VERSION_SKEW", "value 9 of source")
	if n := len(r.rack.Counters()); n != 0 {
		t.Errorf("Oxide was asked: %v", r.rack.Counters())
	}
}
