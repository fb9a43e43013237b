// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"math/rand/v2"
	"net/netip"
)

type snatIPJSON struct {
	Kind      string `json:"kind"`
	IP        string `json:"ip"`
	FirstPort uint16 `json:"first_port"`
	LastPort  uint16 `json:"last_port"`
	IPPoolID  string `json:"ip_pool_id"`
}

type ephemeralIPJSON struct {
	Kind     string `json:"kind"`
	IP       string `json:"ip"`
	IPPoolID string `json:"ip_pool_id"`
}

type attachedFloatingIPJSON struct {
	Kind string `json:"kind"`
	floatingIPJSON
}

func (e externalAddr) snatJSON() snatIPJSON {
	first := e.block * snatBlock
	return snatIPJSON{
		Kind: "snat", IP: e.addr.String(), IPPoolID: e.pool.id.String(),
		FirstPort: uint16(first), LastPort: uint16(first + snatBlock - 1),
	}
}

func (e externalAddr) ephemeralJSON() ephemeralIPJSON {
	return ephemeralIPJSON{"ephemeral", e.addr.String(), e.pool.id.String()}
}

// instanceExternalIPs lists what is fully attached, in an order that means nothing and
// differs from call to call: the rack's query has no ORDER BY.
func (s *Simulator) instanceExternalIPs(c *call) (any, error) {
	i, err := findInProject(c, s.db.instances, "instance", roleViewer)
	if err != nil {
		return nil, err
	}
	var items []any
	for _, e := range i.snat {
		items = append(items, e.snatJSON())
	}
	for _, e := range i.ephemeral {
		items = append(items, e.ephemeralJSON())
	}
	for _, f := range s.db.floatingIPs.in(i.project) {
		if f.instance == i.id && f.state == attached {
			items = append(items, attachedFloatingIPJSON{"floating", f.json()})
		}
	}
	rand.Shuffle(len(items), func(a, b int) { items[a], items[b] = items[b], items[a] })
	return wholePage(items), nil
}

// giveEphemeral gives an instance an ephemeral address; it may have one of each IP version.
func (s *Simulator) giveEphemeral(i *instance, sel poolSelector) (externalAddr, error) {
	silo := s.db.projects.rows[i.project].parent
	pool, err := s.selectPool(silo, sel)
	if err != nil {
		return externalAddr{}, err
	}
	some := netip.IPv6Unspecified()
	if pool.version == v4 {
		some = netip.IPv4Unspecified()
	}
	if err := s.hasRoomFor(i, some); err != nil {
		return externalAddr{}, err
	}
	for _, e := range i.ephemeral {
		if e.pool.version == pool.version {
			return externalAddr{}, invalidRequest(
				"an instance may not have more than one ephemeral %s address", pool.version)
		}
	}
	a, err := pool.allocate()
	if err != nil {
		return externalAddr{}, err
	}
	e := externalAddr{pool: pool, addr: a}
	i.ephemeral = append(i.ephemeral, e)
	return e, nil
}
