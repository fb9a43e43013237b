// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.
package session_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// routed desires external subnets of the silo's default pool of IPv4.
func routed(d *session.Desired) {
	for i := range d.Addresses {
		d.Addresses[i].Source = ownership.Source{Kind: ownership.ExternalSubnet}
	}
}

// several desires so many addresses of IPv4.
func several(n int) func(*session.Desired) {
	return func(d *session.Desired) {
		d.Addresses = slices.Repeat([]plan.Desired{{Family: ownership.IPv4}}, n)
	}
}

// inRoutedWorld is inWorld with a default subnet pool of each family.
func inRoutedWorld(t *testing.T, nodes int, test func(w *world)) {
	t.Helper()
	inWorld(t, nodes, func(w *world) {
		silos := []oxidesim.PoolLinkSeed{{Silo: "demo", Default: true}}
		w.must(w.sim.Apply(oxidesim.Seed{SubnetPools: []oxidesim.SubnetPoolSeed{
			{
				Name: "routed", Silos: silos,
				Members: []oxidesim.SubnetPoolMemberSeed{{Subnet: "203.0.113.0/28"}},
			},
			{
				Name: "routed-6", IPVersion: "v6", Silos: silos,
				Members: []oxidesim.SubnetPoolMemberSeed{{Subnet: "2001:db8:5::/120"}},
			},
		}}))
		test(w)
	})
}

// carried waits until a load balancer is ready with so many addresses, all attached and published, and
// returns them.
func (o *owner) carried(key ownership.Key, count int) []session.Address {
	o.Helper()
	var found []session.Address
	o.await(2*time.Minute, "the end of changes of "+key.Name, func() bool {
		s := o.state(key)
		if s == nil || s.Phase != session.PhaseReady || len(s.Addresses) != count {
			return false
		}
		for _, a := range s.Addresses {
			if a.Attached.InstanceID == "" || !slices.Contains(s.Publish, a.Addr) {
				return false
			}
		}
		found = s.Addresses
		o.mu.Lock()
		defer o.mu.Unlock()
		return slices.Equal(o.desired[key].Published, s.Publish)
	})
	return found
}

// rewrite changes what is desired of a load balancer while nobody is there to see it.
func (o *owner) rewrite(key ownership.Key, edit func(*session.Desired)) {
	o.close()
	next := *o.desired[key]
	edit(&next)
	o.desired[key] = &next
}

// subnets are the external subnets of the rack: where each is attached, by its first address.
func (w *world) subnets() map[netip.Addr]string {
	at := make(map[netip.Addr]string)
	for _, e := range w.sim.ExternalSubnets() {
		at[netip.MustParsePrefix(e.Subnet).Addr()] = e.InstanceID
	}
	return at
}

// changedSubnets counts the requests for changes of external subnets.
func (w *world) changedSubnets() int {
	n := 0
	for _, operation := range []string{"create", "update", "delete", "attach", "detach"} {
		n += w.sim.Count("external_subnet_" + operation)
	}
	return n
}

// silence makes the node silent that carries an address.
func (o *owner) silence(a session.Address) { o.observe(o.node(a.Attached.InstanceID), silent) }

// The status of an external subnet is its address alone: published before it is attached for the first
// time, and unchanged by a move.
func TestAnExternalSubnetIsPublishedOnceAndMoves(t *testing.T) {
	inRoutedWorld(t, 3, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", routed, 80)
		before := o.carried(key, 1)[0]
		attached := o.did(key, plan.ActionAttach, time.Time{})
		if at := o.firstPublished(key, before.Addr, time.Time{}); len(attached) != 1 ||
			!at.Before(attached[0].EndTime.Add(-time.Second)) {
			t.Errorf("published at %s, attached %v", at, attached)
		}
		began := time.Now()
		o.silence(before)
		o.await(time.Minute, "the move", func() bool {
			at := w.subnets()[before.Addr]
			return at != "" && at != before.Attached.InstanceID
		})
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("the move took %s", took)
		}
		after := o.carried(key, 1)[0]
		if after.Addr != before.Addr || after.Kind != ownership.ExternalSubnet {
			t.Errorf("it has %+v, and had %+v", after, before)
		}
		if all := o.publishedBy(key); len(all) != 1 || !slices.Equal(all[0].addrs, []netip.Addr{before.Addr}) {
			t.Errorf("published %v, want %s once", all, before.Addr)
		}
		if n := len(w.sim.FloatingIPs()); n != 0 {
			t.Errorf("%d floating IPs", n)
		}
	})
}

