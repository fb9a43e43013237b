// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/uuid"
)

func (s *Simulator) applyProject(sl *silo, w ProjectSeed) error {
	p, err := s.db.projects.named(sl.id, w.Name)
	if err == nil {
		err = describe(s, s.db.projects, p, w.Description)
	} else {
		p, err = s.newProject(sl, w.Name, w.Description)
	}
	if err != nil {
		return err
	}
	for name, given := range w.Roles {
		u, err := s.db.users.named(sl.id, name)
		if err != nil {
			return err
		}
		if p.roles[u.id], err = parseRole(given); err != nil {
			return err
		}
	}
	for _, v := range w.VPCs {
		if err := s.applyVPC(p, v); err != nil {
			return seedError("VPC", v.Name, err)
		}
	}
	for _, i := range w.Images {
		if err := s.applyImage(p.id, p.id, i); err != nil {
			return seedError("image", i.Name, err)
		}
	}
	for _, i := range w.Instances {
		if _, err := s.applyInstance(p, i); err != nil {
			return seedError("instance", i.Name, err)
		}
	}
	for _, f := range w.FloatingIPs {
		if _, err := s.applyFloatingIP(p, f); err != nil {
			return seedError("floating IP", f.Name, err)
		}
	}
	for _, e := range w.ExternalSubnets {
		if _, err := s.applyExternalSubnet(p, e); err != nil {
			return seedError("external subnet", e.Name, err)
		}
	}
	return nil
}

func (s *Simulator) applyImage(project, parent uuid.UUID, w ImageSeed) error {
	if i, err := s.db.images.named(parent, w.Name); err == nil {
		return describe(s, s.db.images, i, w.Description)
	}
	return s.db.images.insert(&image{
		meta: s.newMeta(project, parent, w.Name, w.Description), os: w.OS, version: w.Version,
		size: orDefault(w.SizeGiB, 1) * gibibyte, blockSize: 512,
	})
}

func (s *Simulator) applyVPC(p *project, w VPCSeed) error {
	v, err := s.db.vpcs.named(p.id, w.Name)
	if err == nil {
		err = describe(s, s.db.vpcs, v, w.Description)
	} else {
		v, err = s.newVPC(p, w.Name, w.Description, w.Name, netip.Prefix{})
	}
	if err != nil {
		return err
	}
	for _, n := range w.Subnets {
		if err := s.applySubnet(v, n); err != nil {
			return seedError("subnet", n.Name, err)
		}
	}
	return nil
}

func (s *Simulator) applySubnet(v *vpc, w SubnetSeed) error {
	if n, err := s.db.subnets.named(v.id, w.Name); err == nil {
		return describe(s, s.db.subnets, n, w.Description)
	}
	block4, err := netip.ParsePrefix(w.IPv4Block)
	if err != nil {
		return err
	}
	var block6 netip.Prefix
	if w.IPv6Block != "" {
		if block6, err = netip.ParsePrefix(w.IPv6Block); err != nil {
			return err
		}
	}
	_, err = s.newSubnet(v, w.Name, w.Description, block4, block6)
	return err
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// seedNIC turns what a seed says of an instance's only NIC into parameters.
func seedNIC(w InstanceSeed) (nicsParams, error) {
	versions := map[string][]string{
		"": {v4, v6}, "dual": {v4, v6}, v4: {v4}, v6: {v6}, "none": {},
	}
	wanted, ok := versions[w.NIC]
	if !ok {
		return nicsParams{}, fmt.Errorf("nic %q: must be v4, v6, dual or none", w.NIC)
	}
	if len(wanted) == 0 {
		return nicsParams{}, nil
	}
	n := nicParams{
		name: "net0", vpcName: orDefault(w.VPC, "default"),
		subnetName: orDefault(w.Subnet, "default"), stacks: map[string]stack{},
	}
	for _, version := range wanted {
		n.stacks[version] = stack{}
	}
	for _, t := range w.TransitIPs {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nicsParams{}, err
		}
		st := n.stacks[familyOf(p.Addr())]
		st.transit = append(st.transit, p)
		n.stacks[familyOf(p.Addr())] = st
	}
	if w.IP != "" {
		ip, err := netip.ParseAddr(w.IP)
		if err != nil {
			return nicsParams{}, err
		}
		st := n.stacks[familyOf(ip)]
		st.ip = ip
		n.stacks[familyOf(ip)] = st
	}
	return nicsParams{explicit: []nicParams{n}}, nil
}

