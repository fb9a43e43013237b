// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
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

const (
	firewallRulesPath = "/v1/vpc-firewall-rules"
	firewallPath      = firewallRulesPath + "?project=demo&vpc=default"
)

// rule is a rule as the rack shows and takes it.
type rule map[string]any

func (r rule) name() string { return r["name"].(string) }

func (r rule) text() string {
	text, err := json.Marshal(r)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// inKeepersWorld runs a test in a world whose Manager keeps firewall rules.
func inKeepersWorld(t *testing.T, nodes int, test func(w *world)) {
	t.Helper()
	inWorld(t, nodes, func(w *world) {
		w.manager.Stop(w.Context())
		w.api.Close()
		w.keepsRules = true
		w.connect()
		test(w)
	})
}

// ask sends the rack a request as somebody else would, past everything that a test does to those of the
// Manager.
func (w *world) ask(method, path string, body any) (status int, answer []byte) {
	w.Helper()
	text, err := json.Marshal(body)
	w.must(err)
	r := httptest.NewRequest(method, "http://rack"+path, strings.NewReader(string(text)))
	r.Header.Set("Authorization", "Bearer "+oxidesim.DefaultToken)
	rw := httptest.NewRecorder()
	w.sim.Handler().ServeHTTP(rw, r)
	return rw.Code, rw.Body.Bytes()
}

// rules returns the rules of the VPC, without what the rack sets.
func (w *world) rules() []rule {
	w.Helper()
	var rules []rule
	for _, text := range w.sim.FirewallRules("default") {
		var r rule
		w.must(json.Unmarshal(text, &r))
		for _, field := range []string{"id", "vpc_id", "time_created", "time_modified"} {
			delete(r, field)
		}
		rules = append(rules, r)
	}
	return rules
}

// setRules replaces the rules of the VPC, as somebody else does.
func (w *world) setRules(rules []rule) {
	w.Helper()
	if status, answer := w.ask(http.MethodPut, firewallPath, map[string]any{"rules": rules}); status != 200 {
		w.Fatalf("write the rules: %d %s", status, answer)
	}
}

// foreign makes a rule of somebody else.
func foreign(name string) rule {
	return rule{
		"name": name, "description": "Ann's", "status": "enabled", "direction": "inbound", "action": "allow",
		"priority": 7, "targets": []any{map[string]any{"type": "subnet", "value": "default"}},
		"filters": map[string]any{
			"hosts":     []any{map[string]any{"type": "ip_net", "value": "10.1.0.0/16"}},
			"ports":     []any{"8000-8080"},
			"protocols": []any{map[string]any{"type": "icmp", "value": map[string]any{"icmp_type": 8, "code": nil}}},
		},
	}
}

// addForeign adds a rule of somebody else.
func (w *world) addForeign(name string) {
	w.Helper()
	w.setRules(append(w.rules(), foreign(name)))
}

// kept returns the rules that are kept for load balancers.
func (w *world) kept() []rule {
	w.Helper()
	return slices.DeleteFunc(w.rules(), func(r rule) bool {
		return !ownership.BearsMarker(r["description"].(string))
	})
}

// opened desires a load balancer for which the firewall is opened.
func (o *owner) opened(name string, edit func(*session.Desired), ports ...int) ownership.Key {
	o.Helper()
	return o.want(name, func(d *session.Desired) {
		d.OpenFirewall = true
		if edit != nil {
			edit(d)
		}
	}, ports...)
}

// firewall counts the Manager's requests about firewalls.
func (w *world) firewall(method string) *atomic.Int64 {
	if method == http.MethodPut {
		return &w.firewallWrites
	}
	return &w.firewallReads
}

func (w *world) reads() int  { return int(w.firewallReads.Load()) }
func (w *world) writes() int { return int(w.firewallWrites.Load()) }

// fault is what happens to the Manager's own requests about firewalls.
type fault struct {
	method        string
	status        int
	code, message string
	// stored: the request is carried out all the same.
	stored bool
	delay  time.Duration
	// times is how often; 0: always.
	times int
}

// spoil has a fault happen.
func (w *world) spoil(f fault) {
	var happened atomic.Int64
	w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != firewallRulesPath || r.Method != f.method ||
			f.times > 0 && int(happened.Add(1)) > f.times {
			next.ServeHTTP(rw, r)
			return
		}
		time.Sleep(f.delay)
		if f.stored {
			next.ServeHTTP(httptest.NewRecorder(), r)
		}
		if f.status == 0 {
			next.ServeHTTP(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(f.status)
		fmt.Fprintf(rw, `{"request_id":"x","error_code":%q,"message":%q}`, f.code, f.message)
	})
}

// heal ends all faults.
func (w *world) heal() { w.around.Store(nil) }

// conditions returns what a state says of one type.
func (o *owner) conditions(key ownership.Key, kind session.ConditionType) []string {
	var texts []string
	if state := o.state(key); state != nil {
		for _, c := range state.Conditions {
			if c.Type == kind {
				texts = append(texts, c.Message)
			}
		}
	}
	return texts
}

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

// sameForeign fails if rules of others are not what they were.
func (w *world) sameForeign(before []rule) {
	w.Helper()
	after := slices.DeleteFunc(w.rules(), func(r rule) bool {
		return ownership.BearsMarker(r["description"].(string))
	})
	texts := func(rules []rule) []string {
		var all []string
		for _, r := range rules {
			all = append(all, r.text())
		}
		return all
	}
	if diff := cmp.Diff(texts(before), texts(after)); diff != "" {
		w.Errorf("other people's rules (-before +after):\n%s", diff)
	}
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
	})
}

