// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// Subnet is a subnet of a VPC of the project. Firewall rules go by these names.
type Subnet struct{ ID, Name, VPCID, VPCName string }

// Subnets reads all VPC subnets of the project: one list of VPCs, and one of subnets for each.
func (c *Client) Subnets(ctx context.Context) ([]Subnet, error) {
	id, err := c.Identity(ctx)
	if err != nil {
		return nil, err
	}
	vpcs, err := readAll(ctx, c, projectCall("vpc_list", "list the VPCs"),
		func(ctx context.Context, limit *int, token string) (page[Subnet], error) {
			v, err := c.api.VpcList(ctx, api.VpcListParams{
				Project: api.NameOrId(id.ProjectID), Limit: limit, PageToken: token,
				SortBy: api.NameOrIdSortModeIdAscending,
			})
			if err != nil {
				return page[Subnet]{}, err
			}
			return toPage(v.Items, v.NextPage, func(v api.Vpc) (Subnet, error) {
				id, err := withID(v.Id)
				return Subnet{VPCID: id, VPCName: string(v.Name)}, err
			})
		})
	if err != nil {
		return nil, err
	}
	var all []Subnet
	for _, vpc := range vpcs {
		op := objectCall("vpc_subnet_list", "list the subnets of VPC "+vpc.VPCID)
		subnets, err := readAll(ctx, c, op,
			func(ctx context.Context, limit *int, token string) (page[Subnet], error) {
				v, err := c.api.VpcSubnetList(ctx, api.VpcSubnetListParams{
					Vpc: api.NameOrId(vpc.VPCID), Limit: limit, PageToken: token,
					SortBy: api.NameOrIdSortModeIdAscending,
				})
				if err != nil {
					return page[Subnet]{}, err
				}
				return toPage(v.Items, v.NextPage, func(v api.VpcSubnet) (Subnet, error) {
					id, err := withID(v.Id)
					return Subnet{
						ID: id, Name: string(v.Name), VPCID: vpc.VPCID, VPCName: vpc.VPCName,
					}, err
				})
			})
		if err != nil {
			return nil, err
		}
		all = append(all, subnets...)
	}
	return all, nil
}

func withID(id string) (string, error) {
	if id == "" {
		return "", errNoID
	}
	return id, nil
}

// SubnetInterfaces reads the network interfaces in a VPC subnet, of all instances. The list is in id
// order: names are unique per instance only, and in name order every interface with the same name
// as the last one of a page would be skipped.
//
// An interface that cannot be understood, because a newer API has a new kind of addresses, is
// returned as Unreadable, and spoils no other.
//
// The list is read to its end, unless isWhole, which may be nil, knows that the interfaces read so far
// are all that there are.
func (c *Client) SubnetInterfaces(
	ctx context.Context, subnetID string, isWhole func([]NetworkInterface) bool,
) ([]NetworkInterface, error) {
	op := listOf(subnetID, "vpc_subnet_list_network_interfaces",
		"list the network interfaces in subnet "+subnetID)
	return readUntil(ctx, c, op, isWhole,
		func(ctx context.Context, limit *int, token string) (page[NetworkInterface], error) {
			query := map[string]string{
				"limit": strconv.Itoa(*limit), "page_token": token, "sort_by": "id_ascending",
			}
			items, next, err := c.rawPage(ctx,
				"/v1/vpc-subnets/{{.subnet}}/network-interfaces",
				map[string]string{"subnet": subnetID}, query)
			if err != nil {
				return page[NetworkInterface]{}, err
			}
			return toPage(items, next, toSubnetInterface)
		})
}

// NetworkInterface reads one network interface. Errors: KindNotFound.
func (c *Client) NetworkInterface(ctx context.Context, id string) (NetworkInterface, error) {
	op := objectCall("instance_network_interface_view", "read the network interface "+id)
	return read(ctx, c, op, func(ctx context.Context) (NetworkInterface, error) {
		var text json.RawMessage
		err := c.rawGet(ctx, "/v1/network-interfaces/{{.interface}}",
			map[string]string{"interface": id}, nil, &text)
		if err != nil {
			return NetworkInterface{}, err
		}
		return toSubnetInterface(text)
	})
}

// toSubnetInterface decodes one interface by itself.
func toSubnetInterface(text json.RawMessage) (NetworkInterface, error) {
	var v api.InstanceNetworkInterface
	if json.Unmarshal(text, &v) == nil {
		if nic, err := toNetworkInterface(v); err == nil {
			return nic, nil
		}
	}
	var owner struct {
		ID         string `json:"id"`
		InstanceID string `json:"instance_id"`
	}
	if err := json.Unmarshal(text, &owner); err != nil || owner.InstanceID == "" {
		return NetworkInterface{}, errNoID
	}
	return NetworkInterface{ID: owner.ID, InstanceID: owner.InstanceID, Unreadable: true}, nil
}

// rawPage reads a page without decoding its items: oxide.go fails a whole page when one item has a
// variant that it does not know.
func (c *Client) rawPage(
	ctx context.Context, path string, params, query map[string]string,
) (items []json.RawMessage, next string, err error) {
	var body struct {
		Items    []json.RawMessage `json:"items"`
		NextPage string            `json:"next_page"`
	}
	err = c.rawGet(ctx, path, params, query, &body)
	return body.Items, body.NextPage, err
}

// rawGet reads an object without oxide.go's types.
func (c *Client) rawGet(
	ctx context.Context, path string, params, query map[string]string, into any,
) error {
	return c.rawCall(ctx, api.Request{
		Method: http.MethodGet, Path: path, Params: params, Query: query,
	}, into)
}

// rawCall sends a request and decodes its answer.
func (c *Client) rawCall(ctx context.Context, request api.Request, into any) error {
	resp, err := c.api.MakeRequest(ctx, request)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := api.NewHTTPError(resp); err != nil {
		return err
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("error decoding response body: %w", err)
	}
	return nil
}
