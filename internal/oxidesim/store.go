// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

// store holds every table of the rack. Simulator.mu guards it and everything in it.
type store struct {
	silos    *table[*silo]
	users    *table[*user]
	tokens   map[string]*token
	projects *table[*project]
	sleds    []*sled

	pools       *table[*ipPool]
	vpcs        *table[*vpc]
	subnets     *table[*subnet]
	instances   *table[*instance]
	nics        *table[*nic]
	floatingIPs *table[*floatingIP]
}

func newStore() *store {
	return &store{
		silos:       newTable[*silo]("silo"),
		users:       newTable[*user]("silo-user"),
		tokens:      make(map[string]*token),
		projects:    newTable[*project]("project"),
		pools:       newTable[*ipPool]("ip-pool"),
		vpcs:        newTable[*vpc]("vpc"),
		subnets:     newTable[*subnet]("vpc-subnet"),
		instances:   newTable[*instance]("instance"),
		nics:        newTable[*nic]("instance-network-interface"),
		floatingIPs: newTable[*floatingIP]("floating-ip"),
	}
}
