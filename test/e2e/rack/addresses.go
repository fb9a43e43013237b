// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rack

import (
	"context"
	"encoding/json"
	"net/http"
)

// Address is a floating IP to make, as somebody else than the programs under test would.
type Address struct {
	Name        string
	Description string
	// IP is this very address; empty: any of the pool.
	IP string
	// Pool is empty for the silo's default one.
	Pool string
	// Instance is the name of the instance that it is attached to; empty: none.
	Instance string
}

// AddAddresses makes floating IPs in the project.
func (r *Rack) AddAddresses(ctx context.Context, addresses ...Address) error {
	var all []object
	for _, a := range addresses {
		all = append(all, object{
			"name": a.Name, "description": a.Description, "ip": a.IP, "pool": a.Pool,
			"instance": a.Instance,
		})
	}
	return r.applyToProject(ctx, object{"name": Project, "floating_ips": all})
}

// Pool is a further IP pool, which the programs' silo may use.
type Pool struct {
	Name string
	// Version is "v4" or "v6".
	Version     string
	First, Last string
	// Default: addresses of the version come from it unless another one is named.
	Default bool
}

// AddPool makes an IP pool.
func (r *Rack) AddPool(ctx context.Context, p Pool) error {
	return r.apply(ctx, object{"ip_pools": []object{{
		"name": p.Name, "ip_version": p.Version,
		"ranges": []object{{"first": p.First, "last": p.Last}},
		"silos":  []object{{"silo": siloName, "default": p.Default}},
	}}})
}

// SubnetPool is a pool of networks for external subnets, which the programs' silo may use.
type SubnetPool struct {
	Name string
	// Version is "v4" or "v6".
	Version string
	// Subnet is where the networks are taken from, down to single addresses.
	Subnet string
	// Default: networks of the version come from it unless another one is named.
	Default bool
}

// AddSubnetPool makes a subnet pool.
func (r *Rack) AddSubnetPool(ctx context.Context, p SubnetPool) error {
	return r.apply(ctx, object{"subnet_pools": []object{{
		"name": p.Name, "ip_version": p.Version,
		"members": []object{{"subnet": p.Subnet}},
		"silos":   []object{{"silo": siloName, "default": p.Default}},
	}}})
}

// FillPool leaves no address free in an IP pool.
func (r *Rack) FillPool(ctx context.Context, name string) error {
	return r.story(ctx, "fill-pool", map[string]string{"pool": name})
}

// Describe changes the description of a floating IP by hand.
func (r *Rack) Describe(ctx context.Context, ip FloatingIP, description string) error {
	body, err := json.Marshal(map[string]string{"name": ip.Name, "description": description})
	if err != nil {
		return err
	}
	return r.call(ctx, http.MethodPut, "/v1/floating-ips/"+ip.ID, body, nil)
}
