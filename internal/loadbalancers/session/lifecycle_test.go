// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func (o *owner) isReleased(key ownership.Key) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.released[key]
}

func TestAnEndingLoadBalancerIsReleasedOnceItHasNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		ending plan.Ending
		left   int
	}{
		"deleted":  {plan.EndRelease, 0},
		"retained": {plan.EndRetain, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 2, func(w *world) {
				o := w.open().sync()
				defer o.close()
				key := o.want("default/web", nil, 80)
				a := o.settled(key)
				o.want("default/web", func(d *session.Desired) { d.Ending = tc.ending })
				w.await(30*time.Second, "the release", func() bool { return o.isReleased(key) })
				ips := w.sim.FloatingIPs()
				if len(ips) != tc.left {
					t.Errorf("%d floating IPs are left, want %d", len(ips), tc.left)
				}
				for _, ip := range ips {
					if ip.AttachState != "detached" || !strings.HasSuffix(ip.Description, " retained") {
						t.Errorf("it left %+v", ip)
					}
				}
				if tc.left == 0 {
					return
				}
				o.want("default/web", func(d *session.Desired) {
					d.Ending, d.OwnerUID, d.Published = plan.NotEnding, "another", nil
				})
				if back := o.settled(key); back.ID != a.ID {
					t.Errorf("a load balancer of the same name has %+v, want what was retained", back)
				}
			})
		})
	}
}

func TestAnEndingLoadBalancerWithoutAnythingIsReleased(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", func(d *session.Desired) { d.Ending = plan.EndRelease }, 80)
		w.await(10*time.Second, "the release", func() bool { return o.isReleased(key) })
		if n := w.changes(); n != 0 {
			t.Errorf("%d changes", n)
		}
	})
}

func TestNothingIsChangedBeforeTheSnapshotIsComplete(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open()
		defer o.close()
		key := o.want("default/web", func(d *session.Desired) {
			d.Published = []netip.Addr{netip.MustParseAddr("198.51.100.9")}
		}, 80)
		time.Sleep(time.Minute)
		state := o.state(key)
		if state == nil || state.Phase != session.PhasePending ||
			!slices.Equal(state.Publish, []netip.Addr{netip.MustParseAddr("198.51.100.9")}) {
			t.Errorf("before the end of the snapshot the state is %+v", state)
		}
		if n := w.changes(); n != 0 {
			t.Errorf("%d changes", n)
		}
		o.sync()
		o.settled(key)
		w.await(time.Second, "in sync", func() bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			return o.inSync
		})
	})
}

func TestOxideBeingAwayClearsNoPublication(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		key := o.want("default/web", nil, 80)
		a := o.settled(key)
		published := o.state(key).Publish
		o.close()
		_, err := w.sim.AddFault(oxidesim.Fault{Operation: "*_list", Status: 503, ErrorCode: "ServiceNotAvailable"})
		w.must(err)
		w.connect() // another backend, which knows nothing
		again := w.open()
		defer again.close()
		again.want("default/web", func(d *session.Desired) {
			d.Created, d.Published = time.Now().Add(-time.Hour), published
		}, 80)
		again.sync()
		w.await(2*time.Minute, "the problem", func() bool {
			state := again.state(key)
			return state != nil && state.Problem != nil
		})
		if state := again.state(key); !slices.Equal(state.Publish, published) ||
			state.Phase != session.PhasePending {
			t.Errorf("while Oxide is away: %+v", state)
		}
		before := w.changes()
		w.sim.ClearFaults()
		if back := again.settled(key); back.ID != a.ID || w.changes() != before {
			t.Errorf("Oxide is back, %d changes, %+v", w.changes()-before, back)
		}
	})
}

func TestANewerSessionTakesOverWhatIsUnderWay(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		key := o.want("default/web", nil, 80)
		before := o.settled(key)
		o.observe(w.node(before.Attached.InstanceID), silent)
		w.await(10*time.Second, "the detachment", func() bool {
			return w.ip(before.ID).AttachState == "detaching"
		})
		newer := w.open()
		defer newer.close()
		o.mu.Lock()
		d := *o.desired[key]
		o.mu.Unlock()
		newer.want("default/web", func(n *session.Desired) { n.Created, n.Published = d.Created, d.Published }, 80)
		newer.observe(w.node(before.Attached.InstanceID), silent)
		newer.sync()
		<-o.done
		o.publications.Wait()
		if !session.IsReason(o.err, session.ReasonSuperseded) {
			t.Errorf("the older session ended with %v", o.err)
		}
		newer.left(key, before)
		time.Sleep(time.Minute)
		if ips := w.sim.FloatingIPs(); len(ips) != 1 {
			t.Errorf("there are %+v", ips)
		}
		if n := w.sim.Count("floating_ip_attach"); n > 3 {
			t.Errorf("it was attached %d times", n)
		}
	})
}

