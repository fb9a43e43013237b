// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func poolCases() []Case {
	pools := needs{features: []feature{backendv1.Feature_FEATURE_POOLS}}
	return []Case{
		{Name: "pools/list", run: listPools, needs: pools, Contract: []string{
			"ListPools returns the IP pools and subnet pools that are linked to the silo, a page at a time, " +
				"ordered by id.",
			"A pool is listed if it fits every filter that is set.",
			"There is at most one.",
		}},
		{Name: "pools/list-invalid", run: listPoolsInvalid, needs: pools,
			Contract: []string{invalidContract, tokenContract}},
	}
}

func listPools(ctx context.Context, c *checker) {
	whole, err := c.pools.ListPools(ctx, &backendv1.ListPoolsRequest{PageSize: 1000})
	if reasonOf(err) == backendv1.ErrorReason_ERROR_REASON_OXIDE_FORBIDDEN {
		c.refused("ListPools", err, codes.PermissionDenied,
			backendv1.ErrorReason_ERROR_REASON_OXIDE_FORBIDDEN)
		c.skip("the token's user has no role on the silo")
	}
	c.must("ListPools", err)
	type kind struct {
		source backendv1.AddressSource
		family backendv1.IpFamily
	}
	defaults := make(map[kind]int)
	counts := make(map[kind]int)
	for _, pool := range whole.GetPools() {
		c.holds(pool.GetName() != "" && pool.GetSource() != 0, "a pool", "a name and a source", pool)
		k := kind{pool.GetSource(), pool.GetFamily()}
		counts[k]++
		if pool.GetIsDefault() && !pool.GetMulticast() {
			defaults[k]++
		}
	}
	for k, n := range defaults {
		c.holds(n == 1, "default pools of "+k.source.String()+" "+k.family.String(), "at most one", n)
	}
	for k, n := range counts {
		got, err := c.pools.ListPools(ctx, &backendv1.ListPoolsRequest{
			PageSize: 1000, Source: k.source, Family: k.family,
		})
		if c.ok("ListPools with filters", err) && k.family != 0 {
			equal(c, "pools of "+k.source.String()+" "+k.family.String(), len(got.GetPools()), n)
		}
	}
	idOf := (*backendv1.Pool).GetId
	pages(c, "ListPools", ids(whole.GetPools(), idOf), idOf,
		func(token string) ([]*backendv1.Pool, string, error) {
			page, err := c.pools.ListPools(ctx, &backendv1.ListPoolsRequest{PageSize: 1, PageToken: token})
			return page.GetPools(), page.GetNextPageToken(), err
		})
}

func listPoolsInvalid(ctx context.Context, c *checker) {
	for what, request := range map[string]*backendv1.ListPoolsRequest{
		"a negative page size": {PageSize: -1},
		"a made-up page token": {PageToken: "nonsense"},
		"a token of 600 bytes": {PageToken: strings.Repeat("x", 600)},
	} {
		_, err := c.pools.ListPools(ctx, request)
		c.invalid(what, err)
	}
}
