// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/netip"

	"github.com/google/uuid"
)

// project is in a silo, its parent. Its own id is also its meta.project, so that the same
// check as for everything in it decides who sees it.
type project struct {
	meta
	roles map[uuid.UUID]role
}

// project resolves a reference within the caller's silo; what the caller may not read is
// not found.
func (c *call) project(r ref) (*project, error) {
	if r.isID() {
		return see(c, c.sim.db.projects, r.id)
	}
	p, err := c.sim.db.projects.named(c.user.parent, r.name)
	if err == nil && c.roleOn(p.id) == roleNone {
		return nil, notFoundByName("project", r.name)
	}
	return p, err
}

func (c *call) projectFromPath(least role) (*project, error) {
	r, err := c.pathRef("project")
	if err != nil {
		return nil, err
	}
	p, err := c.project(r)
	if err != nil {
		return nil, err
	}
	return p, c.require(p.id, least)
}

// projectList needs the right to list what is in the silo, which a role on projects alone does not
// give.
func (s *Simulator) projectList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	if err := c.requireSilo(roleViewer); err != nil {
		return nil, err
	}
	all := s.db.projects.in(c.user.parent)
	return pageOf(c, all, func(p *project) identity { return p.identity() }), nil
}

func (s *Simulator) projectView(c *call) (any, error) {
	p, err := c.projectFromPath(roleViewer)
	if err != nil {
		return nil, err
	}
	return p.identity(), nil
}

func (s *Simulator) projectUpdate(c *call) (any, error) {
	p, err := update(c, s.db.projects, func() (*project, error) {
		return c.projectFromPath(roleAdmin)
	})
	if err != nil {
		return nil, err
	}
	return p.identity(), nil
}

func (s *Simulator) projectCreate(c *call) (any, error) {
	f := c.fields()
	name, description := f.name("name"), f.str("description")
	if err := f.done(); err != nil {
		return nil, err
	}
	if err := c.requireSilo(roleCollaborator); err != nil {
		return nil, err
	}
	silo := s.db.silos.rows[c.user.parent]
	p, err := s.newProject(silo, name, description)
	if err != nil {
		return nil, err
	}
	p.roles[c.user.id] = roleAdmin
	return p.identity(), nil
}

// newProject makes a project with its VPC `default`.
func (s *Simulator) newProject(in *silo, name, description string) (*project, error) {
	p := &project{meta: s.newMeta(uuid.Nil, in.id, name, description), roles: map[uuid.UUID]role{}}
	p.meta.project = p.id
	if err := s.db.projects.insert(p); err != nil {
		return nil, err
	}
	_, err := s.newVPC(p, "default", "Default VPC", "default", netip.Prefix{})
	return p, err
}

// newMeta fills in the head of a new row.
func (s *Simulator) newMeta(project, parent uuid.UUID, name, description string) meta {
	now := s.clock.now()
	return meta{
		id: uuid.New(), project: project, parent: parent,
		name: name, description: description, created: now, modified: now,
	}
}

// projectDelete refuses while anything but an emptied default VPC is in the project.
func (s *Simulator) projectDelete(c *call) (any, error) {
	p, err := c.projectFromPath(roleAdmin)
	if err != nil {
		return nil, err
	}
	if kind := s.contentOf(p.id); kind != "" {
		return nil, invalidRequest("project to be deleted contains %s", kind)
	}
	s.db.projects.remove(p)
	return nil, nil
}

func (s *Simulator) contentOf(project uuid.UUID) string {
	for _, c := range []struct {
		count int
		kind  string
	}{
		{len(s.db.instances.children[project]), "an instance"},
		{len(s.db.floatingIPs.children[project]), "a floating IP"},
		{len(s.db.externalSubnets.children[project]), "an external subnet"},
		{len(s.db.disks.children[project]), "a disk"},
		{len(s.db.images.children[project]), "a project image"},
		{len(s.db.snapshots.children[project]), "a snapshot"},
		{len(s.db.groups.children[project]), "an affinity group"},
		{len(s.db.vpcs.children[project]), "a VPC"},
	} {
		if c.count > 0 {
			return c.kind
		}
	}
	return ""
}