// Where the firewall cannot be written the address is published all the same, with a condition.
func TestWithoutTheFirewallTheAddressIsPublishedWithACondition(t *testing.T) {
	for name, tc := range map[string]struct {
		fault  fault
		within time.Duration
		says   string
	}{
		"forbidden": {
			fault{method: http.MethodPut, status: 403, code: "Forbidden"}, 6 * time.Second,
			"it needs the role collaborator",
		},
		"refused": {
			fault{method: http.MethodPut, status: 400, code: "InvalidValue", message: "no"}, 6 * time.Second,
			"Oxide refuses: no",
		},
		"slow": {
			fault{method: http.MethodPut, delay: time.Minute}, 13 * time.Second, "have not been written yet",
		},
		"unreadable": {
			fault{method: http.MethodGet, status: 403, code: "Forbidden"}, 6 * time.Second,
			"could not read the firewall",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inKeepersWorld(t, 2, func(w *world) {
				w.spoil(tc.fault)
				o := w.open().sync()
				defer o.close()
				key := o.opened("default/web", nil, 80)
				took := w.await(time.Minute, "the publication", func() bool {
					s := o.state(key)
					return s != nil && len(s.Publish) > 0
				})
				if took > tc.within {
					t.Errorf("it took %s, want at most %s", took, tc.within)
				}
				o.settled(key)
				said := append(o.conditions(key, session.FirewallClosed),
					o.conditions(key, session.FirewallIncomplete)...)
				if len(said) != 1 || !strings.Contains(said[0], tc.says) || strings.Contains(said[0], "\n") {
					t.Errorf("it says %q, want %q", said, tc.says)
				}
				w.heal()
				w.await(7*time.Minute, "the rule", func() bool { return len(w.kept()) == 1 })
				w.await(2*time.Minute, "the end of the condition", func() bool {
					return len(o.state(key).Conditions) == 0
				})
			})
		})
	}
}

// Rules that are stored and not in force everywhere are written again.
func TestA500AlthoughStoredIsReadBackAndRepeated(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		w.spoil(fault{method: http.MethodPut, status: 500, code: "Internal", stored: true, times: 2})
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", nil, 80)
		o.settled(key)
		if said := o.conditions(key, session.FirewallIncomplete); len(said) != 1 ||
			!strings.Contains(said[0], "not yet in force everywhere") {
			t.Errorf("it says %q", said)
		}
		w.await(time.Minute, "the end of the condition", func() bool {
			return len(o.state(key).Conditions) == 0
		})
		if n := w.writes(); n != 3 {
			t.Errorf("%d writes", n)
		}
	})
}

