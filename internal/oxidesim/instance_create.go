// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"encoding/base64"
	"net/netip"

	"github.com/google/uuid"
)

const (
	maxCPUs        = 254
	gibibyte       = 1 << 30
	maxMemory      = 1536 * gibibyte
	maxExternalIPs = 32
	maxUserData    = 32 << 10
)

// instanceParams is a wanted instance, from a request or from a seed.
type instanceParams struct {
	name, description string
	id                uuid.UUID // random if it is zero, as it always is for a request
	hostname          string
	ncpus             uint16
	memory            uint64
	nics              nicsParams
	externalIPs       []externalIPParams
	start             bool
	restartPolicy     *string
	cpuPlatform       *string
	jumboFrames       bool
	antiAffinity      []ref
	multicast         bool
	bootDisk          *diskAttachment
	disks             []diskAttachment
	sshKeys           *[]ref
}

// nicsParams are either explicit NICs or one default NIC with the given IP versions.
type nicsParams struct {
	explicit []nicParams
	versions []string
}

// externalIPParams is a wanted ephemeral address or (floatingIP set) an existing one.
type externalIPParams struct {
	floatingIP *ref
	pool       poolSelector
}

var cpuPlatforms = []string{"amd_milan", "amd_turin", "amd_turin_v2"}

func readInstance(f *fields) instanceParams {
	p := instanceParams{
		name: f.name("name"), description: f.str("description"), hostname: f.str("hostname"),
		ncpus: f.uint16("ncpus"), memory: f.bytes("memory"), nics: readNICs(f),
		start: f.boolOr("start", true), jumboFrames: f.boolOr("enable_jumbo_frames", false),
		restartPolicy: f.optEnum("auto_restart_policy", policyNever, policyBestEffort),
		cpuPlatform:   f.optEnum("cpu_platform", cpuPlatforms...),
		antiAffinity:  f.refs("anti_affinity_groups"),
	}
	if f.done() == nil && !validHostname(p.hostname) {
		f.wrong("hostname", "a valid hostname")
	}
	p.multicast = len(f.objects("multicast_groups")) > 0
	for _, o := range f.objects("external_ips") {
		e := externalIPParams{}
		if o.enum("type", "ephemeral", "floating") == "floating" {
			r := o.ref("floating_ip")
			e.floatingIP = &r
		} else {
			e.pool = o.poolSelector()
		}
		p.externalIPs = append(p.externalIPs, e)
	}
	if o := f.optObject("boot_disk"); o != nil {
		d := readDiskAttachment(o)
		p.bootDisk = &d
	}
	for _, o := range f.objects("disks") {
		p.disks = append(p.disks, readDiskAttachment(o))
	}
	if f.has("ssh_public_keys") {
		keys := f.refs("ssh_public_keys")
		p.sshKeys = &keys
	}
	readUserData(f)
	return p
}

// readUserData checks what a guest would get; nothing looks at it here.
func readUserData(f *fields) {
	if _, present := f.values["user_data"]; !present {
		return
	}
	data, err := base64.StdEncoding.DecodeString(f.str("user_data"))
	switch {
	case err != nil:
		f.wrong("user_data", "base64")
	case len(data) > maxUserData:
		f.wrong("user_data", "at most 32 KiB")
	}
}

func readNICs(f *fields) nicsParams {
	o := f.defaulted("network_interfaces")
	if o == nil {
		return nicsParams{versions: []string{v4, v6}}
	}
	kinds := []string{"create", "default_ipv4", "default_ipv6", "default_dual_stack", "none"}
	switch o.enum("type", kinds...) {
	case "default_ipv4":
		return nicsParams{versions: []string{v4}}
	case "default_ipv6":
		return nicsParams{versions: []string{v6}}
	case "default_dual_stack":
		return nicsParams{versions: []string{v4, v6}}
	case "create":
		var out nicsParams
		o.must("params", false)
		for _, p := range o.objects("params") {
			out.explicit = append(out.explicit, readNIC(p))
		}
		return out
	}
	return nicsParams{}
}

