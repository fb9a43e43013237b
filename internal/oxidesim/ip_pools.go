// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/netip"
	"time"

	"github.com/google/uuid"
)

const (
	v4        = "v4"
	v6        = "v6"
	unicast   = "unicast"
	multicast = "multicast"
)

func familyOf(a netip.Addr) string {
	if a.Is4() {
		return v4
	}
	return v6
}

// ipPool is a rack-wide pool of external addresses; silos use it through links, which say
// whether it is the silo's default for its version and type.
type ipPool struct {
	meta
	version string
	kind    string
	ranges  []*ipRange
	links   map[uuid.UUID]bool
	used    map[netip.Addr]struct{}
	snat    []*snatAddr
	filled  bool // a story: nothing is left in it
}

type ipRange struct {
	id          uuid.UUID
	first, last netip.Addr
	created     time.Time
}

func (r *ipRange) contains(a netip.Addr) bool {
	return a.Is4() == r.first.Is4() && r.first.Compare(a) <= 0 && a.Compare(r.last) <= 0
}

func (p *ipPool) contains(a netip.Addr) bool {
	for _, r := range p.ranges {
		if r.contains(a) {
			return true
		}
	}
	return false
}

// allocate takes the first free address; the pool being empty is a 507.
func (p *ipPool) allocate() (netip.Addr, error) {
	for _, r := range p.ranges {
		for a := r.first; !p.filled && r.contains(a); a = a.Next() {
			if _, taken := p.used[a]; !taken {
				p.used[a] = struct{}{}
				return a, nil
			}
		}
	}
	return netip.Addr{}, insufficientCapacity("no external IP addresses available in the pool")
}

// take reserves one given address.
func (p *ipPool) take(a netip.Addr) error {
	if _, taken := p.used[a]; taken || p.filled {
		return invalidRequest("the requested external IP address is in use")
	}
	p.used[a] = struct{}{}
	return nil
}

func (p *ipPool) release(a netip.Addr) { delete(p.used, a) }

const (
	snatBlock  = 16384
	snatBlocks = 4
)

// snatAddr is an address whose ports are shared by up to four instances.
type snatAddr struct {
	addr  netip.Addr
	taken [snatBlocks]bool
}

// allocateSNAT takes a block of ports, on an address that already has free ones if possible.
func (p *ipPool) allocateSNAT() (*externalAddr, error) {
	for _, sa := range p.snat {
		for i, taken := range sa.taken {
			if !taken {
				sa.taken[i] = true
				return &externalAddr{pool: p, addr: sa.addr, block: i}, nil
			}
		}
	}
	a, err := p.allocate()
	if err != nil {
		return nil, err
	}
	sa := &snatAddr{addr: a}
	sa.taken[0] = true
	p.snat = append(p.snat, sa)
	return &externalAddr{pool: p, addr: a}, nil
}

func (p *ipPool) releaseSNAT(e externalAddr) {
	for i, sa := range p.snat {
		if sa.addr != e.addr {
			continue
		}
		sa.taken[e.block] = false
		if sa.taken == [snatBlocks]bool{} {
			p.snat = append(p.snat[:i], p.snat[i+1:]...)
			p.release(sa.addr)
		}
		return
	}
}

// externalAddr is an ephemeral address, or one block of ports of a shared one.
type externalAddr struct {
	pool  *ipPool
	addr  netip.Addr
	block int
}

type siloIPPoolJSON struct {
	identity
	IPVersion string `json:"ip_version"`
	PoolType  string `json:"pool_type"`
	IsDefault bool   `json:"is_default"`
}

func (p *ipPool) siloJSON(silo uuid.UUID) siloIPPoolJSON {
	return siloIPPoolJSON{
		identity: p.identity(), IPVersion: p.version, PoolType: p.kind, IsDefault: p.links[silo],
	}
}

// linkedPool resolves a reference to a pool that is linked to the silo; any other pool is
// not found.
func (s *Simulator) linkedPool(silo uuid.UUID, r ref) (*ipPool, error) {
	p, err := byRef(s.db.pools, r)
	if err != nil {
		return nil, err
	}
	if _, linked := p.links[silo]; !linked {
		return nil, refNotFound(s.db.pools.kind, r)
	}
	return p, nil
}

// byRef finds a rack-wide object, whoever asks.
func byRef[T row](t *table[T], r ref) (T, error) {
	if !r.isID() {
		return t.named(uuid.Nil, r.name)
	}
	found, ok := t.rows[r.id]
	if !ok {
		return found, notFoundByID(t.kind, r.id)
	}
	return found, nil
}

