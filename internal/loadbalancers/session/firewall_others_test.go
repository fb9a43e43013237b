// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// What others do to the firewall, and what Oxide answers.

// Where the firewall cannot be written the address is published all the same, with a condition.
func TestWithoutTheFirewallTheAddressIsPublishedWithACondition(t *testing.T) {
	for name, tc := range map[string]struct {
		fault         fault
		least, within time.Duration
		says          string
	}{
		"forbidden": {
			fault{method: http.MethodPut, status: 403, code: "Forbidden"}, 0, 6 * time.Second,
			"it needs the role collaborator",
		},
		"refused": {
			fault{method: http.MethodPut, status: 400, code: "InvalidValue", message: "no"}, 0, 6 * time.Second,
			"Oxide refuses: no",
		},
		"slow": {
			fault{method: http.MethodPut, delay: time.Minute}, 10 * time.Second, 13 * time.Second,
			"have not been written yet",
		},
		"unreadable": {
			fault{method: http.MethodGet, status: 403, code: "Forbidden"}, 0, 6 * time.Second,
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
				if took < tc.least || took > tc.within {
					t.Errorf("it took %s, want %s to %s", took, tc.least, tc.within)
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

// That holds for a write that has to be repeated, too.
func TestWhatCannotBeWrittenBackEndsTheRepetition(t *testing.T) {
	inKeepersWorld(t, 2, func(w *world) {
		w.addForeign("ann")
		w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != firewallRulesPath {
				next.ServeHTTP(rw, r)
				return
			}
			recorded := httptest.NewRecorder()
			r.Header.Del("Accept-Encoding")
			next.ServeHTTP(recorded, r)
			rw.Header().Set("Content-Type", "application/json")
			text := recorded.Body.String()
			if r.Method == http.MethodPut {
				rw.WriteHeader(http.StatusInternalServerError)
				text = `{"request_id":"x","error_code":"Internal","message":"Internal Server Error"}`
			} else if w.writes() > 0 {
				text = strings.Replace(text, `"description":"Ann's"`, `"description":"Ann's","logging":true`, 1)
			}
			_, _ = rw.Write([]byte(text))
		})
		o := w.open().sync()
		defer o.close()
		key := o.opened("default/web", nil, 80)
		o.settled(key)
		time.Sleep(10 * time.Minute)
		if n := w.writes(); n != 1 {
			t.Errorf("%d writes", n)
		}
		said := o.conditions(key, session.FirewallIncomplete)
		if len(said) != 1 || !strings.Contains(said[0], "the rule ann has the field logging") {
			t.Errorf("it says %q", said)
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