func readNIC(f *fields) nicParams {
	p := nicParams{
		name: f.name("name"), description: f.str("description"),
		vpcName: f.name("vpc_name"), subnetName: f.name("subnet_name"),
		stacks: map[string]stack{v4: {}, v6: {}},
	}
	o := f.defaulted("ip_config")
	if o == nil {
		return p
	}
	switch kind := o.enum("type", v4, v6, "dual_stack"); kind {
	case "dual_stack":
		v := o.object("value")
		p.stacks = map[string]stack{
			v4: readStack(v.object(v4), v4), v6: readStack(v.object(v6), v6),
		}
	default:
		p.stacks = map[string]stack{kind: readStack(o.object("value"), kind)}
	}
	return p
}

func readStack(f *fields, version string) stack {
	st := stack{transit: f.prefixes("transit_ips")}
	ip := f.object("ip")
	if ip.enum("type", "auto", "explicit") == "explicit" {
		st.ip = ip.addr("value")
		if f.done() == nil && familyOf(st.ip) != version {
			ip.wrong("value", "an IP address of version "+version)
		}
	}
	for _, p := range st.transit {
		if f.done() == nil && familyOf(p.Addr()) != version {
			f.wrong("transit_ips", "networks of IP version "+version)
		}
	}
	return st
}

func (s *Simulator) checkInstance(p instanceParams) error {
	switch {
	case p.ncpus < 1 || p.ncpus > maxCPUs:
		return invalidValue("ncpus", "must be between 1 and %d", maxCPUs)
	case p.memory < gibibyte || p.memory > maxMemory:
		return invalidValue("size", "memory must be between 1 GiB and 1536 GiB")
	case p.memory%gibibyte != 0:
		return invalidValue("size", "memory must be divisible by 1 GiB")
	case p.jumboFrames && !s.jumboFrames:
		return invalidRequest("the operator has not allowed jumbo frames")
	case p.multicast:
		return invalidRequest("the simulated rack knows no multicast groups")
	case len(p.externalIPs) > maxExternalIPs:
		return invalidRequest("an instance may have at most %d external IPs", maxExternalIPs)
	case len(p.nics.explicit) > maxNICs:
		return invalidRequest("an instance may have at most %d network interfaces", maxNICs)
	}
	return nil
}