// Many load balancers share a port, and a node.
func TestExternalSubnetsShareAPort(t *testing.T) {
	inRoutedWorld(t, 1, func(w *world) {
		o := w.open().sync()
		defer o.close()
		for _, name := range []string{"a/web", "b/web", "c/web"} {
			o.carried(o.want(name, routed, 80), 1)
		}
	})
}

// The new address is published and attached before the old one goes, in both directions.
func TestTheSourceOfALoadBalancerIsChanged(t *testing.T) {
	floating := func(d *session.Desired) { d.Addresses = []plan.Desired{{Family: ownership.IPv4}} }
	for name, order := range map[string][2]func(*session.Desired){
		"to an external subnet": {floating, routed}, "to a floating IP": {routed, floating},
	} {
		t.Run(name, func(t *testing.T) {
			inRoutedWorld(t, 2, func(w *world) {
				o := w.open().sync()
				defer o.close()
				key := o.want("default/web", order[0], 80)
				old := o.carried(key, 1)[0]
				began := time.Now()
				o.want("default/web", order[1])
				o.await(time.Minute, "the new address", func() bool {
					s := o.state(key)
					return s.Phase == session.PhaseReady && len(s.Addresses) == 1 && s.Addresses[0].Addr != old.Addr
				})
				attached, detached := o.did(key, plan.ActionAttach, began), o.did(key, plan.ActionDetach, began)
				if len(attached) != 1 || len(detached) != 1 || !attached[0].EndTime.Before(detached[0].EndTime) {
					t.Errorf("attached %v, detached %v", attached, detached)
				}
				created := o.did(key, plan.ActionCreate, began)
				if len(created) != 1 || !created[0].Replaces || !strings.HasSuffix(created[0].Summary,
					old.Addr.String()+", which is no longer desired: the address changes") {
					t.Errorf("created %+v", created)
				}
				now := o.carried(key, 1)[0]
				if o.state(key).Publish[0] != now.Addr || slices.Contains(o.state(key).Publish, old.Addr) {
					t.Errorf("published %v, want %s", o.state(key).Publish, now.Addr)
				}
				if n := len(w.sim.FloatingIPs()) + len(w.subnets()); n != 1 {
					t.Errorf("%d resources on the rack, want 1", n)
				}
			})
		})
	}
}

// What was changed while nobody ran is found by what is published, of whichever kind it is.
func TestASourceThatWasChangedWhileNobodyRanLeavesNothingBehind(t *testing.T) {
	inRoutedWorld(t, 2, func(w *world) {
		o := w.open().sync()
		key := o.want("default/web", routed, 80)
		old := o.carried(key, 1)[0]
		o.rewrite(key, func(d *session.Desired) { d.Addresses = []plan.Desired{{Family: ownership.IPv4}} })
		o = o.reopen()
		o.await(time.Minute, "the exchange", func() bool { return len(w.subnets()) == 0 })
		now := o.carried(key, 1)[0]
		if now.Kind != ownership.FloatingIP || now.Addr == old.Addr {
			t.Errorf("it has %+v", now)
		}
		t.Run("and at the end", func(t *testing.T) {
			o.want("default/web", routed)
			o.await(time.Minute, "the exchange", func() bool { return len(w.sim.FloatingIPs()) == 0 })
			o.carried(key, 1)
			o.rewrite(key, func(d *session.Desired) {
				d.Ending, d.Addresses = plan.EndRelease, []plan.Desired{{Family: ownership.IPv4}}
			})
			o = o.reopen()
			o.await(time.Minute, "the end", func() bool {
				o.mu.Lock()
				defer o.mu.Unlock()
				return o.released[key]
			})
			if n := len(w.subnets()); n != 0 {
				t.Errorf("%d external subnets", n)
			}
		})
		o.close()
	})
}

