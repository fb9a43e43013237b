// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package sanity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// reserved are the features that most cases about addresses need.
var reserved = []feature{backendv1.Feature_FEATURE_RESERVED_ADDRESSES}

func reserveCases() []Case {
	changes := needs{changes: true, features: reserved}
	return []Case{
		{Name: "addresses/reserve-ten-times", run: reserveTenTimes, needs: changes, Contract: []string{
			"ReserveAddress makes sure that there is an address of this name, and returns it.",
			"Whether this very call made it.",
		}},
		{Name: "addresses/reserve-concurrently", run: reserveConcurrently, needs: changes, Contract: []string{
			"of several calls at the same time one makes it.",
		}},
		{Name: "addresses/reserve-differs", run: reserveDiffers, needs: changes, Contract: []string{
			"ALREADY_EXISTS: something else was asked for when an address was reserved under this name; the " +
				"message says what differs. Nothing was changed.",
		}},
		{Name: "addresses/reserve-invalid", run: reserveInvalid, needs: changes, Contract: []string{
			invalidContract,
			"Those that load balancers' addresses are given (\"lb-\", and at the end \"-\" and 16 " +
				"characters of " +
				"a hash) are refused.",
			"The description for people, at most 380 characters, in which no line begins with \"oxide-ccm\".",
		}},
		{Name: "addresses/reserve-from-no-pool", run: reserveNoPool, needs: changes, Contract: []string{
			"FAILED_PRECONDITION: the IP pool or subnet pool does not exist, is not linked to the silo, or " +
				"none " +
				"is the default for the wanted IP family.",
			"OXIDE_REFUSED if the address that is asked for is taken or in no pool",
		}},
		{Name: "addresses/reserve-the-name-of-others", run: reserveForeign,
			needs: needs{faults: true, changes: true, features: reserved}, Contract: []string{
				"ADDRESS_NOT_OWNED if the name is that of an address which this call did not make", notOwnedContract,
			}},
		{Name: "addresses/external-subnet", run: externalSubnet,
			needs: needs{changes: true, features: append([]feature{
				backendv1.Feature_FEATURE_EXTERNAL_SUBNETS,
			}, reserved...)},
			Contract: []string{
				"The length of the prefix: 32 or 128 for a single address, which every floating IP is; less for " +
					"an external subnet of several addresses.",
			}},
		{Name: "addresses/delete-ten-times", run: deleteTenTimes, needs: changes, Contract: []string{
			"It succeeds if there is none with this id, which counts only while the project can be read.",
		}},
		{Name: "addresses/list", run: listAddressPages, needs: changes, Contract: []string{
			"ListAddresses returns the floating IPs and external subnets of the project, whoever they belong " +
				"to, a page at a time, ordered by id.",
			"What this backend changed itself is in the answer at once.",
		}},
		{Name: "addresses/list-invalid", run: listAddressesInvalid, needs: needs{features: reserved},
			Contract: []string{invalidContract, tokenContract, "Not with `attached` false."}},
	}
}

// reservation is a request for any floating IP of the default pool for IPv4.
func (w *world) reservation(what string) *backendv1.ReserveAddressRequest {
	return &backendv1.ReserveAddressRequest{
		Name: w.name(what), Source: backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP,
		Family: backendv1.IpFamily_IP_FAMILY_IPV4, Description: "Made by oxide-backend-sanity; may be " +
			"deleted.",
	}
}

// reserve reserves an address, which is removed after the case.
func (c *checker) reserve(
	ctx context.Context, request *backendv1.ReserveAddressRequest,
) *backendv1.Address {
	answer, err := c.addresses.ReserveAddress(ctx, request)
	switch reasonOf(err) {
	case backendv1.ErrorReason_ERROR_REASON_POOL_NOT_FOUND:
		if request.GetSelector() == nil {
			c.skip("the silo has no default pool for it: " + bounded(err.Error()))
		}
	case backendv1.ErrorReason_ERROR_REASON_POOL_EXHAUSTED:
		c.skip("the default pool is exhausted")
	}
	c.must("ReserveAddress", err)
	return answer.GetAddress()
}

