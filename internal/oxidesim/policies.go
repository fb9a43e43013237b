// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"cmp"
	"slices"

	"github.com/google/uuid"
)

// roleAssignmentJSON gives a user a role on a project, on a silo or on the fleet.
type roleAssignmentJSON struct {
	IdentityType string `json:"identity_type"`
	IdentityID   string `json:"identity_id"`
	RoleName     string `json:"role_name"`
}

type policyJSON struct {
	RoleAssignments []roleAssignmentJSON `json:"role_assignments"`
}

func policyOf(roles map[uuid.UUID]role) policyJSON {
	out := policyJSON{[]roleAssignmentJSON{}}
	for id, r := range roles {
		if r != roleNone {
			out.RoleAssignments = append(out.RoleAssignments,
				roleAssignmentJSON{"silo_user", id.String(), r.String()})
		}
	}
	slices.SortFunc(out.RoleAssignments, func(a, b roleAssignmentJSON) int {
		return cmp.Compare(a.IdentityID, b.IdentityID)
	})
	return out
}

// readPolicy reads a whole policy, which replaces the one before. Groups may be named, but
// the simulated silos have none, so that such assignments give nobody anything.
func readPolicy(c *call, names ...string) (map[uuid.UUID]role, error) {
	f := c.fields()
	f.must("role_assignments", false)
	roles := map[uuid.UUID]role{}
	for _, o := range f.objects("role_assignments") {
		o.enum("identity_type", "silo_user", "silo_group")
		id := o.id("identity_id")
		r := roleNames[o.enum("role_name", names...)]
		roles[id] = max(roles[id], r)
	}
	return roles, f.done()
}

var (
	allRoles   = []string{"admin", "collaborator", "limited_collaborator", "viewer"}
	fleetRoles = []string{"admin", "collaborator", "viewer"}
)

func (s *Simulator) projectPolicyView(c *call) (any, error) {
	p, err := c.projectFromPath(roleViewer)
	if err != nil {
		return nil, err
	}
	return policyOf(p.roles), nil
}

func (s *Simulator) projectPolicyUpdate(c *call) (any, error) {
	roles, err := readPolicy(c, allRoles...)
	if err != nil {
		return nil, err
	}
	p, err := c.projectFromPath(roleAdmin)
	if err != nil {
		return nil, err
	}
	p.roles = roles
	return policyOf(p.roles), nil
}

// siloPolicyView needs no role: every user may read the own silo.
func (s *Simulator) siloPolicyView(c *call) (any, error) {
	return policyOf(s.db.silos.rows[c.user.parent].roles), nil
}

func (s *Simulator) siloPolicyUpdate(c *call) (any, error) {
	roles, err := readPolicy(c, allRoles...)
	if err != nil {
		return nil, err
	}
	if err := c.requireSilo(roleAdmin); err != nil {
		return nil, err
	}
	sl := s.db.silos.rows[c.user.parent]
	sl.roles = roles
	return policyOf(sl.roles), nil
}

func (s *Simulator) systemSiloPolicyView(c *call) (any, error) {
	sl, err := s.systemSilo(c, roleViewer)
	if err != nil {
		return nil, err
	}
	return policyOf(sl.roles), nil
}

func (s *Simulator) systemSiloPolicyUpdate(c *call) (any, error) {
	roles, err := readPolicy(c, allRoles...)
	if err != nil {
		return nil, err
	}
	sl, err := s.systemSilo(c, roleAdmin)
	if err != nil {
		return nil, err
	}
	sl.roles = roles
	return policyOf(sl.roles), nil
}

func (s *Simulator) fleetRoles() map[uuid.UUID]role {
	roles := map[uuid.UUID]role{}
	for _, u := range s.db.users.rows {
		roles[u.id] = u.fleet
	}
	return roles
}

func (s *Simulator) fleetPolicyView(c *call) (any, error) {
	if err := c.requireFleet(roleViewer); err != nil {
		return nil, err
	}
	return policyOf(s.fleetRoles()), nil
}

func (s *Simulator) fleetPolicyUpdate(c *call) (any, error) {
	roles, err := readPolicy(c, fleetRoles...)
	if err != nil {
		return nil, err
	}
	if err := c.requireFleet(roleAdmin); err != nil {
		return nil, err
	}
	for _, u := range s.db.users.rows {
		u.fleet = roles[u.id]
	}
	return policyOf(s.fleetRoles()), nil
}
