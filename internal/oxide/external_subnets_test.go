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
	r := start(t, oxidesim.Config{})
	very := netip.MustParsePrefix("198.18.0.77/32")
	very6 := netip.MustParsePrefix("2001:db8:18::77/128")
	for _, tc := range []struct {
		name      string
		allocator oxide.SubnetAllocator
		want      string
	}{
		{"default-v4", single4, "198.18.0.0/24"},
		{"pool", oxide.SubnetAllocator{Pool: "subnets-v6", Bits: 128}, "2001:db8:18::/64"},
		{"block", oxide.SubnetAllocator{Pool: "subnets", Bits: 28}, "198.18.0.0/24"},
		{"very", oxide.SubnetAllocator{Prefix: very, Bits: 32}, "198.18.0.77/32"},
		{"very-v6", oxide.SubnetAllocator{Prefix: very6, Bits: 128}, "2001:db8:18::77/128"},
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

// A refusal of Oxide's does not say what it is about: that is read.
func TestCreateExternalSubnetSaysWhyItCannot(t *testing.T) {
	old := oxidesim.Config{APIVersion: oxidesim.Release20APIVersion}
	fill := func(r *rig) error { return r.FillSubnetPool("subnets") }
	taken := netip.MustParsePrefix("198.18.0.0/32")
	for _, tc := range []struct {
		name       string
		rack       oxidesim.Config
		subnet     string
		allocator  oxide.SubnetAllocator
		before     func(*rig) error
		want       oxide.Kind
		oldRelease bool
		words      string
	}{
		{name: "name is taken", subnet: "web", want: oxide.KindAlreadyExists},
		{name: "name is taken on an old rack", rack: old, subnet: "web", want: oxide.KindAlreadyExists},
		{
			name: "name is taken, and the pool exhausted", subnet: "web", before: fill,
			want: oxide.KindAlreadyExists,
		},
		{
			name: "network is taken", allocator: oxide.SubnetAllocator{Prefix: taken},
			want: oxide.KindRefused,
		},
		{
			name:      "network is in no pool",
			allocator: oxide.SubnetAllocator{Prefix: netip.MustParsePrefix("192.0.2.1/32")},
			want:      oxide.KindRefused,
		},
		{
			name: "default pool is exhausted", before: fill, want: oxide.KindNoCapacity,
			words: "no capacity left (HTTP 400)",
		},
		{
			name: "pool is exhausted", allocator: oxide.SubnetAllocator{Pool: "subnets", Bits: 32},
			before: fill, want: oxide.KindNoCapacity,
		},
		{
			name: "pool has no networks of this length", want: oxide.KindNoCapacity,
			allocator: oxide.SubnetAllocator{Pool: "subnets", Bits: 8},
		},
		{
			name: "pool of the other family", want: oxide.KindRefused,
			allocator: oxide.SubnetAllocator{Pool: "subnets", Bits: 128},
			words:     "Oxide refuses: the subnet pool subnets is of the other IP family",
		},
		{
			name: "another pool of the other family", want: oxide.KindRefused,
			allocator: oxide.SubnetAllocator{Pool: "subnets-v6", Bits: 32},
		},
		{
			name: "no default pool of the family", want: oxide.KindNotFound,
			allocator: oxide.SubnetAllocator{DefaultPool6: true, Bits: 128},
			words:     "no default subnet pool is linked to the current silo",
		},
		{
			name: "no such pool", want: oxide.KindNotFound,
			allocator: oxide.SubnetAllocator{Pool: "nothing", Bits: 32},
		},
		{
			name: "only a viewer", want: oxide.KindForbidden,
			before: func(r *rig) error { return r.SetSiloRole("demo", "viewer") },
		},
		{
			name: "default pool is exhausted, and who asks may not list pools", want: oxide.KindRefused,
			before: func(r *rig) error { return errors.Join(fill(r), r.onProjectOnly()) },
			words:  "all subnets are used",
		},
		{
			name: "pool is exhausted, and who asks may not list pools", want: oxide.KindNoCapacity,
			allocator: oxide.SubnetAllocator{Pool: "subnets", Bits: 32},
			before:    func(r *rig) error { return errors.Join(fill(r), r.onProjectOnly()) },
		},
		{
			name: "next to another one on an old rack", rack: old,
			want: oxide.KindNoCapacity, oldRelease: true,
			words: "racks before release 21, as this one is, allocate no external subnet of a single address " +
				"next to another; update the rack, or use another subnet pool",
		},
		{
			name: "next to another one on an old rack, by who may not list pools", rack: old,
			before: (*rig).onProjectOnly, want: oxide.KindNoCapacity, oldRelease: true,
		},
		{
			name: "failed on an old rack that has another one", rack: old,
			before: func(r *rig) error { return r.failCreation(500, "Internal") },
			want:   oxide.KindNoCapacity, oldRelease: true,
		},
		{
			name: "failed", before: func(r *rig) error { return r.failCreation(500, "Internal") },
			want: oxide.KindInternal,
		},
		{
			name: "failed on an old rack that has no other one", rack: old,
			allocator: oxide.SubnetAllocator{Pool: "subnets-v6", Bits: 128},
			before:    func(r *rig) error { return r.failCreation(500, "Internal") },
			want:      oxide.KindInternal,
		},
		{
			name: "a block on an old rack", rack: old, want: oxide.KindAlreadyExists,
			allocator: oxide.SubnetAllocator{DefaultPool4: true, Bits: 28},
			before:    func(r *rig) error { return r.failCreation(400, "ObjectAlreadyExists") },
		},
		{
			name: "the release cannot be told", want: oxide.KindAlreadyExists,
			before: func(r *rig) error {
				_, err := r.AddFault(oxidesim.Fault{Operation: "ping", Status: 500})
				return errors.Join(err, r.failCreation(400, "ObjectAlreadyExists"))
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, tc.rack)
			r.createSubnet("web")
			if tc.before != nil {
				if err := tc.before(r); err != nil {
					t.Fatal(err)
				}
			}
			if tc.subnet == "" {
				tc.subnet = "another"
			}
			if tc.allocator == (oxide.SubnetAllocator{}) {
				tc.allocator = single4
			}
			r.ResetCounters()
			_, err := r.CreateExternalSubnet(t.Context(), tc.subnet, "", tc.allocator)
			wantKind(t, err, tc.want)
			var e *oxide.Error
			if errors.As(err, &e) && (e.OldRelease != tc.oldRelease || !oxide.ValidID(e.RequestID)) {
				t.Errorf("old release %v, want %v; request id %q", e.OldRelease, tc.oldRelease, e.RequestID)
			}
			if !strings.Contains(err.Error(), tc.words) {
				t.Errorf("it says %v\nwant … %s", err, tc.words)
			}
			if n := len(r.State().ExternalSubnets); n != 1 {
				t.Errorf("the rack has %d external subnets, want 1", n)
			}
			sent := 0
			for operation := range r.Counters() {
				sent += r.Count(operation)
			}
			if sent > 5 { // the list may take two
				t.Errorf("%d requests: %v", sent, r.Counters())
			}
		})
	}
}

