// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// floatingIPList is the operation that lists the floating IPs.
const floatingIPList = "floating_ip_list"

// FloatingIP is a floating IP of the project.
type FloatingIP struct {
	ID, Name, Description string
	Addr                  netip.Addr
	PoolID, ProjectID     string
	// InstanceID is the instance that it is attached to; empty if it is detached. While Oxide
	// attaches or detaches it is set, too.
	InstanceID  string
	TimeCreated time.Time
}

// IPAllocator says which address a new floating IP gets: exactly one field is set.
type IPAllocator struct {
	// Addr is this very address, from whichever unicast pool linked to the silo has it.
	Addr netip.Addr
	// Pool is any address of the pool of this name or id.
	Pool string
	// DefaultPool4 and DefaultPool6 are any address of the silo's default pool of the family.
	DefaultPool4, DefaultPool6 bool
}

// FloatingIPs reads all floating IPs of the project, ordered by id.
func (c *Client) FloatingIPs(ctx context.Context) ([]FloatingIP, error) {
	id, err := c.Identity(ctx)
	if err != nil {
		return nil, err
	}
	return readAll(ctx, c, projectCall(floatingIPList, "list the floating IPs"),
		func(ctx context.Context, limit *int, token string) (page[FloatingIP], error) {
			v, err := c.api.FloatingIpList(ctx, api.FloatingIpListParams{
				Project: api.NameOrId(id.ProjectID), Limit: limit, PageToken: token,
				SortBy: api.NameOrIdSortModeIdAscending,
			})
			if err != nil {
				return page[FloatingIP]{}, err
			}
			return toTailedPage(v.Items, v.NextPage, toFloatingIP, idOfFloatingIP)
		})
}

// FloatingIPByName reads the floating IP of this name in the project.
func (c *Client) FloatingIPByName(ctx context.Context, name string) (FloatingIP, error) {
	id, err := c.Identity(ctx)
	if err != nil {
		return FloatingIP{}, err
	}
	return read(ctx, c, objectCall("floating_ip_view", "read the floating IP "+name),
		func(ctx context.Context) (FloatingIP, error) {
			v, err := c.api.FloatingIpView(ctx, api.FloatingIpViewParams{
				FloatingIp: api.NameOrId(name), Project: api.NameOrId(id.ProjectID),
			})
			return orError(v, err, toFloatingIP)
		})
}

// FloatingIPByID reads the floating IP with this id. Errors: KindNotFound.
func (c *Client) FloatingIPByID(ctx context.Context, id string) (FloatingIP, error) {
	return read(ctx, c, objectCall("floating_ip_view", "read the floating IP "+id),
		func(ctx context.Context) (FloatingIP, error) {
			v, err := c.api.FloatingIpView(ctx, api.FloatingIpViewParams{
				FloatingIp: api.NameOrId(id),
			})
			return orError(v, err, toFloatingIP)
		})
}

// CreateFloatingIP reserves an address. Of two calls with one name one fails with KindAlreadyExists.
// Further errors: KindNotFound if there is no such pool, or no default pool of the family;
// KindRefused if the address is taken or in no pool; KindNoCapacity if the pool is exhausted.
func (c *Client) CreateFloatingIP(
	ctx context.Context, name, description string, allocator IPAllocator,
) (FloatingIP, error) {
	id, err := c.Identity(ctx)
	if err != nil {
		return FloatingIP{}, err
	}
	return createListed(ctx, c, objectCall("floating_ip_create", "create the floating IP "+name),
		floatingIPList, idOfFloatingIP, func(ctx context.Context) (FloatingIP, error) {
			v, err := c.api.FloatingIpCreate(ctx, api.FloatingIpCreateParams{
				Project: api.NameOrId(id.ProjectID),
				Body: &api.FloatingIpCreate{
					Name: api.Name(name), Description: description,
					AddressAllocator: toAllocator(allocator),
				},
			})
			return orError(v, err, toFloatingIP)
		})
}

