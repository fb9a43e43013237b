// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package instances_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/instances"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// TestPrimaryInterfaceComesFirstThenByName asks an instance whose primary interface comes neither
// first by name nor first by address.
func TestPrimaryInterfaceComesFirstThenByName(t *testing.T) {
	w := newWorld(t)
	w.must(w.rack.Apply(oxidesim.Seed{Silos: []oxidesim.SiloSeed{{
		Name: "demo",
		Projects: []oxidesim.ProjectSeed{{Name: "demo", VPCs: []oxidesim.VPCSeed{{
			Name: "nodes",
			Subnets: []oxidesim.SubnetSeed{
				{Name: "high", IPv4Block: "10.9.0.0/22"},
				{Name: "low", IPv4Block: "10.1.0.0/22"},
				{Name: "middle", IPv4Block: "10.5.0.0/22"},
			},
		}}}},
	}}}))
	nic := func(name, subnet, ip string) string {
		return fmt.Sprintf(`{"name": %q, "description": "", "vpc_name": "nodes",
			"subnet_name": %q, "ip_config": {"type": "v4", "value":
				{"ip": {"type": "explicit", "value": %q}, "transit_ips": []}}}`, name, subnet, ip)
	}
	w.call(http.MethodPost, "/v1/instances?project=demo", fmt.Sprintf(
		`{"name": "node-1", "description": "", "hostname": "node-1", "ncpus": 2,
		"memory": 4294967296, "start": false,
		"network_interfaces": {"type": "create", "params": [%s, %s, %s]}}`,
		nic("m0", "high", "10.9.0.7"), nic("z0", "low", "10.1.0.7"), nic("a0", "middle", "10.5.0.7")))

	found, err := w.finder.ByName(t.Context(), "node-1", instances.Full)
	w.must(err)
	want := []oxide.NetworkInterface{
		{Name: "m0", Primary: true, Addrs: []netip.Addr{netip.MustParseAddr("10.9.0.7")}},
		{Name: "a0", Addrs: []netip.Addr{netip.MustParseAddr("10.5.0.7")}},
		{Name: "z0", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.7")}},
	}
	opts := cmp.Options{
		cmpopts.IgnoreFields(oxide.NetworkInterface{}, "ID", "InstanceID", "VPCID", "SubnetID"),
		cmpopts.EquateComparable(netip.Addr{}),
	}
	if diff := cmp.Diff(want, found.Interfaces, opts); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	endpoint := w.endpoint(found.ID)
	if endpoint.Addr(32) != netip.MustParseAddr("10.9.0.7") || endpoint.Name != found.Name ||
		endpoint.VPCID != found.Interfaces[0].VPCID || endpoint.VPCName == "" ||
		endpoint.SubnetName == "" {
		t.Errorf("packets arrive at %+v", endpoint)
	}
}

func TestPrivateAddressIsThatOfTheFamily(t *testing.T) {
	w := newWorld(t)
	w.must(w.rack.Apply(oxidesim.Seed{Pools: []oxidesim.PoolSeed{{
		Name: "default-v6", IPVersion: "v6",
		Silos: []oxidesim.PoolLinkSeed{{Silo: "demo", Default: true}},
	}}}))
	for _, nic := range []string{"v4", "v6", "dual", "none"} {
		t.Run(nic, func(t *testing.T) {
			node := w.add(ourProject, oxidesim.InstanceSeed{Name: "node-" + nic, NIC: nic})
			for bits, family := range map[int]string{32: "v4", 128: "v6"} {
				addr := w.endpoint(node.ID).Addr(bits)
				var want netip.Addr // invalid if it has none
				if text, ok := node.PrivateIPs[family]; ok {
					want = netip.MustParseAddr(text)
				}
				if addr != want {
					t.Errorf("%s: got %v, want %v", family, addr, want)
				}
			}
		})
	}
	if endpoint := w.endpoint(anID); endpoint.InstanceID != "" {
		t.Errorf("an instance that is not there has %+v", endpoint)
	}
}

// Addresses of load balancers move about, and that of outbound NAT is shared: neither is a node's.
func TestExternalIPsAreTheInstancesOwnInAStableOrder(t *testing.T) {
	w := newWorld(t)
	node := w.add(ourProject, oxidesim.InstanceSeed{Name: "node-1", NIC: "dual", Ephemeral: true})
	for _, f := range []oxidesim.FloatingIPSeed{
		{Name: "c", IP: "198.51.100.200"},
		{Name: "b", IP: "198.51.100.30", Description: "mine, not lb:"},
		{Name: "a6", IP: "2001:db8:51::19", Pool: "default-v6"},
		{Name: "lb-1", IP: "198.51.100.40", Description: lbMark + "one"},
		{Name: "lb-2", IP: "2001:db8:51::18", Pool: "default-v6", Description: lbMark + "two"},
	} {
		f.Instance = "node-1"
		_, err := w.rack.AddFloatingIP(ourProject, f)
		w.must(err)
	}
	w.call(http.MethodPost, "/v1/instances/"+node.ID+"/external-ips/ephemeral",
		`{"pool_selector": {"type": "explicit", "pool": "default-v6"}}`)
	type address struct {
		Kind oxide.ExternalIPKind
		Addr string
	}
	floating := oxide.ExternalIPFloating
	ephemeral := map[int]string{} // by length in bits: the rack's choice
	listed, err := w.client.ExternalIPs(t.Context(), node.ID)
	w.must(err)
	for _, ip := range listed {
		if ip.Kind == oxide.ExternalIPEphemeral {
			ephemeral[ip.Addr.BitLen()] = ip.Addr.String()
		}
	}
	want := []address{
		{oxide.ExternalIPEphemeral, ephemeral[32]},
		{floating, "198.51.100.30"},
		{floating, "198.51.100.200"},
		{oxide.ExternalIPEphemeral, ephemeral[128]},
		{floating, "2001:db8:51::19"},
	}
	orders := map[string]bool{}
	for range 20 {
		raw, err := w.client.ExternalIPs(t.Context(), node.ID)
		w.must(err)
		orders[fmt.Sprint(raw)] = true

		found, err := w.finder.ByID(t.Context(), node.ID, instances.Full)
		w.must(err)
		var got []address
		for _, ip := range found.ExternalIPs {
			got = append(got, address{ip.Kind, ip.Addr.String()})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
		if len(raw) != 8 { // with that of outbound NAT
			t.Fatalf("Oxide lists %v", raw)
		}
	}
	if len(orders) < 2 {
		t.Error("the rack always gave the same order, which proves nothing")
	}
}

func TestShutDownIsWhatStaysOff(t *testing.T) {
	for state, want := range map[string]struct{ manual, auto bool }{
		oxide.RunStateCreating:  {false, false},
		oxide.RunStateStarting:  {false, false},
		oxide.RunStateRunning:   {false, false},
		oxide.RunStateStopping:  {false, false},
		oxide.RunStateStopped:   {true, true},
		oxide.RunStateRebooting: {false, false},
		oxide.RunStateMigrating: {false, false},
		oxide.RunStateRepairing: {false, false},
		oxide.RunStateFailed:    {true, false},
		oxide.RunStateDestroyed: {false, false},
		"a state of tomorrow":   {false, false},
	} {
		t.Run(state, func(t *testing.T) {
			for autoRestart, want := range map[bool]bool{false: want.manual, true: want.auto} {
				i := instances.Instance{Instance: oxide.Instance{
					RunState: state, AutoRestart: autoRestart,
				}}
				if got := i.ShutDown(); got != want {
					t.Errorf("auto restart %v: got %v, want %v", autoRestart, got, want)
				}
			}
		})
	}
}

// A failed instance comes back by itself unless its policy says never.
func TestShutDownFollowsTheRestartPolicy(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		policy string
		want   bool
	}{
		"default": {"", false}, "best-effort": {"best_effort", false}, "never": {"never", true},
	} {
		t.Run(name, func(t *testing.T) {
			node := w.add(ourProject, oxidesim.InstanceSeed{
				Name: name, AutoRestartPolicy: tc.policy,
			})
			w.must(w.rack.SetRunState(node.ID, oxide.RunStateFailed))
			found, err := w.finder.ByID(t.Context(), node.ID, instances.Full)
			w.must(err)
			if got := found.ShutDown(); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
