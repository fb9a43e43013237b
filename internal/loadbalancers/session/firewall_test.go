// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxidesim"
)

func TestALoadBalancerHasOneRulePerFamily(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		before := w.rules()
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", func(d *session.Desired) {
			d.Sources = ruleset.ParseSources([]string{"10.0.0.0/8", "10.1.0.0/16", "192.0.2.7"})
		}, 80, 443)
		o.settled(key)
		kept := w.kept()
		if len(kept) != 1 {
			t.Fatalf("%d rules are kept: %v", len(kept), kept)
		}
		want := rule{
			"name": ownership.KeptRuleName(key, ownership.IPv4, 0),
			"description": "oxide-ccm/v1 scope=cluster-1 name=default/web uid=uid-of-default-web family=v4 " +
				"source=firewall-rule",
			"status": "enabled", "direction": "inbound", "action": "allow", "priority": 1000.0,
			"targets": []any{
				map[string]any{"type": "instance", "value": "node-1"},
				map[string]any{"type": "instance", "value": "node-2"},
			},
			"filters": map[string]any{
				"hosts": []any{
					map[string]any{"type": "ip_net", "value": "10.0.0.0/8"},
					map[string]any{"type": "ip_net", "value": "192.0.2.7/32"},
				},
				"ports":     []any{"80", "443"},
				"protocols": []any{map[string]any{"type": "tcp"}},
			},
		}
		if diff := cmp.Diff(want, kept[0]); diff != "" {
			t.Errorf("the rule (-want +got):\n%s", diff)
		}
		w.sameForeign(before)
		if n := w.writes(); n != 1 {
			t.Errorf("%d writes", n)
		}
		if state := o.state(key); len(state.Conditions) > 0 {
			t.Errorf("conditions: %v", state.Conditions)
		}
	})
}

// The port is open before the status shows the address, and closed once the address is gone.
func TestAPortOpensBeforeTheAddressIsPublishedAndClosesAfterIt(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open()
		defer o.close()
		key := ownership.Key{Scope: scope, Name: "default/web"}
		o.onState = func(s *session.State) {
			if len(s.Publish) > 0 && len(w.kept()) != 1 {
				t.Errorf("%v is published while %d rules are kept", s.Publish, len(w.kept()))
			}
		}
		o.sync().opened("default/web", nil, 80)
		w.await(time.Minute, "the address", func() bool {
			s := o.state(key)
			return s != nil && s.Phase == session.PhaseReady && len(s.Publish) > 0
		})
		o.mu.Lock()
		o.onState = nil
		o.mu.Unlock()
		o.opened("default/web", func(d *session.Desired) { d.Ending = plan.EndRelease })
		w.await(time.Minute, "the release", func() bool {
			attached := slices.ContainsFunc(w.sim.FloatingIPs(), func(ip oxidesim.FloatingIP) bool {
				return ip.AttachState == "attached"
			})
			if attached && len(w.kept()) != 1 {
				t.Fatal("the port is closed while the address is attached")
			}
			return o.isReleased(key)
		})
		if kept := w.kept(); len(kept) > 0 {
			t.Errorf("it was released while %v is kept", kept)
		}
		if n := w.writes(); n != 2 {
			t.Errorf("%d writes", n)
		}
	})
}

// A move needs no write, and waits for none.
func TestAMoveNeedsNoWrite(t *testing.T) {
	inKeepersWorld(t, 3, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", nil, 80)
		from := o.settled(key)
		time.Sleep(10 * time.Second)
		reads, writes := w.reads(), w.writes()
		o.observe(w.node(from.Attached.InstanceID), silent)
		w.await(20*time.Second, "the move", func() bool {
			return o.settled(key).Attached != from.Attached
		})
		if w.reads() > reads+1 || w.writes() != writes {
			t.Errorf("the move took %d readings and %d writes of the firewall", w.reads()-reads,
				w.writes()-writes)
		}
	})
}

// A failover does not wait for a rule that the new node still lacks.
func TestAFailoverDoesNotWaitForTheFirewall(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open()
		o.observe(1, excluded)
		defer o.close()
		key := o.sync().opened("default/web", nil, 80)
		from := o.settled(key)
		time.Sleep(20 * time.Second)
		w.spoil(fault{method: http.MethodPut, delay: time.Minute})
		node, err := w.sim.AddInstance("demo", oxidesim.InstanceSeed{Name: "late"})
		w.must(err)
		o.send(session.Item{Candidate: &health.Observation{
			InstanceID: node.ID, Name: "late", Readiness: health.Ready,
		}})
		time.Sleep(5 * time.Second)
		o.observe(0, silent)
		took := w.await(time.Minute, "the failover", func() bool {
			return o.settled(key).Attached.InstanceID == node.ID
		})
		if took > 10*time.Second || o.settled(key).Attached == from.Attached {
			t.Errorf("the failover took %s", took)
		}
	})
}

