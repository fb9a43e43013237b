// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// The end of a load balancer does not wait for long; its rule goes once it can, and nobody takes it for an
// orphan meanwhile.
func TestAnEndDoesNotWaitForLongForItsRule(t *testing.T) {
	for name, tc := range map[string]struct {
		fault  fault
		within time.Duration
	}{
		"forbidden": {fault{method: http.MethodPut, status: 403, code: "Forbidden"}, 11 * time.Second},
		"slow":      {fault{method: http.MethodPut, delay: time.Minute}, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inKeepersWorld(t, 2, func(w *world) {
				o := w.open().sync()
				defer o.close()
				key := o.opened("default/web", nil, 80)
				other := o.opened("default/other", nil, 81)
				o.settled(key)
				o.settled(other)
				time.Sleep(10 * time.Second)
				w.spoil(tc.fault)
				o.opened("default/web", func(d *session.Desired) { d.Ending = plan.EndRelease })
				took := w.await(time.Minute, "the release", func() bool { return o.isReleased(key) })
				if took > tc.within {
					t.Errorf("the release took %s", took)
				}
				o.send(session.Item{Removed: &session.Removal{Key: key, OwnerUID: "uid-of-default-web"}})
				time.Sleep(2 * time.Minute)
				o.mu.Lock()
				if len(o.unused) > 0 {
					t.Errorf("reported as orphans: %+v", o.unused)
				}
				o.mu.Unlock()
				w.heal()
				w.await(7*time.Minute, "the end of the rule", func() bool { return len(w.kept()) == 1 })
			})
		})
	}
}

// A rule that is being written while its load balancer ends goes as well, and nobody takes it for an orphan.
func TestARuleThatIsBeingWrittenGoesWithItsLoadBalancer(t *testing.T) {
	for name, slow := range map[string]fault{
		"stored when it is answered": {method: http.MethodPut, delay: 3 * time.Second},
		"stored, and not in force": {
			method: http.MethodPut, stored: true, status: 500, code: "Internal", delay: 3 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inKeepersWorld(t, 2, func(w *world) {
				o := w.open().sync()
				defer o.close()
				w.spoil(slow)
				key := o.opened("default/web", nil, 80)
				w.await(time.Minute, "a write", func() bool { return w.writes() > 0 })
				o.opened("default/web", func(d *session.Desired) { d.Ending = plan.EndRelease })
				w.await(time.Minute, "the release", func() bool { return o.isReleased(key) })
				o.send(session.Item{Removed: &session.Removal{Key: key, OwnerUID: "uid-of-default-web"}})
				time.Sleep(10 * time.Second)
				w.heal()
				w.await(time.Minute, "the end of the rule", func() bool { return len(w.kept()) == 0 })
				time.Sleep(2 * time.Minute)
				o.mu.Lock()
				defer o.mu.Unlock()
				if len(w.kept()) > 0 || len(o.unused) > 0 {
					t.Errorf("kept: %v, reported as orphans: %+v", w.kept(), o.unused)
				}
			})
		})
	}
}

// One of the same name that comes at once keeps the port open.
func TestALoadBalancerThatComesBackHasItsRule(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", nil, 80)
		o.settled(key)
		o.opened("default/web", func(d *session.Desired) { d.Ending = plan.EndRelease })
		w.await(time.Minute, "the release", func() bool { return o.isReleased(key) })
		o.send(session.Item{Removed: &session.Removal{Key: key, OwnerUID: "uid-of-default-web"}})
		o.opened("default/web", func(d *session.Desired) {
			d.Ending, d.OwnerUID, d.Published = plan.NotEnding, "another", nil
		})
		o.settled(key)
		time.Sleep(2 * time.Minute)
		if kept := w.kept(); len(kept) != 1 || !strings.Contains(kept[0].text(), "uid=another") {
			t.Errorf("kept: %v", kept)
		}
	})
}

// External subnets and both families have their rules; one family that goes takes its rule along.
func TestEachFamilyHasItsRuleWhateverItsAddressIs(t *testing.T) {
	inRoutedWorld(t, 2, func(w *world) {
		w.manager.Stop(w.Context())
		w.api.Close()
		w.keepsRules = true
		w.connect()
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", func(d *session.Desired) {
			d.Addresses = []plan.Desired{{Family: ownership.IPv4}, {
				Family: ownership.IPv6, Source: ownership.Source{Kind: ownership.ExternalSubnet},
			}}
		}, 80)
		families := func() string {
			var all []string
			for _, r := range w.kept() {
				for _, family := range []string{"v4", "v6"} {
					if strings.Contains(r.text(), "family="+family) {
						all = append(all, family)
					}
				}
			}
			slices.Sort(all)
			return strings.Join(all, " ")
		}
		o.carried(key, 2)
		if got := families(); got != "v4 v6" {
			t.Errorf("rules of %q", got)
		}
		o.opened("default/web", func(d *session.Desired) {
			d.Addresses = []plan.Desired{{Family: ownership.IPv4}}
		})
		o.carried(key, 1)
		w.await(15*time.Second, "the end of the rule", func() bool { return families() == "v4" })
	})
}

