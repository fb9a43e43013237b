// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rack

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"sigs.k8s.io/yaml"
)

// What every rack of this package starts with.
const (
	// Project is the name of the one project.
	Project = "cluster"
	// Token is the credential for the programs under test: a user with the role
	// limited_collaborator on the project, the least that floating IPs need.
	Token = "oxide-token-c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"

	defaultSleds  = 4
	siloName      = "demo"
	userName      = "ccm"
	operatorToken = "oxide-token-0be7a70a0be7a70a0be7a70a0be7a70a0be7a70a"
)

// Secrets returns the credentials that are valid on a rack from its start.
func Secrets() []string { return []string{Token, operatorToken} }

// Machine is an instance to seed; one that is running, with one NIC.
type Machine struct {
	Name string
	// ID is a UUID, or empty for a random one.
	ID string
	// Hostname is the name if it is empty.
	Hostname  string
	NCPUs     int
	MemoryGiB int
	// IP is its private IPv4 address, in 172.30.0.0/22 unless it is in another subnet.
	IP string
	// Subnet is the name of its subnet, see AddNetwork; empty for the one that every VPC has.
	Subnet string
	// Ephemeral gives it an external IP of its own.
	Ephemeral bool
	// DualStack gives it an IPv6 address, too. IPv6Only gives it no other one.
	DualStack, IPv6Only bool
}

// object is one object of the simulator's seed file.
type object map[string]any

// instances describes machines in the simulator's seed format.
func instances(machines []Machine) []object {
	all := make([]object, 0, len(machines))
	for _, m := range machines {
		nic := "v4"
		switch {
		case m.IPv6Only:
			nic, m.IP = "v6", ""
		case m.DualStack:
			nic = "dual"
		}
		all = append(all, object{
			"name": m.Name, "id": m.ID, "hostname": cmp.Or(m.Hostname, m.Name),
			"ncpus": m.NCPUs, "memory_gib": m.MemoryGiB,
			"nic": nic, "ip": m.IP, "ephemeral": m.Ephemeral, "subnet": m.Subnet,
		})
	}
	return all
}

// AddMachines adds instances to the project, in which each user keeps the role that it has.
func (r *Rack) AddMachines(ctx context.Context, machines ...Machine) error {
	return r.applyToProject(ctx, object{"name": Project, "instances": instances(machines)})
}

// AddNetwork adds a subnet with a private IPv4 block to the default VPC of the project.
func (r *Rack) AddNetwork(ctx context.Context, name, block string) error {
	return r.applyToProject(ctx, object{"name": Project, "vpcs": []object{{
		"name": "default", "subnets": []object{{"name": name, "ipv4_block": block}},
	}}})
}

// AddProject adds instances to a project of the programs' silo, and the project if there is none,
// which the programs' user may use as well.
func (r *Rack) AddProject(ctx context.Context, name string, machines ...Machine) error {
	return r.applyToProject(ctx, object{
		"name": name, "roles": map[string]string{userName: roleWriter}, "instances": instances(machines),
	})
}

// applyToProject gives a project of the programs' silo what it does not have yet.
func (r *Rack) applyToProject(ctx context.Context, project object) error {
	return r.apply(ctx, object{"silos": []object{{"name": siloName, "projects": []object{project}}}})
}

// AddSilo adds a silo with a project that has the name of the programs' own, and returns a token
// for it.
func (r *Rack) AddSilo(ctx context.Context, machines ...Machine) (token string, err error) {
	const secret = "oxide-token-0ddba1100ddba1100ddba1100ddba1100ddba110"
	return secret, r.apply(ctx, object{
		"ip_pools": []object{pool("other")},
		"silos": []object{{
			"name": "other",
			"users": []object{{
				"name": "stranger", "silo_role": "collaborator",
				"tokens": []object{{"secret": secret}},
			}},
			"projects": []object{{"name": Project, "instances": instances(machines)}},
		}},
	})
}

// pool describes the one pool of floating IPs, for a silo whose default it is.
func pool(silo string) object {
	return object{
		"name": "default", "ip_version": "v4",
		"ranges": []object{{"first": "198.51.100.10", "last": "198.51.100.250"}},
		"silos":  []object{{"silo": silo, "default": true}},
	}
}

// apply adds a seed to what is on the rack.
func (r *Rack) apply(ctx context.Context, seed object) error {
	text, err := yaml.Marshal(seed)
	if err != nil {
		return fmt.Errorf("cannot write what to add to the rack: %w", err)
	}
	return r.call(ctx, http.MethodPost, "/_sim/seed", text, nil)
}

// seed describes the rack in the simulator's seed format.
func seed(options Options) ([]byte, error) {
	user := object{"name": userName, "tokens": []object{{"secret": Token}}}
	if options.FleetViewer {
		user["silo_role"], user["fleet_role"] = "viewer", "viewer"
	}
	if expires := options.TokenExpires; !expires.IsZero() {
		user["tokens"] = []object{{"secret": Token, "expires": expires}}
	}
	text, err := yaml.Marshal(object{
		"sleds": cmp.Or(options.Sleds, defaultSleds),
		"silos": []object{{
			"name": siloName,
			"users": []object{
				user,
				{
					"name": "operator", "silo_role": "admin", "fleet_role": "admin",
					"tokens": []object{{"secret": operatorToken}},
				},
			},
			"projects": []object{{
				"name":      Project,
				"roles":     map[string]string{userName: roleWriter},
				"instances": instances(options.Machines),
			}},
		}},
		"ip_pools": []object{pool(siloName)},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot write the rack's seed: %w", err)
	}
	return text, nil
}
