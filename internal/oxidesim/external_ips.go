// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
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

// ephemeralIP is an address that an instance has and that goes with it.
type ephemeralIP struct {
	externalAddr
	attachment
	of *instance
}

func (e *ephemeralIP) json() ephemeralIPJSON {
	return ephemeralIPJSON{"ephemeral", e.addr.String(), e.pool.id.String()}
}

func (e *ephemeralIP) held() *attachment { return &e.attachment }

func (e *ephemeralIP) becomes(state attachState, _ time.Time) {
	e.state = state
	if state == detached {
		e.drop()
	}
}

// drop gives the address back to its pool.
func (e *ephemeralIP) drop() {
	e.instance = uuid.Nil
	if n := slices.Index(e.of.ephemeral, e); n >= 0 {
		e.of.ephemeral = slices.Delete(slices.Clone(e.of.ephemeral), n, n+1)
		e.pool.release(e.addr)
	}
}

// instanceExternalIPs lists what is fully attached, in an order that means nothing and
// differs from call to call: the rack's query has no ORDER BY.
func (s *Simulator) instanceExternalIPs(c *call) (any, error) {
	i, err := findInProject(c, s.db.instances, "instance", roleViewer)
	if err != nil {
		return nil, err
	}
	var items []any
	if i.snat != nil {
		items = append(items, i.snat.snatJSON())
	}
	for _, e := range i.ephemeral {
		if e.state == attached {
			items = append(items, e.json())
		}
	}
	for _, f := range s.db.floatingIPs.in(i.project) {
		if f.instance == i.id && f.state == attached {
			items = append(items, attachedFloatingIPJSON{"floating", f.json()})
		}
	}
	rand.Shuffle(len(items), func(a, b int) { items[a], items[b] = items[b], items[a] })
	return wholePage(items), nil
}

// ephemeralFrom is the ephemeral address of an instance from the pool that is selected: the one that
// it has already, or else a new one, not yet attached.
func (s *Simulator) ephemeralFrom(i *instance, sel poolSelector) (*ephemeralIP, error) {
	pool, err := s.selectPool(s.db.projects.rows[i.project].parent, sel)
	if err != nil {
		return nil, err
	}
	for _, e := range i.ephemeral {
		if e.pool == pool {
			return e, nil
		}
	}
	return s.giveEphemeral(i, pool)
}

// giveEphemeral reserves an ephemeral address for an instance, not yet attached. There may be
// one of each IP version.
func (s *Simulator) giveEphemeral(i *instance, pool *ipPool) (*ephemeralIP, error) {
	some := netip.IPv6Unspecified()
	if pool.version == v4 {
		some = netip.IPv4Unspecified()
	}
	if err := s.hasRoomFor(i, some); err != nil {
		return nil, err
	}
	for _, e := range i.ephemeral {
		if e.pool.version == pool.version {
			return nil, invalidRequest(
				"an instance may not have more than one ephemeral %s address", pool.version)
		}
	}
	a, err := pool.allocate()
	if err != nil {
		return nil, err
	}
	e := &ephemeralIP{
		externalAddr: externalAddr{pool: pool, addr: a}, of: i,
		attachment: attachment{state: detached},
	}
	i.ephemeral = append(i.ephemeral, e)
	return e, nil
}

// ephemeralAttach is idempotent: what is attached already is answered with the same address.
func (s *Simulator) ephemeralAttach(c *call) (any, error) {
	f := c.fields()
	sel := f.poolSelector()
	if err := f.done(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	i, err := findInProject(c, s.db.instances, "instance", roleLimited)
	var e *ephemeralIP
	if err == nil {
		e, err = s.ephemeralFrom(i, sel)
	}
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	err = s.attach(e, i, func() error { return nil }) // unlocks
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.state == detached {
			e.drop()
		}
		return nil, err
	}
	return e.json(), nil
}

// ephemeralDetach takes an ephemeral address away; which one must be said if there are two.
func (s *Simulator) ephemeralDetach(c *call) (any, error) {
	version := c.query.Get("ip_version")
	if c.query.Has("ip_version") && version != v4 && version != v6 {
		return nil, badInput("unable to parse query string: ip_version: unknown variant")
	}
	s.mu.Lock()
	i, err := findInProject(c, s.db.instances, "instance", roleLimited)
	var e *ephemeralIP
	if err == nil {
		e, err = i.ephemeralOf(version)
	}
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	return nil, s.detach(e, func() {}) // unlocks
}

// ephemeralOf finds the ephemeral address of a version; empty if there is only one anyway.
func (i *instance) ephemeralOf(version string) (*ephemeralIP, error) {
	if len(i.ephemeral) > 1 && version == "" {
		return nil, invalidRequest("two ephemeral addresses are attached: the IP version must " +
			"be given")
	}
	for _, e := range i.ephemeral {
		if version == "" || e.pool.version == version {
			return e, nil
		}
	}
	return nil, invalidRequest("instance does not have an ephemeral IP attached")
}
