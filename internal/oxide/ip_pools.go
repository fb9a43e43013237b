// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// IPPool is a pool of addresses, as a user of a silo that it is linked to sees it.
type IPPool struct {
	ID, Name string
	// Bits is the length of its addresses: 32 or 128; 0 if they are of a kind that is not known yet.
	Bits int
	// Unicast pools give floating IPs; multicast ones do not.
	Unicast bool
	// Default pools of the silo are those that a request without a pool is served from.
	Default bool
}

// IPPool reads a pool that is linked to the silo, by name or id. Any user of the silo may.
func (c *Client) IPPool(ctx context.Context, nameOrID string) (IPPool, error) {
	return read(ctx, c, objectCall("ip_pool_view", "read the IP pool "+nameOrID),
		func(ctx context.Context) (IPPool, error) {
			v, err := c.api.IpPoolView(ctx, api.IpPoolViewParams{Pool: api.NameOrId(nameOrID)})
			if err != nil {
				return IPPool{}, err
			}
			return toIPPool(*v)
		})
}

// IPPools lists the pools that are linked to the silo. It takes the role viewer on the silo; a user
// with a role on a project alone is answered KindForbidden.
func (c *Client) IPPools(ctx context.Context) ([]IPPool, error) {
	return readAll(ctx, c, siloCall("ip_pool_list", "list the IP pools of the silo"),
		func(ctx context.Context, limit *int, token string) (page[IPPool], error) {
			v, err := c.api.IpPoolList(ctx, api.IpPoolListParams{
				Limit: limit, PageToken: token, SortBy: api.NameOrIdSortModeIdAscending,
			})
			if err != nil {
				return page[IPPool]{}, err
			}
			return toPage(v.Items, v.NextPage, toIPPool)
		})
}

func toIPPool(v api.SiloIpPool) (IPPool, error) {
	id, err := withID(v.Id)
	pool := IPPool{
		ID: id, Name: string(v.Name), Bits: addressBits(v.IpVersion),
		Unicast: v.PoolType == api.IpPoolTypeUnicast, Default: v.IsDefault != nil && *v.IsDefault,
	}
	return pool, err
}

// addressBits returns the length of addresses; 0 for a version that is not known yet.
func addressBits(version api.IpVersion) int {
	switch version {
	case api.IpVersionV4:
		return 32
	case api.IpVersionV6:
		return 128
	}
	return 0
}