// Somebody else writes at every point between our steps, one point at a time, and loses nothing but what
// is written between the second reading and the write.
func TestOtherPeoplesWritesSurvive(t *testing.T) {
	lost := make(map[string]bool)
	points := []string{
		"before view 1", "after view 1", "before view 2", "after view 2", "before update 1",
		"after update 1", "before view 3", "after view 3", "before view 4", "after view 4",
	}
	for _, point := range points {
		t.Run(strings.ReplaceAll(point, " ", "-"), func(t *testing.T) {
			inKeepersWorld(t, 2, func(w *world) {
				counts := make(map[string]int)
				w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
					if r.URL.Path != firewallRulesPath {
						next.ServeHTTP(rw, r)
						return
					}
					step := map[string]string{http.MethodGet: "view", http.MethodPut: "update"}[r.Method]
					counts[step]++
					step = fmt.Sprintf("%s %d", step, counts[step])
					if point == "before "+step {
						w.addForeign("ann")
					}
					recorded := httptest.NewRecorder()
					next.ServeHTTP(recorded, r)
					if point == "after "+step {
						w.addForeign("ann")
					}
					for name, values := range recorded.Header() {
						rw.Header()[name] = values
					}
					rw.WriteHeader(recorded.Code)
					_, _ = rw.Write(recorded.Body.Bytes())
				})
				o := w.open().sync()
				defer o.close()
				o.settled(o.opened("default/web", nil, 80))
				time.Sleep(2 * time.Minute)
				o.settled(o.opened("default/web-2", nil, 81))
				time.Sleep(2 * time.Minute)
				if n := len(w.kept()); n != 2 {
					t.Errorf("%d rules are kept", n)
				}
				ours := slices.ContainsFunc(w.rules(), func(r rule) bool { return r.name() == "ann" })
				if !ours {
					lost[point] = true
				}
			})
		})
	}
	want := map[string]bool{"after view 2": true, "before update 1": true}
	if diff := cmp.Diff(want, lost); diff != "" {
		t.Errorf("lost (-want +got):\n%s", diff)
	}
}

// Whenever it is removed: the readings do not depend on what else the session has to do.
func TestWhatSomebodyRemovesIsRestoredWithinAMinute(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		before := w.rules()
		o := w.open().sync()
		defer o.close()
		o.settled(o.opened("default/web", nil, 80))
		for _, later := range []time.Duration{0, 40 * time.Minute} {
			time.Sleep(later)
			w.setRules(before)
			w.await(70*time.Second, "the rule", func() bool { return len(w.kept()) == 1 })
		}
	})
}

// Who removes our rules again and again is fought ever more seldom, and a condition says so.
func TestASecondKeeperOfTheWholeSetIsNotFought(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		before := w.rules()
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", nil, 80)
		o.settled(key)
		for range 60 {
			time.Sleep(20 * time.Second)
			w.setRules(before)
		}
		if n := w.writes(); n > 60/2 {
			t.Errorf("%d writes in 20 minutes", n)
		}
		time.Sleep(time.Minute)
		said := o.conditions(key, session.FirewallClosed)
		if len(said) != 1 || !strings.Contains(said[0], "Terraform") {
			t.Errorf("it says %q", said)
		}
		w.await(7*time.Minute, "the rule", func() bool { return len(w.kept()) == 1 })
		w.sameForeign(before)
		if n := w.metric("oxide_backend_firewall_foreign_changes_total"); n < 5 {
			t.Errorf("%v changes of others were seen", n)
		}
	})
}

// What a newer API has, and cannot be written back exactly, keeps us from writing at all.
func TestWhatCannotBeWrittenBackIsNotWritten(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		w.addForeign("ann")
		w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != firewallRulesPath || r.Method != http.MethodGet {
				next.ServeHTTP(rw, r)
				return
			}
			recorded := httptest.NewRecorder()
			r.Header.Del("Accept-Encoding")
			next.ServeHTTP(recorded, r)
			rw.Header().Set("Content-Type", "application/json")
			newer := strings.Replace(recorded.Body.String(), `"description":"Ann's"`,
				`"description":"Ann's","logging":true`, 1)
			_, _ = rw.Write([]byte(newer))
		})
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", nil, 80)
		o.settled(key)
		said := o.conditions(key, session.FirewallClosed)
		if len(said) != 1 || !strings.Contains(said[0], "the rule ann has the field logging") {
			t.Errorf("it says %q of %+v", said, o.state(key))
		}
		if n := w.writes(); n != 0 {
			t.Errorf("%d writes", n)
		}
	})
}

func TestAFullFirewallRefusesOneRuleInOneLine(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		rules := w.rules()
		for i := len(rules); i < 1024; i++ {
			rules = append(rules, foreign(fmt.Sprintf("ann-%d", i)))
		}
		w.setRules(rules)
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", nil, 80)
		o.settled(key)
		said := o.conditions(key, session.FirewallClosed)
		if len(said) != 1 || !strings.Contains(said[0], "1024 rules") || strings.Contains(said[0], "\n") {
			t.Errorf("it says %q", said)
		}
		if n := w.writes(); n != 0 {
			t.Errorf("%d writes", n)
		}
		w.setRules(rules[:1023])
		time.Sleep(3 * time.Minute)
		if n := len(w.kept()); n != 1 {
			t.Errorf("%d rules are kept once there is room", n)
		}
	})
}

