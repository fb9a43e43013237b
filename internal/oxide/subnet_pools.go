// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// SubnetPool is a pool of networks for external subnets, as a user of a silo that it is linked to
// sees it.
type SubnetPool struct {
	ID, Name string
	// Bits is the length of its addresses: 32 or 128; 0 if they are of a kind that is not known yet.
	Bits int
	// Default pools of the silo are those that a request without a pool is served from.
	Default bool
}

// SubnetPool reads a subnet pool that is linked to the silo, by name or id. Any user of the silo may.
// Errors: KindNotFound if there is none, or it is not linked to the silo.
func (c *Client) SubnetPool(ctx context.Context, nameOrID string) (SubnetPool, error) {
	return read(ctx, c, objectCall("subnet_pool_view", "read the subnet pool "+nameOrID),
		func(ctx context.Context) (SubnetPool, error) {
			v, err := c.api.SubnetPoolView(ctx, api.SubnetPoolViewParams{Pool: api.NameOrId(nameOrID)})
			return orError(v, err, toSubnetPool)
		})
}

// SubnetPools lists the subnet pools that are linked to the silo. It takes the role viewer on the
// silo; a user with a role on a project alone is answered KindForbidden.
func (c *Client) SubnetPools(ctx context.Context) ([]SubnetPool, error) {
	return readAll(ctx, c, siloCall("subnet_pool_list", "list the subnet pools of the silo"),
		func(ctx context.Context, limit *int, token string) (page[SubnetPool], error) {
			v, err := c.api.SubnetPoolList(ctx, api.SubnetPoolListParams{
				Limit: limit, PageToken: token, SortBy: api.NameOrIdSortModeIdAscending,
			})
			if err != nil {
				return page[SubnetPool]{}, err
			}
			return toPage(v.Items, v.NextPage, toSubnetPool)
		})
}

func toSubnetPool(v api.SiloSubnetPool) (SubnetPool, error) {
	id, err := withID(v.Id)
	pool := SubnetPool{
		ID: id, Name: string(v.Name), Bits: addressBits(v.IpVersion),
		Default: v.IsDefault != nil && *v.IsDefault,
	}
	return pool, err
}
