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

// newVPC makes a VPC with all that the rack puts into one: a subnet named default.
func (s *Simulator) newVPC(p *project, name, description, dnsName string) (*vpc, error) {
	v := &vpc{meta: s.newMeta(p.id, p.id, name, description), dnsName: dnsName}
	v.prefix = randomULA()
	v.systemRouter = uuid.New()
	if err := s.db.vpcs.insert(v); err != nil {
		return nil, err
	}
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
