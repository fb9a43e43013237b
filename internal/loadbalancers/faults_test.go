// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

const legacyDescription = "Managed by oxide-cloud-controller-manager."

// chapter is something that happens to a cluster, and what holds once it has been reconciled.
type chapter struct {
	name    string
	prepare func(t *testing.T, r *rack, s *cast)
	holds   func(t *testing.T, r *rack, s *cast)
}

// cast is a cluster and its load balancers.
type cast struct {
	cluster loadbalancers.Cluster
	set     []loadbalancers.Desired
	// addrs are the addresses that they had, where they must keep them.
	addrs []string
}

// publish makes the load balancers publish what they have, with the private addresses.
func (s *cast) publish(r *rack) {
	private := make(map[string]string)
	for _, node := range r.Instances() {
		private[node.ID] = node.PrivateIPs["v4"]
	}
	s.addrs = nil
	for i := range s.set {
		s.set[i].Published = nil
		for _, ip := range r.FloatingIPs() {
			if marker, _ := loadbalancers.ParseMarker(ip.Description); marker.Key == s.set[i].Key {
				s.addrs = append(s.addrs, ip.IP)
				s.set[i].Published = append(s.set[i].Published, netip.MustParseAddr(ip.IP),
					netip.MustParseAddr(private[ip.InstanceID]))
			}
		}
	}
}

// kept fails unless every address is still there and attached.
func (s *cast) kept(t *testing.T, r *rack) {
	t.Helper()
	states := make(map[string]string)
	for _, ip := range r.FloatingIPs() {
		states[ip.IP] = ip.AttachState
	}
	for _, addr := range s.addrs {
		if states[addr] != "attached" {
			t.Errorf("%s is %q", addr, states[addr])
		}
	}
}

// aLife is what may happen to a cluster, one after the other.
func aLife() []chapter {
	return []chapter{
		{
			name: "take-over from the existing CCM, all on one node",
			prepare: func(t *testing.T, r *rack, s *cast) {
				s.set, s.cluster = services(4), r.cluster()
				s.cluster.LegacyName = "kubernetes"
				for i := range s.set {
					ip, err := r.AddFloatingIP("demo", oxidesim.FloatingIPSeed{
						Name:        fmt.Sprintf("kubernetes-default-svc-%d", i),
						Description: legacyDescription, Instance: "node-1",
					})
					if err != nil {
						t.Fatal(err)
					}
					s.set[i].Ports = []loadbalancers.Port{{Protocol: loadbalancers.TCP, Number: 80 + i/2}}
					s.set[i].Published = []netip.Addr{netip.MustParseAddr(ip.IP)}
					s.addrs = append(s.addrs, ip.IP)
				}
			},
			holds: func(t *testing.T, r *rack, s *cast) {
				r.mustBeServed(t, s.set, 0, 1, 2)
				s.kept(t, r)
			},
		},
		{
			name: "a node fails",
			prepare: func(_ *testing.T, _ *rack, s *cast) {
				s.cluster.Candidates[0].Health = loadbalancers.Unhealthy
			},
			holds: func(t *testing.T, r *rack, s *cast) {
				r.mustBeServed(t, s.set, 1, 2)
				s.kept(t, r)
			},
		},
		{
			name: "all markers are lost, and the node is back",
			prepare: func(t *testing.T, r *rack, s *cast) {
				s.publish(r)
				s.cluster.Candidates[0].Health = loadbalancers.Healthy
				for _, ip := range r.FloatingIPs() {
					if _, err := r.api.DescribeFloatingIP(t.Context(), ip.ID, legacyDescription); err != nil {
						t.Fatal(err)
					}
				}
			},
			holds: func(t *testing.T, r *rack, s *cast) {
				r.mustBeServed(t, s.set, 1, 2)
				s.kept(t, r)
			},
		},
		{
			name: "other addresses are wished for",
			prepare: func(_ *testing.T, r *rack, s *cast) {
				s.publish(r)
				s.addrs = nil
				for i := range s.set {
					addr := netip.AddrFrom4([4]byte{198, 51, 100, byte(200 + i)})
					s.set[i].Wanted[0].Source.Addr = addr
					s.addrs = append(s.addrs, addr.String())
				}
			},
			holds: func(t *testing.T, r *rack, s *cast) {
				r.mustBeServed(t, s.set, 0, 1, 2)
				s.kept(t, r)
			},
		},
		{
			name: "the user takes them as his own",
			prepare: func(t *testing.T, r *rack, s *cast) {
				s.publish(r)
				for i := range s.set {
					for _, ip := range r.FloatingIPs() {
						if ip.IP == s.addrs[i] {
							s.set[i].Wanted[0].Source = loadbalancers.Source{Existing: ip.Name}
						}
					}
				}
			},
			holds: func(t *testing.T, r *rack, s *cast) {
				s.kept(t, r)
				for _, ip := range r.FloatingIPs() {
					if ip.Description != "" {
						t.Errorf("%s is described %q", ip.Name, ip.Description)
					}
				}
			},
		},
		{
			name: "addresses of the silo's pool are wished for again",
			prepare: func(_ *testing.T, r *rack, s *cast) {
				private := make(map[string]string)
				for _, node := range r.Instances() {
					for _, addr := range node.Floating {
						private[addr] = node.PrivateIPs["v4"]
					}
				}
				for i := range s.set {
					s.set[i].Wanted[0].Source = loadbalancers.Source{Pool: "default"}
					s.set[i].Published = []netip.Addr{
						netip.MustParseAddr(s.addrs[i]), netip.MustParseAddr(private[s.addrs[i]]),
					}
				}
			},
			holds: func(t *testing.T, r *rack, s *cast) {
				marked := 0
				for _, ip := range r.FloatingIPs() {
					_, ours := loadbalancers.ParseMarker(ip.Description)
					if ours {
						marked++
					}
					if (ip.AttachState == "attached") != ours {
						t.Errorf("%s, described %q, is %s", ip.Name, ip.Description, ip.AttachState)
					}
				}
				if marked != len(s.set) || len(r.FloatingIPs()) != 2*len(s.set) {
					t.Errorf("of %d addresses %d are marked", len(r.FloatingIPs()), marked)
				}
			},
		},
	}
}

