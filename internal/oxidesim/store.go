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

	routers          *table[*vpcRouter]
	routes           *table[*routerRoute]
	gateways         *table[*internetGateway]
	gatewayPools     *table[*gatewayPool]
	gatewayAddresses *table[*gatewayAddress]
	subnetPools      *table[*subnetPool]
	externalSubnets  *table[*externalSubnet]

	disks          *table[*disk]
	images         *table[*image]
	snapshots      *table[*snapshot]
	sshKeys        *table[*sshKey]
	groups         *table[*group] // anti-affinity
	affinityGroups *table[*group]
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

		routers:          newTable[*vpcRouter]("vpc-router"),
		routes:           newTable[*routerRoute]("router-route"),
		gateways:         newTable[*internetGateway]("internet-gateway"),
		gatewayPools:     newTable[*gatewayPool]("internet-gateway-ip-pool"),
		gatewayAddresses: newTable[*gatewayAddress]("internet-gateway-ip-address"),
		subnetPools:      newTable[*subnetPool]("subnet-pool"),
		externalSubnets:  newTable[*externalSubnet]("external-subnet"),

		disks:          newTable[*disk]("disk"),
		images:         newTable[*image]("image"),
		snapshots:      newTable[*snapshot]("snapshot"),
		sshKeys:        newTable[*sshKey]("ssh-key"),
		groups:         newTable[*group]("anti-affinity-group"),
		affinityGroups: newTable[*group]("affinity-group"),
	}
}
