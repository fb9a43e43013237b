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

// externalSubnetList is the operation that lists the external subnets.
const externalSubnetList = "external_subnet_list"

// ExternalSubnet is an external subnet of the project: a network that is routed to the instance which
// it is attached to, as it is, without address translation.
type ExternalSubnet struct {
	ID, Name, Description string
	// Prefix has no host bits; of a single address it is a /32 or a /128.
	Prefix            netip.Prefix
	PoolID, ProjectID string
	// InstanceID is the instance that it is attached to; empty if it is detached. While Oxide
	// attaches or detaches it is set, too.
	InstanceID  string
	TimeCreated time.Time
}

// SubnetAllocator says which network a new external subnet gets: exactly one of the first four fields
// is set.
type SubnetAllocator struct {
	// Prefix is this very network, from whichever pool linked to the silo has it.
	Prefix netip.Prefix
	// Pool is any network of the pool of this name or id. The family is the pool's: of a pool of the
	// other one, a network of Bits is none or a very large one.
	Pool string
	// DefaultPool4 and DefaultPool6 are any network of the silo's default subnet pool of the family.
	DefaultPool4, DefaultPool6 bool
	// Bits is the length of the prefix: 32 or 128 for a single address. Prefix has its own.
	Bits int
}

// ExternalSubnets reads all external subnets of the project, ordered by id.
func (c *Client) ExternalSubnets(ctx context.Context) ([]ExternalSubnet, error) {
	id, err := c.Identity(ctx)
	if err != nil {
		return nil, err
	}
	return readAll(ctx, c, projectCall(externalSubnetList, "list the external subnets"),
		func(ctx context.Context, limit *int, token string) (page[ExternalSubnet], error) {
			v, err := c.api.ExternalSubnetList(ctx, api.ExternalSubnetListParams{
				Project: api.NameOrId(id.ProjectID), Limit: limit, PageToken: token,
				SortBy: api.NameOrIdSortModeIdAscending,
			})
			if err != nil {
				return page[ExternalSubnet]{}, err
			}
			return toTailedPage(v.Items, v.NextPage, toExternalSubnet, idOfExternalSubnet)
		})
}

// ExternalSubnetByName reads the external subnet of this name in the project.
func (c *Client) ExternalSubnetByName(ctx context.Context, name string) (ExternalSubnet, error) {
	id, err := c.Identity(ctx)
	if err != nil {
		return ExternalSubnet{}, err
	}
	return read(ctx, c, objectCall("external_subnet_view", "read the external subnet "+name),
		func(ctx context.Context) (ExternalSubnet, error) {
			v, err := c.api.ExternalSubnetView(ctx, api.ExternalSubnetViewParams{
				ExternalSubnet: api.NameOrId(name), Project: api.NameOrId(id.ProjectID),
			})
			return orError(v, err, toExternalSubnet)
		})
}

// ExternalSubnetByID reads the external subnet with this id. Errors: KindNotFound.
func (c *Client) ExternalSubnetByID(ctx context.Context, id string) (ExternalSubnet, error) {
	return read(ctx, c, objectCall("external_subnet_view", "read the external subnet "+id),
		func(ctx context.Context) (ExternalSubnet, error) {
			v, err := c.api.ExternalSubnetView(ctx, api.ExternalSubnetViewParams{
				ExternalSubnet: api.NameOrId(id),
			})
			return orError(v, err, toExternalSubnet)
		})
}

// DescribeExternalSubnet replaces the description, also by an empty one.
func (c *Client) DescribeExternalSubnet(
	ctx context.Context, id, description string,
) (ExternalSubnet, error) {
	return mutate(ctx, c, objectCall("external_subnet_update", "describe the external subnet "+id),
		func(ctx context.Context) (ExternalSubnet, error) {
			var v api.ExternalSubnet
			err := c.describe(ctx, "/v1/external-subnets/{{.id}}", id, description, &v)
			return orError(&v, err, toExternalSubnet)
		})
}

