// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func TestPoolsOfTheSiloAreListed(t *testing.T) {
	r := newRig(t)
	r.must(r.rack.Apply(oxidesim.Seed{Pools: []oxidesim.PoolSeed{
		{
			Name: "many", PoolType: "multicast", Ranges: []oxidesim.RangeSeed{{First: "232.1.1.1", Last: "232.1.1.9"}},
			Silos: []oxidesim.PoolLinkSeed{{Silo: oxidesim.DefaultSilo}},
		},
		{Name: "unlinked", Ranges: []oxidesim.RangeSeed{{First: "203.0.113.1", Last: "203.0.113.9"}}},
	}}))
	pool := func(name string, source backendv1.AddressSource, family backendv1.IpFamily) *backendv1.Pool {
		return &backendv1.Pool{Name: name, Source: source, Family: family}
	}
	v4, v6 := pool("default", floatingIP, familyV4), pool("default-v6", floatingIP, familyV6)
	subnets, subnets6 := pool("subnets", externalSubnet, familyV4), pool("subnets-v6", externalSubnet, familyV6)
	many := pool("many", floatingIP, familyV4)
	v4.IsDefault, subnets.IsDefault, many.Multicast = true, true, true
	for _, tc := range []struct {
		name string
		req  *backendv1.ListPoolsRequest
		want []*backendv1.Pool
	}{
		{"all", &backendv1.ListPoolsRequest{}, []*backendv1.Pool{v4, v6, many, subnets, subnets6}},
		{"one at a time", &backendv1.ListPoolsRequest{PageSize: 1},
			[]*backendv1.Pool{v4, v6, many, subnets, subnets6}},
		{"IP pools", &backendv1.ListPoolsRequest{Source: floatingIP}, []*backendv1.Pool{v4, v6, many}},
		{"subnet pools of IPv6", &backendv1.ListPoolsRequest{Source: externalSubnet, Family: familyV6},
			[]*backendv1.Pool{subnets6}},
		{"of IPv4", &backendv1.ListPoolsRequest{Family: familyV4}, []*backendv1.Pool{v4, many, subnets}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := r.listPools(tc.req)
			if diff := cmp.Diff(tc.want, got, protocmp.Transform(),
				protocmp.IgnoreFields(&backendv1.Pool{}, "id")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// listPools returns all pools that a request lists, ordered by name; their ids must be in order.
func (r *rig) listPools(req *backendv1.ListPoolsRequest) []*backendv1.Pool {
	r.Helper()
	var all []*backendv1.Pool
	for {
		resp, err := r.pools.ListPools(r.Context(), req)
		r.must(err)
		all = append(all, resp.GetPools()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if !slices.IsSortedFunc(all, func(a, b *backendv1.Pool) int {
		return strings.Compare(a.GetId(), b.GetId())
	}) {
		r.Error("they are not ordered by id")
	}
	slices.SortFunc(all, func(a, b *backendv1.Pool) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all
}

// How much of a pool is in use Oxide shows to its operators; whoever has a role on the project alone sees
// no list.
func TestOnlyOperatorsSeeHowMuchOfAPoolIsFree(t *testing.T) {
	r := newRig(t)
	r.reserve(nil)
	r.reserve(func(q *backendv1.ReserveAddressRequest) { q.Source = externalSubnet })
	for _, pool := range r.listPools(&backendv1.ListPoolsRequest{}) {
		if pool.GetUtilization() != nil {
			t.Errorf("a user without a role on the fleet sees %v", pool)
		}
	}
	operator := newRigOn(t, r.rack, rigOptions{token: oxidesim.DefaultOperatorToken})
	got := make(map[string]*backendv1.PoolUtilization)
	for _, pool := range operator.listPools(&backendv1.ListPoolsRequest{}) {
		got[pool.GetName()] = pool.GetUtilization()
	}
	if use := got["default"]; use.GetCapacity() != 241 || use.GetFree() != 239 {
		t.Errorf("default: %v", use) // node-1 has an address of outbound NAT
	}
	if use := got["subnets"]; use.GetCapacity() != 256 || use.GetFree() != 255 {
		t.Errorf("subnets: %v", use)
	}
	if use := got["default-v6"]; use.GetCapacity() == 0 || use.GetFree() != use.GetCapacity() {
		t.Errorf("default-v6: %v", use)
	}
	// Nothing fails for the lack of it.
	_, err := r.rack.AddFault(oxidesim.Fault{Operation: "system_*_utilization_view", Status: 500})
	r.must(err)
	for _, pool := range operator.listPools(&backendv1.ListPoolsRequest{}) {
		if pool.GetUtilization() != nil {
			t.Errorf("got %v", pool)
		}
	}

	r.must(r.rack.SetSiloRole("demo", "none"))
	r.must(r.rack.SetProjectRole("demo", "demo", "limited_collaborator"))
	member := newRigOn(t, r.rack, rigOptions{})
	_, err = member.pools.ListPools(t.Context(), &backendv1.ListPoolsRequest{})
	wantEnd(t, err, codes.PermissionDenied, "OXIDE_FORBIDDEN", "role viewer, or more, on the silo")
	member.reserve(func(q *backendv1.ReserveAddressRequest) {
		q.Name, q.Selector, q.Family = "of-a-member", fromPool("default-v6"), familyV6
	})
}
