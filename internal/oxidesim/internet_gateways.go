// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/netip"

	"github.com/google/uuid"
)

// internetGateway is a gateway of a VPC, its parent.
type internetGateway struct{ meta }

// gatewayPool links an IP pool to a gateway, its parent: instances may send from addresses
// of that pool through the gateway.
type gatewayPool struct {
	meta
	pool uuid.UUID
}

// gatewayAddress is an address that belongs to a gateway, its parent.
type gatewayAddress struct {
	meta
	addr netip.Addr
}

type gatewayJSON struct {
	identity
	VPCID string `json:"vpc_id"`
}

type gatewayPoolJSON struct {
	identity
	GatewayID string `json:"internet_gateway_id"`
	IPPoolID  string `json:"ip_pool_id"`
}

type gatewayAddressJSON struct {
	identity
	GatewayID string `json:"internet_gateway_id"`
	Address   string `json:"address"`
}

func (g *internetGateway) json() gatewayJSON { return gatewayJSON{g.identity(), g.parent.String()} }

func (g *gatewayPool) json() gatewayPoolJSON {
	return gatewayPoolJSON{g.identity(), g.parent.String(), g.pool.String()}
}

func (g *gatewayAddress) json() gatewayAddressJSON {
	return gatewayAddressJSON{g.identity(), g.parent.String(), g.addr.String()}
}

// newDefaultGateway makes the gateway of a new VPC, linked to the silo's default pools.
func (s *Simulator) newDefaultGateway(v *vpc) {
	g := &internetGateway{s.newMeta(v.project, v.id, "default", "The VPC's default gateway")}
	must(s.db.gateways.insert(g))
	silo := s.db.projects.rows[v.project].parent
	for _, version := range []string{v4, v6} {
		if p := s.defaultPool(silo, version); p != nil {
			must(s.db.gatewayPools.insert(&gatewayPool{
				meta: s.newMeta(v.project, g.id, p.name, "Default pool of the silo"), pool: p.id,
			}))
		}
	}
}

func (s *Simulator) removeGateway(g *internetGateway) {
	for _, p := range s.db.gatewayPools.in(g.id) {
		s.db.gatewayPools.remove(p)
	}
	for _, a := range s.db.gatewayAddresses.in(g.id) {
		s.db.gatewayAddresses.remove(a)
	}
	s.db.gateways.remove(g)
}

func (s *Simulator) gatewayList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	v, err := c.listVPC(roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.gateways.in(v.id), (*internetGateway).json), nil
}

func (s *Simulator) gatewayView(c *call) (any, error) {
	g, err := findInVPC(c, s.db.gateways, "gateway", roleViewer)
	if err != nil {
		return nil, err
	}
	return g.json(), nil
}

func (s *Simulator) gatewayCreate(c *call) (any, error) {
	f := c.fields()
	name, description := f.name("name"), f.str("description")
	if err := f.done(); err != nil {
		return nil, err
	}
	v, err := c.listVPC(roleCollaborator)
	if err != nil {
		return nil, err
	}
	g := &internetGateway{s.newMeta(v.project, v.id, name, description)}
	if err := s.db.gateways.insert(g); err != nil {
		return nil, err
	}
	return g.json(), nil
}

// gatewayDelete refuses while pools or addresses are linked, unless told to cascade.
func (s *Simulator) gatewayDelete(c *call) (any, error) {
	cascade, err := c.queryBool("cascade")
	if err != nil {
		return nil, err
	}
	g, err := findInVPC(c, s.db.gateways, "gateway", roleCollaborator)
	if err != nil {
		return nil, err
	}
	linked := len(s.db.gatewayPools.children[g.id]) + len(s.db.gatewayAddresses.children[g.id])
	if linked > 0 && !cascade {
		return nil, invalidRequest("internet gateway cannot be deleted while it has IP pools or " +
			"addresses attached")
	}
	s.removeGateway(g)
	return nil, nil
}

var inGateway = []string{"gateway", "vpc", "project"}

// listGateway resolves the gateway that a list or a create must name.
func (c *call) listGateway(least role) (*internetGateway, error) {
	if _, err := c.mustQueryRef("gateway"); err != nil {
		return nil, err
	}
	return c.gatewayFromQuery(least)
}

// gatewayFromQuery resolves the gateway that the query names.
func (c *call) gatewayFromQuery(least role) (*internetGateway, error) {
	r, err := c.queryRef("gateway")
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, invalidRequest("what is given by name needs its gateway")
	}
	g, err := find(c, c.sim.db.gateways, *r, inVPC, c.vpcFromQuery)
	if err == nil {
		err = c.require(g.project, least)
	}
	return g, err
}

// findInGateway resolves a path parameter that names something linked to a gateway.
func findInGateway[T row](c *call, t *table[T], param string, least role) (T, error) {
	r, err := c.pathRef(param)
	if err != nil {
		var none T
		return none, err
	}
	found, err := find(c, t, r, inGateway, func() (uuid.UUID, error) {
		g, err := c.gatewayFromQuery(roleViewer)
		if err != nil {
			return uuid.Nil, err
		}
		return g.id, nil
	})
	if err == nil {
		err = c.require(found.base().project, least)
	}
	return found, err
}

func (s *Simulator) gatewayPoolList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	g, err := c.listGateway(roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.gatewayPools.in(g.id), (*gatewayPool).json), nil
}

func (s *Simulator) gatewayPoolCreate(c *call) (any, error) {
	f := c.fields()
	name, description, pool := f.name("name"), f.str("description"), f.ref("ip_pool")
	if err := f.done(); err != nil {
		return nil, err
	}
	g, err := c.listGateway(roleCollaborator)
	if err != nil {
		return nil, err
	}
	p, err := s.linkedPool(c.user.parent, pool)
	if err != nil {
		return nil, err
	}
	link := &gatewayPool{meta: s.newMeta(g.project, g.id, name, description), pool: p.id}
	if err := s.db.gatewayPools.insert(link); err != nil {
		return nil, err
	}
	return link.json(), nil
}

func (s *Simulator) gatewayPoolDelete(c *call) (any, error) {
	link, err := findInGateway(c, s.db.gatewayPools, "pool", roleCollaborator)
	if err != nil {
		return nil, err
	}
	s.db.gatewayPools.remove(link)
	return nil, nil
}

func (s *Simulator) gatewayAddressList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	g, err := c.listGateway(roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.gatewayAddresses.in(g.id), (*gatewayAddress).json), nil
}

func (s *Simulator) gatewayAddressCreate(c *call) (any, error) {
	f := c.fields()
	name, description, addr := f.name("name"), f.str("description"), f.addr("address")
	if err := f.done(); err != nil {
		return nil, err
	}
	g, err := c.listGateway(roleCollaborator)
	if err != nil {
		return nil, err
	}
	a := &gatewayAddress{meta: s.newMeta(g.project, g.id, name, description), addr: addr}
	if err := s.db.gatewayAddresses.insert(a); err != nil {
		return nil, err
	}
	return a.json(), nil
}

func (s *Simulator) gatewayAddressDelete(c *call) (any, error) {
	a, err := findInGateway(c, s.db.gatewayAddresses, "address", roleCollaborator)
	if err != nil {
		return nil, err
	}
	s.db.gatewayAddresses.remove(a)
	return nil, nil
}