func reserveTenTimes(ctx context.Context, c *checker) {
	request := c.reservation("ten-times")
	first := c.reserve(ctx, request)
	equal(c, "name", first.GetName(), request.GetName())
	equal(c, "source", first.GetSource(), request.GetSource())
	equal(c, "family", first.GetFamily(), request.GetFamily())
	equal(c, "prefix_length", first.GetPrefixLength(), 32)
	equal(c, "ownership", first.GetOwnership(), backendv1.AddressOwnership_ADDRESS_OWNERSHIP_RESERVED)
	equal(c, "instance_id", first.GetInstanceId(), "")
	equal(c, "description", first.GetDescription(), request.GetDescription())
	c.holds(uuidPattern.MatchString(first.GetResourceId()), "resource_id", "a UUID", first.GetResourceId())
	for range repetitions - 1 {
		again, err := c.addresses.ReserveAddress(ctx, request)
		if c.ok("ReserveAddress again", err) {
			equal(c, "the id when asked again", again.GetAddress().GetResourceId(), first.GetResourceId())
			equal(c, "created when asked again", again.GetCreated(), false)
		}
	}
	c.countNamed(ctx, request.GetName(), 1)
}

// countNamed expects so many addresses with a name in what Oxide has now.
func (c *checker) countNamed(ctx context.Context, name string, want int) {
	found, err := c.listAddresses(ctx, &backendv1.ListAddressesRequest{
		Names: []string{name}, MaxAge: durationpb.New(0),
	})
	if c.ok("ListAddresses", err) {
		equal(c, "the number of addresses "+name, len(found), want)
	}
}

func reserveConcurrently(ctx context.Context, c *checker) {
	c.reserve(ctx, c.reservation("pool-is-there")) // else the case is skipped
	request := c.reservation("concurrently")
	var created atomic.Int32
	var mu sync.Mutex
	found := make(map[string]bool)
	var wg sync.WaitGroup
	for range repetitions {
		wg.Go(func() {
			answer, err := c.addresses.ReserveAddress(ctx, request)
			if !c.ok("one of ten calls at the same time", err) {
				return
			}
			if answer.GetCreated() {
				created.Add(1)
			}
			mu.Lock()
			defer mu.Unlock()
			found[answer.GetAddress().GetResourceId()] = true
		})
	}
	wg.Wait()
	equal(c, "the number of ids in ten answers", len(found), 1)
	equal(c, "the number of calls that say that they made it", created.Load(), 1)
	c.countNamed(ctx, request.GetName(), 1)
}

func reserveDiffers(ctx context.Context, c *checker) {
	request := c.reservation("differs")
	first := c.reserve(ctx, request)
	for what, change := range map[string]func(*backendv1.ReserveAddressRequest){
		"another description": func(r *backendv1.ReserveAddressRequest) { r.Description = "Another." },
		"another family": func(r *backendv1.ReserveAddressRequest) {
			r.Family = backendv1.IpFamily_IP_FAMILY_IPV6
		},
		"an address": func(r *backendv1.ReserveAddressRequest) {
			r.Selector = &backendv1.ReserveAddressRequest_Address{Address: "192.0.2.254"}
		},
	} {
		other := clone(request)
		change(other)
		for range repetitions {
			_, err := c.addresses.ReserveAddress(ctx, other)
			if !c.refused("the same name with "+what, err, codes.AlreadyExists,
				backendv1.ErrorReason_ERROR_REASON_RESERVATION_DIFFERS) {
				break
			}
		}
	}
	again := c.reserve(ctx, request)
	equal(c, "the id afterwards", again.GetResourceId(), first.GetResourceId())
	equal(c, "the address afterwards", again.GetAddress(), first.GetAddress())
}

