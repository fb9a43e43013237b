// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// lists are all lists that are read, each by how many items it shows.
func lists(r *rig) map[string]func(context.Context) (int, error) {
	return map[string]func(context.Context) (int, error){
		"instance_list": func(ctx context.Context) (int, error) {
			all, err := r.Client.Instances(ctx)
			return len(all), err
		},
		"floating_ip_list": func(ctx context.Context) (int, error) {
			all, err := r.Client.FloatingIPs(ctx)
			return len(all), err
		},
		"external_subnet_list": func(ctx context.Context) (int, error) {
			all, err := r.ExternalSubnets(ctx)
			return len(all), err
		},
		"vpc_subnet_list": func(ctx context.Context) (int, error) {
			all, err := r.Subnets(ctx)
			return len(all), err
		},
		"vpc_subnet_list_network_interfaces": func(ctx context.Context) (int, error) {
			subnets, err := r.Subnets(ctx)
			all := 0
			for _, subnet := range subnets {
				nics, nicErr := r.SubnetInterfaces(ctx, subnet.ID, nil)
				all, err = all+len(nics), nicErr
			}
			return all, err
		},
		"ip_pool_list": func(ctx context.Context) (int, error) {
			all, err := r.IPPools(ctx)
			return len(all), err
		},
		"subnet_pool_list": func(ctx context.Context) (int, error) {
			all, err := r.SubnetPools(ctx)
			return len(all), err
		},
		"anti_affinity_group_list": func(ctx context.Context) (int, error) {
			all, err := r.AntiAffinityGroups(ctx)
			return len(all), err
		},
		"anti_affinity_group_member_list": func(ctx context.Context) (int, error) {
			groups, err := r.AntiAffinityGroups(ctx)
			all := 0
			for _, group := range groups {
				members, memberErr := r.AntiAffinityGroupMembers(ctx, group.ID)
				all, err = all+len(members), memberErr
			}
			return all, err
		},
	}
}

// post sends a request without a client.
func (r *rig) post(path, body string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.URL+path,
		strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+oxidesim.DefaultToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusBadRequest {
		r.t.Fatalf("POST %s: %s", path, resp.Status)
	}
}

// populate makes several items of everything that is listed.
func populate(t *testing.T, r *rig) {
	t.Helper()
	seed := oxidesim.ProjectSeed{Name: "demo", VPCs: []oxidesim.VPCSeed{{Name: "default"}}}
	for i := range 5 {
		name := fmt.Sprintf("x-%d", i)
		seed.VPCs[0].Subnets = append(seed.VPCs[0].Subnets, oxidesim.SubnetSeed{
			Name: name, IPv4Block: fmt.Sprintf("10.9.%d.0/24", i),
		})
		seed.Instances = append(seed.Instances, oxidesim.InstanceSeed{Name: name})
		seed.FloatingIPs = append(seed.FloatingIPs, oxidesim.FloatingIPSeed{Name: name})
	}
	var whole oxidesim.Seed
	whole.Silos = []oxidesim.SiloSeed{{Name: "demo", Projects: []oxidesim.ProjectSeed{seed}}}
	for i := range 5 {
		whole.Pools = append(whole.Pools, oxidesim.PoolSeed{
			Name: fmt.Sprintf("p-%d", i), Silos: []oxidesim.PoolLinkSeed{{Silo: "demo"}},
		})
		whole.SubnetPools = append(whole.SubnetPools, oxidesim.SubnetPoolSeed{
			Name: fmt.Sprintf("s-%d", i), Silos: []oxidesim.PoolLinkSeed{{Silo: "demo"}},
			Members: []oxidesim.SubnetPoolMemberSeed{{Subnet: fmt.Sprintf("203.0.113.%d/32", i)}},
		})
	}
	if err := r.Apply(whole); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := r.SetRunState(fmt.Sprintf("x-%d", i), oxide.RunStateStopped); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		if _, err := r.CreateExternalSubnet(t.Context(), fmt.Sprintf("x-%d", i), "",
			oxide.SubnetAllocator{Pool: fmt.Sprintf("s-%d", i), Bits: 32}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		group := fmt.Sprintf("g-%d", i)
		r.post("/v1/anti-affinity-groups?project=demo", fmt.Sprintf(
			`{"name":%q,"description":"","policy":"allow","failure_domain":"sled"}`, group))
		for j := range 5 {
			r.post(fmt.Sprintf(
				"/v1/anti-affinity-groups/%s/members/instance/x-%d?project=demo", group, j), "")
		}
	}
}