// DeleteExternalSubnet gives a network back. Errors: KindNotFound if it is gone already; KindRefused
// while it is attached or in transition.
func (c *Client) DeleteExternalSubnet(ctx context.Context, id string) error {
	op := objectCall("external_subnet_delete", "delete the external subnet "+id)
	return deleteListed(ctx, c, op, externalSubnetList, id, func(ctx context.Context) error {
		return c.api.ExternalSubnetDelete(ctx,
			api.ExternalSubnetDeleteParams{ExternalSubnet: api.NameOrId(id)})
	})
}

// AttachExternalSubnet attaches an external subnet to an instance and waits until Oxide has done it.
// It succeeds if it is attached there already. Errors as for AttachFloatingIP; an instance has a limit
// of its own for external subnets.
func (c *Client) AttachExternalSubnet(
	ctx context.Context, id, instanceID string,
) (ExternalSubnet, error) {
	op := objectCall("external_subnet_attach",
		fmt.Sprintf("attach the external subnet %s to instance %s", id, instanceID))
	return mutate(ctx, c, op, func(ctx context.Context) (ExternalSubnet, error) {
		v, err := c.api.ExternalSubnetAttach(ctx, api.ExternalSubnetAttachParams{
			ExternalSubnet: api.NameOrId(id),
			Body:           &api.ExternalSubnetAttach{Instance: api.NameOrId(instanceID)},
		})
		return orError(v, err, toExternalSubnet)
	})
}

// DetachExternalSubnet detaches an external subnet and waits until Oxide has done it. It succeeds if it
// is not attached: Oxide refuses that as it refuses other things, so what was refused is read, and
// counts as done if it is attached nowhere. Errors as for AttachFloatingIP.
func (c *Client) DetachExternalSubnet(ctx context.Context, id string) error {
	_, err := mutate(ctx, c, objectCall("external_subnet_detach", "detach the external subnet "+id),
		func(ctx context.Context) (ExternalSubnet, error) {
			v, err := c.api.ExternalSubnetDetach(ctx,
				api.ExternalSubnetDetachParams{ExternalSubnet: api.NameOrId(id)})
			return orError(v, err, toExternalSubnet)
		})
	if !IsKind(err, KindRefused) {
		return err
	}
	if subnet, readErr := c.ExternalSubnetByID(ctx, id); readErr == nil && subnet.InstanceID == "" {
		return nil
	}
	return err
}

func toExternalSubnet(v api.ExternalSubnet) (ExternalSubnet, error) {
	if v.Id == "" {
		return ExternalSubnet{}, errNoID
	}
	prefix, err := toPrefix(v.Subnet)
	if err != nil {
		return ExternalSubnet{}, fmt.Errorf("external subnet %s: %w", v.Id, err)
	}
	return ExternalSubnet{
		ID: v.Id, Name: string(v.Name), Description: v.Description, Prefix: prefix,
		PoolID: v.SubnetPoolId, ProjectID: v.ProjectId, InstanceID: v.InstanceId,
		TimeCreated: orZero(v.TimeCreated),
	}, nil
}

func fromPrefix(prefix netip.Prefix) api.IpNet {
	if prefix.Addr().Is4() {
		v4 := api.Ipv4Net(prefix.String())
		return api.IpNet{Value: &v4}
	}
	v6 := api.Ipv6Net(prefix.String())
	return api.IpNet{Value: &v6}
}

func toPrefix(v api.IpNet) (netip.Prefix, error) {
	var text string
	if v4, ok := v.AsIpv4Net(); ok {
		text = string(*v4)
	} else if v6, ok := v.AsIpv6Net(); ok {
		text = string(*v6)
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an IP network", text)
	}
	return prefix.Masked(), nil
}

func idOfExternalSubnet(s ExternalSubnet) string { return s.ID }