// Where it is not clear what a Service asked for that ends, it has nothing only once both kinds were seen.
func TestAnEndWaitsForTheListOfExternalSubnets(t *testing.T) {
	inRoutedWorld(t, 2, func(w *world) {
		o := w.open().sync()
		key := o.want("default/web", routed, 80)
		o.carried(key, 1)
		o.rewrite(key, func(d *session.Desired) {
			d.Ending, d.Published = plan.EndRelease, nil
			d.Addresses = []plan.Desired{
				{Family: ownership.IPv4},
				{Family: ownership.IPv4, Source: ownership.Source{Kind: ownership.ExternalSubnet}},
			}
		})
		w.fault("external_subnet_list", 403, forbidden)
		o = o.reopen()
		defer func() { o.close() }()
		released := func() bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			return o.released[key]
		}
		time.Sleep(time.Minute)
		if released() {
			t.Error("it was released before the external subnets were listed")
		}
		w.sim.ClearFaults()
		o.await(2*time.Minute, "the end", released)
		if n := len(w.subnets()); n != 0 {
			t.Errorf("%d external subnets", n)
		}
	})
}

// A Service that has changed its source ends while both its addresses are there, and names the new source.
func TestAnEndInTheMiddleOfAnExchangeLeavesNothingBehind(t *testing.T) {
	inRoutedWorld(t, 2, func(w *world) {
		o := w.open().sync()
		key := o.want("default/web", routed, 80)
		o.carried(key, 1)
		w.fault("external_subnet_detach", 503, unavailable)
		o.want("default/web", func(d *session.Desired) {
			d.Addresses = []plan.Desired{{Family: ownership.IPv4}}
		})
		o.await(time.Minute, "the new address", func() bool {
			return len(o.state(key).Publish) == 3 && len(w.sim.FloatingIPs()) == 1
		})
		time.Sleep(10 * time.Second)
		w.sim.ClearFaults()
		o.rewrite(key, func(d *session.Desired) { d.Ending = plan.EndRelease })
		o = o.reopen()
		defer func() { o.close() }()
		o.await(2*time.Minute, "the end", func() bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			return o.released[key]
		})
		if n := len(w.subnets()) + len(w.sim.FloatingIPs()); n != 0 {
			t.Errorf("%d resources are left", n)
		}
	})
}

// A backend that starts anew recognizes everything, and changes nothing.
func TestARestartChangesNoExternalSubnet(t *testing.T) {
	inRoutedWorld(t, 3, func(w *world) {
		o := w.open().sync()
		key := o.want("default/web", func(d *session.Desired) {
			several(2)(d)
			routed(d)
			d.Addresses = append(d.Addresses, plan.Desired{
				Family: ownership.IPv6, Source: ownership.Source{Kind: ownership.ExternalSubnet},
			})
		}, 80)
		before := o.carried(key, 3)
		changes := w.changes() + w.changedSubnets()
		for range 3 {
			o = o.reopen()
			if after := o.carried(key, 3); !slices.Equal(after, before) {
				t.Errorf("it has %+v, and had %+v", after, before)
			}
		}
		o.close()
		if n := w.changes() + w.changedSubnets(); n != changes {
			t.Errorf("%d requests for changes", n-changes)
		}
	})
}

