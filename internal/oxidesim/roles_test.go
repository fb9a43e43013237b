// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// withUsers is a rack with a user per kind of right; the token of each is its name.
func withUsers(t *testing.T) *rack {
	t.Helper()
	r := startRack(t, oxidesim.Config{})
	seed, err := oxidesim.ParseSeed([]byte(`
silos:
- name: demo
  users:
  - {name: viewer, tokens: [{secret: viewer}]}
  - {name: limited, tokens: [{secret: limited}]}
  - {name: collaborator, tokens: [{secret: collaborator}]}
  - {name: nobody, tokens: [{secret: nobody}]}
  - {name: silo-viewer, silo_role: viewer, tokens: [{secret: silo-viewer}]}
  - {name: silo-limited, silo_role: limited_collaborator, tokens: [{secret: silo-limited}]}
  projects:
  - name: demo
    roles: {viewer: viewer, limited: limited_collaborator, collaborator: collaborator}
- name: other
  users:
  - {name: stranger, silo_role: admin, tokens: [{secret: stranger}]}
  projects:
  - {name: demo}
`))
	if err == nil {
		err = r.Apply(seed)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// OXIDE_API.md §2 "401, 403, 404", §16: what each role may do.
func TestRoles(t *testing.T) {
	r := withUsers(t)
	id, inst := r.fip("web"), r.instance("node-1")
	attach := attachTo(inst)
	for _, tc := range []struct {
		name, method, path string
		body               any
		status             map[string]int // by token
	}{
		{
			"read by id", "GET", "/v1/floating-ips/" + id, nil,
			map[string]int{
				"viewer": 200, "limited": 200, "silo-viewer": 200,
				"nobody": 404, "stranger": 404,
			},
		},
		{
			"read by name", "GET", "/v1/floating-ips/web?project=demo", nil,
			map[string]int{"viewer": 200, "silo-viewer": 200, "nobody": 404, "stranger": 404},
		},
		{
			"read the project", "GET", "/v1/projects/demo", nil,
			map[string]int{"viewer": 200, "silo-viewer": 200, "nobody": 404, "stranger": 200},
		},
		{
			"attach", "POST", "/v1/floating-ips/" + id + "/attach", attach,
			map[string]int{
				"viewer": 403, "silo-viewer": 403, "nobody": 404, "stranger": 404,
				"limited": 202, "silo-limited": 202, "collaborator": 202,
			},
		},
		{
			"start", "POST", "/v1/instances/" + inst + "/start", nil,
			map[string]int{"viewer": 403, "nobody": 404, "limited": 202},
		},
		{
			"firewall", "PUT", "/v1/vpc-firewall-rules?project=demo&vpc=default",
			obj{"rules": []obj{}},
			map[string]int{"viewer": 403, "limited": 403, "nobody": 404, "collaborator": 200},
		},
		{
			"view a pool", "GET", "/v1/ip-pools/default", nil,
			map[string]int{"viewer": 200, "nobody": 200, "stranger": 404},
		},
		{
			"operate", "GET", "/v1/system/ip-pools", nil,
			map[string]int{"silo-viewer": 403, oxidesim.DefaultOperatorToken: 200},
		},
		{
			"read the project's policy", "GET", "/v1/projects/demo/policy", nil,
			map[string]int{"viewer": 200, "silo-viewer": 200, "nobody": 404},
		},
		{
			"read the silo's policy", "GET", "/v1/policy", nil,
			map[string]int{"viewer": 200, "silo-viewer": 200, "nobody": 200, "stranger": 200},
		},
		{
			"change a policy", "PUT", "/v1/projects/demo/policy", obj{"role_assignments": []obj{}},
			map[string]int{"viewer": 403, "collaborator": 403, "nobody": 404},
		},
	} {
		for token, status := range tc.status {
			t.Run(tc.name+" as "+token, func(t *testing.T) {
				code := map[int]string{403: "Forbidden", 404: "ObjectNotFound"}[status]
				r.as(token).do(tc.method, tc.path, tc.body).want(status, code)
			})
		}
	}
}

// OXIDE_API.md §9: who has roles on projects only can list nothing of the silo, and finds no single
// image of it.
func TestARoleOnAProjectAloneListsNothingOfTheSilo(t *testing.T) {
	r := withUsers(t)
	for _, tc := range []struct {
		name, method, path string
		body               any
		status             map[string]int // by token
	}{
		{
			"list projects", "GET", "/v1/projects", nil,
			map[string]int{
				"viewer": 403, "limited": 403, "collaborator": 403, "nobody": 403,
				"silo-viewer": 200, "silo-limited": 200, "stranger": 200,
			},
		},
		{
			"list the silo's images", "GET", "/v1/images", nil,
			map[string]int{"viewer": 403, "collaborator": 403, "nobody": 403, "silo-viewer": 200},
		},
		{
			"read an image of the silo", "GET", "/v1/images/debian-13", nil,
			map[string]int{"viewer": 404, "collaborator": 404, "nobody": 404, "silo-viewer": 200},
		},
		{
			"delete an image of the silo", "DELETE", "/v1/images/debian-13", nil,
			map[string]int{"collaborator": 404, "silo-viewer": 403},
		},
		{
			"list the project's images", "GET", "/v1/images?project=demo", nil,
			map[string]int{"viewer": 200, "nobody": 404},
		},
		{
			"list IP pools", "GET", "/v1/ip-pools", nil,
			map[string]int{"viewer": 403, "collaborator": 403, "nobody": 403, "silo-viewer": 200},
		},
		{
			"list subnet pools", "GET", "/v1/subnet-pools", nil,
			map[string]int{"viewer": 403, "collaborator": 403, "nobody": 403, "silo-viewer": 200},
		},
	} {
		for token, status := range tc.status {
			t.Run(tc.name+" as "+token, func(t *testing.T) {
				code := map[int]string{403: "Forbidden", 404: "ObjectNotFound"}[status]
				r.as(token).do(tc.method, tc.path, tc.body).want(status, code)
			})
		}
	}
}

// OXIDE_API.md §18 1: a revoked role looks exactly like mass deletion.
func TestRevokedRoleIs404(t *testing.T) {
	r := withUsers(t)
	inst := r.instance("node-1")
	c := r.as("limited")
	c.get("/v1/instances/" + inst).ok(200)
	if err := r.SetProjectRole("demo", "limited", "none"); err == nil {
		t.Error("two projects are named demo: want an error that asks for more")
	}
	body := obj{"role_assignments": []obj{}}
	r.as(oxidesim.DefaultOperatorToken).put("/v1/projects/demo/policy", body).ok(200)
	c.get("/v1/instances/"+inst).want(404, "ObjectNotFound")
	c.get("/v1/instances?project=demo").want(404, "ObjectNotFound")
	c.get("/v1/projects/demo").want(404, "ObjectNotFound")
	c.get("/v1/me").ok(200)
	must(t, r.SetProjectRole("demo/demo", "limited", "viewer"))
	c.get("/v1/instances/" + inst).ok(200)
	must(t, r.SetProjectRole("demo/demo", "limited", "none"))
	c.get("/v1/instances/"+inst).want(404, "ObjectNotFound")
}

// OXIDE_API.md §1: silos see nothing of each other.
func TestSilosAreApart(t *testing.T) {
	r := withUsers(t)
	me := r.as("stranger").get("/v1/me").ok(200)
	if me.str("silo_name") != "other" || me["silo_admin"] != true || me["fleet_viewer"] != false {
		t.Errorf("me: %v", me)
	}
	mine := r.get("/v1/projects/demo").ok(200).str("id")
	theirs := r.as("stranger").get("/v1/projects/demo").ok(200).str("id")
	if mine == theirs {
		t.Error("one project in two silos")
	}
	r.as("stranger").get("/v1/projects/"+mine).want(404, "ObjectNotFound")
	if users := r.as("stranger").get("/v1/users").ok(200).items(); len(users) != 1 {
		t.Errorf("users: %v", users)
	}
}

// OXIDE_API.md §9: a single object of the fleet is not found by who has no role on the fleet, and its
// list is refused.
func TestWithoutAFleetRoleObjectsOfTheFleetAreNotFound(t *testing.T) {
	r := withUsers(t)
	op := r.as(oxidesim.DefaultOperatorToken)
	first := func(list string) string { return op.get(list).ok(200).items()[0].str("id") }
	rack := "/v1/system/hardware/racks/" + first("/v1/system/hardware/racks")
	sled := "/v1/system/hardware/sleds/" + first("/v1/system/hardware/sleds")
	for _, object := range []string{
		rack, sled, sled + "/instances", "/v1/system/ip-pools/default",
		"/v1/system/ip-pools/default/ranges", "/v1/system/silos/other",
		"/v1/system/users?silo=other",
	} {
		op.get(object).ok(200)
		for _, token := range []string{"collaborator", "silo-viewer", oxidesim.DefaultToken} {
			r.as(token).get(object).want(404, "ObjectNotFound")
		}
	}
	for _, list := range []string{
		"/v1/system/hardware/racks", "/v1/system/hardware/sleds", "/v1/system/ip-pools",
		"/v1/system/subnet-pools", "/v1/system/silos", "/v1/system/silo-quotas",
		"/v1/system/policy", "/v1/system/networking/settings",
	} {
		op.get(list).ok(200)
		r.as(oxidesim.DefaultToken).get(list).want(403, "Forbidden")
	}
}
