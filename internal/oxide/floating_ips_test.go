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
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// slowAttach is, scaled, 200 ms.
const slowAttach = 200 * time.Second

// create reserves an address of the default pool.
func (r *rig) create(name string) oxide.FloatingIP {
	r.t.Helper()
	created, err := r.CreateFloatingIP(r.t.Context(), name, "", oxide.IPAllocator{DefaultPool4: true})
	if err != nil {
		r.t.Fatal(err)
	}
	return created
}

// stored is what the rack knows of a floating IP.
func (r *rig) stored(id string) oxidesim.FloatingIP {
	r.t.Helper()
	for _, f := range r.Server.FloatingIPs() {
		if f.ID == id {
			return f
		}
	}
	r.t.Fatalf("the rack has no floating IP %s", id)
	return oxidesim.FloatingIP{}
}

func TestCreateFloatingIPTakesTheAddressThatTheAllocatorSays(t *testing.T) {
	r := start(t, oxidesim.Config{})
	v4Range := netip.MustParsePrefix("198.51.100.0/24")
	v6Range := netip.MustParsePrefix("2001:db8:51::/48")
	very := netip.MustParseAddr("198.51.100.77")
	for _, tc := range []struct {
		name      string
		allocator oxide.IPAllocator
		want      netip.Prefix
	}{
		{"default-v4", oxide.IPAllocator{DefaultPool4: true}, v4Range},
		{"pool", oxide.IPAllocator{Pool: "default-v6"}, v6Range},
		{"very", oxide.IPAllocator{Addr: very}, netip.PrefixFrom(very, 32)},
		{
			"very-v6", oxide.IPAllocator{Addr: netip.MustParseAddr("2001:db8:51::77")},
			netip.MustParsePrefix("2001:db8:51::77/128"),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := r.CreateFloatingIP(t.Context(), tc.name, "what for", tc.allocator)
			if err != nil {
				t.Fatal(err)
			}
			stored := r.stored(got.ID)
			if !tc.want.Contains(got.Addr) || got.Addr.String() != stored.IP {
				t.Errorf("got %v, the rack has %s, want it in %v", got.Addr, stored.IP, tc.want)
			}
			if got.Name != tc.name || got.Description != "what for" ||
				stored.Description != "what for" || got.InstanceID != "" ||
				!oxide.ValidID(got.PoolID) || got.TimeCreated.IsZero() {
				t.Errorf("got %+v, the rack has %+v", got, stored)
			}
			again, err := r.FloatingIPByName(t.Context(), tc.name)
			if err != nil || again != got {
				t.Errorf("read by name: %+v, %v", again, err)
			}
		})
	}
}

func TestCreateFloatingIPSaysWhyItCannot(t *testing.T) {
	taken := netip.MustParseAddr("198.51.100.77")
	for _, tc := range []struct {
		name      string
		fip       string
		allocator oxide.IPAllocator
		before    func(*rig) error
		want      oxide.Kind
	}{
		{name: "name is taken", fip: "web", want: oxide.KindAlreadyExists},
		{
			name: "address is taken", allocator: oxide.IPAllocator{Addr: taken},
			want: oxide.KindRefused,
		},
		{
			name:      "address is in no pool",
			allocator: oxide.IPAllocator{Addr: netip.MustParseAddr("192.0.2.1")},
			want:      oxide.KindRefused,
		},
		{
			name: "pool is exhausted", want: oxide.KindNoCapacity,
			before: func(r *rig) error { return r.FillPool("default") },
		},
		{
			name: "no default pool of the family", want: oxide.KindNotFound,
			allocator: oxide.IPAllocator{DefaultPool6: true},
		},
		{
			name: "no such pool", want: oxide.KindNotFound,
			allocator: oxide.IPAllocator{Pool: "nothing"},
		},
		{
			name: "only a viewer", want: oxide.KindForbidden,
			before: func(r *rig) error { return r.SetSiloRole("demo", "viewer") },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, oxidesim.Config{})
			if _, err := r.CreateFloatingIP(t.Context(), "web", "",
				oxide.IPAllocator{Addr: taken}); err != nil {
				t.Fatal(err)
			}
			if tc.before != nil {
				if err := tc.before(r); err != nil {
					t.Fatal(err)
				}
			}
			if tc.fip == "" {
				tc.fip = "another"
			}
			if tc.allocator == (oxide.IPAllocator{}) {
				tc.allocator.DefaultPool4 = true
			}
			_, err := r.CreateFloatingIP(t.Context(), tc.fip, "", tc.allocator)
			wantKind(t, err, tc.want)
			if n := len(r.Server.FloatingIPs()); n != 1 {
				t.Errorf("the rack has %d floating IPs, want 1", n)
			}
		})
	}
}