// What it is not known to desire keeps its rule, and nobody calls that an orphan.
func TestALoadBalancerThatIsPreservedKeepsItsRule(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", nil, 80)
		o.settled(key)
		before := w.kept()
		time.Sleep(10 * time.Second)
		o.opened("default/web", func(d *session.Desired) { d.PreserveReason = "its class is not known" }, 80, 81)
		time.Sleep(2 * time.Minute)
		if kept := w.kept(); len(kept) != 1 || kept[0].text() != before[0].text() {
			t.Errorf("kept: %v", kept)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(o.unused) > 0 {
			t.Errorf("reported as orphans: %+v", o.unused)
		}
	})
}

// A cluster that takes over from another one has its rules in the place of the other's.
func TestRulesOfAnAdoptedScopeBecomeOurs(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.openWith(session.Opening{Scope: "old"})
		o.sync()
		o.mu.Lock()
		o.desired = map[ownership.Key]*session.Desired{}
		o.mu.Unlock()
		d := session.Desired{
			Key: ownership.Key{Scope: "old", Name: "default/web"}, OwnerUID: "uid-of-default-web", Generation: 1,
			Created: time.Now(), Addresses: []plan.Desired{{Family: ownership.IPv4}}, OpenFirewall: true,
			Ports: []plan.Port{{Protocol: "TCP", Number: 80}},
		}
		o.send(session.Item{LoadBalancer: &d})
		w.await(time.Minute, "the rule", func() bool { return len(w.kept()) == 1 })
		o.close()
		o = w.openWith(session.Opening{Scope: scope, Adopted: []string{"old"}}).sync()
		defer o.close()
		o.settled(o.opened("default/web", nil, 80))
		w.await(time.Minute, "the rule", func() bool {
			kept := w.kept()
			return len(kept) == 1 && strings.Contains(kept[0].text(), "scope="+scope+" ")
		})
	})
}

// Two clusters in one VPC keep their own rules, and not each other's.
func TestTwoClustersInOneVPC(t *testing.T) {
	inKeepersWorld(t, 4, func(w *world) {
		all := w.nodes
		w.nodes = all[:2]
		one := w.open().sync()
		w.nodes = all[2:]
		two := w.openWith(session.Opening{Scope: "cluster-2"}).sync()
		one.settled(one.opened("default/web", nil, 80))
		d := session.Desired{
			Key: ownership.Key{Scope: "cluster-2", Name: "default/web"}, OwnerUID: "x", Generation: 1,
			Created: time.Now(), Addresses: []plan.Desired{{Family: ownership.IPv4}}, OpenFirewall: true,
			Ports: []plan.Port{{Protocol: "TCP", Number: 81}}, NoPublication: true,
		}
		two.send(session.Item{LoadBalancer: &d})
		w.await(time.Minute, "both rules", func() bool { return len(w.kept()) == 2 })
		two.close()
		one.opened("default/web", func(d *session.Desired) { d.Ending = plan.EndRelease })
		w.await(time.Minute, "the end of one", func() bool { return len(w.kept()) == 1 })
		if text := w.kept()[0].text(); !strings.Contains(text, "scope=cluster-2") ||
			!strings.Contains(text, "node-3") && !strings.Contains(text, "node-4") {
			t.Errorf("kept: %s", text)
		}
		one.close()
	})
}

// Whoever is about to go may not know any more whom it has admitted, such as a Service of another type.
func TestWhoIsEndingLetsInNobodyElse(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", func(d *session.Desired) {
			d.Sources = ruleset.ParseSources([]string{"203.0.113.0/24"})
		}, 80)
		o.settled(key)
		rule := w.kept()[0].text()
		time.Sleep(10 * time.Second) // so that a write would be made at once
		w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/detach") {
				time.Sleep(20 * time.Second)
			}
			next.ServeHTTP(rw, r)
		})
		o.opened("default/web", func(d *session.Desired) {
			d.Ending, d.OpenFirewall, d.Sources = plan.EndRelease, false, ruleset.Sources{}
		}, 443)
		w.await(time.Minute, "the release", func() bool {
			if kept := w.kept(); len(kept) > 0 && kept[0].text() != rule {
				t.Fatalf("while it ends its rule is %s", kept[0].text())
			}
			return o.isReleased(key)
		})
		if kept := w.kept(); len(kept) > 0 {
			t.Errorf("it was released while %v is kept", kept)
		}
	})
}