// seedID parses the id that a seed gives a new instance; zero if it gives none.
func (s *Simulator) seedID(text string) (uuid.UUID, error) {
	if text == "" {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, fmt.Errorf("id %q: not a UUID", text)
	}
	if other, taken := s.db.instances.rows[id]; taken {
		return uuid.Nil, fmt.Errorf("id %s: the instance %s has it", id, other.name)
	}
	return id, nil
}

// applyInstance makes an instance that is at once in the wanted state.
func (s *Simulator) applyInstance(p *project, w InstanceSeed) (*instance, error) {
	if i, err := s.db.instances.named(p.id, w.Name); err == nil {
		return i, describe(s, s.db.instances, i, w.Description)
	}
	if !validName(w.Name) {
		return nil, errors.New("not a valid name")
	}
	nics, err := seedNIC(w)
	if err != nil {
		return nil, err
	}
	id, err := s.seedID(w.ID)
	if err != nil {
		return nil, err
	}
	params := instanceParams{
		id: id, name: w.Name, description: w.Description, hostname: orDefault(w.Hostname, w.Name),
		ncpus: orDefault(w.NCPUs, 2), memory: orDefault(w.MemoryGiB, 4) * gibibyte, nics: nics,
	}
	if w.AutoRestartPolicy != "" {
		params.restartPolicy = &w.AutoRestartPolicy
	}
	if w.Ephemeral {
		params.externalIPs = []externalIPParams{{}}
	}
	i, err := s.newInstance(p, nil, params)
	if err != nil {
		return nil, err
	}
	return i, s.seedState(i, w)
}

func (s *Simulator) seedState(i *instance, w InstanceSeed) error {
	state := runState(orDefault(w.State, string(running)))
	switch state {
	case stopped, failed:
		s.enter(i, state)
	case running:
		on, err := s.place(i)
		if w.Sled != nil && *w.Sled >= 0 && *w.Sled < len(s.db.sleds) {
			on, err = s.db.sleds[*w.Sled], nil
		}
		if err != nil {
			return err
		}
		i.vmm = newVMM(on)
		i.wantRunning = true
		s.enter(i, running)
	default:
		return fmt.Errorf("run_state %q: must be running, stopped or failed", w.State)
	}
	return nil
}

func (s *Simulator) applyFloatingIP(p *project, w FloatingIPSeed) (*floatingIP, error) {
	if f, err := s.db.floatingIPs.named(p.id, w.Name); err == nil {
		return f, describe(s, s.db.floatingIPs, f, w.Description)
	}
	if !validName(w.Name) {
		return nil, errors.New("not a valid name")
	}
	params := floatingIPParams{name: w.Name, description: w.Description}
	if w.Pool != "" {
		params.pool.pool = &ref{name: w.Pool}
	}
	if w.IP != "" {
		ip, err := netip.ParseAddr(w.IP)
		if err != nil {
			return nil, err
		}
		params.ip = ip
	}
	f, err := s.newFloatingIP(p, params)
	if err != nil || w.Instance == "" {
		return f, err
	}
	i, err := s.db.instances.named(p.id, w.Instance)
	if err != nil {
		return f, err
	}
	if err := s.hasRoomFor(i, f.ip); err != nil {
		return f, err
	}
	f.instance = i.id
	f.becomes(attached, s.clock.now())
	return f, nil
}

func (s *Simulator) applyExternalSubnet(p *project, w ExternalSubnetSeed) (*externalSubnet, error) {
	if e, err := s.db.externalSubnets.named(p.id, w.Name); err == nil {
		return e, describe(s, s.db.externalSubnets, e, w.Description)
	}
	if !validName(w.Name) {
		return nil, errors.New("not a valid name")
	}
	params := externalSubnetParams{
		name: w.Name, description: w.Description, bits: int(w.PrefixLength),
		pool: poolSelector{version: v4},
	}
	if w.Pool != "" {
		params.pool = poolSelector{pool: &ref{name: w.Pool}}
	}
	if w.Subnet != "" {
		var err error
		if params.net, err = netip.ParsePrefix(w.Subnet); err != nil {
			return nil, err
		}
	} else if params.bits == 0 {
		pool, err := s.selectSubnetPool(p.parent, params.pool)
		if err != nil {
			return nil, err
		}
		params.bits = 32
		if pool.version == v6 {
			params.bits = 128
		}
	}
	e, err := s.newExternalSubnet(p, params)
	if err != nil || w.Instance == "" {
		return e, err
	}
	i, err := s.db.instances.named(p.id, w.Instance)
	if err != nil {
		return e, err
	}
	if err := s.hasRoomForSubnet(i, e.net.Addr()); err != nil {
		return e, err
	}
	e.instance = i.id
	e.becomes(attached, s.clock.now())
	return e, nil
}