func TestEveryListIsWholeWhateverTheCapOfItsPages(t *testing.T) {
	r := start(t, oxidesim.Config{})
	populate(t, r)
	whole := make(map[string]int)
	for name, list := range lists(r) {
		n, err := list(t.Context())
		if err != nil || n < 5 {
			t.Fatalf("%s: %d items, %v", name, n, err)
		}
		whole[name] = n
	}
	// Of lists that were proved to end a moment ago the cap is lowered now.
	for _, pages := range []int{3, 1, 2, 5, 4, 6, 100} {
		r.ClearFaults()
		r.fault(oxidesim.Fault{Operation: "*_list*", PageCap: pages})
		for name, list := range lists(r) {
			for range 2 {
				if n, err := list(t.Context()); err != nil || n != whole[name] {
					t.Errorf("%s with a cap of %d: %d items, want %d; %v", name, pages, n, whole[name], err)
				}
			}
		}
	}
}

// Each length of a list up to beyond the cap, each item added at a random place, once some list was cut.
func TestAListThatGrowsThroughTheCapIsWhole(t *testing.T) {
	r := start(t, oxidesim.Config{})
	r.fault(oxidesim.Fault{Operation: "*_list*", PageCap: 3})
	for i := range 5 {
		if _, err := r.AddFloatingIP("demo", oxidesim.FloatingIPSeed{Name: fmt.Sprint("f", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := lists(r)["floating_ip_list"](t.Context()); err != nil || n != 5 {
		t.Fatalf("%d floating IPs, %v", n, err)
	}
	for i := range 9 {
		r.instance(oxidesim.InstanceSeed{Name: fmt.Sprintf("node-%d", i)})
		if n, err := lists(r)["vpc_subnet_list_network_interfaces"](t.Context()); err != nil || n != i+1 {
			t.Errorf("%d interfaces, want %d; %v", n, i+1, err)
		}
	}
}

func TestAListAtRestCostsOneRequest(t *testing.T) {
	r := start(t, oxidesim.Config{})
	populate(t, r)
	for range 2 {
		r.ResetCounters()
		for _, list := range lists(r) {
			if _, err := list(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, operation := range []string{
		"instance_list", "floating_ip_list", "external_subnet_list", "ip_pool_list",
	} {
		if n := r.Count(operation); n != 1 {
			t.Errorf("%s: %d requests at rest, want 1", operation, n)
		}
	}
}

func TestWhatThisClientCreatesMakesNoListLonger(t *testing.T) {
	for name, kind := range map[string]struct {
		operation string
		create    func(r *rig, name string) error
		ids       func(r *rig) ([]string, error)
		remove    func(r *rig, id string) error
	}{
		"floating IPs": {
			operation: "floating_ip_list",
			create: func(r *rig, name string) error {
				_, err := r.CreateFloatingIP(t.Context(), name, "", oxide.IPAllocator{DefaultPool4: true})
				return err
			},
			ids: func(r *rig) ([]string, error) {
				all, err := r.Client.FloatingIPs(t.Context())
				return idsOf(all, func(ip oxide.FloatingIP) string { return ip.ID }), err
			},
			remove: func(r *rig, id string) error { return r.DeleteFloatingIP(t.Context(), id) },
		},
		"external subnets": {
			operation: "external_subnet_list",
			create: func(r *rig, name string) error {
				_, err := r.CreateExternalSubnet(t.Context(), name, "", single4)
				return err
			},
			ids: func(r *rig) ([]string, error) {
				all, err := r.ExternalSubnets(t.Context())
				return idsOf(all, func(s oxide.ExternalSubnet) string { return s.ID }), err
			},
			remove: func(r *rig, id string) error { return r.DeleteExternalSubnet(t.Context(), id) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, oxidesim.Config{})
			create := func(i int) {
				t.Helper()
				if err := kind.create(r, fmt.Sprint("f", i)); err != nil {
					t.Fatal(err)
				}
			}
			list := func(want int) []string {
				t.Helper()
				ids, err := kind.ids(r)
				if err != nil || len(ids) != want {
					t.Fatalf("%d items, want %d; %v", len(ids), want, err)
				}
				return ids
			}
			list(0)
			for i := range 8 {
				create(i)
				if i == 0 { // another one is there for a moment only
					if err := kind.remove(r, list(1)[0]); err != nil {
						t.Fatal(err)
					}
					create(i)
				}
				r.ResetCounters()
				list(i + 1)
				if n := r.Count(kind.operation); n != 1 {
					t.Errorf("the list of %d items took %d requests, want 1", i+1, n)
				}
			}
			r.fault(oxidesim.Fault{Operation: kind.operation, PageCap: 8})
			for i := 8; i < 20; i++ {
				create(i)
				list(i + 1)
			}
		})
	}
}

func idsOf[T any](all []T, id func(T) string) []string {
	ids := make([]string, 0, len(all))
	for _, item := range all {
		ids = append(ids, id(item))
	}
	return ids
}

func TestAListThatNeverEndsIsAnError(t *testing.T) {
	r := startBehind(t, func(rack http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path != "/v1/instances" {
				rack.ServeHTTP(w, req)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"items":[],"next_page":"again"}`))
		})
	})
	_, err := r.Client.Instances(t.Context())
	wantKind(t, err, oxide.KindBadResponse)
}
