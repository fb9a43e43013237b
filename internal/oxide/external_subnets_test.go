// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package oxide_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// routed is a seed with subnet pools: a default one of IPv4, and others that are no default.
func routed() oxidesim.Seed {
	links := func(isDefault bool) []oxidesim.PoolLinkSeed {
		return []oxidesim.PoolLinkSeed{{Silo: oxidesim.DefaultSilo, Default: isDefault}}
	}
	return oxidesim.Seed{SubnetPools: []oxidesim.SubnetPoolSeed{
		{
			Name: "routed", Silos: links(true),
			Members: []oxidesim.SubnetPoolMemberSeed{{Subnet: "203.0.113.0/24"}},
		},
		{
			Name: "routed-v6", IPVersion: "v6", Silos: links(false),
			Members: []oxidesim.SubnetPoolMemberSeed{{Subnet: "2001:db8:52::/64"}},
		},
		{
			Name: "small", Silos: links(false),
			Members: []oxidesim.SubnetPoolMemberSeed{{Subnet: "192.0.2.0/32"}},
		},
		{Name: "foreign", Members: []oxidesim.SubnetPoolMemberSeed{{Subnet: "192.0.2.128/25"}}},
	}}
}

// startRouted is a rig with subnet pools.
func startRouted(t testing.TB, cfg oxidesim.Config, edit ...func(*oxide.Config)) *rig {
	t.Helper()
	r := start(t, cfg, edit...)
	if err := r.Apply(routed()); err != nil {
		t.Fatal(err)
	}
	return r
}

var single4 = oxide.SubnetAllocator{DefaultPool4: true, Bits: 32}

// createSubnet reserves a single address of the default pool.
func (r *rig) createSubnet(name string) oxide.ExternalSubnet {
	r.t.Helper()
	created, err := r.CreateExternalSubnet(r.t.Context(), name, "", single4)
	if err != nil {
		r.t.Fatal(err)
	}
	return created
}

// storedSubnet is what the rack knows of an external subnet.
func (r *rig) storedSubnet(id string) oxidesim.ExternalSubnet {
	r.t.Helper()
	for _, s := range r.State().ExternalSubnets {
		if s.ID == id {
			return s
		}
	}
	r.t.Fatalf("the rack has no external subnet %s", id)
	return oxidesim.ExternalSubnet{}
}

func TestCreateExternalSubnetTakesANetworkOfThePoolAndLength(t *testing.T) {
	r := startRouted(t, oxidesim.Config{})
	for _, tc := range []struct {
		name      string
		allocator oxide.SubnetAllocator
		want      string
	}{
		{"default-v4", single4, "203.0.113.0/24"},
		{"pool", oxide.SubnetAllocator{Pool: "routed-v6", Bits: 128}, "2001:db8:52::/64"},
		{"block", oxide.SubnetAllocator{Pool: "routed", Bits: 28}, "203.0.113.0/24"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := r.CreateExternalSubnet(t.Context(), tc.name, "what for", tc.allocator)
			if err != nil {
				t.Fatal(err)
			}
			stored := r.storedSubnet(got.ID)
			if !netip.MustParsePrefix(tc.want).Contains(got.Prefix.Addr()) ||
				got.Prefix.Bits() != tc.allocator.Bits || got.Prefix.String() != stored.Subnet {
				t.Errorf("got %v, the rack has %s, want a /%d in %s", got.Prefix, stored.Subnet,
					tc.allocator.Bits, tc.want)
			}
			if got.Name != tc.name || got.Description != "what for" ||
				stored.Description != "what for" || got.InstanceID != "" ||
				!oxide.ValidID(got.PoolID) || got.TimeCreated.IsZero() {
				t.Errorf("got %+v, the rack has %+v", got, stored)
			}
			again, err := r.ExternalSubnetByName(t.Context(), tc.name)
			if err != nil || again != got {
				t.Errorf("read by name: %+v, %v", again, err)
			}
			again, err = r.ExternalSubnetByID(t.Context(), got.ID)
			if err != nil || again != got {
				t.Errorf("read by id: %+v, %v", again, err)
			}
		})
	}
}

