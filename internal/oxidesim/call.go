// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"mime"
	"net/url"

	"github.com/google/uuid"
)

// call is one API request on its way through a handler.
type call struct {
	sim    *Simulator
	user   *user
	params map[string]string
	query  url.Values
	body   []byte
	scan   scan
	// fault is what spoils the request; nil: nothing does.
	fault *faultEffect

	contentType string
}

// pathRef is a path parameter that holds a name or an id.
func (c *call) pathRef(param string) (ref, error) {
	r, ok := parseRef(c.params[param])
	if !ok {
		return ref{}, badInput("bad parameter in URL path: %s: neither a name nor an id", param)
	}
	return r, nil
}

// pathID is a path parameter that holds an id and nothing else.
func (c *call) pathID(param string) (uuid.UUID, error) {
	id, ok := parseID(c.params[param])
	if !ok {
		return id, badInput("bad parameter in URL path: %s: not a UUID", param)
	}
	return id, nil
}

// queryRef is a query parameter that holds a name or an id, or nil.
func (c *call) queryRef(param string) (*ref, error) {
	if !c.query.Has(param) {
		return nil, nil
	}
	r, ok := parseRef(c.query.Get(param))
	if !ok {
		return nil, badInput("unable to parse query string: %s: neither a name nor an id", param)
	}
	return &r, nil
}

// mustQueryRef is a query parameter that the endpoint requires.
func (c *call) mustQueryRef(param string) (ref, error) {
	r, err := c.queryRef(param)
	if err != nil {
		return ref{}, err
	}
	if r == nil {
		return ref{}, badInput("unable to parse query string: missing field `%s`", param)
	}
	return *r, nil
}

// queryBool is a query parameter that is true or false; absent is false.
func (c *call) queryBool(param string) (bool, error) {
	v := c.query.Get(param)
	if c.query.Has(param) && v != "true" && v != "false" {
		return false, badInput("unable to parse query string: %s: not a boolean", param)
	}
	return v == "true", nil
}

// fields is the body as an object; it is JSON unless the client says otherwise. Endpoints
// that take no body do not care what comes.
func (c *call) fields() *fields {
	f := parseFields(c.body)
	mt, _, err := mime.ParseMediaType(c.contentType)
	if c.contentType != "" && (err != nil || mt != "application/json") {
		*f.err = badInput("expected content type \"application/json\", got %q", c.contentType)
	}
	return f
}

// see is the row, or a 404 by id if it is not there or the caller may not read it: the two
// look the same.
func see[T row](c *call, t *table[T], id uuid.UUID) (T, error) {
	r, ok := t.rows[id]
	if !ok || c.roleOn(r.base().project) == roleNone {
		var none T
		return none, notFoundByID(t.kind, id)
	}
	return r, nil
}

// find resolves a reference to an object that is named within a parent. By id, none of the
// outer selectors may be in the query; by name, the first of them is needed, and parent
// resolves it.
func find[T row](
	c *call, t *table[T], r ref, outer []string, parent func() (uuid.UUID, error),
) (T, error) {
	var none T
	if r.isID() {
		for _, p := range outer {
			if c.query.Has(p) {
				return none, invalidRequest(
					"%s is given by id, so %s must not be specified", t.kind, p)
			}
		}
		return see(c, t, r.id)
	}
	pid, err := parent()
	if err != nil {
		return none, err
	}
	return t.named(pid, r.name)
}

// projectFromQuery is the project that the query names, which must be visible.
func (c *call) projectFromQuery() (uuid.UUID, error) {
	r, err := c.queryRef("project")
	if err != nil {
		return uuid.Nil, err
	}
	if r == nil {
		return uuid.Nil, invalidRequest("an object given by name needs its project")
	}
	p, err := c.project(*r)
	if err != nil {
		return uuid.Nil, err
	}
	return p.id, nil
}

var inProject = []string{"project"}

// findInProject resolves a path parameter that names an object of a project, and asks for
// the role that the operation needs.
func findInProject[T row](c *call, t *table[T], param string, least role) (T, error) {
	r, err := c.pathRef(param)
	if err != nil {
		var none T
		return none, err
	}
	return findRefInProject(c, t, r, least)
}

func findRefInProject[T row](c *call, t *table[T], r ref, least role) (T, error) {
	found, err := find(c, t, r, inProject, c.projectFromQuery)
	if err == nil {
		err = c.require(found.base().project, least)
	}
	return found, err
}

// createIn resolves the project that the query must name for a list or a create.
func (c *call) createIn(least role) (*project, error) {
	r, err := c.mustQueryRef("project")
	if err != nil {
		return nil, err
	}
	p, err := c.project(r)
	if err != nil {
		return nil, err
	}
	return p, c.require(p.id, least)
}

// update is the common PUT: a body with an optional name and description, of which absent and
// null keep what there is. Find resolves the row after the body was read.
func update[T row](c *call, t *table[T], find func() (T, error)) (T, error) {
	f := c.fields()
	name, description := f.optName("name"), f.optStr("description")
	if err := f.done(); err != nil {
		var none T
		return none, err
	}
	r, err := find()
	if err != nil {
		return r, err
	}
	return r, t.rename(r, name, description, c.sim.clock.now())
}

var inVPC = []string{"vpc", "project"}

// vpcFromQuery resolves the VPC that the query names.
func (c *call) vpcFromQuery() (uuid.UUID, error) {
	r, err := c.queryRef("vpc")
	if err != nil {
		return uuid.Nil, err
	}
	if r == nil {
		return uuid.Nil, invalidRequest("an object given by name needs its VPC")
	}
	v, err := c.vpcByRef(*r, roleViewer)
	if err != nil {
		return uuid.Nil, err
	}
	return v.id, nil
}

// listVPC resolves the VPC that a list or a create must name.
func (c *call) listVPC(least role) (*vpc, error) {
	r, err := c.mustQueryRef("vpc")
	if err != nil {
		return nil, err
	}
	return c.vpcByRef(r, least)
}

// findInVPC resolves a path parameter that names an object of a VPC.
func findInVPC[T row](c *call, t *table[T], param string, least role) (T, error) {
	r, err := c.pathRef(param)
	if err != nil {
		var none T
		return none, err
	}
	found, err := find(c, t, r, inVPC, c.vpcFromQuery)
	if err == nil {
		err = c.require(found.base().project, least)
	}
	return found, err
}