func TestTheAttachmentThatIsOwedFollowsADetachment(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		key := o.want("default/web", nil, 80)
		before := o.settled(key)
		o.observe(w.node(before.Attached.InstanceID), silent)
		w.await(10*time.Second, "the detachment", func() bool {
			return w.ip(before.ID).AttachState == "detaching"
		})
		o.close()
		w.await(10*time.Second, "the attachment", func() bool {
			ip := w.ip(before.ID)
			return ip.AttachState == "attached" && ip.InstanceID != before.Attached.InstanceID
		})
		n := w.changes()
		time.Sleep(time.Minute)
		if w.changes() != n {
			t.Error("something was changed while nobody held a session")
		}
	})
}

func TestAPoolThatWasNotReadYetIsWaitedFor(t *testing.T) {
	for name, edit := range map[string]func(d *session.Desired){
		"a pool is named": func(d *session.Desired) { d.Addresses[0].Source.Pool = "default" },
		"there is a choice": func(d *session.Desired) {
			d.Addresses = []plan.Desired{
				{Family: ownership.IPv6, Optional: true}, {Family: ownership.IPv4, Optional: true},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(w *world) {
				o := w.open()
				o.onState = func(state *session.State) {
					if state.Phase == session.PhaseReady && len(state.Addresses) == 0 {
						t.Errorf("nothing is left to be done: %+v", state)
					}
				}
				o.want("default/web", edit, 80)
				o.sync()
				o.session.CloseSend()
				select {
				case <-o.done:
				case <-time.After(time.Minute):
					t.Fatal("it does not end")
				}
				o.session.Close()
				o.publications.Wait()
				if ips := w.sim.FloatingIPs(); len(ips) != 1 || ips[0].AttachState != "attached" {
					t.Errorf("there are %+v", ips)
				}
			})
		})
	}
}

func TestAClientThatClosesItsSideGetsOneReconcile(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open()
		o.stubborn = true
		keys := []ownership.Key{o.want("default/a", nil, 80), o.want("default/b", nil, 80), o.want("default/c", nil, 80)}
		o.sync()
		o.session.CloseSend()
		select {
		case <-o.done:
		case <-time.After(time.Minute):
			t.Fatal("it does not end")
		}
		if !errors.Is(o.err, io.EOF) {
			t.Errorf("it ended with %v", o.err)
		}
		o.session.Close()
		o.publications.Wait()
		attached := 0
		for _, ip := range w.sim.FloatingIPs() {
			if ip.AttachState == "attached" {
				attached++
			}
		}
		if attached != 2 {
			t.Errorf("%d of 3 addresses are attached to 2 nodes: %+v", attached, w.sim.FloatingIPs())
		}
		if state := o.states[keys[2]]; state.Phase != session.PhasePending || state.Problem == nil {
			t.Errorf("the youngest is told %+v", state)
		}
	})
}

func TestAnEmptyListMakesNoFloodOfChanges(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		a := o.settled(key)
		before := w.changes()
		_, err := w.sim.AddFault(oxidesim.Fault{
			Operation: "floating_ip_list", Status: 200, Body: "{\"items\": [], \"next_page\": null}",
			ContentType: "application/json",
		})
		w.must(err)
		o.want("default/other", nil, 81)
		time.Sleep(5 * time.Minute)
		if n := w.changes() - before; n > 4 {
			t.Errorf("%d changes in five minutes", n)
		}
		if state := o.state(key); !slices.Contains(state.Publish, a.Addr) {
			t.Errorf("the address is not published any more: %+v", state)
		}
		w.sim.ClearFaults()
		if back := o.settled(key); back.ID != a.ID {
			t.Errorf("it became %+v", back)
		}
	})
}

func TestAnExhaustedPoolIsItsOwnLoadBalancersTrouble(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		o := w.open().sync()
		defer o.close()
		web := o.want("default/web", nil, 80)
		a := o.settled(web)
		w.must(w.sim.FillPool("default"))
		other := o.want("default/other", nil, 81)
		w.await(10*time.Second, "the problem", func() bool {
			return session.IsReason(o.state(other).Problem, session.ReasonPoolExhausted)
		})
		o.leftWithin(4*time.Second, web, a, silent)
		w.sim.ResetCounters()
		time.Sleep(30 * time.Minute)
		if n := w.sim.Count("floating_ip_create"); n > 12 {
			t.Errorf("%d requests to create in half an hour", n)
		}
		w.must(w.sim.DrainPool("default"))
		o.want("default/other", func(d *session.Desired) { d.Retain = true }) // the Service changes
		began := time.Now()
		o.settled(other)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("after a change it took %s", took)
		}
	})
}

