// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"encoding/json"
	"slices"

	"github.com/google/uuid"
)

type siloJSON struct {
	identity
	Discoverable     bool                `json:"discoverable"`
	IdentityMode     string              `json:"identity_mode"`
	AdminGroupName   *string             `json:"admin_group_name"`
	MappedFleetRoles map[string][]string `json:"mapped_fleet_roles"`
}

type quotasJSON struct {
	SiloID  string `json:"silo_id"`
	CPUs    int64  `json:"cpus"`
	Memory  uint64 `json:"memory"`
	Storage uint64 `json:"storage"`
}

// siloDetails is what a silo has that nothing in the simulation depends on.
type siloDetails struct {
	discoverable bool
	identityMode string
	adminGroup   *string
	fleetRoles   map[string][]string
	quotas       quotasJSON
}

func defaultSiloDetails() siloDetails {
	return siloDetails{
		discoverable: true, identityMode: "local_only", fleetRoles: map[string][]string{},
		quotas: quotasJSON{CPUs: 4096, Memory: 64 << 40, Storage: 1 << 50},
	}
}

func (s *silo) json() siloJSON {
	return siloJSON{
		identity: s.identity(), Discoverable: s.discoverable, IdentityMode: s.identityMode,
		AdminGroupName: s.adminGroup, MappedFleetRoles: s.fleetRoles,
	}
}

func (s *silo) quotasJSON() quotasJSON {
	q := s.quotas
	q.SiloID = s.id.String()
	return q
}

// visibleSilo resolves a silo that the caller may read: the own one, or any with a role on the fleet.
func (s *Simulator) visibleSilo(c *call, r ref) (*silo, error) {
	sl, err := byRef(s.db.silos, r)
	if err == nil && c.user.fleet == roleNone && sl.id != c.user.parent {
		return nil, refNotFound(s.db.silos.kind, r)
	}
	return sl, err
}

// systemSilo resolves the silo of a path, for an operator.
func (s *Simulator) systemSilo(c *call, least role) (*silo, error) {
	r, err := c.pathRef("silo")
	if err != nil {
		return nil, err
	}
	sl, err := s.visibleSilo(c, r)
	if err != nil {
		return nil, err
	}
	if c.user.fleet == roleNone && least == roleViewer {
		return sl, nil
	}
	return sl, c.requireFleet(least)
}

func (s *Simulator) systemSiloList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	if err := c.requireFleet(roleViewer); err != nil {
		return nil, err
	}
	return pageOf(c, s.db.silos.all(), (*silo).json), nil
}

func (s *Simulator) systemSiloView(c *call) (any, error) {
	sl, err := s.systemSilo(c, roleViewer)
	if err != nil {
		return nil, err
	}
	return sl.json(), nil
}

func (s *Simulator) systemSiloCreate(c *call) (any, error) {
	f := c.fields()
	name, description := f.name("name"), f.str("description")
	d := siloDetails{
		discoverable: f.boolean("discoverable"),
		identityMode: f.enum("identity_mode", "saml_jit", "local_only", "saml_scim"),
		adminGroup:   f.optStr("admin_group_name"),
		fleetRoles:   map[string][]string{},
		quotas:       readQuotas(f.object("quotas")),
	}
	if _, present := f.values["mapped_fleet_roles"]; present {
		d.fleetRoles = readFleetRoles(f.object("mapped_fleet_roles"))
	}
	need[[]json.RawMessage](f, "tls_certificates", "a list")
	if err := f.done(); err != nil {
		return nil, err
	}
	if err := c.requireFleet(roleAdmin); err != nil {
		return nil, err
	}
	sl := s.newSilo(name, description)
	sl.siloDetails = d
	if err := s.db.silos.insert(sl); err != nil {
		return nil, err
	}
	return sl.json(), nil
}

// readFleetRoles reads which roles on the silo give which roles on the fleet.
func readFleetRoles(f *fields) map[string][]string {
	out := map[string][]string{}
	for name := range f.values {
		if !slices.Contains(allRoles, name) {
			f.wrong(name, "the name of a role")
		}
		given := need[[]string](f, name, "a list of roles")
		for _, r := range given {
			if !slices.Contains(fleetRoles, r) {
				f.wrong(name, "roles on the fleet")
			}
		}
		out[name] = given
	}
	return out
}

func (s *Simulator) newSilo(name, description string) *silo {
	return &silo{
		meta:  s.newMeta(uuid.Nil, uuid.Nil, name, description),
		roles: map[uuid.UUID]role{}, siloDetails: defaultSiloDetails(),
	}
}

func (s *Simulator) systemSiloDelete(c *call) (any, error) {
	sl, err := s.systemSilo(c, roleAdmin)
	switch {
	case err != nil:
		return nil, err
	case len(s.db.projects.children[sl.id]) > 0:
		return nil, invalidRequest("silo to be deleted contains a project")
	}
	for _, u := range s.db.users.in(sl.id) {
		for secret, t := range s.db.tokens {
			if t.user == u {
				delete(s.db.tokens, secret)
			}
		}
		s.db.users.remove(u)
	}
	for _, p := range s.db.pools.rows {
		delete(p.links, sl.id)
	}
	for _, p := range s.db.subnetPools.rows {
		delete(p.links, sl.id)
	}
	s.db.silos.remove(sl)
	return nil, nil
}

func (s *Simulator) systemSiloPools(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	sl, err := s.systemSilo(c, roleViewer)
	if err != nil {
		return nil, err
	}
	return s.siloPools(c, sl.id), nil
}

func (s *Simulator) systemSiloSubnetPools(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	sl, err := s.systemSilo(c, roleViewer)
	if err != nil {
		return nil, err
	}
	return s.siloSubnetPools(c, sl.id), nil
}

func readQuotas(f *fields) quotasJSON {
	return quotasJSON{CPUs: f.int64("cpus"), Memory: f.bytes("memory"), Storage: f.bytes("storage")}
}

func (s *Simulator) systemSiloQuotas(c *call) (any, error) {
	sl, err := s.systemSilo(c, roleViewer)
	if err != nil {
		return nil, err
	}
	return sl.quotasJSON(), nil
}

// systemSiloQuotasUpdate changes what is given; nothing is ever refused for a quota.
func (s *Simulator) systemSiloQuotasUpdate(c *call) (any, error) {
	f := c.fields()
	cpus := opt[int64](f, "cpus", "an i64")
	memory, storage := f.optBytes("memory"), f.optBytes("storage")
	if err := f.done(); err != nil {
		return nil, err
	}
	sl, err := s.systemSilo(c, roleAdmin)
	if err != nil {
		return nil, err
	}
	for _, q := range []struct{ to, from *uint64 }{
		{&sl.quotas.Memory, memory}, {&sl.quotas.Storage, storage},
	} {
		if q.from != nil {
			*q.to = *q.from
		}
	}
	if cpus != nil {
		sl.quotas.CPUs = *cpus
	}
	return sl.quotasJSON(), nil
}

func (s *Simulator) systemQuotasList(c *call) (any, error) {
	if err := c.beginScan(idSorts); err != nil {
		return nil, err
	}
	if err := c.requireFleet(roleViewer); err != nil {
		return nil, err
	}
	return pageOf(c, s.db.silos.all(), (*silo).quotasJSON), nil
}
