// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"crypto/rand"
	"net/netip"

	"github.com/google/uuid"
)

// vpc is a private network of a project.
type vpc struct {
	meta
	dnsName      string
	prefix       netip.Prefix
	systemRouter uuid.UUID
	rules        []firewallRuleJSON // sorted by name
}

type vpcJSON struct {
	identity
	ProjectID      string `json:"project_id"`
	SystemRouterID string `json:"system_router_id"`
	IPv6Prefix     string `json:"ipv6_prefix"`
	DNSName        string `json:"dns_name"`
}

func (v *vpc) json() vpcJSON {
	return vpcJSON{
		identity: v.identity(), ProjectID: v.project.String(), DNSName: v.dnsName,
		SystemRouterID: v.systemRouter.String(), IPv6Prefix: v.prefix.String(),
	}
}

// newVPC makes a VPC with all that the rack puts into one: the system router with its default
// routes, a gateway and a subnet, both named default, and the default firewall rules. An
// invalid prefix means a random one.
func (s *Simulator) newVPC(
	p *project, name, description, dnsName string, prefix netip.Prefix,
) (*vpc, error) {
	v := &vpc{meta: s.newMeta(p.id, p.id, name, description), dnsName: dnsName, prefix: prefix}
	if !prefix.IsValid() {
		v.prefix = randomULA()
	}
	if v.prefix.Bits() != 48 || v.prefix.Masked() != v.prefix || v.prefix.Addr().As16()[0] != 0xfd {
		return nil, invalidRequest("the IPv6 prefix of a VPC must be a /48 within fd00::/8")
	}
	if err := s.db.vpcs.insert(v); err != nil {
		return nil, err
	}
	s.newSystemRouter(v)
	s.newDefaultGateway(v)
	v.rules = s.defaultRules(v)
	block := netip.MustParsePrefix("172.30.0.0/22")
	_, err := s.newSubnet(v, "default", "The default subnet for "+name, block, netip.Prefix{})
	return v, err
}

// randomULA is a random /48 of fd00::/8.
func randomULA() netip.Prefix {
	var b [16]byte
	_, _ = rand.Read(b[1:6]) // never fails
	b[0] = 0xfd
	return netip.PrefixFrom(netip.AddrFrom16(b), 48)
}

// vpcByRef resolves a VPC by id, or by name in the project of the query.
func (c *call) vpcByRef(r ref, least role) (*vpc, error) {
	return findRefInProject(c, c.sim.db.vpcs, r, least)
}

func (s *Simulator) vpcList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.vpcs.in(p.id), (*vpc).json), nil
}

func (s *Simulator) vpcView(c *call) (any, error) {
	v, err := findInProject(c, s.db.vpcs, "vpc", roleViewer)
	if err != nil {
		return nil, err
	}
	return v.json(), nil
}

func (s *Simulator) vpcCreate(c *call) (any, error) {
	f := c.fields()
	name, description, dnsName := f.name("name"), f.str("description"), f.name("dns_name")
	var prefix netip.Prefix
	if f.has("ipv6_prefix") {
		prefix = f.prefix("ipv6_prefix")
	}
	if err := f.done(); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleCollaborator)
	if err != nil {
		return nil, err
	}
	v, err := s.newVPC(p, name, description, dnsName, prefix)
	if err != nil {
		return nil, err
	}
	return v.json(), nil
}

func (s *Simulator) vpcUpdate(c *call) (any, error) {
	f := c.fields()
	dnsName := f.optName("dns_name")
	if err := f.done(); err != nil {
		return nil, err
	}
	v, err := update(c, s.db.vpcs, func() (*vpc, error) {
		return findInProject(c, s.db.vpcs, "vpc", roleCollaborator)
	})
	if err != nil {
		return nil, err
	}
	if dnsName != nil {
		v.dnsName = *dnsName
	}
	return v.json(), nil
}

func (s *Simulator) vpcDelete(c *call) (any, error) {
	v, err := findInProject(c, s.db.vpcs, "vpc", roleCollaborator)
	if err != nil {
		return nil, err
	}
	if len(s.db.subnets.children[v.id]) > 0 {
		return nil, invalidRequest("VPC cannot be deleted while VPC Subnets exist")
	}
	for _, r := range s.db.routers.in(v.id) {
		s.removeRouter(r)
	}
	for _, g := range s.db.gateways.in(v.id) {
		s.removeGateway(g)
	}
	s.db.vpcs.remove(v)
	return nil, nil
}
