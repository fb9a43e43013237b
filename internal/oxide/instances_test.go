// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// addInstances adds instances without network, which are cheap.
func (r *rig) addInstances(n int) {
	r.t.Helper()
	have := len(r.Server.Instances())
	seeds := make([]oxidesim.InstanceSeed, n)
	for i := range seeds {
		seeds[i] = oxidesim.InstanceSeed{Name: fmt.Sprintf("n-%d", have+i), NIC: "none"}
	}
	if err := r.Apply(oxidesim.Seed{Silos: []oxidesim.SiloSeed{{
		Name:     "demo",
		Projects: []oxidesim.ProjectSeed{{Name: "demo", Instances: seeds}},
	}}}); err != nil {
		r.t.Fatal(err)
	}
}

func TestListIsCompleteAndCostsNoRequestTooMany(t *testing.T) {
	r := start(t, oxidesim.Config{})
	total := 0
	for _, tc := range []struct{ more, requests int }{
		{0, 1}, {1, 1}, {998, 1}, // 999: one page
		{1, 2}, // 1000: a full page may not be the last one
		{1, 2}, // 1001
	} {
		r.addInstances(tc.more)
		total += tc.more
		t.Run(strconv.Itoa(total), func(t *testing.T) {
			r.ResetCounters()
			got, err := r.Client.Instances(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ids := map[string]bool{}
			for _, instance := range got {
				ids[instance.ID] = true
			}
			if len(got) != total || len(ids) != total {
				t.Errorf("%d instances with %d ids, want %d", len(got), len(ids), total)
			}
			if !slices.IsSortedFunc(got, func(a, b oxide.Instance) int {
				return strings.Compare(a.ID, b.ID)
			}) {
				t.Error("not ordered by id")
			}
			if n := r.Count("instance_list"); n != tc.requests {
				t.Errorf("%d requests, want %d", n, tc.requests)
			}
		})
	}
	t.Run("complete although a page had to be read again", func(t *testing.T) {
		r.fault(oxidesim.Fault{Operation: "instance_list", Nth: []int{2}, Status: 503})
		defer r.ClearFaults()
		got, err := r.Client.Instances(t.Context())
		if err != nil || len(got) != total {
			t.Errorf("%d instances, %v", len(got), err)
		}
	})
	t.Run("half a list is no list", func(t *testing.T) {
		r.fault(oxidesim.Fault{Operation: "instance_list", Nth: []int{2}, Status: 500})
		defer r.ClearFaults()
		got, err := r.Client.Instances(t.Context())
		wantKind(t, err, oxide.KindInternal)
		if got != nil {
			t.Errorf("got %d instances besides the error", len(got))
		}
	})
}

func TestFloatingIPsOfAllPagesAreListed(t *testing.T) {
	t.Parallel()
	r := start(t, oxidesim.Config{})
	want := map[string]bool{}
	pool := oxidesim.PoolSeed{
		Name: "big", Ranges: []oxidesim.RangeSeed{{First: "198.18.0.0", Last: "198.18.7.255"}},
		Silos: []oxidesim.PoolLinkSeed{{Silo: "demo"}},
	}
	if err := r.Apply(oxidesim.Seed{Pools: []oxidesim.PoolSeed{pool}}); err != nil {
		t.Fatal(err)
	}
	for i := range 1100 {
		added, err := r.AddFloatingIP("demo", oxidesim.FloatingIPSeed{
			Name: fmt.Sprintf("f-%d", i), Pool: "big",
		})
		if err != nil {
			t.Fatal(err)
		}
		want[added.IP] = true
	}
	listed, err := r.Client.FloatingIPs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, f := range listed {
		got[f.Addr.String()] = true
	}
	if len(listed) != 1100 || !maps.Equal(got, want) {
		t.Errorf("%d listed with %d addresses, want 1100", len(listed), len(got))
	}
	if n := r.Count("floating_ip_list"); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestInstanceIsReadAsOxideShowsIt(t *testing.T) {
	r := start(t, oxidesim.Config{})
	id := r.mustIdentity()
	plain := r.instance(oxidesim.InstanceSeed{Name: "plain"})
	special := r.instance(oxidesim.InstanceSeed{
		Name: "special", Hostname: "n2.example", NCPUs: 8, MemoryGiB: 16,
		State: "stopped", AutoRestartPolicy: "never",
	})
	want := map[string]oxide.Instance{
		"plain": {
			ID: plain.ID, Name: "plain", Hostname: "plain", ProjectID: id.ProjectID,
			RunState: oxide.RunStateRunning, AutoRestart: true, CPUs: 2, MemoryBytes: 4 << 30,
		},
		"special": {
			ID: special.ID, Name: "special", Hostname: "n2.example", ProjectID: id.ProjectID,
			RunState: oxide.RunStateStopped, CPUs: 8, MemoryBytes: 16 << 30,
		},
	}
	ignore := cmpopts.IgnoreFields(oxide.Instance{}, "TimeCreated", "TimeRunStateUpdated")
	check := func(how string, got oxide.Instance, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[got.Name], got, ignore); diff != "" {
			t.Errorf("%s: -want +got:\n%s", how, diff)
		}
		if got.TimeCreated.IsZero() || got.TimeRunStateUpdated.IsZero() {
			t.Errorf("%s: no times in %+v", how, got)
		}
	}
	for name, w := range want {
		got, err := r.InstanceByID(t.Context(), w.ID)
		check("by id", got, err)
		got, err = r.InstanceByName(t.Context(), name)
		check("by name", got, err)
	}
	all, err := r.Client.Instances(t.Context())
	if len(all) != 2 {
		t.Fatalf("%d instances, %v", len(all), err)
	}
	for _, got := range all {
		check("list", got, err)
	}
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
			got, err := r.NetworkInterfaces(t.Context(), node.ID)
			if err != nil {
				t.Fatal(err)
			}
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

func TestExternalIPsOfAllKinds(t *testing.T) {
	r := start(t, oxidesim.Config{})
	node := r.instance(oxidesim.InstanceSeed{NIC: "v4", Ephemeral: true})
	bare := r.instance(oxidesim.InstanceSeed{Name: "bare", NIC: "none"})
	for _, w := range []oxidesim.FloatingIPSeed{
		{Name: "web", Description: "of the web", Instance: "node-1", IP: "198.51.100.200"},
		{Name: "free", Description: "not attached"},
	} {
		if _, err := r.AddFloatingIP("demo", w); err != nil {
			t.Fatal(err)
		}
	}
	got, err := r.ExternalIPs(t.Context(), node.ID)
	if err != nil {
		t.Fatal(err)
	}
	byKind := map[oxide.ExternalIPKind]oxide.ExternalIP{}
	for _, ip := range got {
		byKind[ip.Kind] = ip
		if !netip.MustParsePrefix("198.51.100.0/24").Contains(ip.Addr) {
			t.Errorf("%s address %v is not of the pool", ip.Kind, ip.Addr)
		}
	}
	want := oxide.ExternalIP{
		Kind: oxide.ExternalIPFloating, Addr: netip.MustParseAddr("198.51.100.200"),
		Description: "of the web",
	}
	if byKind[oxide.ExternalIPFloating] != want {
		t.Errorf("floating: got %+v, want %+v", byKind[oxide.ExternalIPFloating], want)
	}
	if len(got) != 3 || len(byKind) != 3 {
		t.Errorf("got %+v, want SNAT, ephemeral and floating", got)
	}
	if got, err := r.ExternalIPs(t.Context(), bare.ID); err != nil || len(got) != 0 {
		t.Errorf("without interface: %+v, %v", got, err)
	}
}