func TestARuleWithOurNameAndNoMarkerIsLeftAlone(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		key := ownership.Key{Scope: scope, Name: "default/web"}
		w.addForeign(ownership.KeptRuleName(key, ownership.IPv4, 0))
		before := w.rules()
		o := w.open().sync()
		defer o.close()
		o.settled(o.opened("default/web", nil, 80))
		said := o.conditions(key, session.FirewallClosed)
		if len(said) != 1 || !strings.Contains(said[0], "without the marker") {
			t.Errorf("it says %q", said)
		}
		w.sameForeign(before)
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

// A backend that keeps no rules removes none; what is left is reported, and removed by hand.
func TestTurnedOffNothingIsRemoved(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		w.addForeign("ann")
		before := w.rules()
		o := w.open().sync()
		key := o.opened("default/web", nil, 80)
		o.settled(key)
		if _, err := w.manager.RemoveFirewallRules(w.Context(), scope,
			session.RuleSelection{All: true}, true); !session.IsReason(err, session.ReasonRuleInUse) {
			t.Errorf("rules in use: %v", err)
		}
		o.close()
		w.keepsRules = false
		w.connect()
		kept := w.kept()
		o = w.open()
		defer o.close()
		o.opened("default/web", func(d *session.Desired) { d.Published = nil }, 80)
		o.sync()
		time.Sleep(5 * time.Minute)
		if diff := cmp.Diff(kept, w.kept()); diff != "" || len(kept) != 1 {
			t.Errorf("after it was turned off: %s", diff)
		}
		o.mu.Lock()
		unused := o.unused
		o.mu.Unlock()
		if len(unused) != 1 || unused[0].Key != key || !unused[0].Orphaned {
			t.Errorf("reported: %+v", unused)
		}
		found, err := w.manager.FirewallRules(w.Context(), scope)
		if err != nil || len(found.Rules) != 1 || found.Rules[0].Name != kept[0].name() ||
			len(found.Firewalls) != 1 || found.Firewalls[0].Rules != len(before)+1 {
			t.Errorf("listed: %+v, %v", found, err)
		}
		writes := w.writes()
		for _, dryRun := range []bool{true, false} {
			removed, err := w.manager.RemoveFirewallRules(w.Context(), scope,
				session.RuleSelection{Names: []string{kept[0].name()}}, dryRun)
			if err != nil || len(removed) != 1 || removed[0].Name != kept[0].name() {
				t.Errorf("removed: %+v, %v", removed, err)
			}
			if dryRun && w.writes() != writes {
				t.Error("a dry run writes")
			}
		}
		if len(w.kept()) != 0 {
			t.Errorf("left: %v", w.kept())
		}
		w.sameForeign(before)
		if removed, err := w.manager.RemoveFirewallRules(w.Context(), scope,
			session.RuleSelection{All: true}, false); err != nil || len(removed) != 0 {
			t.Errorf("removed again: %+v, %v", removed, err)
		}
		if _, err := w.manager.FirewallRules(w.Context(), "another"); !session.IsReason(err,
			session.ReasonSessionRequired) {
			t.Errorf("of another scope: %v", err)
		}
	})
}

// A rule whose load balancer is gone without an end is an orphan: reported, and removed by hand alone.
func TestAnOrphanedRuleIsReportedAndStays(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		o := w.open().sync()
		defer o.close()
		gone := o.opened("default/gone", nil, 80)
		stays := o.opened("default/stays", nil, 81)
		o.settled(gone)
		o.settled(stays)
		o.send(session.Item{Removed: &session.Removal{Key: gone, OwnerUID: "uid-of-default-gone"}})
		time.Sleep(3 * time.Minute)
		o.mu.Lock()
		unused := o.unused
		o.mu.Unlock()
		if len(unused) != 1 || unused[0].Key != gone || len(w.kept()) != 2 {
			t.Errorf("reported: %+v, kept: %v", unused, w.kept())
		}
		removed, err := w.manager.RemoveFirewallRules(w.Context(), scope,
			session.RuleSelection{Orphaned: true}, false)
		if err != nil || len(removed) != 1 || removed[0].Key != gone || len(w.kept()) != 1 {
			t.Errorf("removed: %+v, %v", removed, err)
		}
		w.await(time.Minute, "the report", func() bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			return len(o.unused) == 0
		})
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

// metric returns the value of a metric without labels.
func (w *world) metric(name string) float64 {
	w.Helper()
	families, err := w.metrics.Gather()
	w.must(err)
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	w.Fatalf("there is no metric %s", name)
	return 0
}