func reserveInvalid(ctx context.Context, c *checker) {
	for what, change := range map[string]func(*backendv1.ReserveAddressRequest){
		"no name":            func(r *backendv1.ReserveAddressRequest) { r.Name = "" },
		"a name in capitals": func(r *backendv1.ReserveAddressRequest) { r.Name = "Sanity" },
		"a name of a load balancer's address": func(r *backendv1.ReserveAddressRequest) {
			r.Name = "lb-default-web-" + strings.Repeat("a", 16)
		},
		"no source": func(r *backendv1.ReserveAddressRequest) { r.Source = 0 },
		"no family": func(r *backendv1.ReserveAddressRequest) { r.Family = 0 },
		"an address that is none": func(r *backendv1.ReserveAddressRequest) {
			r.Selector = &backendv1.ReserveAddressRequest_Address{Address: "198.51.100"}
		},
		"an address of the other family": func(r *backendv1.ReserveAddressRequest) {
			r.Selector = &backendv1.ReserveAddressRequest_Address{Address: "2001:db8::1"}
		},
		"a pool that cannot be one": func(r *backendv1.ReserveAddressRequest) {
			r.Selector = &backendv1.ReserveAddressRequest_Pool{Pool: "A.b"}
		},
		"a description of 381 characters": func(r *backendv1.ReserveAddressRequest) {
			r.Description = strings.Repeat("x", 381)
		},
		"a line that is like a marker": func(r *backendv1.ReserveAddressRequest) {
			r.Description = "Mine.\noxide-ccm/v1 is what this line is like"
		},
	} {
		request := c.reservation("invalid")
		change(request)
		_, err := c.addresses.ReserveAddress(ctx, request)
		c.invalid(what, err)
	}
}

func reserveNoPool(ctx context.Context, c *checker) {
	first := c.reserve(ctx, c.reservation("taken"))
	request := c.reservation("no-pool")
	request.Selector = &backendv1.ReserveAddressRequest_Pool{Pool: c.name("pool")}
	_, err := c.addresses.ReserveAddress(ctx, request)
	c.refused("a pool that there is not", err, codes.FailedPrecondition,
		backendv1.ErrorReason_ERROR_REASON_POOL_NOT_FOUND)
	for what, address := range map[string]string{
		"an address in no pool": "192.0.2.254", "an address that is taken": first.GetAddress(),
	} {
		request.Selector = &backendv1.ReserveAddressRequest_Address{Address: address}
		_, err := c.addresses.ReserveAddress(ctx, request)
		c.refused(what, err, codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_OXIDE_REFUSED)
	}
	c.countNamed(ctx, request.GetName(), 0)
}

func reserveForeign(ctx context.Context, c *checker) {
	request := c.reservation("foreign")
	err := c.seedProject(ctx, seedProject{Addresses: []seedAddress{{Name: request.GetName()}}})
	c.must("to add an address to the rack", err)
	for range repetitions {
		_, err := c.addresses.ReserveAddress(ctx, request)
		if !c.refused("ReserveAddress with the name of somebody else's", err, codes.FailedPrecondition,
			backendv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_OWNED) {
			break
		}
	}
	c.owned(ctx, &backendv1.Address{Name: request.GetName()},
		backendv1.AddressOwnership_ADDRESS_OWNERSHIP_NONE)
}

func externalSubnet(ctx context.Context, c *checker) {
	request := c.reservation("subnet")
	request.Source = backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET
	address := c.reserve(ctx, request)
	equal(c, "source", address.GetSource(), request.GetSource())
	equal(c, "prefix_length", address.GetPrefixLength(), 32)
	for range repetitions - 1 {
		again := c.reserve(ctx, request)
		equal(c, "the id when asked again", again.GetResourceId(), address.GetResourceId())
	}
	if len(c.nodes) > 0 {
		c.attach(ctx, address, c.nodes[0])
		c.attach(ctx, address, c.nodes[0])
		c.detach(ctx, address, c.nodes[0])
		c.detach(ctx, address, c.nodes[0])
	}
	for range repetitions {
		_, err := c.addresses.DeleteAddress(ctx, &backendv1.DeleteAddressRequest{
			Source: address.GetSource(), ResourceId: address.GetResourceId(),
		})
		c.ok("DeleteAddress of a subnet", err)
	}
	c.countNamed(ctx, request.GetName(), 0)
}