func TestNothingIsWrittenOrReadAgainWhereNothingDiffers(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open().sync()
		for i := range 5 {
			o.settled(o.opened(fmt.Sprintf("default/web-%d", i), nil, 8000+i))
		}
		time.Sleep(time.Minute)
		reads, writes := w.reads(), w.writes()
		time.Sleep(10 * time.Minute)
		if n := w.reads() - reads; n > 11 {
			t.Errorf("%d readings in ten minutes", n)
		}
		if n := w.writes() - writes; n != 0 {
			t.Errorf("%d writes", n)
		}
		o.close()
		w.connect() // as a backend that is started again
		before := w.kept()
		o = w.open()
		for i := range 5 {
			o.opened(fmt.Sprintf("default/web-%d", i), nil, 8000+i)
		}
		o.sync()
		time.Sleep(2 * time.Minute)
		if n := w.writes() - writes; n != 0 {
			t.Errorf("%d writes after a start", n)
		}
		if diff := cmp.Diff(before, w.kept()); diff != "" {
			t.Error(diff)
		}
		o.close()
	})
}

func TestManyCreatedTogetherTakeFewWrites(t *testing.T) {
	inKeepersWorld(t, 4, func(w *world) {
		o := w.open().sync()
		defer o.close()
		var keys []ownership.Key
		for i := range 100 {
			keys = append(keys, o.opened(fmt.Sprintf("default/web-%d", i), nil, 8000+i))
		}
		for _, key := range keys {
			o.settled(key)
		}
		if n := w.writes(); n > 3 || len(w.kept()) != 100 {
			t.Errorf("%d writes, %d rules", n, len(w.kept()))
		}
		o.observe(0, silent)
		o.opened(keys[0].Name, func(d *session.Desired) { d.Ending = plan.EndRelease })
		w.await(time.Minute, "the release", func() bool { return o.isReleased(keys[0]) })
		o.send(session.Item{Removed: &session.Removal{Key: keys[0], OwnerUID: "uid-of-default-web-0"}})
		for _, key := range keys[1:] {
			o.settled(key)
		}
		reads, writes := w.reads(), w.writes()
		time.Sleep(10 * time.Minute)
		if r, n := w.reads()-reads, w.writes()-writes; r > 10 || n != 0 {
			t.Errorf("where nothing differs there are %d readings and %d writes in ten minutes", r, n)
		}
	})
}

// Source ranges of no use are named in one line, and let nobody in.
func TestSourceRangesOfNoUseAreNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		ranges []string
		hosts  string
		says   string
	}{
		"overlapping":         {[]string{"10.0.0.0/9", "10.128.0.0/9", "10.3.0.0/16"}, "10.0.0.0/8", ""},
		"of the other family": {[]string{"10.0.0.0/8", "2001:db8::/32"}, "10.0.0.0/8", "2001:db8::/32 is of no use"},
		"no network":          {[]string{"10.0.0.0/8", "everybody"}, "10.0.0.0/8", `"everybody" is no network`},
	} {
		t.Run(name, func(t *testing.T) {
			inKeepersWorld(t, 2, func(w *world) {
				o := w.open().sync()
				defer o.close()
				key := o.opened("default/web", func(d *session.Desired) {
					d.Sources = ruleset.ParseSources(tc.ranges)
				}, 80)
				o.settled(key)
				if kept := w.kept(); len(kept) != 1 || !strings.Contains(kept[0].text(),
					`"hosts":[{"type":"ip_net","value":"`+tc.hosts+`"}]`) {
					t.Errorf("kept: %v", kept)
				}
				said := strings.Join(o.conditions(key, session.FirewallIncomplete), "\n")
				if !strings.Contains(said, tc.says) || tc.says == "" && said != "" {
					t.Errorf("it says %q, want %q", said, tc.says)
				}
			})
		})
	}
	t.Run("only of the other family", func(t *testing.T) {
		inKeepersWorld(t, 2, func(w *world) {
			o := w.open().sync()
			defer o.close()
			key := o.opened("default/web", func(d *session.Desired) {
				d.Sources = ruleset.ParseSources([]string{"2001:db8::/32"})
			}, 80)
			o.settled(key)
			if kept := w.kept(); len(kept) != 0 {
				t.Errorf("kept: %v", kept)
			}
			if said := o.conditions(key, session.FirewallIncomplete); len(said) != 1 {
				t.Errorf("it says %q", said)
			}
		})
	})
}