func TestAMissingDefaultPoolIsNotAskedForAgainAndAgain(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", func(d *session.Desired) {
			d.Addresses = []plan.Desired{{Family: ownership.IPv6}}
		}, 80)
		w.await(10*time.Second, "the problem", func() bool {
			state := o.state(key)
			return state != nil && session.IsReason(state.Problem, session.ReasonPoolNotFound)
		})
		time.Sleep(30 * time.Minute)
		if n := w.sim.Count("floating_ip_create"); n > 2 {
			t.Errorf("%d requests to create in half an hour", n)
		}
		w.must(w.sim.Apply(oxidesim.Seed{Pools: []oxidesim.PoolSeed{{
			Name: "six", IPVersion: "v6",
			Ranges: []oxidesim.RangeSeed{{First: "2001:db8:99::10", Last: "2001:db8:99::ff"}},
			Silos:  []oxidesim.PoolLinkSeed{{Silo: oxidesim.DefaultSilo, Default: true}},
		}}}))
		w.await(time.Minute, "an address", func() bool { return len(w.sim.FloatingIPs()) == 1 })
	})
}

func TestAnAddressThatWasHandedOverIsNeverTakenBack(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		key := o.want("default/web", nil, 80)
		a := o.settled(key)
		o.want("default/web", func(d *session.Desired) {
			d.Addresses = []plan.Desired{{Family: ownership.IPv4, Source: ownership.Source{Existing: a.Name}}}
		})
		w.await(10*time.Second, "the handing over", func() bool {
			_, marked := ownership.ParseMarker(w.ip(a.ID).Description)
			return !marked
		})
		if at := o.settled(key); at.ID != a.ID || at.Managed {
			t.Errorf("it became %+v", at)
		}
		published := o.state(key).Publish
		o.close()
		w.connect()
		again := w.open()
		defer again.close()
		again.want("default/web", func(d *session.Desired) {
			d.Created, d.Published = time.Now().Add(-time.Hour), published
		}, 80)
		again.sync()
		w.await(time.Minute, "an address of its own", func() bool {
			s := again.state(key)
			return s != nil && s.Phase == session.PhaseReady && len(s.Addresses) == 1 &&
				s.Addresses[0].ID != a.ID
		})
		again.settled(key)
		again.want("default/web", func(d *session.Desired) { d.Ending = plan.EndRelease })
		w.await(30*time.Second, "the release", func() bool { return again.isReleased(key) })
		if ip := w.ip(a.ID); ip.ID == "" || ownership.BearsMarker(ip.Description) {
			t.Errorf("the user's address became %+v", ip)
		}
	})
}

func TestARebalanceIsPartOfTheSession(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		var keys []ownership.Key
		for i := range 6 {
			keys = append(keys, o.want(fmt.Sprintf("default/web-%d", i), o.confined(0), 8000+i))
		}
		for _, key := range keys {
			o.settled(key)
			o.want(key.Name, func(d *session.Desired) { d.Eligible = nil })
		}
		time.Sleep(time.Minute)
		planned, err := w.manager.Rebalance(w.Context(), scope, true)
		w.must(err)
		if n := len(planned.Actions); n != 6 {
			t.Errorf("%d actions are planned, want 3 moves: %+v", n, planned.Actions)
		}
		before := w.changes()
		time.Sleep(2 * time.Minute)
		if w.changes() != before {
			t.Error("a dry run changed something")
		}
		_, err = w.manager.Rebalance(w.Context(), scope, false)
		w.must(err)
		w.await(2*time.Minute, "an even spread", func() bool {
			on := map[string]int{}
			for _, ip := range w.sim.FloatingIPs() {
				on[ip.InstanceID]++
			}
			return on[w.nodes[0]] == 3 && on[w.nodes[1]] == 3
		})
		for _, key := range keys {
			o.settled(key)
		}
		time.Sleep(5 * time.Minute)
		if n := w.changes() - before; n != 6 {
			t.Errorf("%d changes, want 3 moves", n)
		}
	})
}