// Invariant 6, for the whole cluster: each call of Oxide in turn is not carried out, or carried out and
// its answer lost; the next run converges.
func TestInvariant6EveryCallOfAReconcileMayFail(t *testing.T) {
	operations := []string{
		"floating_ip_list", "floating_ip_create", "floating_ip_attach", "floating_ip_detach",
		"floating_ip_delete", "floating_ip_update",
	}
	for _, operation := range operations {
		for _, fault := range []struct {
			name string
			oxidesim.Fault
		}{
			{"not carried out", oxidesim.Fault{Status: 503, ErrorCode: "ServiceNotAvailable"}},
			{"answer lost", oxidesim.Fault{Execute: true, Reset: true}},
			{"answered 500 though done", oxidesim.Fault{
				Status: 500, ErrorCode: "Internal", Execute: true,
			}},
		} {
			for nth := 1; nth <= 2; nth++ {
				t.Run(fmt.Sprintf("%s %d %s", operation, nth, fault.name), func(t *testing.T) {
					t.Parallel()
					rule := fault.Fault
					rule.Operation, rule.Nth = operation, []int{nth}
					live(t, rule)
				})
			}
		}
	}
}

// live lives through all chapters, each with one fault.
func live(t *testing.T, rule oxidesim.Fault) {
	t.Helper()
	r, s := newRackOf(t, 3, oxidesim.Config{}), &cast{}
	for _, chapter := range aLife() {
		chapter.prepare(t, r, s)
		id, err := r.AddFault(rule)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = r.manager.Reconcile(t.Context(), s.cluster, s.set, realSet)
		r.RemoveFault(id)
		// What stood in the way of another one is out of it by then.
		_, _ = r.manager.Reconcile(t.Context(), s.cluster, s.set, realSet)
		r.reconcile(t, s.cluster, s.set)
		chapter.holds(t, r, s)
		r.ResetCounters()
		r.reconcile(t, s.cluster, s.set)
		if n := r.mutations(); n != 0 {
			t.Errorf("%s: once more, %d mutations", chapter.name, n)
		}
		if t.Failed() {
			t.Fatalf("in the chapter: %s", chapter.name)
		}
	}
}
