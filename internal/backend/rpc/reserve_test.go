// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rpc

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

const (
	floatingIP     = backendv1.AddressSource_ADDRESS_SOURCE_FLOATING_IP
	externalSubnet = backendv1.AddressSource_ADDRESS_SOURCE_EXTERNAL_SUBNET
	familyV4       = backendv1.IpFamily_IP_FAMILY_IPV4
	familyV6       = backendv1.IpFamily_IP_FAMILY_IPV6
)

// aReservation asks for a floating IP of the silo's default pool.
func aReservation(edit func(*backendv1.ReserveAddressRequest)) *backendv1.ReserveAddressRequest {
	req := &backendv1.ReserveAddressRequest{
		Name: "vip", Source: floatingIP, Family: familyV4, Description: "for the database\nof the shop",
	}
	if edit != nil {
		edit(req)
	}
	return req
}

func fromPool(pool string) *backendv1.ReserveAddressRequest_Pool {
	return &backendv1.ReserveAddressRequest_Pool{Pool: pool}
}

func thisAddress(address string) *backendv1.ReserveAddressRequest_Address {
	return &backendv1.ReserveAddressRequest_Address{Address: address}
}

// reserve reserves an address, which must succeed.
func (r *rig) reserve(edit func(*backendv1.ReserveAddressRequest)) *backendv1.Address {
	r.Helper()
	resp, err := r.addresses.ReserveAddress(r.Context(), aReservation(edit))
	r.must(err)
	return resp.GetAddress()
}

// poolNamed returns the id of a pool.
func (r *rig) poolNamed(name string) string {
	r.Helper()
	listed, err := r.pools.ListPools(r.Context(), &backendv1.ListPoolsRequest{})
	r.must(err)
	for _, pool := range listed.GetPools() {
		if pool.GetName() == name {
			return pool.GetId()
		}
	}
	r.Fatalf("there is no pool %s", name)
	return ""
}

func TestInvariant6AReservedAddressIsFoundAgainByItsName(t *testing.T) {
	r := newRig(t)
	poolID := r.poolNamed("default")
	for _, tc := range []struct {
		name string
		req  *backendv1.ReserveAddressRequest
		// again asks for the same in another way.
		again   func(*backendv1.ReserveAddressRequest)
		address string
		prefix  int32
	}{
		{"of the default pool", aReservation(nil), nil, "198.51.100.", 32},
		{"without a description", aReservation(func(req *backendv1.ReserveAddressRequest) {
			req.Name, req.Description = "plain", ""
		}), nil, "198.51.100.", 32},
		{"of a pool by name, then by id", aReservation(func(req *backendv1.ReserveAddressRequest) {
			req.Name, req.Selector = "pooled", fromPool("default")
		}), func(req *backendv1.ReserveAddressRequest) {
			req.Selector = fromPool(strings.ToUpper(poolID))
		}, "198.51.100.", 32},
		{"this very one, and its family is known only then", aReservation(
			func(req *backendv1.ReserveAddressRequest) {
				req.Name, req.Selector, req.Family = "chosen", thisAddress("198.51.100.77"), 0
			}), func(req *backendv1.ReserveAddressRequest) {
			req.Selector, req.Family = thisAddress("::ffff:198.51.100.77"), familyV4
		}, "198.51.100.77", 32},
		{"of IPv6", aReservation(func(req *backendv1.ReserveAddressRequest) {
			req.Name, req.Selector, req.Family = "six", fromPool("default-v6"), familyV6
		}), nil, "2001:db8:51::", 128},
		{"an external subnet", aReservation(func(req *backendv1.ReserveAddressRequest) {
			req.Name, req.Source = "routed", externalSubnet
		}), nil, "198.18.0.", 32},
		{"this very external subnet", aReservation(func(req *backendv1.ReserveAddressRequest) {
			req.Name, req.Source, req.Family = "routed-six", externalSubnet, familyV6
			req.Selector = thisAddress("2001:db8:18::42")
		}), nil, "2001:db8:18::42", 128},
	} {
		t.Run(tc.name, func(t *testing.T) {
			made, err := r.addresses.ReserveAddress(t.Context(), tc.req)
			if err != nil || !made.GetCreated() {
				t.Fatalf("got %v, %v", made, err)
			}
			ip := made.GetAddress()
			if !strings.HasPrefix(ip.GetAddress(), tc.address) || ip.GetPrefixLength() != tc.prefix ||
				ip.GetName() != tc.req.GetName() || ip.GetDescription() != tc.req.GetDescription() ||
				ip.GetOwnership() != backendv1.AddressOwnership_ADDRESS_OWNERSHIP_RESERVED ||
				ip.GetInstanceId() != "" || ip.GetPoolId() == "" || ip.GetCreateTime() == nil {
				t.Errorf("got %v", ip)
			}
			restarted := newRigOn(t, r.rack, rigOptions{})
			for i := range 10 {
				if i == 5 && tc.again != nil {
					tc.again(tc.req)
				}
				again, err := restarted.addresses.ReserveAddress(t.Context(), tc.req)
				if err != nil || again.GetCreated() || !proto.Equal(again.GetAddress(), ip) {
					t.Fatalf("asked again: %v, %v", again, err)
				}
			}
		})
	}
	if n, m := len(r.rack.FloatingIPs()), len(r.rack.ExternalSubnets()); n != 5 || m != 2 {
		t.Errorf("%d floating IPs and %d external subnets", n, m)
	}
}