func (s *Simulator) instanceCreate(c *call) (any, error) {
	f := c.fields()
	params := readInstance(f)
	if err := f.done(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	p, err := c.createIn(roleLimited)
	var i *instance
	if err == nil {
		i, err = s.newInstance(p, c.user, params)
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	cut := s.work(s.timings.Create, s.nexus.current())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enter(i, stopped)
	if params.start {
		_ = s.requestStart(i) // the instance exists: a start that fails shows in its state
	}
	return s.instanceJSON(i), cut
}

// newInstance makes an instance in state creating, with all it asks for, or nothing at all.
func (s *Simulator) newInstance(p *project, by *user, w instanceParams) (*instance, error) {
	if err := s.checkInstance(w); err != nil {
		return nil, err
	}
	i := &instance{
		meta: s.newMeta(p.id, p.id, w.name, w.description), hostname: w.hostname,
		ncpus: w.ncpus, memory: w.memory, restartPolicy: w.restartPolicy,
		cpuPlatform: w.cpuPlatform, jumboFrames: w.jumboFrames,
	}
	i.id = orDefault(w.id, i.id)
	s.enter(i, creating)
	if err := s.db.instances.insert(i); err != nil {
		return nil, err
	}
	err := s.equip(i, by, w)
	if err != nil {
		s.db.instances.remove(i)
		s.releaseAll(i)
		for _, d := range i.madeDisks {
			s.db.disks.remove(d)
		}
		return nil, err
	}
	return i, nil
}

func (s *Simulator) equip(i *instance, by *user, w instanceParams) error {
	nics := w.nics.explicit
	if len(w.nics.versions) > 0 {
		stacks := map[string]stack{}
		for _, v := range w.nics.versions {
			stacks[v] = stack{}
		}
		nics = []nicParams{{
			name: "net0", description: "default primary interface for " + i.name,
			vpcName: "default", subnetName: "default", stacks: stacks,
		}}
	}
	for _, n := range nics {
		if _, err := s.newNIC(i, n); err != nil {
			return err
		}
	}
	if err := s.giveSNAT(i); err != nil {
		return err
	}
	for _, e := range w.externalIPs {
		if err := s.giveExternalIP(i, by, e); err != nil {
			return err
		}
	}
	if err := s.giveDisks(i, w); err != nil {
		return err
	}
	if err := s.joinGroups(i, w.antiAffinity); err != nil {
		return err
	}
	return s.giveKeys(i, by, w.sshKeys)
}

// giveDisks attaches the wanted disks, making those that are to be made.
func (s *Simulator) giveDisks(i *instance, w instanceParams) error {
	wanted := w.disks
	if w.bootDisk != nil {
		wanted = append([]diskAttachment{*w.bootDisk}, wanted...)
	}
	for n, a := range wanted {
		var d *disk
		var err error
		if a.existing != "" {
			d, err = s.db.disks.named(i.project, a.existing)
		} else {
			d, err = s.newDisk(s.db.projects.rows[i.project], a.create)
			if err == nil {
				i.madeDisks = append(i.madeDisks, d)
			}
		}
		if err == nil {
			err = s.plug(i, d)
		}
		if err != nil {
			return err
		}
		if n == 0 && w.bootDisk != nil {
			i.bootDisk = d.id
		}
	}
	return nil
}

// giveSNAT gives an instance with an IPv4 stack a block of ports of a shared address, from the silo's
// default IPv4 pool; a silo without one cannot have such an instance. There is no SNAT for IPv6.
func (s *Simulator) giveSNAT(i *instance) error {
	n := s.primaryNIC(i)
	if n == nil || n.stacks[v4] == nil {
		return nil
	}
	pool, err := s.selectPool(s.db.projects.rows[i.project].parent, poolSelector{version: v4})
	if err != nil {
		return err
	}
	i.snat, err = pool.allocateSNAT()
	return err
}

func (s *Simulator) giveExternalIP(i *instance, by *user, w externalIPParams) error {
	if w.floatingIP == nil {
		pool, err := s.selectPool(s.db.projects.rows[i.project].parent, w.pool)
		if err != nil {
			return err
		}
		e, err := s.giveEphemeral(i, pool)
		if err == nil {
			e.attachment = attachment{state: attached, instance: i.id}
		}
		return err
	}
	f, err := s.floatingIPFor(i, by, *w.floatingIP)
	if err != nil {
		return err
	}
	if f.state != detached {
		return invalidRequest("floating IP cannot be attached to one instance while still " +
			"attached to another")
	}
	if err := s.hasRoomFor(i, f.ip); err != nil {
		return err
	}
	f.instance = i.id
	f.becomes(attached, s.clock.now())
	return nil
}

// floatingIPFor resolves a floating IP that the request for a new instance refers to: by name in the
// instance's project, by id anywhere, but then it must be in that project.
func (s *Simulator) floatingIPFor(i *instance, by *user, r ref) (*floatingIP, error) {
	if !r.isID() {
		return s.db.floatingIPs.named(i.project, r.name)
	}
	f, ok := s.db.floatingIPs.rows[r.id]
	switch {
	case !ok || s.roleOf(by, f.project) == roleNone:
		return nil, notFoundByID(s.db.floatingIPs.kind, r.id)
	case s.roleOf(by, f.project) < roleLimited:
		return nil, forbidden()
	case f.project != i.project:
		return nil, invalidRequest("the floating IP must be in the same project")
	}
	return f, nil
}

// hasRoomFor says whether an instance may have one more external address of this family.
func (s *Simulator) hasRoomFor(i *instance, a netip.Addr) error {
	n := s.primaryNIC(i)
	if n == nil || n.stacks[familyOf(a)] == nil {
		return invalidRequest("the instance's primary network interface has no IP stack of "+
			"version %s", familyOf(a))
	}
	count := len(i.ephemeral)
	if i.snat != nil {
		count++
	}
	for _, f := range s.db.floatingIPs.in(i.project) {
		if f.instance == i.id {
			count++
		}
	}
	if count > maxExternalIPs {
		return invalidRequest("an instance may not have more than %d external "+
			"IP addresses", maxExternalIPs)
	}
	return nil
}