// A Node that was deleted while nobody ran strands no external subnet; where another session has the
// instance as a candidate it stays.
func TestAnExternalSubnetLeavesAnInstanceWhoseNodeWasDeleted(t *testing.T) {
	for name, theirs := range map[string]bool{"nobody's": false, "another session's": true} {
		t.Run(name, func(t *testing.T) {
			inRoutedWorld(t, 2, func(w *world) {
				o := w.open().sync()
				key := o.want("default/web", routed, 80)
				before := o.carried(key, 1)[0]
				gone := w.node(before.Attached.InstanceID)
				nodes := w.nodes
				if theirs {
					w.nodes = nodes[gone : gone+1]
					other := w.openWith(session.Opening{Scope: "cluster-2"}).sync()
					defer other.close()
				}
				o.close()
				desired := *o.desired[key]
				w.nodes = slices.Delete(slices.Clone(nodes), gone, gone+1)
				o = w.open()
				o.desired[key] = &desired
				o.want("default/web", nil)
				o.sync()
				defer o.close()
				time.Sleep(time.Minute)
				synctest.Wait()
				if stays := w.subnets()[before.Addr] == before.Attached.InstanceID; stays != theirs {
					t.Errorf("it is on %s", w.subnets()[before.Addr])
				}
			})
		})
	}
}

// External subnets that cannot be listed hold up the load balancers that may have some, and nobody else.
func TestExternalSubnetsThatCannotBeListedHoldUpNobodyElse(t *testing.T) {
	inRoutedWorld(t, 2, func(w *world) {
		w.fault("external_subnet_list", 403, forbidden)
		o := w.open().sync()
		defer o.close()
		web := o.want("default/web", nil, 80)
		key := o.want("default/routed", routed, 81)
		o.carried(web, 1)
		time.Sleep(time.Minute)
		if s := o.state(key); s.Phase != session.PhasePending || s.Problem == nil ||
			!strings.Contains(s.Problem.Error(), "list the external subnets") {
			t.Errorf("%v, %v", s.Phase, s.Problem)
		}
		w.sim.ClearFaults()
		o.carried(key, 1)
	})
}

// An exhausted pool is one clear problem, and no storm of requests.
func TestAnExhaustedSubnetPoolIsSaidAndTriedSeldom(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		w.must(w.sim.Apply(oxidesim.Seed{SubnetPools: []oxidesim.SubnetPoolSeed{{
			Name: "tiny", Silos: []oxidesim.PoolLinkSeed{{Silo: "demo", Default: true}},
			Members: []oxidesim.SubnetPoolMemberSeed{{Subnet: "203.0.113.7/32"}},
		}}}))
		o := w.open().sync()
		defer o.close()
		o.carried(o.want("default/first", routed, 80), 1)
		key := o.want("default/second", routed, 80)
		time.Sleep(30 * time.Minute)
		s := o.state(key)
		if !session.IsReason(s.Problem, session.ReasonPoolExhausted) ||
			!strings.Contains(s.Problem.Error(), "the silo's default subnet pool for IPv4 addresses has no free address") {
			t.Errorf("%v", s.Problem)
		}
		if n := w.sim.Count("external_subnet_create"); n > 12 {
			t.Errorf("%d requests within half an hour", n)
		}
	})
}

// Racks before release 21 put no two subnets of a single address beside each other: that is said, with
// the pools that may do, and tried seldom.
func TestAnOldReleaseIsNamedWithThePoolsThatWouldDo(t *testing.T) {
	config := oxidesim.Config{APIVersion: oxidesim.Release20APIVersion}
	inWorldOf(t, config, 1, func(w *world) {
		silos := func(isDefault bool) []oxidesim.PoolLinkSeed {
			return []oxidesim.PoolLinkSeed{{Silo: "demo", Default: isDefault}}
		}
		w.must(w.sim.Apply(oxidesim.Seed{SubnetPools: []oxidesim.SubnetPoolSeed{
			{
				Name: "routed", Silos: silos(true),
				Members: []oxidesim.SubnetPoolMemberSeed{{Subnet: "203.0.113.0/28"}},
			},
			{
				Name: "edge", Silos: silos(false),
				Members: []oxidesim.SubnetPoolMemberSeed{{Subnet: "203.0.113.128/28"}},
			},
		}}))
		o := w.open().sync()
		defer o.close()
		o.carried(o.want("default/first", routed, 80), 1)
		key := o.want("default/second", routed, 80)
		time.Sleep(30 * time.Minute)
		s := o.state(key)
		if !session.IsReason(s.Problem, session.ReasonPoolExhausted) ||
			!strings.Contains(s.Problem.Error(), "racks before release 21, as this one is") ||
			!strings.HasSuffix(s.Problem.Error(), "update the rack, or ask for one of its other subnet pools: edge, subnets") {
			t.Errorf("%v", s.Problem)
		}
		if n := w.sim.Count("external_subnet_create"); n > 12 {
			t.Errorf("%d requests within half an hour", n)
		}
		o.want("default/second", func(d *session.Desired) { d.Addresses[0].Source.Pool = "edge" })
		o.carried(key, 1)
	})
}

