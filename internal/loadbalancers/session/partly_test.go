// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// Of several addresses that are desired one cannot be had: all that was there serves on, is
// published, and fails over, until what is desired is corrected.
func TestWhatServesStaysPublishedWhileOneOfSeveralCannotBeHad(t *testing.T) {
	for name, source := range map[string]func(*session.Desired){
		"floating IPs": floating, "external subnets": routed,
	} {
		t.Run(name, func(t *testing.T) {
			inRoutedWorld(t, 4, func(w *world) {
				w.addStuff()
				o := w.open().sync()
				defer o.close()
				key := o.want("default/web", func(d *session.Desired) { several(2)(d); source(d) }, 80)
				before := o.carried(key, 2)
				existing := func(name string) plan.Desired {
					return plan.Desired{Family: ownership.IPv4, Source: ownership.Source{
						Kind: ownership.ExternalSubnet, Existing: name,
					}}
				}
				o.want("default/web", func(d *session.Desired) {
					d.Addresses = []plan.Desired{existing("mine"), existing("nothing")}
				})
				time.Sleep(2 * time.Minute)
				s := o.state(key)
				if s.Problem == nil {
					t.Error("no problem")
				}
				for _, a := range before {
					if !slices.Contains(s.Publish, a.Addr) {
						t.Errorf("published %v, and not %s", s.Publish, a.Addr)
					}
				}
				o.silence(before[0])
				o.await(time.Minute, "the move", func() bool {
					at := o.attachedAt(before[0].Addr)
					return at != "" && at != before[0].Attached.InstanceID
				})
				if at := o.attachedAt(before[1].Addr); at != before[1].Attached.InstanceID {
					t.Errorf("the other one moved to node %d", w.node(at))
				}
				o.want("default/web", func(d *session.Desired) { several(2)(d); source(d) })
				after := o.carried(key, 2)
				if !slices.Equal(addrsOf(after), addrsOf(before)) {
					t.Errorf("it has %v, and had %v", after, before)
				}
				if n := len(o.state(key).Publish); name == "external subnets" && n != 2 || n > 4 {
					t.Errorf("published %v", o.state(key).Publish)
				}
			})
		})
	}
}

// A source was changed, and the new address finds its port taken everywhere: the old one stays in
// use, in the status, and fails over, until the port is free.
func TestAFormerAddressFailsOverUntilItIsReplaced(t *testing.T) {
	inRoutedWorld(t, 3, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", routed, 80)
		before := o.carried(key, 1)[0]
		holder := o.want("default/holder", several(3), 80)
		o.carried(holder, 3)
		o.want("default/web", func(d *session.Desired) { d.Created = time.Now(); floating(d) })
		time.Sleep(time.Minute)
		if s := o.state(key); s.Problem == nil || !slices.Equal(s.Publish, []netip.Addr{before.Addr}) {
			t.Errorf("published %v, %v", s.Publish, s.Problem)
		}
		began := time.Now()
		o.silence(before)
		o.await(time.Minute, "the move", func() bool {
			at := o.attachedAt(before.Addr)
			return at != "" && at != before.Attached.InstanceID
		})
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("the move took %s", took)
		}
		time.Sleep(time.Minute)
		if s := o.state(key); !slices.Equal(s.Publish, []netip.Addr{before.Addr}) {
			t.Errorf("published %v", s.Publish)
		}
		for _, p := range o.publishedBy(key) {
			if !slices.Contains(p.addrs, before.Addr) {
				t.Errorf("for a moment %v was published", p.addrs)
			}
		}
		if n := len(o.did(key, plan.ActionAttach, began)); n != 1 {
			t.Errorf("it was attached %d times", n)
		}
		o.want("default/holder", func(d *session.Desired) { d.Ending = plan.EndRelease })
		o.await(2*time.Minute, "the exchange", func() bool {
			s := o.state(key)
			return s.Phase == session.PhaseReady && len(s.Addresses) == 1 && s.Addresses[0].Addr != before.Addr
		})
		o.carried(key, 1)
		if n := len(w.subnets()); n != 0 {
			t.Errorf("%d external subnets", n)
		}
	})
}

// attachedAt is where an address is attached on the rack, of whichever kind it is; empty: nowhere.
func (w *world) attachedAt(addr netip.Addr) string {
	for _, ip := range w.sim.FloatingIPs() {
		if ip.IP == addr.String() && ip.AttachState == "attached" {
			return ip.InstanceID
		}
	}
	return w.subnets()[addr]
}