func TestDescribeExternalSubnetChangesTheDescriptionAlone(t *testing.T) {
	r := startRouted(t, oxidesim.Config{})
	web := r.createSubnet("web")
	longest := strings.Repeat("é", oxide.MaxDescription)
	for _, text := range []string{"new", "", `"quoted" <&> \ ` + "\n\tlines", longest} {
		got, err := r.DescribeExternalSubnet(t.Context(), web.ID, text)
		if err != nil {
			t.Fatal(err)
		}
		want := web
		want.Description = text
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if stored := r.storedSubnet(web.ID).Description; stored != text {
			t.Errorf("the rack has %q, want %q", stored, text)
		}
	}
	_, err := r.DescribeExternalSubnet(t.Context(), web.ID, longest+"x")
	wantKind(t, err, oxide.KindInternal)
	_, err = r.DescribeExternalSubnet(t.Context(), anID, "new")
	wantKind(t, err, oxide.KindNotFound)
}

func TestAttachAndDetachExternalSubnet(t *testing.T) {
	r := startRouted(t, oxidesim.Config{})
	a := r.instance(oxidesim.InstanceSeed{Name: "a"})
	b := r.instance(oxidesim.InstanceSeed{Name: "b"})
	web := r.createSubnet("web")
	wantOn := func(step, instance, state string) {
		t.Helper()
		stored := r.storedSubnet(web.ID)
		read, err := r.ExternalSubnetByName(t.Context(), "web")
		if err != nil {
			t.Fatal(err)
		}
		if stored.InstanceID != instance || stored.AttachState != state ||
			read.InstanceID != instance {
			t.Errorf("%s: the rack has %+v, read %+v", step, stored, read)
		}
	}
	detach := func() error { return r.DetachExternalSubnet(t.Context(), web.ID) }

	if err := detach(); err != nil {
		t.Errorf("detach of what is not attached: %v", err)
	}
	wantOn("never attached", "", "detached")
	for _, step := range []string{"attach", "attach again"} {
		got, err := r.AttachExternalSubnet(t.Context(), web.ID, a.ID)
		if err != nil || got.InstanceID != a.ID {
			t.Fatalf("%s: %+v, %v", step, got, err)
		}
		wantOn(step, a.ID, "attached")
	}
	_, err := r.AttachExternalSubnet(t.Context(), web.ID, b.ID)
	wantKind(t, err, oxide.KindRefused)
	wantKind(t, r.DeleteExternalSubnet(t.Context(), web.ID), oxide.KindRefused)
	wantOn("refused elsewhere", a.ID, "attached")
	for _, step := range []string{"detach", "detach again"} {
		if err := detach(); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		wantOn(step, "", "detached")
	}
	if err := r.DeleteExternalSubnet(t.Context(), web.ID); err != nil {
		t.Fatal(err)
	}
	wantKind(t, r.DeleteExternalSubnet(t.Context(), web.ID), oxide.KindNotFound)
	wantKind(t, detach(), oxide.KindNotFound)
	_, err = r.ExternalSubnetByName(t.Context(), "web")
	wantKind(t, err, oxide.KindNotFound)
}

// What Oxide refuses counts as done only where the subnet is seen to be attached nowhere.
func TestARefusedDetachIsNoSuccessUnlessTheSubnetIsSeenDetached(t *testing.T) {
	r := startRouted(t, oxidesim.Config{})
	node := r.instance(oxidesim.InstanceSeed{})
	web := r.createSubnet("web")
	if _, err := r.AttachExternalSubnet(t.Context(), web.ID, node.ID); err != nil {
		t.Fatal(err)
	}
	r.fault(oxidesim.Fault{
		Operation: "external_subnet_detach", Status: 400, ErrorCode: "InvalidRequest",
	})
	wantKind(t, r.DetachExternalSubnet(t.Context(), web.ID), oxide.KindRefused)
	r.ClearFaults()
	if err := r.DetachExternalSubnet(t.Context(), web.ID); err != nil {
		t.Fatal(err)
	}
	r.fault(oxidesim.Fault{Operation: "external_subnet_view", Status: 404, ErrorCode: "ObjectNotFound"})
	wantKind(t, r.DetachExternalSubnet(t.Context(), web.ID), oxide.KindRefused)
}