// Who uses no external subnet pays one list in ten minutes for them.
func TestExternalSubnetsThatNobodyUsesAreListedSeldom(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		o.carried(key, 1)
		if n := w.sim.Count("external_subnet_list"); n != 0 {
			t.Errorf("%d lists before the first minute", n)
		}
		time.Sleep(time.Hour)
		if n := w.sim.Count("external_subnet_list"); n < 5 || n > 7 {
			t.Errorf("%d lists within an hour", n)
		}
	})
}

// Of several addresses each is on another node; the death of one node leaves the others serving.
func TestSeveralAddressesServeThroughTheDeathOfANode(t *testing.T) {
	for name, source := range map[string]func(*session.Desired){
		"floating IPs": func(*session.Desired) {}, "external subnets": routed,
	} {
		t.Run(name, func(t *testing.T) {
			inRoutedWorld(t, 4, func(w *world) {
				o := w.open().sync()
				defer o.close()
				key := o.want("default/web", func(d *session.Desired) {
					several(3)(d)
					source(d)
				}, 80)
				before := o.carried(key, 3)
				o.apart(before)
				began := time.Now()
				o.silence(before[0])
				o.await(time.Minute, "the move", func() bool {
					return len(o.did(key, plan.ActionAttach, began)) == 1 && o.state(key).Phase == session.PhaseReady
				})
				after := o.carried(key, 3)
				o.apart(after)
				if name == "external subnets" {
					if all := o.publishedBy(key); len(all) != 1 {
						t.Errorf("published %v, want what is there once, whatever moves", all)
					}
				}
				for i := range after {
					if moved := after[i].Attached != before[i].Attached; moved != (i == 0) ||
						after[i].Addr != before[i].Addr {
						t.Errorf("%+v, before %+v", after[i], before[i])
					}
				}
				o.want("default/web", func(d *session.Desired) { d.Addresses = d.Addresses[:1] })
				o.await(time.Minute, "the end of two", func() bool {
					return len(w.sim.FloatingIPs())+len(w.subnets()) == 1
				})
				o.carried(key, 1)
			})
		})
	}
}

// apart fails if two addresses are on one node.
func (o *owner) apart(addresses []session.Address) {
	o.Helper()
	seen := make(map[string]bool)
	for _, a := range addresses {
		if seen[a.Attached.InstanceID] {
			o.Errorf("two addresses are on one node: %+v", addresses)
		}
		seen[a.Attached.InstanceID] = true
	}
}

// What finds no node of its own is reserved, and a condition says so.
func TestAnAddressWithoutANodeOfItsOwnStaysReserved(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", several(3), 80)
		time.Sleep(time.Minute)
		s := o.state(key)
		if len(s.Addresses) != 3 || s.Problem != nil || len(s.Publish) != 4 {
			t.Errorf("%+v", s)
		}
		if !slices.ContainsFunc(s.Conditions, func(c session.Condition) bool {
			return c.Type == session.NoCandidate && strings.Contains(c.Message, "another address of the load balancer")
		}) {
			t.Errorf("conditions %v", s.Conditions)
		}
	})
}
