// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// MaxDescription is the longest description that Oxide stores, in characters. It answers a longer
// one with 500.
const MaxDescription = 512

// floatingIPList is the operation that lists the floating IPs.
const floatingIPList = "floating_ip_list"

// FloatingIP is a floating IP of the project.
type FloatingIP struct {
	ID, Name, Description string
	Addr                  netip.Addr
	PoolID                string
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
			p, err := toPage(v.Items, v.NextPage, toFloatingIP)
			for _, last := range p.items[max(0, len(p.items)-maxTail):] {
				p.tail = append(p.tail, last.ID)
			}
			return p, err
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
			return orError(c.api.FloatingIpView(ctx, api.FloatingIpViewParams{
				FloatingIp: api.NameOrId(name), Project: api.NameOrId(id.ProjectID),
			}))
		})
}

// FloatingIPByID reads the floating IP with this id. Errors: KindNotFound.
func (c *Client) FloatingIPByID(ctx context.Context, id string) (FloatingIP, error) {
	return read(ctx, c, objectCall("floating_ip_view", "read the floating IP "+id),
		func(ctx context.Context) (FloatingIP, error) {
			return orError(c.api.FloatingIpView(ctx, api.FloatingIpViewParams{
				FloatingIp: api.NameOrId(id),
			}))
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
	created, err := mutate(ctx, c, objectCall("floating_ip_create", "create the floating IP "+name),
		func(ctx context.Context) (FloatingIP, error) {
			return orError(c.api.FloatingIpCreate(ctx, api.FloatingIpCreateParams{
				Project: api.NameOrId(id.ProjectID),
				Body: &api.FloatingIpCreate{
					Name: api.Name(name), Description: description,
					AddressAllocator: toAllocator(allocator),
				},
			}))
		})
	if err != nil {
		c.ends.mayGrow(floatingIPList) // its answer may be lost
		return FloatingIP{}, err
	}
	c.ends.grows(floatingIPList, created.ID)
	return created, nil
}

// DescribeFloatingIP replaces the description, also by an empty one: oxide.go would leave that out, and
// Oxide then keep the old one.
func (c *Client) DescribeFloatingIP(
	ctx context.Context, id, description string,
) (FloatingIP, error) {
	return mutate(ctx, c, objectCall("floating_ip_update", "describe the floating IP "+id),
		func(ctx context.Context) (FloatingIP, error) {
			body, err := json.Marshal(map[string]string{"description": description})
			if err != nil {
				return FloatingIP{}, err
			}
			var v api.FloatingIp
			err = c.rawCall(ctx, api.Request{
				Method: http.MethodPut, Path: "/v1/floating-ips/{{.floating_ip}}",
				Params: map[string]string{"floating_ip": id}, Body: bytes.NewReader(body),
			}, &v)
			if err != nil {
				return FloatingIP{}, err
			}
			return toFloatingIP(v)
		})
}

// DeleteFloatingIP gives an address back. Errors: KindNotFound if it is gone already; KindRefused
// while it is attached or in transition.
func (c *Client) DeleteFloatingIP(ctx context.Context, id string) error {
	_, err := mutate(ctx, c, objectCall("floating_ip_delete", "delete the floating IP "+id),
		func(ctx context.Context) (struct{}, error) {
			return struct{}{}, c.api.FloatingIpDelete(ctx,
				api.FloatingIpDeleteParams{FloatingIp: api.NameOrId(id)})
		})
	if err == nil {
		c.ends.shrinks(floatingIPList, id)
	}
	return err
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
		return orError(c.api.FloatingIpAttach(ctx, api.FloatingIpAttachParams{
			FloatingIp: api.NameOrId(id),
			Body: &api.FloatingIpAttach{
				Kind: api.FloatingIpParentKindInstance, Parent: api.NameOrId(instanceID),
			},
		}))
	})
}

// DetachFloatingIP detaches a floating IP and waits until Oxide has done it. It succeeds if it is
// not attached. Success alone counts: the answer still shows the old instance, so it is not
// returned. Errors as for AttachFloatingIP.
func (c *Client) DetachFloatingIP(ctx context.Context, id string) error {
	_, err := mutate(ctx, c, objectCall("floating_ip_detach", "detach the floating IP "+id),
		func(ctx context.Context) (FloatingIP, error) {
			return orError(c.api.FloatingIpDetach(ctx,
				api.FloatingIpDetachParams{FloatingIp: api.NameOrId(id)}))
		})
	return err
}

func toAllocator(a IPAllocator) api.AddressAllocator {
	if a.Addr.IsValid() {
		return api.AddressAllocator{Value: &api.AddressAllocatorExplicit{Ip: a.Addr.String()}}
	}
	var selector api.PoolSelector
	switch {
	case a.Pool != "":
		selector.Value = &api.PoolSelectorExplicit{Pool: api.NameOrId(a.Pool)}
	case a.DefaultPool6:
		selector.Value = &api.PoolSelectorAuto{IpVersion: api.IpVersionV6}
	default:
		selector.Value = &api.PoolSelectorAuto{IpVersion: api.IpVersionV4}
	}
	return api.AddressAllocator{Value: &api.AddressAllocatorAuto{PoolSelector: selector}}
}

func orError(v *api.FloatingIp, err error) (FloatingIP, error) {
	if err != nil {
		return FloatingIP{}, err
	}
	return toFloatingIP(*v)
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
		PoolID: v.IpPoolId, InstanceID: v.InstanceId, TimeCreated: orZero(v.TimeCreated),
	}, nil
}