// DescribeFloatingIP replaces the description, also by an empty one.
func (c *Client) DescribeFloatingIP(
	ctx context.Context, id, description string,
) (FloatingIP, error) {
	return mutate(ctx, c, objectCall("floating_ip_update", "describe the floating IP "+id),
		func(ctx context.Context) (FloatingIP, error) {
			var v api.FloatingIp
			err := c.describe(ctx, "/v1/floating-ips/{{.id}}", id, description, &v)
			return orError(&v, err, toFloatingIP)
		})
}

// DeleteFloatingIP gives an address back. Errors: KindNotFound if it is gone already; KindRefused
// while it is attached or in transition.
func (c *Client) DeleteFloatingIP(ctx context.Context, id string) error {
	return deleteListed(ctx, c, objectCall("floating_ip_delete", "delete the floating IP "+id),
		floatingIPList, id, func(ctx context.Context) error {
			return c.api.FloatingIpDelete(ctx,
				api.FloatingIpDeleteParams{FloatingIp: api.NameOrId(id)})
		})
}

// AttachFloatingIP attaches a floating IP to an instance and waits until Oxide has done it. It
// succeeds if it is attached there already. Errors: KindRefused if it is attached elsewhere, the
// instance has failed or is being created, its limit is reached, or it has no interface of the
// family; KindUnavailable while instance or address are in transition or the sled does not answer.
func (c *Client) AttachFloatingIP(
	ctx context.Context, id, instanceID string,
) (FloatingIP, error) {
	op := objectCall("floating_ip_attach",
		fmt.Sprintf("attach the floating IP %s to instance %s", id, instanceID))
	return mutate(ctx, c, op, func(ctx context.Context) (FloatingIP, error) {
		v, err := c.api.FloatingIpAttach(ctx, api.FloatingIpAttachParams{
			FloatingIp: api.NameOrId(id),
			Body: &api.FloatingIpAttach{
				Kind: api.FloatingIpParentKindInstance, Parent: api.NameOrId(instanceID),
			},
		})
		return orError(v, err, toFloatingIP)
	})
}

// DetachFloatingIP detaches a floating IP and waits until Oxide has done it. It succeeds if it is
// not attached. Success alone counts: the answer still shows the old instance, so it is not
// returned. Errors as for AttachFloatingIP.
func (c *Client) DetachFloatingIP(ctx context.Context, id string) error {
	_, err := mutate(ctx, c, objectCall("floating_ip_detach", "detach the floating IP "+id),
		func(ctx context.Context) (FloatingIP, error) {
			v, err := c.api.FloatingIpDetach(ctx,
				api.FloatingIpDetachParams{FloatingIp: api.NameOrId(id)})
			return orError(v, err, toFloatingIP)
		})
	return err
}

func toAllocator(a IPAllocator) api.AddressAllocator {
	if a.Addr.IsValid() {
		return api.AddressAllocator{Value: &api.AddressAllocatorExplicit{Ip: a.Addr.String()}}
	}
	return api.AddressAllocator{
		Value: &api.AddressAllocatorAuto{PoolSelector: toPoolSelector(a.Pool, a.DefaultPool6)},
	}
}

func toFloatingIP(v api.FloatingIp) (FloatingIP, error) {
	if v.Id == "" {
		return FloatingIP{}, errNoID
	}
	addr, err := parseAddr(v.Ip)
	if err != nil {
		return FloatingIP{}, fmt.Errorf("floating IP %s: %w", v.Id, err)
	}
	return FloatingIP{
		ID: v.Id, Name: string(v.Name), Description: v.Description, Addr: addr,
		PoolID: v.IpPoolId, ProjectID: v.ProjectId, InstanceID: v.InstanceId,
		TimeCreated: orZero(v.TimeCreated),
	}, nil
}

func idOfFloatingIP(ip FloatingIP) string { return ip.ID }
