// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// OXIDE_API.md §4: what is linked to a gateway is named within it, so by name it needs the
// gateway and by id it must not have one; §2 tells a bad query string from a bad request.
func TestGatewayLinks(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	const in = inDefaultVPC + "&gateway=out"
	r.post("/v1/internet-gateways"+inDefaultVPC, obj{"name": "out", "description": ""}).ok(201)
	for _, tc := range []struct {
		path string
		body obj
	}{
		{"/v1/internet-gateway-ip-pools", obj{"ip_pool": "default"}},
		{"/v1/internet-gateway-ip-addresses", obj{"address": "198.51.100.9"}},
	} {
		t.Run(tc.path, func(t *testing.T) {
			r := *r
			r.t = t
			named := with(with(tc.body, "name", "link"), "description", "")
			id := r.post(tc.path+in, named).ok(201).str("id")
			r.post(tc.path+in, named).want(400, "ObjectAlreadyExists")
			r.get(tc.path+inDefaultVPC).want(400, "")
			r.del(tc.path+"/link"+inDefaultVPC).want(400, "InvalidRequest")
			r.del(tc.path+"/"+id+in).want(400, "InvalidRequest")
			r.del(tc.path + "/" + id).ok(204)
			r.post(tc.path+in, named).ok(201)
			r.del(tc.path + "/link" + in).ok(204)
			r.post(tc.path+in, named).ok(201)
		})
	}
	const out = "/v1/internet-gateways/out" + inDefaultVPC
	r.del(out).want(400, "InvalidRequest")
	r.del(out+"&cascade=yes").want(400, "")
	r.del(out + "&cascade=true").ok(204)
	r.get(out).want(404, "ObjectNotFound")
}