func refNotFound(kind string, r ref) error {
	if r.isID() {
		return notFoundByID(kind, r.id)
	}
	return notFoundByName(kind, r.name)
}

// ipPoolList needs the right to list what is in the silo, which a role on a project alone
// does not give.
func (s *Simulator) ipPoolList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	if err := c.requireSilo(roleViewer); err != nil {
		return nil, err
	}
	return s.siloPools(c, c.user.parent), nil
}

func (s *Simulator) siloPools(c *call, silo uuid.UUID) resultsPage[siloIPPoolJSON] {
	var linked []*ipPool
	for _, p := range s.db.pools.all() {
		if _, ok := p.links[silo]; ok {
			linked = append(linked, p)
		}
	}
	return pageOf(c, linked, func(p *ipPool) siloIPPoolJSON { return p.siloJSON(silo) })
}

func (s *Simulator) ipPoolView(c *call) (any, error) {
	r, err := c.pathRef("pool")
	if err != nil {
		return nil, err
	}
	p, err := s.linkedPool(c.user.parent, r)
	if err != nil {
		return nil, err
	}
	return p.siloJSON(c.user.parent), nil
}

// poolSelector says which pool an address shall come from: a given one, or the default of a
// version (empty: whichever default there is).
type poolSelector struct {
	pool    *ref
	version string
}

// poolSelector reads an optional pool selector; absent is "any default".
func (f *fields) poolSelector() poolSelector {
	o := f.defaulted("pool_selector")
	if o == nil {
		return poolSelector{}
	}
	if o.enum("type", "auto", "explicit") == "explicit" {
		r := o.ref("pool")
		return poolSelector{pool: &r}
	}
	if v := o.optEnum("ip_version", v4, v6); v != nil {
		return poolSelector{version: *v}
	}
	return poolSelector{}
}

// selectPool finds the unicast pool that a selector means for a silo.
func (s *Simulator) selectPool(silo uuid.UUID, sel poolSelector) (*ipPool, error) {
	if sel.pool != nil {
		p, err := s.linkedPool(silo, *sel.pool)
		if err == nil && p.kind == multicast {
			return nil, invalidRequest("pool %q is for multicast", p.name)
		}
		return p, err
	}
	var found *ipPool
	for _, version := range []string{v4, v6} {
		if sel.version != "" && sel.version != version {
			continue
		}
		p := s.defaultPool(silo, version)
		if p != nil && found != nil {
			return nil, invalidRequest(
				"there are default pools of both IP versions: the version must be given")
		}
		if p != nil {
			found = p
		}
	}
	if found == nil {
		return nil, notFoundOther("ip-pool", "no default pool for the current silo")
	}
	return found, nil
}

// defaultPool is the silo's default unicast pool of a version, or nil.
func (s *Simulator) defaultPool(silo uuid.UUID, version string) *ipPool {
	for _, p := range s.db.pools.rows {
		if p.kind == unicast && p.version == version && p.links[silo] {
			return p
		}
	}
	return nil
}

// poolOf is the unicast pool, linked to the silo, that has the address in a range, or nil.
func (s *Simulator) poolOf(silo uuid.UUID, a netip.Addr) *ipPool {
	for _, p := range s.db.pools.rows {
		if _, linked := p.links[silo]; linked && p.kind == unicast && p.contains(a) {
			return p
		}
	}
	return nil
}

// addRange adds a range of addresses to a pool; it may overlap no other of the rack.
func (s *Simulator) addRange(p *ipPool, first, last netip.Addr) (*ipRange, error) {
	r := &ipRange{id: uuid.New(), first: first, last: last, created: s.clock.now()}
	if familyOf(first) != p.version || familyOf(last) != p.version || last.Less(first) {
		return nil, invalidRequest("range %s to %s does not fit a pool of version %s",
			first, last, p.version)
	}
	if first.IsMulticast() != (p.kind == multicast) || last.IsMulticast() != first.IsMulticast() {
		return nil, invalidRequest("range %s to %s does not fit a %s pool", first, last, p.kind)
	}
	for _, other := range s.db.pools.rows {
		for _, o := range other.ranges {
			if o.contains(first) || o.contains(last) || r.contains(o.first) {
				return nil, invalidRequest("range %s to %s overlaps an existing one", first, last)
			}
		}
	}
	p.ranges = append(p.ranges, r)
	return r, nil
}
