// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

// firstPublished returns when a load balancer first published an address after a time.
func (o *owner) firstPublished(key ownership.Key, addr netip.Addr, after time.Time) time.Time {
	o.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.journal[key] {
		if p.at.After(after) && slices.Contains(p.addrs, addr) {
			return p.at
		}
	}
	o.Fatalf("%s was never published by %s", addr, key.Name)
	return time.Time{}
}

// publishedBy returns what a load balancer has published so far.
func (o *owner) publishedBy(key ownership.Key) []publication {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.journal[key])
}

// done returns the actions of a kind that were done for a load balancer after a time.
func (o *owner) did(key ownership.Key, typ plan.ActionType, after time.Time) []session.Action {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []session.Action
	for _, a := range o.actions {
		if a.Key == key && a.Type == typ && a.EndTime.After(after) {
			found = append(found, a)
		}
	}
	return found
}

// Who takes the first address of a status must get the one that is reached from outside.
func TestTheFloatingIPStandsFirstInTheStatus(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		before := o.settled(key)
		o.observe(slices.Index(o.nodes, before.Attached.InstanceID), func(h *health.Observation) {
			h.Cordoned, h.CordonObserved = true, true
		})
		after := o.left(key, before)
		moving := false
		for _, p := range o.publishedBy(key) {
			if len(p.addrs) > 0 && p.addrs[0] != before.Addr {
				t.Errorf("published %v, want %s first", p.addrs, before.Addr)
			}
			moving = moving || slices.Equal(p.addrs, []netip.Addr{
				before.Addr, before.Attached.PrivateAddr, after.Attached.PrivateAddr,
			})
		}
		if !moving {
			t.Errorf("published %v, want the old place and then the new one during the move",
				o.publishedBy(key))
		}
	})
}

// Two leaders at once agree on the order of what is published, whatever either has seen happen and whoever
// has written the status last: each would else repair what the other writes.
func TestTheOrderOfAddressesDoesNotDependOnWhatIsPublished(t *testing.T) {
	inWorld(t, 4, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", several(3), 80)
		addresses := o.carried(key, 3)
		before := o.state(key).Publish
		o.want("default/web", func(d *session.Desired) {
			d.Published = slices.Clone(before)
			slices.Reverse(d.Published[:3])
		})
		o.carried(key, 3)
		if now := o.state(key).Publish; !slices.Equal(now, before) {
			t.Errorf("publish %v, and in another order before: %v", now, before)
		}
		o.silence(addresses[0])
		o.await(time.Minute, "the move", func() bool {
			return !slices.Contains(o.state(key).Publish, addresses[0].Attached.PrivateAddr)
		})
		o.carried(key, 3)
		if now := o.state(key).Publish; !slices.Equal(now[:3], before[:3]) {
			t.Errorf("publish %v, and in another order before: %v", now, before)
		}
	})
}

func TestAFirstPlaceIsPublishedBeforeTheAddressIsAttached(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		a := o.settled(key)
		published := o.firstPublished(key, a.Attached.PrivateAddr, time.Time{})
		attached := o.did(key, plan.ActionAttach, time.Time{})
		if len(attached) != 1 || !published.Before(attached[0].EndTime.Add(-time.Second)) {
			t.Errorf("published at %s, attached %+v", published, attached)
		}
		if n := w.changes(); n != 2 {
			t.Errorf("%d changes, want create and attach", n)
		}
		state := o.state(key)
		want := []netip.Addr{a.Addr, a.Attached.PrivateAddr}
		if !slices.Equal(state.Publish, want) {
			t.Errorf("publish %v, want %v", state.Publish, want)
		}
	})
}