func TestAskingChangesNothing(t *testing.T) {
	inWorld(t, 3, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.want("default/web", nil, 80)
		a := o.settled(key)
		time.Sleep(time.Minute)
		before, state := w.changes(), o.state(key)
		ctx := w.Context()
		what, err := w.manager.Plan(ctx, session.PlanRequest{
			Scope: scope, Without: []string{a.Attached.InstanceID}, Explain: []string{"default/web"},
		})
		w.must(err)
		if len(what.LoadBalancers) != 1 || len(what.Actions) != 2 ||
			len(what.LoadBalancers[0].Verdicts) != 2 {
			t.Errorf("without its node: %+v", what)
		}
		_, err = w.manager.Plan(ctx, session.PlanRequest{Set: &session.Set{
			Opening: session.Opening{Scope: scope},
		}})
		w.must(err)
		for i := range 1000 {
			_, err = w.manager.Plan(ctx, session.PlanRequest{Scope: fmt.Sprintf("scope-%d", i)})
			if !session.IsReason(err, session.ReasonSessionRequired) {
				t.Fatalf("an unknown scope: %v", err)
			}
		}
		orphans, err := w.manager.Orphans(ctx, scope)
		w.must(err)
		if len(orphans) != 0 {
			t.Errorf("orphans: %+v", orphans)
		}
		found, err := w.manager.Get(ctx, key)
		w.must(err)
		if len(found.Addresses) != 1 || found.Addresses[0].ID != a.ID || found.Explanation == "" ||
			found.Phase != session.PhaseReady {
			t.Errorf("Get: %+v", found)
		}
		time.Sleep(2 * time.Minute)
		if n := w.changes() - before; n != 0 {
			t.Errorf("%d changes", n)
		}
		if diff := cmp.Diff(state, o.state(key), cmp.Comparer(sameAddr), cmp.Comparer(sameError)); diff != "" {
			t.Errorf("the state (-before +after):\n%s", diff)
		}
	})
}

func sameAddr(a, b netip.Addr) bool { return a == b }
func sameError(a, b error) bool     { return (a == nil) == (b == nil) }

func TestOrphansAreListedAndDeletedOnlyWhereTheirSessionIs(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		o := w.open().sync()
		key := o.want("default/web", nil, 80)
		a := o.settled(key)
		if _, err := w.manager.DeleteOrphan(w.Context(), scope, a.ID, false); !session.IsReason(err,
			session.ReasonNotOwned) {
			t.Errorf("an address in use: %v", err)
		}
		o.close()
		if _, err := w.manager.DeleteOrphan(w.Context(), scope, a.ID, false); !session.IsReason(err,
			session.ReasonSessionRequired) {
			t.Errorf("without a session: %v", err)
		}
		again := w.open().sync()
		defer again.close()
		w.await(10*time.Second, "the orphan", func() bool {
			again.mu.Lock()
			defer again.mu.Unlock()
			return len(again.orphans) == 1
		})
		done, err := w.manager.DeleteOrphan(w.Context(), scope, a.ID, false)
		w.must(err)
		if len(done) != 2 || len(w.sim.FloatingIPs()) != 0 {
			t.Errorf("%+v, and there are %+v", done, w.sim.FloatingIPs())
		}
	})
}

func TestTwoScopesShareNoPort(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		o := w.open().sync()
		defer o.close()
		o.settled(o.want("default/web", nil, 80))
		other := w.openWith(session.Opening{Scope: "cluster-2"}).sync()
		defer other.close()
		key := ownership.Key{Scope: "cluster-2", Name: "default/web"}
		other.want("default/web", func(d *session.Desired) { d.Key = key }, 80)
		other.mu.Lock()
		other.desired[key] = other.desired[ownership.Key{Scope: scope, Name: "default/web"}]
		other.mu.Unlock()
		w.await(20*time.Second, "the conflict", func() bool {
			return other.hasCondition(key, session.PortConflict, "TCP 80", "default/web of the scope "+scope)
		})
	})
}

func TestAnObserverChangesNothingAndSupersedesNobody(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		o.settled(o.want("default/web", nil, 80))
		before := w.changes()
		watching := w.openWith(session.Opening{Scope: scope, ObserveOnly: true}).sync()
		watching.stubborn = true
		defer watching.close()
		watching.want("default/other", nil, 81)
		w.await(10*time.Second, "what would be done", func() bool {
			watching.mu.Lock()
			defer watching.mu.Unlock()
			return slices.ContainsFunc(watching.actions, func(a session.Action) bool {
				return a.Planned && a.Type == plan.ActionAttach
			})
		})
		time.Sleep(time.Minute)
		if n := w.changes() - before; n != 0 {
			t.Errorf("%d changes", n)
		}
		if o.err != nil {
			t.Errorf("the acting session has ended: %v", o.err)
		}
	})
}

func TestWhoNeverReadsHoldsUpNobody(t *testing.T) {
	inWorld(t, 2, func(w *world) {
		s, err := w.manager.Open(session.Opening{Scope: "silent"})
		w.must(err)
		for i := range 3000 {
			w.must(s.Send(context.Background(), session.Item{LoadBalancer: &session.Desired{
				Key: ownership.Key{Scope: "silent", Name: fmt.Sprintf("default/web-%d", i%10)}, OwnerUID: "u",
				Generation: int64(i + 1), Addresses: []plan.Desired{{Family: ownership.IPv4}},
				Ports: []plan.Port{{Protocol: "TCP", Number: 80}},
			}}))
		}
		o := w.open().sync()
		defer o.close()
		o.settled(o.want("default/web", nil, 81))
		s.Close()
	})
}
