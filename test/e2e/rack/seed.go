// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rack

import (
	"fmt"

	"sigs.k8s.io/yaml"
)

// What every rack of this package starts with.
const (
	// Project is the name of the one project.
	Project = "cluster"
	// Token is the credential for the programs under test: a user with the role
	// limited_collaborator on the project, the least that floating IPs need.
	Token = "oxide-token-c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"

	siloName      = "demo"
	userName      = "ccm"
	operatorToken = "oxide-token-0be7a70a0be7a70a0be7a70a0be7a70a0be7a70a"
)

// Machine is an instance to seed; one that is running, with one NIC.
type Machine struct {
	Name      string
	NCPUs     int
	MemoryGiB int
	// IP is its private IPv4 address, in 172.30.0.0/22.
	IP string
	// Ephemeral gives it an external IP of its own.
	Ephemeral bool
}

// object is one object of the simulator's seed file.
type object map[string]any

// seed describes the rack in the simulator's seed format.
func seed(machines []Machine) ([]byte, error) {
	instances := make([]object, 0, len(machines))
	for _, m := range machines {
		instances = append(instances, object{
			"name": m.Name, "hostname": m.Name, "ncpus": m.NCPUs, "memory_gib": m.MemoryGiB,
			"nic": "v4", "ip": m.IP, "ephemeral": m.Ephemeral,
		})
	}
	text, err := yaml.Marshal(object{
		"sleds": 4,
		"silos": []object{{
			"name": siloName,
			"users": []object{
				{"name": userName, "tokens": []object{{"secret": Token}}},
				{
					"name": "operator", "silo_role": "admin", "fleet_role": "admin",
					"tokens": []object{{"secret": operatorToken}},
				},
			},
			"projects": []object{{
				"name":      Project,
				"roles":     map[string]string{userName: roleWriter},
				"instances": instances,
			}},
		}},
		"ip_pools": []object{{
			"name": "default", "ip_version": "v4",
			"ranges": []object{{"first": "198.51.100.10", "last": "198.51.100.250"}},
			"silos":  []object{{"silo": siloName, "default": true}},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot write the rack's seed: %w", err)
	}
	return text, nil
}