// What an edit changes is written once; where the firewall is to be left alone the rule goes.
func TestAnEditChangesTheRule(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", nil, 80)
		o.settled(key)
		time.Sleep(10 * time.Second)
		o.opened("default/web", nil, 80, 81, 90)
		w.await(5*time.Second, "the new ports", func() bool {
			kept := w.kept()
			return len(kept) == 1 && strings.Contains(kept[0].text(), `"ports":["80-81","90"]`)
		})
		o.want("default/web", func(d *session.Desired) { d.OpenFirewall = false })
		w.await(10*time.Second, "the end of the rule", func() bool { return len(w.kept()) == 0 })
		if n := w.writes(); n != 3 {
			t.Errorf("%d writes", n)
		}
		w.await(2*time.Minute, "the closed port", func() bool {
			said := o.conditions(key, session.FirewallClosed)
			return len(said) == 1 && strings.Contains(said[0], "add the rule {") &&
				!strings.Contains(said[0], "--manage-firewall") // that is on, and would not help
		})
	})
}

// Above what a rule can name the subnets are named, and a condition says so.
func TestMoreNodesThanARuleNamesWidenIt(t *testing.T) {
	inKeepersWorld(t, 257, func(w *world) {
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", nil, 80)
		o.settled(key)
		const subnet = `"targets":[{"type":"subnet","value":"default"}]`
		if kept := w.kept(); len(kept) != 1 || !strings.Contains(kept[0].text(), subnet) {
			t.Errorf("kept: %v", kept)
		}
		said := o.conditions(key, session.FirewallWidened)
		if len(said) != 1 || !strings.Contains(said[0], "all instances in the subnet default") {
			t.Errorf("it says %q", said)
		}
		at := o.settled(key).Attached.InstanceID
		for _, id := range w.nodes {
			if id != at {
				o.send(session.Item{CandidateRemoved: id})
				break
			}
		}
		w.await(10*time.Second, "the names of the nodes", func() bool {
			return strings.Count(w.kept()[0].text(), `"type":"instance"`) == 256
		})
		if said := o.conditions(key, session.FirewallWidened); len(said) > 0 {
			t.Errorf("it says %q", said)
		}
	})
}

// A node that comes is let in too, in one write.
func TestANewNodeTakesOneWrite(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		for i := range 3 {
			o.settled(o.opened(fmt.Sprintf("default/web-%d", i), nil, 8000+i))
		}
		time.Sleep(10 * time.Second)
		writes := w.writes()
		node, err := w.sim.AddInstance("demo", oxidesim.InstanceSeed{Name: "late"})
		w.must(err)
		o.send(session.Item{Candidate: &health.Observation{
			InstanceID: node.ID, Name: "late", Readiness: health.Ready,
		}})
		w.await(time.Minute, "the target", func() bool {
			return !slices.ContainsFunc(w.kept(), func(r rule) bool {
				return !strings.Contains(r.text(), `"value":"late"`)
			})
		})
		if n := w.writes() - writes; n != 1 {
			t.Errorf("%d writes", n)
		}
	})
}

// When the session has ended nothing is written any more.
func TestNothingIsWrittenWithoutASession(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open().sync()
		o.opened("default/web", nil, 80)
		time.Sleep(500 * time.Millisecond)
		o.close()
		time.Sleep(time.Minute)
		if n := w.writes(); n != 0 {
			t.Errorf("%d writes", n)
		}
	})
}

// What a session desired is over when a newer one has begun, which has yet to say what it desires.
func TestNothingIsWrittenForASessionThatWasSuperseded(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		older := w.open().sync()
		older.opened("default/web", nil, 80)
		time.Sleep(500 * time.Millisecond)
		newer := w.open()
		defer newer.close()
		time.Sleep(time.Minute)
		if n := w.writes(); n != 0 {
			t.Errorf("%d writes", n)
		}
		older.close()
	})
}

func TestAnObservingSessionWritesNoRules(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.openWith(session.Opening{Scope: scope, ObserveOnly: true}).sync()
		o.opened("default/web", nil, 80)
		time.Sleep(2 * time.Minute)
		if n := w.writes(); n != 0 {
			t.Errorf("%d writes", n)
		}
		o.close()
	})
}