func TestInvariant3AReservationIsOnlyWhatWasAskedFor(t *testing.T) {
	r := newRig(t)
	r.reserve(nil)
	r.reserve(func(req *backendv1.ReserveAddressRequest) {
		req.Name, req.Selector = "chosen", thisAddress("198.51.100.77")
	})
	r.reserve(func(req *backendv1.ReserveAddressRequest) {
		req.Name, req.Selector = "pooled", fromPool("default")
	})
	for _, seed := range []oxidesim.FloatingIPSeed{
		{Name: "by-hand"},
		{Name: "of-a-balancer", Description: "oxide-ccm/v1 scope=c1 name=default/web uid=u1 family=v4 " +
			"source=default"},
		{Name: "edited", Description: "oxide-ccm-reserved/v1 source=default text=x"},
	} {
		_, err := r.rack.AddFloatingIP(oxidesim.DefaultProject, seed)
		r.must(err)
	}
	type request = backendv1.ReserveAddressRequest
	const differs, notOwned = "RESERVATION_DIFFERS", "ADDRESS_NOT_OWNED"
	for _, tc := range []struct {
		name   string
		edit   func(*request)
		code   codes.Code
		reason string
		says   string
	}{
		{"another description", func(q *request) { q.Description = "x" }, codes.AlreadyExists, differs,
			"the description differs"},
		{"another family", func(q *request) { q.Family = familyV6 }, codes.AlreadyExists, differs,
			"the IP family (it is IPv4) differs"},
		{"an address instead of any", func(q *request) { q.Selector = thisAddress("198.51.100.99") },
			codes.AlreadyExists, differs, "the pool or address (it was default) differs"},
		{"a pool instead of the default one", func(q *request) { q.Selector = fromPool("default") },
			codes.AlreadyExists, differs, "the pool or address"},
		{"another address", func(q *request) {
			q.Name, q.Selector = "chosen", thisAddress("198.51.100.78")
		}, codes.AlreadyExists, differs, "it was address:198.51.100.77"},
		{"any instead of this address", func(q *request) { q.Name = "chosen" }, codes.AlreadyExists,
			differs, "it was address:198.51.100.77"},
		{"another pool", func(q *request) {
			q.Name, q.Selector = "pooled", fromPool("default-v6")
		}, codes.AlreadyExists, differs, "it was pool:default"},
		{"a pool that there is not", func(q *request) {
			q.Name, q.Selector = "pooled", fromPool("nowhere")
		}, codes.AlreadyExists, differs, "it was pool:default"},
		{"made by hand", func(q *request) { q.Name = "by-hand" }, codes.FailedPrecondition, notOwned,
			"was not reserved by this call"},
		{"a load balancer's", func(q *request) { q.Name = "of-a-balancer" }, codes.FailedPrecondition,
			notOwned, "of the load balancer default/web in the scope c1"},
		{"a line that was edited", func(q *request) { q.Name = "edited" }, codes.FailedPrecondition,
			notOwned, "was not reserved by this call"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := r.rack.FloatingIPs()
			_, err := r.addresses.ReserveAddress(t.Context(), aReservation(tc.edit))
			wantEnd(t, err, tc.code, tc.reason, tc.says)
			if after := r.rack.FloatingIPs(); !slices.Equal(before, after) {
				t.Errorf("changed: %+v", after)
			}
		})
	}
	t.Run("the other kind under the same name", func(t *testing.T) {
		r.reserve(func(q *request) { q.Source = externalSubnet })
	})
	t.Run("what people write around the line", func(t *testing.T) {
		ip := r.reserve(nil)
		text := "changed by hand\n" + r.described(ip.GetResourceId()) + "\nand more"
		_, err := r.api.DescribeFloatingIP(t.Context(), ip.GetResourceId(), text)
		r.must(err)
		if again := r.reserve(nil); again.GetResourceId() != ip.GetResourceId() {
			t.Errorf("got %v", again)
		}
	})
}

