// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rack

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
)

// Release20 is the newest version of the API that racks of release 20 to 20.2 speak.
const Release20 = "2026060800.0.0"

// Subnet is an external subnet to make, as somebody else than the programs under test would.
type Subnet struct {
	Name        string
	Description string
	// Pool is empty for the silo's default one.
	Pool string
	// PrefixLength is 0 for a single address.
	PrefixLength int
	// Instance is the name of the instance that it is attached to; empty: none.
	Instance string
}

// AddSubnets makes external subnets in the project.
func (r *Rack) AddSubnets(ctx context.Context, subnets ...Subnet) error {
	var all []object
	for _, s := range subnets {
		all = append(all, object{
			"name": s.Name, "description": s.Description, "pool": s.Pool,
			"prefix_length": s.PrefixLength, "instance": s.Instance,
		})
	}
	return r.applyToProject(ctx, object{"name": Project, "external_subnets": all})
}

// AttachSubnet attaches an external subnet to an instance by hand.
func (r *Rack) AttachSubnet(ctx context.Context, name, instance string) error {
	body, err := json.Marshal(map[string]string{"instance": instance})
	if err != nil {
		return err
	}
	return r.call(ctx, http.MethodPost, "/v1/external-subnets/"+name+"/attach?project="+Project, body, nil)
}

// Carried is a floating IP or an external subnet, which is an address that an instance can carry.
type Carried struct {
	ID, Name, Description string
	// Addr is the address, of an external subnet the first one; Subnet: it is an external subnet.
	Addr   string
	Subnet bool
	// AttachState and Instance are as those of a floating IP.
	AttachState, Instance string
}

// Version returns the IP version of the address, "v4" or "v6".
func (c Carried) Version() string {
	if strings.Contains(c.Addr, ":") {
		return "v6"
	}
	return "v4"
}

// Carried returns all addresses on the rack, floating IPs first.
func (s State) Carried() []Carried {
	all := make([]Carried, 0, len(s.FloatingIPs)+len(s.ExternalSubnets))
	for _, ip := range s.FloatingIPs {
		all = append(all, Carried{
			ID: ip.ID, Name: ip.Name, Description: ip.Description, Addr: ip.IP,
			AttachState: ip.AttachState, Instance: ip.Instance,
		})
	}
	for _, e := range s.ExternalSubnets {
		addr := e.Subnet
		if prefix, err := netip.ParsePrefix(e.Subnet); err == nil {
			addr = prefix.Addr().String()
		}
		all = append(all, Carried{
			ID: e.ID, Name: e.Name, Description: e.Description, Addr: addr, Subnet: true,
			AttachState: e.AttachState, Instance: e.Instance,
		})
	}
	return all
}

// At returns the floating IP or external subnet with that address, false if there is none.
func (s State) At(address string) (Carried, bool) {
	for _, c := range s.Carried() {
		if c.Addr == address {
			return c, true
		}
	}
	return Carried{}, false
}