func deleteTenTimes(ctx context.Context, c *checker) {
	request := c.reservation("deleted")
	address := c.reserve(ctx, request)
	for range repetitions {
		_, err := c.addresses.DeleteAddress(ctx, &backendv1.DeleteAddressRequest{
			Source: address.GetSource(), ResourceId: address.GetResourceId(),
		})
		c.ok("DeleteAddress", err)
	}
	c.countNamed(ctx, request.GetName(), 0)
	for what, bad := range map[string]*backendv1.DeleteAddressRequest{
		"no source":             {ResourceId: address.GetResourceId()},
		"an id that is no UUID": {Source: address.GetSource(), ResourceId: "nonsense"},
	} {
		_, err := c.addresses.DeleteAddress(ctx, bad)
		c.invalid("DeleteAddress with "+what, err)
	}
}

func listAddressPages(ctx context.Context, c *checker) {
	var names []string
	for range 3 {
		request := c.reservation("listed")
		c.reserve(ctx, request)
		names = append(names, request.GetName())
	}
	idOf := (*backendv1.Address).GetResourceId
	list := func(filter *backendv1.ListAddressesRequest) []*backendv1.Address {
		found, err := c.listAddresses(ctx, filter)
		c.must("ListAddresses", err)
		return found
	}
	whole := list(&backendv1.ListAddressesRequest{Names: names})
	equal(c, "addresses by three names", len(whole), 3)
	one := func(token string) ([]*backendv1.Address, string, error) {
		page, err := c.addresses.ListAddresses(ctx, &backendv1.ListAddressesRequest{
			Names: names, PageSize: 1, PageToken: token,
		})
		return page.GetAddresses(), page.GetNextPageToken(), err
	}
	pages(c, "ListAddresses", ids(whole, idOf), idOf, one)
	yes, no := true, false
	for what, tc := range map[string]struct {
		filter *backendv1.ListAddressesRequest
		want   int
	}{
		"attached":       {&backendv1.ListAddressesRequest{Names: names, Attached: &yes}, 0},
		"not attached":   {&backendv1.ListAddressesRequest{Names: names, Attached: &no}, 3},
		"of the scope":   {&backendv1.ListAddressesRequest{Names: names, Scope: c.options.Scope}, 0},
		"of an instance": {&backendv1.ListAddressesRequest{Names: names, InstanceId: absentID}, 0},
		"of the other kind": {&backendv1.ListAddressesRequest{
			Names: names, Source: backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET,
		}, 0},
	} {
		equal(c, "how many of three are "+what, len(list(tc.filter)), tc.want)
	}
	all := ids(list(&backendv1.ListAddressesRequest{PageSize: 1000}), idOf)
	c.holds(slices.IsSorted(all), "all addresses", "ordered by id", fmt.Sprint(all))
}

func listAddressesInvalid(ctx context.Context, c *checker) {
	no := false
	for what, request := range map[string]*backendv1.ListAddressesRequest{
		"a negative page size":           {PageSize: -1},
		"a made-up page token":           {PageToken: "nonsense"},
		"a token of 600 bytes":           {PageToken: strings.Repeat("x", 600)},
		"a scope that cannot be one":     {Scope: "a b"},
		"an instance that is no UUID":    {InstanceId: "nonsense"},
		"what is not attached, to what?": {InstanceId: absentID, Attached: &no},
		"an age above 10 minutes":        {MaxAge: durationpb.New(11 * time.Minute)},
		"101 names":                      {Names: slices.Repeat([]string{"a"}, 101)},
	} {
		_, err := c.addresses.ListAddresses(ctx, request)
		c.invalid(what, err)
	}
}
