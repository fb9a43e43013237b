// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxidesim_test

import (
	"fmt"
	"net/url"
	"slices"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// scan follows next_page to the end; it gives the names and the number of requests.
func (r *rack) scan(path string, sep string) (names []string, requests int) {
	r.t.Helper()
	next := path
	for {
		page := r.get(next).ok(200)
		requests++
		for _, item := range page.items() {
			names = append(names, item.str("name"))
		}
		token := page.str("next_page")
		if (token != "") != (len(page.items()) > 0) {
			r.t.Fatalf("page of %d items with next_page %q", len(page.items()), token)
		}
		if token == "" {
			return names, requests
		}
		next = path[:len(path)-len(sep)] + "page_token=" + url.QueryEscape(token)
		if sep != "" {
			next += "&" + sep
		}
	}
}

// OXIDE_API.md §3: pages.
func TestPaging(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	var all []string
	for n := range 7 {
		all = append(all, fmt.Sprintf("f%d", n))
		r.fip(all[n])
	}
	reversed := slices.Clone(all)
	slices.Reverse(reversed)

	t.Run("next_page is on every page that has items: one extra request", func(t *testing.T) {
		names, requests := r.scan("/v1/floating-ips?project=demo&", "")
		if !slices.Equal(names, all) || requests != 2 {
			t.Errorf("%v in %d requests", names, requests)
		}
	})
	t.Run("limit is taken from each request", func(t *testing.T) {
		names, requests := r.scan("/v1/floating-ips?project=demo&limit=3", "limit=3")
		if !slices.Equal(names, all) || requests != 4 {
			t.Errorf("%v in %d requests", names, requests)
		}
	})
	t.Run("the token carries sort and selector, others are ignored", func(t *testing.T) {
		first := r.get("/v1/floating-ips?project=demo&limit=4&sort_by=name_descending").ok(200)
		rest := r.get("/v1/floating-ips?project=nope&sort_by=id_ascending&page_token=" +
			url.QueryEscape(first.str("next_page"))).ok(200)
		var names []string
		for _, i := range append(first.items(), rest.items()...) {
			names = append(names, i.str("name"))
		}
		if !slices.Equal(names, reversed) {
			t.Errorf("%v", names)
		}
	})
	t.Run("a scan is no snapshot", func(t *testing.T) {
		first := r.get("/v1/floating-ips?project=demo&limit=2").ok(200)
		r.fip("a-new-one-before")
		r.fip("f1-new-one-behind")
		rest := r.get("/v1/floating-ips?page_token=" +
			url.QueryEscape(first.str("next_page"))).ok(200)
		if got := rest.items()[0].str("name"); got != "f1-new-one-behind" || len(rest.items()) != 6 {
			t.Errorf("goes on at %s with %d", got, len(rest.items()))
		}
	})
	for name, query := range map[string]string{
		"limit 0": "limit=0", "negative limit": "limit=-1", "limit no number": "limit=ten",
		"unknown sort": "sort_by=time", "token no token": "page_token=xyz",
	} {
		t.Run(name+" is 400 without error_code", func(t *testing.T) {
			r.get("/v1/floating-ips?project=demo&"+query).want(400, "")
		})
	}
	t.Run("a limit beyond 10000 is capped silently", func(t *testing.T) {
		r.get("/v1/floating-ips?project=demo&limit=20000").ok(200)
	})
}

// OXIDE_API.md §3 Trap: NICs of a subnet in name order lose those of equal name at a page
// boundary; in id order none is lost.
func TestPagingLosesEqualNames(t *testing.T) {
	r := startRack(t, oxidesim.Config{})
	for n := range 5 {
		r.instance(fmt.Sprintf("node-%d", n))
	}
	const path = "/v1/vpc-subnets/default/network-interfaces?project=demo&vpc=default&"
	if names, _ := r.scan(path+"limit=2", "limit=2"); len(names) != 2 {
		t.Errorf("in name order: %d NICs, want the 2 of the first page only", len(names))
	}
	if names, _ := r.scan(path+"sort_by=id_ascending&limit=2", "limit=2"); len(names) != 5 {
		t.Errorf("in id order: %d NICs, want 5", len(names))
	}
}
