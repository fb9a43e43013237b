// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim

import (
	"net/netip"

	"github.com/google/uuid"
)

const (
	systemRouter = "system"
	customRouter = "custom"
	defaultRoute = "default"
)

// vpcRouter is a router of a VPC, its parent.
type vpcRouter struct {
	meta
	kind string
}

// route of a router, its parent.
type routerRoute struct {
	meta
	kind        string // default, vpc_subnet or custom
	destination typedValue
	target      typedValue
	subnet      *subnet // of a vpc_subnet route
}

// typedValue is the JSON of the many unions of a type and a string.
type typedValue struct {
	Type  string  `json:"type"`
	Value *string `json:"value,omitempty"`
}

func typed(kind, value string) typedValue { return typedValue{kind, &value} }

func (v typedValue) equal(w typedValue) bool {
	return v.Type == w.Type && deref(v.Value) == deref(w.Value)
}

type vpcRouterJSON struct {
	identity
	VPCID string `json:"vpc_id"`
	Kind  string `json:"kind"`
}

type routerRouteJSON struct {
	identity
	VPCRouterID string     `json:"vpc_router_id"`
	Kind        string     `json:"kind"`
	Destination typedValue `json:"destination"`
	Target      typedValue `json:"target"`
}

func (r *vpcRouter) json() vpcRouterJSON {
	return vpcRouterJSON{r.identity(), r.parent.String(), r.kind}
}

func (r *routerRoute) json() routerRouteJSON {
	return routerRouteJSON{r.identity(), r.parent.String(), r.kind, r.destination, r.target}
}

// newSystemRouter makes the router that every VPC has, with its default routes.
func (s *Simulator) newSystemRouter(v *vpc) {
	r := &vpcRouter{
		meta: s.newMeta(v.project, v.id, "system", "Routes are automatically added to this "+
			"router as vpc subnets are created"),
		kind: systemRouter,
	}
	v.systemRouter = r.id
	must(s.db.routers.insert(r))
	for name, net := range map[string]string{"default-v4": "0.0.0.0/0", "default-v6": "::/0"} {
		must(s.db.routes.insert(&routerRoute{
			meta: s.newMeta(v.project, r.id, name, "The default route of a vpc"), kind: defaultRoute,
			destination: typed("ip_net", net), target: typed("internet_gateway", "default"),
		}))
	}
}

// must is for what cannot fail, such as the first rows of a new parent.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (s *Simulator) newSubnetRoute(v *vpc, n *subnet) {
	// A clash is possible only with the default routes' names; such a subnet has no route.
	_ = s.db.routes.insert(&routerRoute{
		meta: s.newMeta(v.project, v.systemRouter, n.name, "VPC Subnet route for '"+n.name+"'"),
		kind: "vpc_subnet", destination: typed("subnet", n.name), target: typed("subnet", n.name),
		subnet: n,
	})
}

func (s *Simulator) subnetRoute(n *subnet) *routerRoute {
	for _, r := range s.db.routes.children[s.db.vpcs.rows[n.parent].systemRouter] {
		if r.subnet == n {
			return r
		}
	}
	return nil
}

func (s *Simulator) renameSubnetRoute(n *subnet) {
	if r := s.subnetRoute(n); r != nil && r.name != n.name {
		_ = s.db.routes.rename(r, &n.name, nil, s.clock.now()) // as above
		r.destination, r.target = typed("subnet", n.name), typed("subnet", n.name)
	}
}

func (s *Simulator) removeSubnetRoute(n *subnet) {
	if r := s.subnetRoute(n); r != nil {
		s.db.routes.remove(r)
	}
}

func (s *Simulator) removeRouter(r *vpcRouter) {
	for _, route := range s.db.routes.in(r.id) {
		s.db.routes.remove(route)
	}
	for _, n := range s.db.subnets.in(r.parent) {
		if n.customRouter == r.id {
			n.customRouter = uuid.Nil
		}
	}
	s.db.routers.remove(r)
}

func (s *Simulator) routerList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	v, err := c.listVPC(roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.routers.in(v.id), (*vpcRouter).json), nil
}

func (s *Simulator) routerView(c *call) (any, error) {
	r, err := findInVPC(c, s.db.routers, "router", roleViewer)
	if err != nil {
		return nil, err
	}
	return r.json(), nil
}

func (s *Simulator) routerCreate(c *call) (any, error) {
	f := c.fields()
	name, description := f.name("name"), f.str("description")
	if err := f.done(); err != nil {
		return nil, err
	}
	v, err := c.listVPC(roleCollaborator)
	if err != nil {
		return nil, err
	}
	r := &vpcRouter{meta: s.newMeta(v.project, v.id, name, description), kind: customRouter}
	if err := s.db.routers.insert(r); err != nil {
		return nil, err
	}
	return r.json(), nil
}

func (s *Simulator) routerUpdate(c *call) (any, error) {
	r, err := update(c, s.db.routers, func() (*vpcRouter, error) {
		return findInVPC(c, s.db.routers, "router", roleCollaborator)
	})
	if err != nil {
		return nil, err
	}
	return r.json(), nil
}

func (s *Simulator) routerDelete(c *call) (any, error) {
	r, err := findInVPC(c, s.db.routers, "router", roleCollaborator)
	if err != nil {
		return nil, err
	}
	if r.kind == systemRouter {
		return nil, invalidRequest("cannot delete the system router of a VPC")
	}
	s.removeRouter(r)
	return nil, nil
}

