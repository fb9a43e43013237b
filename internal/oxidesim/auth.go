// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// role is a role on a project, as it results from those given on the project and the silo.
type role int

const (
	roleNone role = iota
	roleViewer
	roleLimited
	roleCollaborator
	roleAdmin
)

var roleNames = map[string]role{
	"viewer":               roleViewer,
	"limited_collaborator": roleLimited,
	"collaborator":         roleCollaborator,
	"admin":                roleAdmin,
}

func (r role) String() string {
	for name, v := range roleNames {
		if v == r {
			return name
		}
	}
	return "none"
}

// onProjects is what a role on the silo means on each of its projects.
func (r role) onProjects() role {
	if r >= roleCollaborator {
		return roleAdmin
	}
	return r
}

// token is a credential of a user; its secret is the key it is stored under.
type token struct {
	id      uuid.UUID
	user    *user
	created time.Time
	expires *time.Time
}

// login finds the user of the bearer token, unless the route needs none. Every way to fail
// looks the same.
func (s *Simulator) login(c *call, rt *route, h http.Header) error {
	if rt.public {
		return nil
	}
	secret, ok := strings.CutPrefix(h.Get("Authorization"), "Bearer ")
	if !ok {
		return unauthorized()
	}
	t, ok := s.db.tokens[secret]
	if !ok || t.expires != nil && !t.expires.After(s.clock.now()) {
		return unauthorized()
	}
	c.user = t.user
	return nil
}

// roleOf is the role of a user on a project. Objects outside of projects (uuid.Nil) are
// checked by their handlers.
func (s *Simulator) roleOf(u *user, project uuid.UUID) role {
	if project == uuid.Nil {
		return roleAdmin
	}
	p, ok := s.db.projects.rows[project]
	if !ok || p.parent != u.parent {
		return roleNone
	}
	return max(p.roles[u.id], s.siloRoleOf(u).onProjects())
}

func (s *Simulator) siloRoleOf(u *user) role { return s.db.silos.rows[u.parent].roles[u.id] }

func (c *call) roleOn(project uuid.UUID) role { return c.sim.roleOf(c.user, project) }

func (c *call) siloRole() role { return c.sim.siloRoleOf(c.user) }

// require answers 404 when the caller may not read in the project, 403 when it may read but
// not do this.
func (c *call) require(project uuid.UUID, least role) error {
	switch have := c.roleOn(project); {
	case have == roleNone:
		return notFoundByID("project", project)
	case have < least:
		return forbidden()
	}
	return nil
}

// requireSilo asks for a role on the caller's silo.
func (c *call) requireSilo(least role) error {
	if c.siloRole() < least {
		return forbidden()
	}
	return nil
}

// requireFleet asks for a role on the whole rack. Who has none may read nothing of it: lists are then
// 403, and a single object is not found, which its handler checks.
func (c *call) requireFleet(least role) error {
	if c.user.fleet < least {
		return forbidden()
	}
	return nil
}