// onProjectOnly leaves the user a role on the project alone.
func (r *rig) onProjectOnly() error {
	return errors.Join(r.SetProjectRole("demo", "demo", "limited_collaborator"), r.SetSiloRole("demo", "none"))
}

// failCreation makes creations of external subnets fail.
func (r *rig) failCreation(status int, code string) error {
	_, err := r.AddFault(oxidesim.Fault{
		Operation: "external_subnet_create", Status: status, ErrorCode: code,
	})
	return err
}

func TestTheReleaseIsKnownByTheVersionsThatTheRackSpeaks(t *testing.T) {
	for version, want := range map[string]bool{
		oxidesim.Release20APIVersion: false, "2026061000.0.0": true, "2026073100.0.0": true,
	} {
		r := start(t, oxidesim.Config{APIVersion: version})
		if got, err := r.AllocatesAdjacent(t.Context()); err != nil || got != want {
			t.Errorf("a rack of %s allocates single addresses side by side: %v, %v", version, got, err)
		}
		// What is asked for once is not asked for in other calls.
		if _, err := r.Contact(t.Context()); err != nil {
			t.Error(err)
		}
	}
	r := start(t, oxidesim.Config{})
	r.fault(oxidesim.Fault{Operation: "ping", Status: 503, ErrorCode: "ServiceNotAvailable", Times: 2})
	if got, err := r.AllocatesAdjacent(t.Context()); err != nil || !got {
		t.Errorf("after an outage: %v, %v", got, err)
	}
	r.fault(oxidesim.Fault{Operation: "ping", Status: 200, Body: `{"status": "fine"}`})
	_, err := r.AllocatesAdjacent(t.Context())
	wantKind(t, err, oxide.KindBadResponse)
}

func TestDescribeExternalSubnetChangesTheDescriptionAlone(t *testing.T) {
	r := start(t, oxidesim.Config{})
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
	r := start(t, oxidesim.Config{})
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
	r := start(t, oxidesim.Config{})
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
			r := start(t, oxidesim.Config{})
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
	r := start(t, oxidesim.Config{Timings: slow})
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
	r := start(t, oxidesim.Config{})
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
	r := start(t, oxidesim.Config{})
	foreign := oxidesim.SubnetPoolSeed{Name: "foreign"}
	if err := r.Apply(oxidesim.Seed{SubnetPools: []oxidesim.SubnetPoolSeed{foreign}}); err != nil {
		t.Fatal(err)
	}
	pools, err := r.SubnetPools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]oxide.SubnetPool)
	for _, pool := range pools {
		byName[pool.Name] = pool
	}
	for name, want := range map[string]oxide.SubnetPool{
		"subnets":    {Name: "subnets", Bits: 32, Default: true},
		"subnets-v6": {Name: "subnets-v6", Bits: 128},
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
