// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// reopen has the session taken over by a backend that has just started, with what its owner published.
func (o *owner) reopen() *owner {
	o.Helper()
	o.close()
	desired := maps.Clone(o.desired)
	o.connect()
	next := o.open()
	next.desired = desired
	for key := range desired {
		next.want(key.Name, nil)
	}
	return next.sync()
}

// publishesAlways fails if a load balancer was ever asked to publish less than so many addresses.
func (o *owner) publishesAlways(key ownership.Key, least int) {
	o.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.journal[key] {
		if len(p.addrs) < least {
			o.Errorf("%s: its owner was asked to publish %v", key.Name, p.addrs)
		}
	}
}

func TestListsThatAreCutOrMissRowsChangeNothingForAnHour(t *testing.T) {
	for name, fault := range map[string]oxidesim.Fault{
		"pages of three":              {PageCap: 3},
		"a third of the rows omitted": {Omit: 0.33, Seed: 1},
		"both":                        {PageCap: 3, Omit: 0.33, Seed: 2},
		"nine tenths omitted":         {Omit: 0.9, Seed: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inRoutedWorld(t, 7, func(w *world) {
				o := w.open().sync()
				var keys []ownership.Key
				before := make(map[ownership.Key][]session.Address)
				counts := make(map[ownership.Key]int)
				for i := range 5 {
					keys = append(keys, o.want(fmt.Sprintf("default/web-%d", i), nil, 80))
				}
				_, err := w.sim.AddFloatingIP("demo", oxidesim.FloatingIPSeed{Name: "of-the-user"})
				w.must(err)
				keys = append(keys, o.want("default/own", existing("of-the-user"), 80))
				for _, key := range keys {
					counts[key] = 1
				}
				three := o.want("default/three", several(3), 81)
				two := o.want("default/routed", func(d *session.Desired) {
					several(2)(d)
					routed(d)
				}, 80)
				keys = append(keys, three, two)
				counts[three], counts[two] = 3, 2
				for _, key := range keys {
					before[key] = o.carried(key, counts[key])
				}
				changes := w.changes() + w.changedSubnets()
				fault.Operation = "*_list*"
				_, err = w.sim.AddFault(fault)
				w.must(err)
				journals := make(map[ownership.Key]int)
				for key := range o.journal {
					journals[key] = len(o.journal[key])
				}
				time.Sleep(30 * time.Minute)
				for _, key := range keys {
					if n := len(o.journal[key]); n != journals[key] {
						t.Errorf("%s: published %v", key.Name, o.journal[key][journals[key]:])
					}
				}
				for range 10 {
					o = o.reopen()
					time.Sleep(3 * time.Minute)
					for _, key := range keys {
						o.publishesAlways(key, 2)
					}
				}
				defer func() { o.close() }()
				w.sim.ClearFaults()
				time.Sleep(5 * time.Minute)
				for _, key := range keys {
					if after := o.carried(key, counts[key]); !slices.Equal(after, before[key]) {
						t.Errorf("%s: the addresses were %+v and are %+v", key.Name, before[key], after)
					}
				}
				if n := w.changes() + w.changedSubnets(); n != changes {
					t.Errorf("%d requests for changes", n-changes)
				}
				if ips, subnets := len(w.sim.FloatingIPs()), len(w.subnets()); ips != 9 || subnets != 2 {
					t.Errorf("%d floating IPs and %d external subnets, want 9 and 2", ips, subnets)
				}
			})
		})
	}
}

// What a list of VPCs or subnets does not show is known on for as long as interfaces are in it: nothing
// that is said of a firewall changes for it, and a new backend says nothing before it has read what there
// is.
func TestListsOfNetworksThatMissRowsChangeNothingThatIsSaidOfTheFirewall(t *testing.T) {
	for _, list := range []string{"vpc_list", "vpc_subnet_list"} {
		t.Run(list, func(t *testing.T) {
			inRoutedWorld(t, 2, func(w *world) {
				o := w.open().sync()
				defer func() { o.close() }()
				key := o.want("default/web", nil, 80)
				o.carried(key, 1)
				isClosed := func() bool {
					return slices.ContainsFunc(o.state(key).Conditions, func(c session.Condition) bool {
						return c.Type == session.FirewallClosed
					})
				}
				o.await(time.Minute, "a closed firewall", isClosed)
				_, err := w.sim.AddFault(oxidesim.Fault{Operation: list, Omit: 1})
				w.must(err)
				for range 30 * 6 {
					if !isClosed() {
						w.Fatalf("nothing is said of the firewall any more: %+v", o.state(key))
					}
					time.Sleep(10 * time.Second)
				}
				o = o.reopen()
				for range 600 {
					if o.state(key).Phase == session.PhaseReady && !isClosed() {
						w.Fatalf("it is ready without a word of the firewall: %+v", o.state(key))
					}
					time.Sleep(100 * time.Millisecond)
				}
				w.sim.ClearFaults()
				o.await(2*time.Minute, "a closed firewall", isClosed)
			})
		})
	}
}

func TestWhyAnAddressCannotBeReadIsSaid(t *testing.T) {
	for name, edit := range map[string]func(*session.Desired){
		"one of the user's":     existing("of-the-user"),
		"of one that is ending": func(d *session.Desired) { d.Ending = plan.EndRelease },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				w.fault("floating_ip_view", 403, forbidden)
				o := w.open().sync()
				defer o.close()
				key := o.want("default/web", edit, 80)
				time.Sleep(time.Minute)
				state := o.state(key)
				if state.Phase != session.PhasePending || state.Problem == nil ||
					!strings.Contains(state.Problem.Error(), "could not read the floating IP") {
					t.Errorf("its state is %v, its problem %v", state.Phase, state.Problem)
				}
				w.sim.ClearFaults()
				time.Sleep(time.Minute)
				if state := o.state(key); state.Problem != nil &&
					strings.Contains(state.Problem.Error(), "could not read") {
					t.Errorf("its problem is still %v", state.Problem)
				}
			})
		})
	}
}

// existing desires an address of the user's.
func existing(name string) func(*session.Desired) {
	return func(d *session.Desired) {
		d.Addresses = []plan.Desired{{Family: ownership.IPv4, Source: ownership.Source{Existing: name}}}
	}
}