func TestAnAddressMovesAfterItsNextPlaceIsPublished(t *testing.T) {
	const announce = time.Second
	for name, tc := range map[string]struct {
		// happens makes the address leave its node.
		happens     func(o *owner, node int)
		datagrams   bool
		least, most time.Duration
	}{
		"off a node that lives": {
			happens: func(o *owner, node int) { o.observe(node, excluded) },
			least:   announce, most: announce + 200*time.Millisecond,
		},
		"off a silent node": {
			happens: func(o *owner, node int) { o.observe(node, silent) },
			most:    200 * time.Millisecond,
		},
		"off a silent node, with a UDP port": {
			happens: func(o *owner, node int) { o.observe(node, silent) }, datagrams: true,
			most: 200 * time.Millisecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 2, func(w *world) {
				o := w.open().sync()
				defer o.close()
				key := o.want("default/web", func(d *session.Desired) {
					if tc.datagrams {
						d.Ports = append(d.Ports, plan.Port{Protocol: firewall.UDP, Number: 53})
					}
				}, 80)
				before := o.settled(key)
				from := w.node(before.Attached.InstanceID)
				began := time.Now()
				tc.happens(o, from)
				w.await(time.Minute, "the move", func() bool {
					return len(o.did(key, plan.ActionAttach, began)) > 0
				})
				after := o.settled(key)
				if after.Attached.InstanceID == before.Attached.InstanceID || after.ID != before.ID {
					t.Fatalf("%+v became %+v", before, after)
				}
				published := o.firstPublished(key, after.Attached.PrivateAddr, began)
				detached := o.did(key, plan.ActionDetach, began)
				attached := o.did(key, plan.ActionAttach, began)
				if len(detached) != 1 || len(attached) != 1 {
					t.Fatalf("detached %+v, attached %+v", detached, attached)
				}
				led := detached[0].EndTime.Add(-1050 * time.Millisecond).Sub(published)
				t.Logf("%s after the publication the address was being detached", led)
				if led < tc.least || led > tc.most {
					t.Errorf("detached %s after the publication, want %s to %s", led, tc.least, tc.most)
				}
				if tc.datagrams {
					if gap := attached[0].EndTime.Sub(published); gap < announce+time.Second {
						t.Errorf("attached %s after the publication", gap)
					}
				}
			})
		})
	}
}

// A list may show that an address was detached before the request that detaches it is answered.
func TestTheOldPlaceIsPublishedUntilTheAddressHasArrived(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		before := o.settled(key)
		w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
			detaches := strings.HasSuffix(r.URL.Path, "/detach")
			next.ServeHTTP(rw, r)
			if detaches {
				time.Sleep(5 * time.Second)
			}
		})
		var lost int
		o.mu.Lock()
		o.onState = func(state *session.State) {
			if state.Key == key && !slices.Contains(state.Publish, before.Attached.PrivateAddr) {
				lost++
			}
		}
		o.mu.Unlock()
		began := time.Now()
		o.observe(w.node(before.Attached.InstanceID), silent)
		time.Sleep(3 * time.Second)
		o.want("default/other", nil, 81) // the addresses are listed
		time.Sleep(2 * time.Second)
		if w.ip(before.ID).InstanceID != "" || len(o.did(key, plan.ActionDetach, began)) != 0 {
			t.Fatal("the request has not been carried out, or it was answered already")
		}
		if lost != 0 {
			t.Errorf("the old place was missing %d times before the address had arrived", lost)
		}
		w.await(time.Minute, "the move", func() bool {
			return len(o.did(key, plan.ActionAttach, began)) > 0
		})
	})
}

func TestAStoppedInstanceIsLeftAtOnce(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		before := o.settled(key)
		began := time.Now()
		w.must(w.sim.SetRunState(before.Attached.InstanceID, "stopped"))
		took := w.await(20*time.Second, "the move", func() bool {
			return len(o.did(key, plan.ActionAttach, began)) > 0
		})
		t.Logf("attached elsewhere after %s", took)
		if took > 7*time.Second {
			t.Errorf("it took %s", took)
		}
		o.settled(key)
	})
}

