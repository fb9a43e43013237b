// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// counted desires so many addresses of IPv4 from a source, which are to be retained.
func counted(n int, source func(*session.Desired)) func(*session.Desired) {
	return func(d *session.Desired) {
		several(n)(d)
		source(d)
		d.Retain = true
	}
}

func floating(d *session.Desired) {
	for i := range d.Addresses {
		d.Addresses[i].Source = ownership.Source{}
	}
}

// end ends a load balancer that retains its addresses, and waits for that.
func (o *owner) end(key ownership.Key) {
	o.Helper()
	o.want(key.Name, func(d *session.Desired) { d.Ending = plan.EndRetain })
	o.await(time.Minute, "the end", func() bool { return o.isReleased(key) })
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.released, key)
}

// again desires a load balancer of the same name for another owner, which publishes nothing yet.
func (o *owner) again(name, uid string, edit func(*session.Desired)) {
	o.Helper()
	o.want(name, func(d *session.Desired) {
		d.Ending, d.OwnerUID, d.Published, d.Created = plan.NotEnding, uid, nil, time.Now()
		edit(d)
	})
}

// resources says of each address on the rack whether it is marked as retained.
func (w *world) resources() map[netip.Addr]bool {
	all := make(map[netip.Addr]bool)
	add := func(addr, description string) {
		marker, marked := ownership.ParseMarker(description)
		if !marked {
			w.Errorf("%s is not marked: %q", addr, description)
		}
		all[netip.MustParseAddr(addr)] = marker.Retained
	}
	for _, ip := range w.sim.FloatingIPs() {
		add(ip.IP, ip.Description)
	}
	for _, e := range w.sim.ExternalSubnets() {
		add(strings.TrimSuffix(e.Subnet, "/32"), e.Description)
	}
	return all
}

func addrsOf(addresses []session.Address) []netip.Addr {
	var all []netip.Addr
	for _, a := range addresses {
		all = append(all, a.Addr)
	}
	return all
}

// Two addresses that are retained come back, as many as are desired; what is desired no more is
// retained, too, and nothing is ever deleted.
func TestRetainedAddressesComeBackInAnyNumber(t *testing.T) {
	for name, source := range map[string]func(*session.Desired){
		"floating IPs": floating, "external subnets": routed,
	} {
		t.Run(name, func(t *testing.T) {
			inRoutedWorld(t, 4, func(w *world) {
				o := w.open().sync()
				defer o.close()
				key := o.want("default/web", counted(2, source), 80)
				first := addrsOf(o.carried(key, 2))
				has := func(addrs []netip.Addr, inUse int) {
					t.Helper()
					retained := 0
					for _, is := range w.resources() {
						if is {
							retained++
						}
					}
					if all := w.resources(); len(all) != len(addrs) || retained != len(addrs)-inUse {
						t.Errorf("the rack has %v, want %v, %d of them in use", all, addrs, inUse)
					}
				}
				o.end(key)
				has(first, 0)

				o.again("default/web", "uid-2", counted(1, source))
				one := addrsOf(o.carried(key, 1))
				if !slices.Contains(first, one[0]) {
					t.Errorf("it has %v, want one of %v", one, first)
				}
				has(first, 1)
				o.end(key)
				has(first, 0)

				o.again("default/web", "uid-3", counted(3, source))
				three := addrsOf(o.carried(key, 3))
				if !slices.Contains(three, first[0]) || !slices.Contains(three, first[1]) {
					t.Errorf("it has %v, want %v among them", three, first)
				}
				has(three, 3)
				o.want("default/web", counted(1, source))
				o.await(time.Minute, "the detachment of two", func() bool {
					return len(o.state(key).Addresses) == 1
				})
				time.Sleep(10 * time.Second)
				has(three, 1)
				if n := w.sim.Count("floating_ip_delete") + w.sim.Count("external_subnet_delete"); n != 0 {
					t.Errorf("%d addresses were deleted", n)
				}
			})
		})
	}
}

