// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	api "github.com/oxidecomputer/oxide.go/oxide"
)

// Run states of an instance in Oxide's words.
const (
	RunStateCreating  = "creating"
	RunStateStarting  = "starting"
	RunStateRunning   = "running"
	RunStateStopping  = "stopping"
	RunStateStopped   = "stopped"
	RunStateRebooting = "rebooting"
	RunStateMigrating = "migrating"
	RunStateRepairing = "repairing"
	RunStateFailed    = "failed"
	RunStateDestroyed = "destroyed"
)

// Instance is an instance as Oxide lists it, without its network facts.
type Instance struct {
	ID, Name, Hostname, ProjectID string
	RunState                      string
	// AutoRestart says whether Oxide restarts the instance by itself once it has failed.
	AutoRestart         bool
	CPUs                int
	MemoryBytes         int64
	CPUPlatform         string
	TimeCreated         time.Time
	TimeRunStateUpdated time.Time
}

// NetworkInterface is a network interface of an instance.
type NetworkInterface struct {
	ID, Name, InstanceID, VPCID, SubnetID string
	Primary                               bool
	// Addrs are the private addresses: at most one per family, IPv4 first.
	Addrs []netip.Addr
	// Unreadable marks an interface of which only the ids could be understood.
	Unreadable bool
}

// ExternalIPKind tells the kinds of external IPs apart.
type ExternalIPKind string

// The kinds of external IPs that Oxide lists at an instance.
const (
	ExternalIPSNAT      ExternalIPKind = "snat"
	ExternalIPEphemeral ExternalIPKind = "ephemeral"
	ExternalIPFloating  ExternalIPKind = "floating"
)

// ExternalIP is an external address of an instance.
type ExternalIP struct {
	Kind ExternalIPKind
	Addr netip.Addr
	// Description is the floating IP's; empty for the other kinds.
	Description string
}

// InstanceByID reads one instance. The project is not sent: Oxide refuses an id together with a
// project.
func (c *Client) InstanceByID(ctx context.Context, id string) (Instance, error) {
	return read(ctx, c, objectCall("instance_view", "read instance "+id),
		func(ctx context.Context) (Instance, error) {
			v, err := c.api.InstanceView(ctx, api.InstanceViewParams{Instance: api.NameOrId(id)})
			if err != nil {
				return Instance{}, err
			}
			return toInstance(*v)
		})
}

// Instances reads all instances of the project, ordered by id.
func (c *Client) Instances(ctx context.Context) ([]Instance, error) {
	id, err := c.Identity(ctx)
	if err != nil {
		return nil, err
	}
	return readAll(ctx, c, projectCall("instance_list", "list the instances"),
		func(ctx context.Context, limit *int, token string) (page[Instance], error) {
			v, err := c.api.InstanceList(ctx, api.InstanceListParams{
				Project: api.NameOrId(id.ProjectID), Limit: limit, PageToken: token,
				SortBy: api.NameOrIdSortModeIdAscending,
			})
			if err != nil {
				return page[Instance]{}, err
			}
			return toPage(v.Items, v.NextPage, toInstance)
		})
}

// ExternalIPs reads the external IPs of an instance. Oxide gives them in no stable order.
func (c *Client) ExternalIPs(ctx context.Context, instanceID string) ([]ExternalIP, error) {
	op := objectCall("instance_external_ip_list", "read the external IPs of instance "+instanceID)
	return read(ctx, c, op,
		func(ctx context.Context) ([]ExternalIP, error) {
			items, _, err := c.rawPage(ctx, "/v1/instances/{{.instance}}/external-ips",
				map[string]string{"instance": instanceID}, nil)
			if err != nil {
				return nil, err
			}
			p, err := toPage(items, "", decodeExternalIP)
			return p.items, err
		})
}

func toInstance(v api.Instance) (Instance, error) {
	if v.Id == "" || v.ProjectId == "" {
		return Instance{}, errNoID
	}
	return Instance{
		ID: v.Id, Name: string(v.Name), Hostname: v.Hostname, ProjectID: v.ProjectId,
		RunState:            string(v.RunState),
		AutoRestart:         v.AutoRestartEnabled != nil && *v.AutoRestartEnabled,
		CPUs:                int(v.Ncpus),
		MemoryBytes:         int64(v.Memory),
		CPUPlatform:         string(v.CpuPlatform),
		TimeCreated:         orZero(v.TimeCreated),
		TimeRunStateUpdated: orZero(v.TimeRunStateUpdated),
	}, nil
}

func toNetworkInterface(v api.InstanceNetworkInterface) (NetworkInterface, error) {
	nic := NetworkInterface{
		ID: v.Id, Name: string(v.Name), InstanceID: v.InstanceId, VPCID: v.VpcId,
		SubnetID: v.SubnetId, Primary: v.Primary != nil && *v.Primary,
	}
	var texts []string
	switch stack := v.IpStack.Value.(type) {
	case *api.PrivateIpStackV4:
		texts = []string{stack.Value.Ip}
	case *api.PrivateIpStackV6:
		texts = []string{stack.Value.Ip}
	case *api.PrivateIpStackDualStack:
		texts = []string{stack.Value.V4.Ip, stack.Value.V6.Ip}
	default:
		return NetworkInterface{}, fmt.Errorf("network interface %s has no addresses", v.Id)
	}
	for _, text := range texts {
		addr, err := parseAddr(text)
		if err != nil {
			return NetworkInterface{}, fmt.Errorf("network interface %s: %w", v.Id, err)
		}
		nic.Addrs = append(nic.Addrs, addr)
	}
	return nic, nil
}

// decodeExternalIP decodes one external IP by itself. One of a kind that a newer API has is returned
// with that kind and no address.
func decodeExternalIP(text json.RawMessage) (ExternalIP, error) {
	var v api.ExternalIp
	if err := json.Unmarshal(text, &v); err == nil {
		return toExternalIP(v)
	}
	var unknown struct {
		Kind ExternalIPKind `json:"kind"`
	}
	if err := json.Unmarshal(text, &unknown); err != nil || unknown.Kind == "" {
		return ExternalIP{}, errNoID
	}
	switch unknown.Kind {
	case ExternalIPSNAT, ExternalIPEphemeral, ExternalIPFloating:
		return ExternalIP{}, fmt.Errorf("an external IP of the kind %s cannot be read", unknown.Kind)
	}
	return ExternalIP{Kind: unknown.Kind}, nil
}

func toExternalIP(v api.ExternalIp) (ExternalIP, error) {
	var ip ExternalIP
	var text string
	switch kind := v.Value.(type) {
	case *api.ExternalIpSnat:
		ip.Kind, text = ExternalIPSNAT, kind.Ip
	case *api.ExternalIpEphemeral:
		ip.Kind, text = ExternalIPEphemeral, kind.Ip
	case *api.ExternalIpFloating:
		ip.Kind, text, ip.Description = ExternalIPFloating, kind.Ip, kind.Description
	}
	addr, err := parseAddr(text)
	ip.Addr = addr
	return ip, err
}

func parseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", s)
	}
	return addr.Unmap(), nil
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
