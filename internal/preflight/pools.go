// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// notListed is what 403 to a list of pools means.
const notListed = "not known: only viewers of the silo may list them; that does no harm"

// pools checks what addresses are taken from.
func (p *preflight) pools(ctx context.Context) bool {
	pools, err := p.client.IPPools(ctx)
	for _, family := range []struct {
		name, version string
		bits          int
		// lack is how bad it is if there is no default pool.
		lack Result
	}{
		{nameIPv4Pool, "IPv4", 32, Warning}, {nameIPv6Pool, "IPv6", 128, Note},
	} {
		if err != nil {
			p.listing(family.name, err)
			continue
		}
		p.ipPool(family.name, family.version, family.bits, family.lack, pools)
	}
	p.subnetPools(ctx)
	return true
}

// listing adds a check for which a list was missing.
func (p *preflight) listing(name string, err error) {
	if oxide.IsKind(err, oxide.KindForbidden) {
		p.add(name, Note, notListed, "")
		return
	}
	p.checks = append(p.checks, failed(name, err, ""))
}

// ipPool checks the pool of a family that serves a Service without further wishes.
func (p *preflight) ipPool(name, version string, bits int, lack Result, pools []oxide.IPPool) {
	var others []string
	for _, pool := range pools {
		switch {
		case pool.Bits != bits || !pool.Unicast:
		case pool.Default:
			p.add(name, OK, pool.Name+" is the silo's default", "")
			return
		default:
			others = append(others, pool.Name)
		}
	}
	if len(others) == 0 {
		p.add(name, lack, "the silo has no pool of "+version+" addresses",
			"for Services with such addresses have the rack's operator link one to the silo")
		return
	}
	p.add(name, lack, fmt.Sprintf("the silo has no default pool of %s addresses, but %s",
		version, strings.Join(others, ", ")),
		"name a pool at each such Service (annotation oxide.computer/floating-ip-pool), or have the "+
			"rack's operator make one the default")
}

// subnetPools tells what external subnets could be taken from.
func (p *preflight) subnetPools(ctx context.Context) {
	pools, err := p.client.SubnetPools(ctx)
	if err != nil {
		p.listing(nameSubnetPools, err)
		return
	}
	if len(pools) == 0 {
		p.add(nameSubnetPools, Note, "the silo has none, and only external subnets need one", "")
		return
	}
	names := make([]string, 0, len(pools))
	for _, pool := range pools {
		name := pool.Name
		if pool.Default {
			name += " (default)"
		}
		names = append(names, name)
	}
	p.add(nameSubnetPools, OK, strings.Join(names, ", "), "")
}
