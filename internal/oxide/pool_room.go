// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// PoolRoom is how many addresses a pool has. They are no integers: an IPv6 pool has more than those
// hold.
type PoolRoom struct{ Capacity, Free float64 }

// IPPoolRoom reads the room of an IP pool, by id. It takes the role viewer on the fleet; anybody else is
// answered KindNotFound.
func (c *Client) IPPoolRoom(ctx context.Context, id string) (PoolRoom, error) {
	return read(ctx, c, objectCall("system_ip_pool_utilization_view", "read the room of the IP pool "+id),
		func(ctx context.Context) (PoolRoom, error) {
			v, err := c.api.SystemIpPoolUtilizationView(ctx,
				api.SystemIpPoolUtilizationViewParams{Pool: api.NameOrId(id)})
			if err != nil {
				return PoolRoom{}, err
			}
			return PoolRoom{v.Capacity, v.Remaining}, nil
		})
}

// SubnetPoolRoom is the same of a subnet pool.
func (c *Client) SubnetPoolRoom(ctx context.Context, id string) (PoolRoom, error) {
	return read(ctx, c,
		objectCall("system_subnet_pool_utilization_view", "read the room of the subnet pool "+id),
		func(ctx context.Context) (PoolRoom, error) {
			v, err := c.api.SystemSubnetPoolUtilizationView(ctx,
				api.SystemSubnetPoolUtilizationViewParams{Pool: api.NameOrId(id)})
			if err != nil {
				return PoolRoom{}, err
			}
			return PoolRoom{v.Capacity, v.Remaining}, nil
		})
}