// described returns the description of a floating IP on the rack.
func (r *rig) described(id string) string {
	for _, ip := range r.rack.FloatingIPs() {
		if ip.ID == id {
			return ip.Description
		}
	}
	return ""
}

func TestWhyAnAddressIsNotToBeHad(t *testing.T) {
	r := newRig(t)
	r.must(r.rack.FillSubnetPool("subnets"))
	r.must(r.rack.Apply(oxidesim.Seed{Pools: []oxidesim.PoolSeed{{
		Name: "many", PoolType: "multicast", Ranges: []oxidesim.RangeSeed{{First: "232.1.1.1", Last: "232.1.1.9"}},
		Silos: []oxidesim.PoolLinkSeed{{Silo: oxidesim.DefaultSilo}},
	}}}))
	type request = backendv1.ReserveAddressRequest
	for _, tc := range []struct {
		name   string
		edit   func(*request)
		code   codes.Code
		reason string
		says   string
	}{
		{"no such pool", func(q *request) { q.Selector = fromPool("nowhere") },
			codes.FailedPrecondition, "POOL_NOT_FOUND", "the IP pool nowhere does not exist"},
		{"no default pool of the family", func(q *request) { q.Family = familyV6 },
			codes.FailedPrecondition, "POOL_NOT_FOUND", "default-v6"},
		{"a pool of the other family", func(q *request) { q.Selector = fromPool("default-v6") },
			codes.InvalidArgument, "INVALID_REQUEST", "has no IPv4 addresses"},
		{"a subnet pool of the other family", func(q *request) {
			q.Source, q.Selector = externalSubnet, fromPool("subnets-v6")
		}, codes.InvalidArgument, "INVALID_REQUEST", "has no IPv4 addresses"},
		{"a pool of multicast addresses", func(q *request) { q.Selector = fromPool("many") },
			codes.InvalidArgument, "INVALID_REQUEST", "multicast"},
		{"an exhausted pool", func(q *request) { q.Source = externalSubnet },
			codes.ResourceExhausted, "POOL_EXHAUSTED", "has no free address"},
		{"an address in no pool", func(q *request) { q.Selector = thisAddress("203.0.113.1") },
			codes.FailedPrecondition, "OXIDE_REFUSED", "203.0.113.1 is taken, or in no pool"},
		{"a subnet in no pool", func(q *request) {
			q.Source, q.Selector = externalSubnet, thisAddress("203.0.113.1")
		}, codes.FailedPrecondition, "OXIDE_REFUSED", "203.0.113.1 is taken, or in no pool"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for range 2 {
				_, err := r.addresses.ReserveAddress(t.Context(), aReservation(tc.edit))
				wantEnd(t, err, tc.code, tc.reason, tc.says)
			}
		})
	}
	if ips, subnets := r.rack.FloatingIPs(), r.rack.ExternalSubnets(); len(ips)+len(subnets) > 0 {
		t.Errorf("left behind: %+v %+v", ips, subnets)
	}
}

// Two backends and many callers: one makes the address, all have it.
func TestInvariant3CallersWithOneNameHaveOneAddress(t *testing.T) {
	r := newRig(t)
	other := newRigOn(t, r.rack, rigOptions{})
	var (
		mu      sync.Mutex
		callers sync.WaitGroup
		created int
		ids     = make(map[string]bool)
		refused int
	)
	for i := range 32 {
		client := []backendv1.AddressServiceClient{r.addresses, other.addresses}[i%2]
		callers.Go(func() {
			resp, err := client.ReserveAddress(t.Context(), aReservation(
				func(q *backendv1.ReserveAddressRequest) {
					if i >= 28 {
						q.Description = "something else"
					}
				}))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				wantEnd(t, err, codes.AlreadyExists, "RESERVATION_DIFFERS", "the description differs")
				refused++
				return
			}
			ids[resp.GetAddress().GetResourceId()] = true
			if resp.GetCreated() {
				created++
			}
		})
	}
	callers.Wait()
	if len(ids) != 1 || created != 1 || refused != 4 && refused != 28 || len(r.rack.FloatingIPs()) != 1 {
		t.Errorf("%d addresses, %d created, %d refused, %d on the rack", len(ids), created, refused,
			len(r.rack.FloatingIPs()))
	}
}

