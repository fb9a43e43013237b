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

// A thousand instances are one page, and no request for an empty one follows.
func TestAThousandInstancesCostOneRequest(t *testing.T) {
	r := start(t, oxidesim.Config{})
	r.addInstances(1000)
	got, err := r.Client.Instances(t.Context())
	if err != nil || len(got) != 1000 {
		t.Errorf("%d instances, %v", len(got), err)
	}
	if n := r.Count("instance_list"); n != 2 {
		t.Errorf("%d requests with the proof that nothing follows, want 2", n)
	}
	r.ResetCounters()
	got, err = r.Client.Instances(t.Context())
	if err != nil || len(got) != 1000 {
		t.Errorf("%d instances, %v", len(got), err)
	}
	if n := r.Count("instance_list"); n != 1 {
		t.Errorf("%d requests at rest, want 1", n)
	}
}

func TestListIsCompleteAndCostsNoRequestTooMany(t *testing.T) {
	r := start(t, oxidesim.Config{})
	r.SetPageLimit(100)
	total := 0
	for _, tc := range []struct{ more, requests int }{
		{0, 1}, {1, 2}, {0, 1}, // the first time, that nothing follows is proved
		{98, 2}, {0, 1}, // 99: one page
		{1, 2}, {0, 2}, // 100: a full page may not be the last one
		{1, 3}, {0, 2}, // 101
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
	r.SetPageLimit(100)
	want := map[string]bool{}
	for i := range 110 {
		added, err := r.AddFloatingIP("demo", oxidesim.FloatingIPSeed{Name: fmt.Sprintf("f-%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		want[added.IP] = true
	}
	if _, err := r.Client.FloatingIPs(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.ResetCounters()
	listed, err := r.Client.FloatingIPs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, f := range listed {
		got[f.Addr.String()] = true
	}
	if len(listed) != 110 || !maps.Equal(got, want) {
		t.Errorf("%d listed with %d addresses, want 110", len(listed), len(got))
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
	for _, w := range want {
		got, err := r.InstanceByID(t.Context(), w.ID)
		check("by id", got, err)
	}
	all, err := r.Client.Instances(t.Context())
	if len(all) != 2 {
		t.Fatalf("%d instances, %v", len(all), err)
	}
	for _, got := range all {
		check("list", got, err)
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

// An external IP of a kind that a newer API has spoils no other, and keeps the name of its kind.
func TestExternalIPOfAnUnknownKindSpoilsNoOther(t *testing.T) {
	r := start(t, oxidesim.Config{})
	r.fault(oxidesim.Fault{Operation: "instance_external_ip_list", Status: 200, Body: `{"items": [
		{"kind": "anycast", "ip": "192.0.2.1", "sites": 3},
		{"kind": "ephemeral", "ip": "192.0.2.2", "ip_pool_id": "x"}
	]}`})
	got, err := r.ExternalIPs(t.Context(), anID)
	if err != nil {
		t.Fatal(err)
	}
	want := []oxide.ExternalIP{
		{Kind: "anycast"},
		{Kind: oxide.ExternalIPEphemeral, Addr: netip.MustParseAddr("192.0.2.2")},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
