// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"errors"
	"slices"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// release21 is the newest API version that racks of release 21 speak.
const release21 = "2026061000.0.0"

// CreateExternalSubnet reserves a network. Of two calls with one name one fails with
// KindAlreadyExists. Further errors: KindNotFound if there is no such pool, or no default pool of the
// family; KindNoCapacity if the pool has no such network left, or, with OldRelease, if the rack's
// release does not allocate it; KindRefused if Prefix is taken or in no pool, or if Pool has no single
// addresses of Bits, since it is of the other family.
//
// Oxide answers all these but a missing pool with 400, and distinguishes them in words only. So what was
// refused is found out by reading: whether the name is there, whether there is a default pool, and which
// release the rack has; at most three reads, none after a success. KindRefused is also what remains of a
// default pool if the token may not list the pools of the silo: there is none, or it is exhausted.
func (c *Client) CreateExternalSubnet(
	ctx context.Context, name, description string, allocator SubnetAllocator,
) (ExternalSubnet, error) {
	id, err := c.Identity(ctx)
	if err != nil {
		return ExternalSubnet{}, err
	}
	op := objectCall("external_subnet_create", "create the external subnet "+name)
	created, err := createListed(ctx, c, op, externalSubnetList, idOfExternalSubnet,
		func(ctx context.Context) (ExternalSubnet, error) {
			v, err := c.api.ExternalSubnetCreate(ctx, api.ExternalSubnetCreateParams{
				Project: api.NameOrId(id.ProjectID),
				Body: &api.ExternalSubnetCreate{
					Name: api.Name(name), Description: description,
					Allocator: toSubnetAllocator(allocator),
				},
			})
			return orError(v, err, toExternalSubnet)
		})
	var e *Error
	if errors.As(err, &e) {
		c.explainCreation(ctx, name, allocator, e)
	}
	return created, err
}

// explainCreation finds out what the failure of a creation means, and changes the error accordingly; it
// leaves it as it is where that cannot be found out.
func (c *Client) explainCreation(
	ctx context.Context, name string, allocator SubnetAllocator, e *Error,
) {
	switch e.Kind {
	case KindRefused, KindAlreadyExists, KindInternal:
	default:
		return
	}
	switch _, err := c.ExternalSubnetByName(ctx, name); {
	case err == nil:
		// Lack of room is answered before a taken name is. It may be what an earlier call made.
		e.Kind = KindAlreadyExists
		return
	case !IsKind(err, KindNotFound):
		return
	}
	switch {
	case allocator.Prefix.IsValid():
	case e.Kind != KindRefused:
		if c.isForOldRelease(ctx, allocator, e.Kind) {
			e.Kind, e.OldRelease = KindNoCapacity, true
		}
	case allocator.Pool != "":
		switch pool, err := c.SubnetPool(ctx, allocator.Pool); {
		case err != nil:
		case allocator.isSingle() && allocator.Bits != pool.Bits:
			e.Detail = "the subnet pool " + allocator.Pool + " is of the other IP family"
		default: // nothing else of a pool that is there is refused
			e.Kind = KindNoCapacity
		}
	default:
		if pools, err := c.SubnetPools(ctx); err == nil {
			e.Kind = KindNotFound
			for _, pool := range pools {
				if pool.Default && pool.Bits == allocator.defaultBits() {
					e.Kind = KindNoCapacity
				}
			}
		}
	}
}

// isForOldRelease reports whether a creation failed for what racks before release 21 cannot do. They
// offer a single address that they have given already, fail to store it twice, and take that for a taken
// name. By their source it may be a 500 instead, which counts where another single address is seen.
func (c *Client) isForOldRelease(ctx context.Context, allocator SubnetAllocator, kind Kind) bool {
	if !allocator.isSingle() {
		return false
	}
	adjacent, err := c.AllocatesAdjacent(ctx)
	if err != nil || adjacent || kind == KindAlreadyExists {
		return err == nil && !adjacent
	}
	subnets, err := c.ExternalSubnets(ctx)
	return err == nil && slices.ContainsFunc(subnets, func(s ExternalSubnet) bool {
		return s.Prefix.IsSingleIP() && s.Prefix.Bits() == allocator.Bits
	})
}

// AllocatesAdjacent reports whether the rack allocates external subnets of a single address, /32 or
// /128, next to each other. Racks before release 21 do not: of a pool they give one, and no other while
// that one is there. The release shows in the API versions that the rack speaks.
func (c *Client) AllocatesAdjacent(ctx context.Context) (bool, error) {
	op := objectCall("ping", "ask whether the rack has release 21")
	op.apiVersion = release21
	_, err := read(ctx, c, op, c.ping)
	if IsKind(err, KindMalformed) {
		return false, nil
	}
	return err == nil, err
}

// isSingle reports whether it asks for a single address.
func (a SubnetAllocator) isSingle() bool {
	return a.Bits == 128 || a.Bits == 32 && !a.DefaultPool6
}

// defaultBits is the length of the addresses of the default pool.
func (a SubnetAllocator) defaultBits() int {
	if a.DefaultPool6 {
		return 128
	}
	return 32
}

func toSubnetAllocator(a SubnetAllocator) api.ExternalSubnetAllocator {
	if a.Prefix.IsValid() {
		return api.ExternalSubnetAllocator{
			Value: &api.ExternalSubnetAllocatorExplicit{Subnet: fromPrefix(a.Prefix)},
		}
	}
	return api.ExternalSubnetAllocator{Value: &api.ExternalSubnetAllocatorAuto{
		PrefixLength: &a.Bits, PoolSelector: toPoolSelector(a.Pool, a.DefaultPool6),
	}}
}
