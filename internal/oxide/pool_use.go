// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// PoolUse is how much of a pool is in use, in addresses. They are no integers, as an IPv6 pool has more
// than those hold: of most such pools it is rounded.
type PoolUse struct{ Capacity, Free float64 }

// IPPoolUse reads how much of an IP pool is in use. It takes a role on the fleet: anybody else is
// answered KindNotFound or KindForbidden.
func (c *Client) IPPoolUse(ctx context.Context, id string) (PoolUse, error) {
	return read(ctx, c, objectCall("system_ip_pool_utilization_view", "read the use of the IP pool "+id),
		func(ctx context.Context) (PoolUse, error) {
			v, err := c.api.SystemIpPoolUtilizationView(ctx,
				api.SystemIpPoolUtilizationViewParams{Pool: api.NameOrId(id)})
			return orError(v, err, func(v api.IpPoolUtilization) (PoolUse, error) {
				return PoolUse{Capacity: v.Capacity, Free: v.Remaining}, nil
			})
		})
}

// SubnetPoolUse reads how much of a subnet pool is in use; as IPPoolUse.
func (c *Client) SubnetPoolUse(ctx context.Context, id string) (PoolUse, error) {
	op := objectCall("system_subnet_pool_utilization_view", "read the use of the subnet pool "+id)
	return read(ctx, c, op, func(ctx context.Context) (PoolUse, error) {
		v, err := c.api.SystemSubnetPoolUtilizationView(ctx,
			api.SystemSubnetPoolUtilizationViewParams{Pool: api.NameOrId(id)})
		return orError(v, err, func(v api.SubnetPoolUtilization) (PoolUse, error) {
			return PoolUse{Capacity: v.Capacity, Free: v.Remaining}, nil
		})
	})
}