func TestAttachAndDetachOfExternalSubnetsFollowTheRunState(t *testing.T) {
	for _, tc := range []struct {
		state string
		want  oxide.Kind
		ok    bool
	}{
		{state: oxide.RunStateRunning, ok: true},
		{state: oxide.RunStateRebooting, ok: true},
		{state: oxide.RunStateStopped, ok: true},
		{state: oxide.RunStateStarting, want: oxide.KindUnavailable},
		{state: oxide.RunStateStopping, want: oxide.KindUnavailable},
		{state: oxide.RunStateMigrating, want: oxide.KindUnavailable},
		{state: oxide.RunStateCreating, want: oxide.KindRefused},
		{state: oxide.RunStateFailed, want: oxide.KindRefused},
	} {
		t.Run(tc.state, func(t *testing.T) {
			t.Parallel()
			r := startRouted(t, oxidesim.Config{})
			node := r.instance(oxidesim.InstanceSeed{})
			free, attached := r.createSubnet("free"), r.createSubnet("attached")
			if _, err := r.AttachExternalSubnet(t.Context(), attached.ID, node.ID); err != nil {
				t.Fatal(err)
			}
			if err := r.SetRunState(node.ID, tc.state); err != nil {
				t.Fatal(err)
			}
			_, attach := r.AttachExternalSubnet(t.Context(), free.ID, node.ID)
			detach := r.DetachExternalSubnet(t.Context(), attached.ID)
			if tc.ok {
				if err := errors.Join(attach, detach); err != nil {
					t.Error(err)
				}
				return
			}
			wantKind(t, attach, tc.want)
			wantKind(t, detach, tc.want)
		})
	}
}

func TestAttachOfAnExternalSubnetThatTheCallerLeftIsCarriedOutAllTheSame(t *testing.T) {
	t.Parallel()
	slow := oxidesim.Timings{Attach: slowAttach}
	r := startRouted(t, oxidesim.Config{Timings: slow})
	node := r.instance(oxidesim.InstanceSeed{})
	web := r.createSubnet("web")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := r.AttachExternalSubnet(ctx, web.ID, node.ID)
		ended <- err
	}()
	await(t, func() bool { return r.storedSubnet(web.ID).AttachState == "attaching" })
	cancel()
	wantKind(t, <-ended, oxide.KindEnded)
	await(t, func() bool { return r.storedSubnet(web.ID).AttachState == "attached" })
}

func TestAttachOfAnExternalSubnetToALostSledIsUnavailable(t *testing.T) {
	t.Parallel()
	r := startRouted(t, oxidesim.Config{})
	node := r.instance(oxidesim.InstanceSeed{})
	web := r.createSubnet("web")
	if err := r.LoseSled("instance:node-1"); err != nil {
		t.Fatal(err)
	}
	_, err := r.AttachExternalSubnet(t.Context(), web.ID, node.ID)
	wantKind(t, err, oxide.KindUnavailable)
	if n := r.Count("external_subnet_attach"); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestSubnetPoolReadsWhatIsLinkedToTheSilo(t *testing.T) {
	r := startRouted(t, oxidesim.Config{})
	pools, err := r.SubnetPools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]oxide.SubnetPool)
	for _, pool := range pools {
		byName[pool.Name] = pool
	}
	for name, want := range map[string]oxide.SubnetPool{
		"routed":    {Name: "routed", Bits: 32, Default: true},
		"routed-v6": {Name: "routed-v6", Bits: 128},
	} {
		want.ID = byName[name].ID
		for _, nameOrID := range []string{name, want.ID} {
			got, err := r.SubnetPool(t.Context(), nameOrID)
			if err != nil || got != want || byName[name] != want {
				t.Errorf("got %+v, listed %+v, want %+v; %v", got, byName[name], want, err)
			}
		}
	}
	for _, missing := range []string{"foreign", "none", anID} {
		_, err := r.SubnetPool(t.Context(), missing)
		wantKind(t, err, oxide.KindNotFound)
	}
}
