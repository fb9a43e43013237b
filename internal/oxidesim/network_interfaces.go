// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/uuid"
)

const maxNICs = 8

// nic is a network interface of an instance, its parent.
type nic struct {
	meta
	subnet  *subnet
	mac     string
	primary bool
	stacks  map[string]*stack // by IP version; at least one
}

// stack is what a NIC has of one IP version.
type stack struct {
	ip      netip.Addr
	transit []netip.Prefix
}

type stackJSON struct {
	IP         string   `json:"ip"`
	TransitIPs []string `json:"transit_ips"`
}

type ipStackJSON struct {
	Type  string `json:"type"`
	Value any    `json:"value"`
}

type dualStackJSON struct {
	V4 stackJSON `json:"v4"`
	V6 stackJSON `json:"v6"`
}

type nicJSON struct {
	identity
	InstanceID string      `json:"instance_id"`
	VPCID      string      `json:"vpc_id"`
	SubnetID   string      `json:"subnet_id"`
	MAC        string      `json:"mac"`
	Primary    bool        `json:"primary"`
	IPStack    ipStackJSON `json:"ip_stack"`
}

func (st *stack) json() stackJSON {
	out := stackJSON{IP: st.ip.String(), TransitIPs: []string{}}
	for _, p := range st.transit {
		out.TransitIPs = append(out.TransitIPs, p.String())
	}
	return out
}

func (n *nic) json() nicJSON {
	out := nicJSON{
		identity: n.identity(), InstanceID: n.parent.String(), MAC: n.mac, Primary: n.primary,
		VPCID: n.subnet.parent.String(), SubnetID: n.subnet.id.String(),
	}
	switch s4, s6 := n.stacks[v4], n.stacks[v6]; {
	case s6 == nil:
		out.IPStack = ipStackJSON{v4, s4.json()}
	case s4 == nil:
		out.IPStack = ipStackJSON{v6, s6.json()}
	default:
		out.IPStack = ipStackJSON{"dual_stack", dualStackJSON{s4.json(), s6.json()}}
	}
	return out
}

// nicParams is a wanted NIC. Stacks maps each wanted IP version to an address (zero: any).
type nicParams struct {
	name, description   string
	vpcName, subnetName string
	stacks              map[string]stack
}

// newMAC is an address that no NIC has, out of those for guests: A8:40:25:F0:00:00 to FE:FF:FF.
func (s *Simulator) newMAC() string {
	for {
		var b [3]byte
		_, _ = rand.Read(b[:]) // never fails
		mac := fmt.Sprintf("A8:40:25:F%X:%02X:%02X", b[0]%0xf, b[1], b[2])
		if !slices.ContainsFunc(s.db.nics.all(), func(n *nic) bool { return n.mac == mac }) {
			return mac
		}
	}
}

// newNIC gives an instance one more NIC; the first one is the primary one.
func (s *Simulator) newNIC(i *instance, p nicParams) (*nic, error) {
	v, err := s.db.vpcs.named(i.project, p.vpcName)
	if err != nil {
		return nil, err
	}
	sub, err := s.db.subnets.named(v.id, p.subnetName)
	if err != nil {
		return nil, err
	}
	siblings := s.db.nics.in(i.id)
	if err := checkSiblings(sub, siblings); err != nil {
		return nil, err
	}
	n := &nic{
		meta:   s.newMeta(i.project, i.id, p.name, p.description),
		subnet: sub, mac: s.newMAC(), primary: len(siblings) == 0, stacks: map[string]*stack{},
	}
	if err := s.db.nics.checkNew(i.id, p.name, p.description); err != nil {
		return nil, err
	}
	var wanted []netip.Prefix
	for _, st := range p.stacks {
		wanted = append(wanted, st.transit...)
	}
	if err := checkTransit(wanted, func(version string) bool {
		_, ok := p.stacks[version]
		return ok
	}); err != nil {
		return nil, err
	}
	for version, st := range p.stacks {
		ip := st.ip
		if ip.IsValid() {
			err = sub.take(ip)
		} else {
			ip, err = sub.allocate(version)
		}
		if err != nil {
			n.releaseAddrs()
			return nil, err
		}
		n.stacks[version] = &stack{ip: ip, transit: st.transit}
	}
	return n, s.db.nics.insert(n)
}

func checkSiblings(sub *subnet, siblings []*nic) error {
	if len(siblings) >= maxNICs {
		return invalidRequest("an instance may have at most %d network interfaces", maxNICs)
	}
	for _, sib := range siblings {
		if sib.subnet.parent != sub.parent {
			return invalidRequest("all network interfaces of an instance must be in one VPC")
		}
		if sib.subnet == sub {
			return invalidRequest("each interface for an instance must be in a distinct VPC Subnet")
		}
	}
	return nil
}

// checkTransit applies the rules for transit IPs to all those of one NIC.
func checkTransit(all []netip.Prefix, has func(version string) bool) error {
	for i, p := range all {
		switch {
		case p != p.Masked():
			return invalidRequest("transit IP block %s has host bits set", p)
		case p.Addr().IsMulticast() || p.Addr().IsLoopback():
			return invalidRequest("transit IP block %s is multicast or loopback", p)
		case !has(familyOf(p.Addr())):
			return invalidRequest("transit IP block %s: the interface has no such IP stack", p)
		}
		for _, q := range all[:i] {
			if p.Overlaps(q) {
				return invalidRequest("transit IP blocks %s and %s overlap", p, q)
			}
		}
	}
	return nil
}

func (n *nic) releaseAddrs() {
	for _, st := range n.stacks {
		delete(n.subnet.used, st.ip)
	}
}

func (s *Simulator) removeNIC(n *nic) {
	n.releaseAddrs()
	s.db.nics.remove(n)
}

// primaryNIC is the NIC that external addresses act on, or nil.
func (s *Simulator) primaryNIC(i *instance) *nic {
	for _, n := range s.db.nics.children[i.id] {
		if n.primary {
			return n
		}
	}
	return nil
}

var inInstance = []string{"instance", "project"}

func (c *call) instanceFromQuery() (uuid.UUID, error) {
	r, err := c.queryRef("instance")
	if err != nil {
		return uuid.Nil, err
	}
	if r == nil {
		return uuid.Nil, invalidRequest("an interface given by name needs its instance")
	}
	i, err := findRefInProject(c, c.sim.db.instances, *r, roleViewer)
	if err != nil {
		return uuid.Nil, err
	}
	return i.id, nil
}

func (c *call) nicFromPath(least role) (*nic, error) {
	r, err := c.pathRef("interface")
	if err != nil {
		return nil, err
	}
	n, err := find(c, c.sim.db.nics, r, inInstance, c.instanceFromQuery)
	if err != nil {
		return nil, err
	}
	return n, c.require(n.project, least)
}

func (s *Simulator) nicList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	r, err := c.mustQueryRef("instance")
	if err != nil {
		return nil, err
	}
	i, err := findRefInProject(c, s.db.instances, r, roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.nics.in(i.id), (*nic).json), nil
}

func (s *Simulator) nicView(c *call) (any, error) {
	n, err := c.nicFromPath(roleViewer)
	if err != nil {
		return nil, err
	}
	return n.json(), nil
}
