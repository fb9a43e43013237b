// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"github.com/google/uuid"
)

const maxGroupMembers = 32

// group is an affinity or anti-affinity group of a project, its parent.
type group struct {
	meta
	policy  string // allow or fail
	members map[uuid.UUID]*instance
}

type groupJSON struct {
	identity
	ProjectID     string `json:"project_id"`
	Policy        string `json:"policy"`
	FailureDomain string `json:"failure_domain"`
}

type memberJSON struct {
	Type  string          `json:"type"`
	Value memberValueJSON `json:"value"`
}

type memberValueJSON struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	RunState string `json:"run_state"`
}

func (g *group) json() groupJSON {
	return groupJSON{g.identity(), g.project.String(), g.policy, "sled"}
}

func groupMember(i *instance) memberJSON {
	return memberJSON{"instance", memberValueJSON{i.id.String(), i.name, string(i.state)}}
}

func (s *Simulator) listedGroupMember(i *instance) memberJSON {
	m := groupMember(i)
	m.Value.RunState = s.listedState(i)
	return m
}

// groups are the endpoints of one kind of group.
type groups struct {
	*Simulator
	table *table[*group]
	param string
}

func (s *Simulator) antiAffinityGroups() groups {
	return groups{s, s.db.groups, "anti_affinity_group"}
}

func (s *Simulator) affinityGroups() groups {
	return groups{s, s.db.affinityGroups, "affinity_group"}
}

func (g groups) list(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, g.table.in(p.id), (*group).json), nil
}

func (g groups) fromPath(c *call, least role) (*group, error) {
	return findInProject(c, g.table, g.param, least)
}

func (g groups) view(c *call) (any, error) {
	found, err := g.fromPath(c, roleViewer)
	if err != nil {
		return nil, err
	}
	return found.json(), nil
}

func (g groups) create(c *call) (any, error) {
	f := c.fields()
	name, description := f.name("name"), f.str("description")
	policy := f.enum("policy", "allow", "fail")
	f.enum("failure_domain", "sled")
	if err := f.done(); err != nil {
		return nil, err
	}
	p, err := c.createIn(roleLimited)
	if err != nil {
		return nil, err
	}
	made := &group{
		meta: g.newMeta(p.id, p.id, name, description), policy: policy,
		members: map[uuid.UUID]*instance{},
	}
	if err := g.table.insert(made); err != nil {
		return nil, err
	}
	return made.json(), nil
}

func (g groups) update(c *call) (any, error) {
	found, err := update(c, g.table, func() (*group, error) { return g.fromPath(c, roleLimited) })
	if err != nil {
		return nil, err
	}
	return found.json(), nil
}

func (g groups) delete(c *call) (any, error) {
	found, err := g.fromPath(c, roleLimited)
	if err != nil {
		return nil, err
	}
	g.table.remove(found)
	return nil, nil
}

func (g groups) memberList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	found, err := g.fromPath(c, roleViewer)
	if err != nil {
		return nil, err
	}
	members := make([]*instance, 0, len(found.members))
	for _, i := range found.members {
		members = append(members, i)
	}
	return pageOf(c, members, g.listedGroupMember), nil
}

// member resolves group and instance of a path. If one of them is given by name the project
// in the query is for that one; an id next to it is fine with it.
func (g groups) member(c *call, least role) (*group, *instance, error) {
	gr, err := c.pathRef(g.param)
	if err != nil {
		return nil, nil, err
	}
	ir, err := c.pathRef("instance")
	if err != nil {
		return nil, nil, err
	}
	outer := inProject
	if !gr.isID() || !ir.isID() {
		outer = nil
	}
	found, err := find(c, g.table, gr, outer, c.projectFromQuery)
	if err == nil {
		err = c.require(found.project, least)
	}
	if err != nil {
		return nil, nil, err
	}
	i, err := find(c, g.db.instances, ir, outer, c.projectFromQuery)
	if err == nil {
		err = c.require(i.project, least)
	}
	return found, i, err
}

func (g groups) memberView(c *call) (any, error) {
	found, i, err := g.member(c, roleViewer)
	if err != nil {
		return nil, err
	}
	if found.members[i.id] == nil {
		return nil, notFoundByID(g.table.kind+"-member", i.id)
	}
	return groupMember(i), nil
}

func (g groups) memberAdd(c *call) (any, error) {
	found, i, err := g.member(c, roleLimited)
	switch {
	case err != nil:
		return nil, err
	case i.project != found.project:
		return nil, invalidRequest("the instance must be in the group's project")
	case found.members[i.id] != nil:
		return nil, alreadyExists(g.table.kind+"-member", i.id.String())
	case i.vmm != nil:
		return nil, invalidRequest("instance cannot be added to a group while it has a VMM")
	case len(found.members) >= maxGroupMembers:
		return nil, invalidRequest("a group may have at most %d members", maxGroupMembers)
	}
	found.members[i.id] = i
	return groupMember(i), nil
}

func (g groups) memberDelete(c *call) (any, error) {
	found, i, err := g.member(c, roleLimited)
	if err != nil {
		return nil, err
	}
	if found.members[i.id] == nil {
		return nil, notFoundByID(g.table.kind+"-member", i.id)
	}
	delete(found.members, i.id)
	return nil, nil
}

func (g groups) ofInstance(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	i, err := findInProject(c, g.db.instances, "instance", roleViewer)
	if err != nil {
		return nil, err
	}
	var in []*group
	for _, found := range g.table.in(i.project) {
		if found.members[i.id] != nil {
			in = append(in, found)
		}
	}
	return pageOf(c, in, (*group).json), nil
}

// joinGroups makes a new instance a member of anti-affinity groups of its project.
func (s *Simulator) joinGroups(i *instance, wanted []ref) error {
	for _, r := range wanted {
		found, ok := s.db.groups.rows[r.id]
		if !r.isID() {
			var err error
			if found, err = s.db.groups.named(i.project, r.name); err != nil {
				return err
			}
		} else if !ok || found.project != i.project {
			return notFoundByID(s.db.groups.kind, r.id)
		}
		if len(found.members) >= maxGroupMembers {
			return invalidRequest("a group may have at most %d members", maxGroupMembers)
		}
		found.members[i.id] = i
	}
	return nil
}

// kept says that an anti-affinity group keeps an instance off a sled; policy allow does not
// insist.
func (s *Simulator) kept(i *instance, sl *sled) bool {
	for _, g := range s.db.groups.in(i.project) {
		if g.policy != "fail" || g.members[i.id] == nil {
			continue
		}
		for _, other := range g.members {
			if other != i && other.vmm != nil && other.vmm.sled == sl {
				return true
			}
		}
	}
	return false
}