func TestDescribeFloatingIPChangesTheDescriptionAlone(t *testing.T) {
	r := start(t, oxidesim.Config{})
	web := r.create("web")
	longest := strings.Repeat("é", oxide.MaxDescription)
	for _, text := range []string{"new", "", `"quoted" <&> \ ` + "\n\tlines", longest} {
		got, err := r.DescribeFloatingIP(t.Context(), web.ID, text)
		if err != nil {
			t.Fatal(err)
		}
		want := web
		want.Description = text
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if stored := r.stored(web.ID).Description; stored != text {
			t.Errorf("the rack has %q, want %q", stored, text)
		}
	}
	_, err := r.DescribeFloatingIP(t.Context(), web.ID, longest+"x")
	wantKind(t, err, oxide.KindInternal)
	_, err = r.DescribeFloatingIP(t.Context(), anID, "new")
	wantKind(t, err, oxide.KindNotFound)
}

func TestAttachAndDetachFloatingIP(t *testing.T) {
	r := start(t, oxidesim.Config{})
	a := r.instance(oxidesim.InstanceSeed{Name: "a"})
	b := r.instance(oxidesim.InstanceSeed{Name: "b"})
	web := r.create("web")
	wantOn := func(step, instance, state string) {
		t.Helper()
		stored := r.stored(web.ID)
		read, err := r.FloatingIPByName(t.Context(), "web")
		if err != nil {
			t.Fatal(err)
		}
		if stored.InstanceID != instance || stored.AttachState != state ||
			read.InstanceID != instance {
			t.Errorf("%s: the rack has %+v, read %+v", step, stored, read)
		}
	}
	detach := func() error { return r.DetachFloatingIP(t.Context(), web.ID) }

	if err := detach(); err != nil {
		t.Errorf("detach of what is not attached: %v", err)
	}
	wantOn("never attached", "", "detached")
	for _, step := range []string{"attach", "attach again"} {
		got, err := r.AttachFloatingIP(t.Context(), web.ID, a.ID)
		if err != nil || got.InstanceID != a.ID {
			t.Fatalf("%s: %+v, %v", step, got, err)
		}
		wantOn(step, a.ID, "attached")
	}
	_, err := r.AttachFloatingIP(t.Context(), web.ID, b.ID)
	wantKind(t, err, oxide.KindRefused)
	wantKind(t, r.DeleteFloatingIP(t.Context(), web.ID), oxide.KindRefused)
	wantOn("refused elsewhere", a.ID, "attached")
	for _, step := range []string{"detach", "detach again"} {
		if err := detach(); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		wantOn(step, "", "detached")
	}
	if err := r.DeleteFloatingIP(t.Context(), web.ID); err != nil {
		t.Fatal(err)
	}
	wantKind(t, r.DeleteFloatingIP(t.Context(), web.ID), oxide.KindNotFound)
	wantKind(t, detach(), oxide.KindNotFound)
	_, err = r.FloatingIPByName(t.Context(), "web")
	wantKind(t, err, oxide.KindNotFound)
}

func TestAttachAndDetachFollowTheRunState(t *testing.T) {
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
			free, attached := r.create("free"), r.create("attached")
			if _, err := r.AttachFloatingIP(t.Context(), attached.ID, node.ID); err != nil {
				t.Fatal(err)
			}
			if err := r.SetRunState(node.ID, tc.state); err != nil {
				t.Fatal(err)
			}
			_, attach := r.AttachFloatingIP(t.Context(), free.ID, node.ID)
			detach := r.DetachFloatingIP(t.Context(), attached.ID)
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

// An attach waits for the sled, and a caller that goes meanwhile does not stop it: Oxide carries on
// all the same. So the outcome is to be looked up, and the error says only that the call ended.
func TestAttachThatTheCallerLeftIsCarriedOutAllTheSame(t *testing.T) {
	t.Parallel()
	slow := oxidesim.Timings{Attach: slowAttach}
	r := start(t, oxidesim.Config{Timings: slow})
	node := r.instance(oxidesim.InstanceSeed{})
	web := r.create("web")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := r.AttachFloatingIP(ctx, web.ID, node.ID)
		ended <- err
	}()
	await(t, func() bool { return r.stored(web.ID).AttachState == "attaching" })
	cancel()
	wantKind(t, <-ended, oxide.KindEnded)
	await(t, func() bool { return r.stored(web.ID).AttachState == "attached" })
}

func TestAttachToALostSledIsUnavailable(t *testing.T) {
	t.Parallel()
	r := start(t, oxidesim.Config{})
	node := r.instance(oxidesim.InstanceSeed{})
	web := r.create("web")
	if err := r.LoseSled("instance:node-1"); err != nil {
		t.Fatal(err)
	}
	_, err := r.AttachFloatingIP(t.Context(), web.ID, node.ID)
	wantKind(t, err, oxide.KindUnavailable)
	if n := r.Count("floating_ip_attach"); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}
