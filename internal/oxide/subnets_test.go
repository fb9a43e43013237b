// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// interfaces reads the network interfaces of an instance, from the lists of all subnets.
func (r *rig) interfaces(instanceID string) []oxide.NetworkInterface {
	r.t.Helper()
	subnets, err := r.Subnets(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	var found []oxide.NetworkInterface
	for _, subnet := range subnets {
		nics, err := r.SubnetInterfaces(r.t.Context(), subnet.ID, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, nic := range nics {
			if nic.InstanceID == instanceID {
				found = append(found, nic)
			}
		}
	}
	return found
}

func TestNetworkInterfacesHaveTheirAddressesIPv4First(t *testing.T) {
	r := start(t, oxidesim.Config{})
	// An interface needs a default pool of its families, for outbound traffic.
	if err := r.Apply(oxidesim.Seed{Pools: []oxidesim.PoolSeed{{
		Name: "default-v6", IPVersion: "v6",
		Silos: []oxidesim.PoolLinkSeed{{Silo: "demo", Default: true}},
	}}}); err != nil {
		t.Fatal(err)
	}
	for nic, families := range map[string][]string{
		"v4": {"v4"}, "v6": {"v6"}, "dual": {"v4", "v6"}, "none": nil,
	} {
		t.Run(nic, func(t *testing.T) {
			node := r.instance(oxidesim.InstanceSeed{Name: "with-" + nic, NIC: nic})
			got := r.interfaces(node.ID)
			if families == nil {
				if len(got) > 0 {
					t.Errorf("got %+v, want none", got)
				}
				return
			}
			want := []oxide.NetworkInterface{{Name: "net0", InstanceID: node.ID, Primary: true}}
			for _, family := range families {
				want[0].Addrs = append(want[0].Addrs, netip.MustParseAddr(node.PrivateIPs[family]))
			}
			opts := cmp.Options{
				cmpopts.IgnoreFields(oxide.NetworkInterface{}, "ID", "VPCID", "SubnetID"),
				cmpopts.EquateComparable(netip.Addr{}),
			}
			if diff := cmp.Diff(want, got, opts); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for _, id := range []string{got[0].ID, got[0].VPCID, got[0].SubnetID} {
				if !oxide.ValidID(id) {
					t.Errorf("%q is no id: %+v", id, got[0])
				}
			}
		})
	}
}

func TestSubnetsOfAllVPCsAreListed(t *testing.T) {
	r := start(t, oxidesim.Config{})
	r.SetPageLimit(2)
	seed := oxidesim.ProjectSeed{Name: "demo"}
	for vpc := range 3 {
		var subnets []oxidesim.SubnetSeed
		for subnet := range 3 {
			subnets = append(subnets, oxidesim.SubnetSeed{
				Name: fmt.Sprintf("s-%d", subnet), IPv4Block: fmt.Sprintf("10.%d.%d.0/24", vpc, subnet),
			})
		}
		seed.VPCs = append(seed.VPCs, oxidesim.VPCSeed{
			Name: fmt.Sprintf("vpc-%d", vpc), Subnets: subnets,
		})
	}
	if err := r.Apply(oxidesim.Seed{Silos: []oxidesim.SiloSeed{{
		Name: "demo", Projects: []oxidesim.ProjectSeed{seed, {Name: "second"}},
	}}}); err != nil {
		t.Fatal(err)
	}
	got, err := r.Subnets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, subnet := range got {
		names[subnet.VPCName+"/"+subnet.Name]++
	}
	want := map[string]int{"default/default": 1}
	for vpc := range 3 {
		for subnet := range 3 {
			want[fmt.Sprintf("vpc-%d/s-%d", vpc, subnet)] = 1
		}
	}
	for name := range want {
		if names[name] != 1 {
			t.Errorf("the subnet %s is listed %d times: %v", name, names[name], names)
		}
	}
}

// Interface names are unique in their instance only: in name order most of these would be skipped.
func TestInterfacesOfOneNameAreAllListedOverPages(t *testing.T) {
	r := start(t, oxidesim.Config{})
	r.SetPageLimit(3)
	want := map[string]bool{}
	for i := range 10 {
		node := r.instance(oxidesim.InstanceSeed{Name: fmt.Sprintf("node-%d", i), NIC: "v4"})
		want[node.ID] = true
	}
	subnets, err := r.Subnets(t.Context())
	if err != nil || len(subnets) != 1 {
		t.Fatal(subnets, err)
	}
	if _, err := r.SubnetInterfaces(t.Context(), subnets[0].ID, nil); err != nil {
		t.Fatal(err)
	}
	r.ResetCounters()
	nics, err := r.SubnetInterfaces(t.Context(), subnets[0].ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, nic := range nics {
		got[nic.InstanceID] = true
	}
	if diff := cmp.Diff(want, got); diff != "" || len(nics) != 10 {
		t.Errorf("%d interfaces, -want +got:\n%s", len(nics), diff)
	}
	if n := r.Count("vpc_subnet_list_network_interfaces"); n != 4 {
		t.Errorf("%d requests for 3+3+3+1 interfaces, want 4", n)
	}
}

func TestInterfaceThatCannotBeUnderstoodSpoilsNoOther(t *testing.T) {
	const good = `{"id": "b", "instance_id": "good", "name": "net0", "primary": true,
		"ip_stack": {"type": "v4", "value": {"ip": "10.0.0.1", "transit_ips": []}}}`
	for name, bad := range map[string]string{
		"stack of a new kind": `{"id": "a", "instance_id": "bad",
			"ip_stack": {"type": "v8", "value": {}}}`,
		"no stack":   `{"id": "a", "instance_id": "bad"}`,
		"no address": `{"id": "a", "instance_id": "bad", "ip_stack": {"type": "v4", "value": {"ip": "x"}}}`,
		"name of another type": `{"id": "a", "instance_id": "bad", "name": {},
			"ip_stack": {"type": "v4", "value": {"ip": "10.0.0.2", "transit_ips": []}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, oxidesim.Config{})
			r.fault(oxidesim.Fault{
				Operation: "vpc_subnet_list_network_interfaces", Status: 200,
				Body: fmt.Sprintf(`{"items": [%s, %s], "next_page": null}`, bad, good),
			})
			got, err := r.SubnetInterfaces(t.Context(), anID, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := []oxide.NetworkInterface{
				{ID: "a", InstanceID: "bad", Unreadable: true},
				{
					ID: "b", InstanceID: "good", Name: "net0", Primary: true,
					Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
				},
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