// A load balancer that is created again with another source gets a new address, and the old one
// waits for one that desires its kind. When it comes back in place of others that is said, with
// both addresses.
func TestARetainedAddressWaitsForItsKind(t *testing.T) {
	inRoutedWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", counted(1, routed), 80)
		subnet := o.carried(key, 1)[0]
		o.end(key)
		o.again("default/web", "uid-2", counted(1, floating))
		ip := o.carried(key, 1)[0]
		time.Sleep(2 * time.Minute)
		if all := w.resources(); !all[subnet.Addr] || all[ip.Addr] || len(all) != 2 ||
			w.subnets()[subnet.Addr] != "" {
			t.Errorf("the rack has %v", all)
		}
		began := time.Now()
		o.want("default/web", counted(1, routed))
		o.await(time.Minute, "the exchange", func() bool {
			s := o.state(key)
			return s.Phase == session.PhaseReady && len(s.Addresses) == 1 && s.Addresses[0].Addr == subnet.Addr
		})
		o.carried(key, 1)
		marked := o.did(key, plan.ActionMark, began)
		if len(marked) != 2 || !marked[0].Replaces || marked[1].Replaces ||
			!strings.Contains(marked[0].Summary, subnet.Addr.String()+", which was retained, replaces the "+
				"floating IP "+ip.Addr.String()+", which is no longer desired: the address changes") {
			t.Errorf("marked %+v", marked)
		}
		if all := w.resources(); all[subnet.Addr] || !all[ip.Addr] || len(all) != 2 {
			t.Errorf("the rack has %v", all)
		}
	})
}

// A Service that was deleted and created again with another source while nobody ran leaves nothing
// behind: what its former self had is in no status any more, and on a node.
func TestWhatWasCreatedAgainWithAnotherSourceLeavesNothing(t *testing.T) {
	for name, order := range map[string][2]func(*session.Desired){
		"an external subnet before": {routed, floating}, "a floating IP before": {floating, routed},
	} {
		t.Run(name, func(t *testing.T) {
			inRoutedWorld(t, 2, func(w *world) {
				o := w.open().sync()
				key := o.want("default/web", order[0], 80)
				old := o.carried(key, 1)[0]
				o.rewrite(key, func(d *session.Desired) {
					d.OwnerUID, d.Published, d.Created = "uid-2", nil, time.Now()
					d.Addresses = []plan.Desired{{Family: ownership.IPv4}}
					order[1](d)
				})
				o = o.reopen()
				defer o.close()
				now := o.carried(key, 1)[0]
				o.await(2*time.Minute, "the end of the old address", func() bool { return len(w.resources()) == 1 })
				if all := w.resources(); all[now.Addr] || now.Addr == old.Addr || now.Kind == old.Kind {
					t.Errorf("it has %+v, the rack %v", now, all)
				}
			})
		})
	}
}

// Eight floating IPs of IPv4 and eight external subnets of IPv6 are the most that a load balancer
// can have.
func TestEightOfEachFamilyFromEitherSource(t *testing.T) {
	inRoutedWorld(t, 8, func(w *world) {
		o := w.open().sync()
		defer o.close()
		desire := func(n int) func(*session.Desired) {
			return func(d *session.Desired) {
				several(n)(d)
				for range n {
					d.Addresses = append(d.Addresses, plan.Desired{
						Family: ownership.IPv6, Source: ownership.Source{Kind: ownership.ExternalSubnet},
					})
				}
			}
		}
		key := o.want("default/web", desire(8), 80)
		all := o.carried(key, 16)
		o.apart(all[:8])
		o.apart(all[8:])
		if s := o.state(key); len(s.Publish) != 24 || s.Problem != nil {
			t.Errorf("published %v, %v", s.Publish, s.Problem)
		}
		o.want("default/web", desire(1))
		o.await(time.Minute, "the end of the others", func() bool {
			return len(w.sim.FloatingIPs()) == 1 && len(w.subnets()) == 1
		})
		o.carried(key, 2)
	})
}