var inRouter = []string{"router", "vpc", "project"}

// routerFromQuery resolves the router that the query names, itself by id, or by name in the
// VPC of the query.
func (c *call) routerFromQuery(least role) (*vpcRouter, error) {
	r, err := c.queryRef("router")
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, invalidRequest("a route given by name needs its router")
	}
	found, err := find(c, c.sim.db.routers, *r, inVPC, c.vpcFromQuery)
	if err == nil {
		err = c.require(found.project, least)
	}
	return found, err
}

func (c *call) listRouter(least role) (*vpcRouter, error) {
	if _, err := c.mustQueryRef("router"); err != nil {
		return nil, err
	}
	return c.routerFromQuery(least)
}

func (c *call) routeFromPath(least role) (*routerRoute, error) {
	r, err := c.pathRef("route")
	if err != nil {
		return nil, err
	}
	found, err := find(c, c.sim.db.routes, r, inRouter, func() (uuid.UUID, error) {
		in, err := c.routerFromQuery(roleViewer)
		if err != nil {
			return uuid.Nil, err
		}
		return in.id, nil
	})
	if err == nil {
		err = c.require(found.project, least)
	}
	return found, err
}

func (s *Simulator) routeList(c *call) (any, error) {
	if err := c.beginScan(nameOrIDSorts); err != nil {
		return nil, err
	}
	r, err := c.listRouter(roleViewer)
	if err != nil {
		return nil, err
	}
	return pageOf(c, s.db.routes.in(r.id), (*routerRoute).json), nil
}

func (s *Simulator) routeView(c *call) (any, error) {
	r, err := c.routeFromPath(roleViewer)
	if err != nil {
		return nil, err
	}
	return r.json(), nil
}

func (s *Simulator) routeCreate(c *call) (any, error) {
	f := c.fields()
	name, description := f.name("name"), f.str("description")
	destination, target, err := readRoute(f)
	if err != nil {
		return nil, err
	}
	in, err := c.listRouter(roleCollaborator)
	if err != nil {
		return nil, err
	}
	if in.kind == systemRouter {
		return nil, invalidRequest("user-provided routes cannot be added to a system router")
	}
	if err := checkRoute(destination, target); err != nil {
		return nil, err
	}
	r := &routerRoute{
		meta: s.newMeta(in.project, in.id, name, description), kind: customRouter,
		destination: destination, target: target,
	}
	if err := s.db.routes.insert(r); err != nil {
		return nil, err
	}
	return r.json(), nil
}

// routeUpdate changes custom routes, and of default routes the target.
func (s *Simulator) routeUpdate(c *call) (any, error) {
	f := c.fields()
	destination, target, err := readRoute(f)
	if err != nil {
		return nil, err
	}
	r, err := update(c, s.db.routes, func() (*routerRoute, error) {
		r, err := c.routeFromPath(roleCollaborator)
		if err != nil {
			return r, err
		}
		same := !f.has("name") && !f.has("description") && destination.equal(r.destination)
		switch {
		case r.kind == defaultRoute && !same:
			return r, invalidRequest("only the target of a default route can be changed")
		case r.kind != customRouter && r.kind != defaultRoute:
			return r, invalidRequest("routes of kind %q cannot be modified", r.kind)
		}
		return r, checkRoute(destination, target)
	})
	if err != nil {
		return nil, err
	}
	r.destination, r.target = destination, target
	return r.json(), nil
}

func (s *Simulator) routeDelete(c *call) (any, error) {
	r, err := c.routeFromPath(roleCollaborator)
	if err != nil {
		return nil, err
	}
	if r.kind != customRouter {
		return nil, invalidRequest("routes of kind %q cannot be deleted", r.kind)
	}
	s.db.routes.remove(r)
	return nil, nil
}

// readTyped reads a union of a type and a string, checking the string by the type.
func readTyped(f *fields, key string, kinds ...string) typedValue {
	o := f.object(key)
	switch kind := o.enum("type", kinds...); kind {
	case "drop":
		return typedValue{Type: kind}
	case "ip":
		return typed(kind, o.addr("value").String())
	case "ip_net":
		return typed(kind, o.prefix("value").String())
	default:
		return typed(kind, o.name("value"))
	}
}

func readRoute(f *fields) (destination, target typedValue, err error) {
	destination = readTyped(f, "destination", "ip", "ip_net", "vpc", "subnet")
	target = readTyped(f, "target", "ip", "vpc", "subnet", "instance", "internet_gateway", "drop")
	return destination, target, f.done()
}

// checkRoute refuses destinations and targets that users may not set, and pairs of addresses
// of two IP versions.
func checkRoute(destination, target typedValue) error {
	switch {
	case destination.Type == "vpc":
		return invalidRequest("VPCs cannot be used as a destination in custom routes")
	case target.Type == "vpc" || target.Type == "subnet":
		return invalidRequest("a %s cannot be used as a target in custom routes", target.Type)
	case target.Type != "ip":
		return nil
	}
	to := netip.MustParseAddr(*target.Value)
	var from netip.Addr
	switch destination.Type {
	case "ip":
		from = netip.MustParseAddr(*destination.Value)
	case "ip_net":
		from = netip.MustParsePrefix(*destination.Value).Addr()
	default:
		return nil
	}
	if from.Is4() != to.Is4() {
		return invalidRequest("cannot mix explicit IPv4 and IPv6 addresses between destination " +
			"and target")
	}
	return nil
}