func TestAnAddressStaysPublishedWhileWhatReplacesItHasNoPlace(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		former := o.settled(key)
		for i := range w.nodes {
			o.observe(i, excluded)
		}
		o.want("default/web", func(d *session.Desired) {
			d.Addresses = []plan.Desired{{
				Family: ownership.IPv4,
				Source: ownership.Source{Addr: former.Addr.Next().Next().Next()},
			}}
		})
		o.await(time.Minute, "the address that is desired now", func() bool {
			return len(o.state(key).Addresses) == 2
		})
		time.Sleep(time.Minute)
		want := []netip.Addr{former.Addr, former.Attached.PrivateAddr}
		if got := o.state(key).Publish; !slices.Equal(got, want) {
			t.Errorf("publish %v, want %v", got, want)
		}
		if ip := o.ip(former.ID); ip.InstanceID != former.Attached.InstanceID {
			t.Errorf("the former address was detached: %+v", ip)
		}
	})
}

func TestAnEditedOneMakesWayAndNobodyElse(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		o := w.open()
		o.observe(1, excluded)
		o.observe(2, excluded)
		o.sync()
		defer o.close()
		x := o.want("default/x", nil, 443)
		o.settled(x)
		y := o.want("default/y", nil, 80)
		before := o.settled(y)
		for i := range w.nodes {
			o.observe(i, func(*health.Observation) {})
		}
		began, publications := time.Now(), len(o.publishedBy(y))
		o.want("default/x", nil, 80)
		w.await(time.Minute, "the move of x", func() bool {
			return len(o.did(x, plan.ActionAttach, began)) > 0
		})
		time.Sleep(time.Minute)
		if n := len(o.did(y, plan.ActionDetach, began)); n != 0 {
			t.Errorf("the one that was not edited was detached %d times", n)
		}
		if after := o.settled(y); after.Attached != before.Attached {
			t.Errorf("the one that was not edited is on %s", after.Attached.InstanceID)
		}
		if all := o.publishedBy(y); len(all) != publications {
			t.Errorf("the one that was not edited publishes something else: %v", all)
		}
		o.settled(x)
	})
}

// What somebody else has written into the status of a Service is never what is to be published, not even
// while it is found out whether it is an address that no list shows.
func TestWhatSomebodyElsePublishesIsNeverCalledDue(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open()
		foreign := netip.MustParseAddr("203.0.113.77")
		var called int
		o.onState = func(state *session.State) {
			if slices.Contains(state.Publish, foreign) {
				called++
			}
		}
		key := o.sync().want("default/web", nil, 80)
		due := o.settled(key)
		for range 5 {
			o.want("default/web", func(d *session.Desired) { d.Published = []netip.Addr{foreign} })
			time.Sleep(10 * time.Second)
		}
		if after := o.settled(key); after.Attached != due.Attached || after.Addr != due.Addr {
			t.Errorf("the address was %+v and is %+v", due, after)
		}
		if called > 0 {
			t.Errorf("%d states call %s due", called, foreign)
		}
		o.close()
	})
}

// Whether the firewall lets traffic through is part of whether all is well: a new session does not say that
// it is before it knows.
func TestNothingIsReadyBeforeTheFirewallWasRead(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		_, err := w.sim.AddFault(oxidesim.Fault{
			Operation: "vpc_firewall_rules_view", LatencyMS: 5_000,
		})
		w.must(err)
		o := w.open().sync()
		key := o.want("default/web", nil, 80)
		time.Sleep(4 * time.Second)
		if state := o.state(key); state.Phase != session.PhaseProgressing || len(state.Publish) == 0 {
			t.Errorf("before it was read: phase %v, published %v", state.Phase, state.Publish)
		}
		time.Sleep(10 * time.Second)
		state := o.state(key)
		if state.Phase != session.PhaseReady || !slices.ContainsFunc(state.Conditions,
			func(c session.Condition) bool { return c.Type == session.FirewallClosed }) {
			t.Errorf("afterwards: phase %v, conditions %v", state.Phase, state.Conditions)
		}
		o.close()
	})
}