// An answer that is lost, and a call that ends, lose no address: the same request finds it.
func TestInvariant6AReservationWhoseAnswerIsLostIsFoundAgain(t *testing.T) {
	r := newRig(t)
	lost, err := r.rack.AddFault(oxidesim.Fault{
		Operation: "floating_ip_create", Execute: true, Reset: true, Times: 1,
	})
	r.must(err)
	_, err = r.addresses.ReserveAddress(t.Context(), aReservation(nil))
	wantEnd(t, err, codes.Unavailable, "OXIDE_UNAVAILABLE", "")
	r.rack.RemoveFault(lost)
	made := r.rack.FloatingIPs()
	if len(made) != 1 {
		t.Fatalf("on the rack: %+v", made)
	}
	if ip := r.reserve(nil); ip.GetResourceId() != made[0].ID {
		t.Errorf("got %v", ip)
	}

	_, err = r.rack.AddFault(oxidesim.Fault{Operation: "floating_ip_create", LatencyMS: 300})
	r.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	second := func(q *backendv1.ReserveAddressRequest) { q.Name = "second" }
	_, err = r.addresses.ReserveAddress(ctx, aReservation(second))
	if err == nil {
		t.Error("the call did not end with its deadline")
	}
	r.reserve(second)
	if n := len(r.rack.FloatingIPs()); n != 2 {
		t.Errorf("%d floating IPs", n)
	}
}

// A name that looks like a load balancer's, and lines that mean something, are not for clients to write.
func TestNobodyReservesWhatAPlanWouldTakeForALoadBalancers(t *testing.T) {
	name := ownership.Name(ownership.Key{Scope: "c1", Name: "default/web"}, ownership.IPv4, "default", 0)
	for _, edit := range []func(*backendv1.ReserveAddressRequest){
		func(q *backendv1.ReserveAddressRequest) { q.Name = name },
		func(q *backendv1.ReserveAddressRequest) { q.Description = "x\noxide-ccm/v1 scope=c1" },
		func(q *backendv1.ReserveAddressRequest) { q.Description = "oxide-ccm-released/v1 x" },
		func(q *backendv1.ReserveAddressRequest) { q.Description = "oxide-ccm-reserved/v1 x" },
	} {
		if err := validateReserve(aReservation(edit)); err == nil {
			t.Errorf("accepted: %v", aReservation(edit))
		}
	}
}

// Whatever a client sends, what is accepted can be written into a description, and be read again.
func FuzzReserve(f *testing.F) {
	for _, req := range []*backendv1.ReserveAddressRequest{
		aReservation(nil),
		aReservation(func(q *backendv1.ReserveAddressRequest) {
			q.Source, q.Selector = externalSubnet, fromPool(strings.Repeat("p", 63))
			q.Description = strings.Repeat("ä", maxOwnText)
		}),
		aReservation(func(q *backendv1.ReserveAddressRequest) {
			q.Source, q.Family, q.Selector = externalSubnet, 0, thisAddress("2001:db8:1111:2222:3333:4444:5555:6666")
		}),
	} {
		text, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		req := &backendv1.ReserveAddressRequest{}
		if proto.Unmarshal(text, req) != nil || validateReserve(req) != nil {
			return
		}
		asked := reservationOf(req)
		line := ownership.NewReservation(asked.Source, asked.Description)
		description, err := ownership.WithReservation(asked.Description, line)
		if err != nil {
			t.Fatalf("%v: %v", req, err)
		}
		read, ok := ownership.ParseReservation(description)
		if !ok || read != line || ownership.OwnText(description) != asked.Description {
			t.Errorf("%q is read as %v, %v", description, read, ok)
		}
		if ownership.BearsMarker(description) || asked.Family == "" {
			t.Errorf("%q, family %q", description, asked.Family)
		}
	})
}
