// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package rules_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// What Oxide shows otherwise than it was written, and what others write.

// In whatever way Oxide writes what it stores, what was written is recognized, and not written again.
func TestWhatOxideWritesOtherwiseIsRecognized(t *testing.T) {
	d := desired()
	need := ruleset.Need{
		Key: ownership.Key{Scope: scope, Name: "default/web"}, OwnerUID: "u",
		Families: []ownership.Family{ownership.IPv4, ownership.IPv6},
		Ports: []firewall.Port{
			{Protocol: firewall.TCP, Number: 80}, {Protocol: firewall.TCP, Number: 81},
			{Protocol: firewall.UDP, Number: 80}, {Protocol: firewall.UDP, Number: 81},
		},
		Sources: ruleset.ParseSources([]string{"10.0.0.0/8", "203.0.113.7/32", "2001:db8::/32"}),
	}
	targets := []firewall.Match{{Type: "instance", Value: "node-1"}, {Type: "instance", Value: "node-2"}}
	d.Rules["default/web"] = need.Rules(targets, 1000)
	edit := func(rule map[string]any, list string, change func([]any) []any) {
		filters := rule["filters"].(map[string]any)
		if all, has := filters[list].([]any); has {
			filters[list] = change(all)
		}
		if all, has := rule[list].([]any); has {
			rule[list] = change(all)
		}
	}
	values := func(pairs ...string) func([]any) []any {
		return func(all []any) []any {
			for _, one := range all {
				match := one.(map[string]any)
				if at := slices.Index(pairs, fmt.Sprint(match["value"])); at >= 0 {
					match["value"] = pairs[at+1]
				}
			}
			return all
		}
	}
	for name, shows := range map[string]func(rule map[string]any){
		"as it is": func(map[string]any) {},
		"in another order": func(rule map[string]any) {
			for _, list := range []string{"hosts", "ports", "protocols", "targets"} {
				edit(rule, list, func(all []any) []any { slices.Reverse(all); return all })
			}
		},
		"ports one by one": func(rule map[string]any) {
			edit(rule, "ports", func([]any) []any { return []any{"80", "81"} })
		},
		"with host bits": func(rule map[string]any) {
			edit(rule, "hosts", values("10.0.0.0/8", "10.9.8.7/8"))
		},
		"IPv6 in full": func(rule map[string]any) {
			edit(rule, "hosts", values("2001:db8::/32", "2001:0DB8:0000:0000:0000:0000:0000:0000/32"))
		},
		"IPv4 in IPv6": func(rule map[string]any) {
			edit(rule, "hosts", values("10.0.0.0/8", "::ffff:10.0.0.0/104"))
		},
		"a host as an address": func(rule map[string]any) {
			edit(rule, "hosts", func(all []any) []any {
				for _, one := range all {
					if match := one.(map[string]any); match["value"] == "203.0.113.7/32" {
						match["type"], match["value"] = "ip", "203.0.113.7"
					}
				}
				return all
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.rewrite(func(rule map[string]any) {
					if ownership.BearsMarker(rule["description"].(string)) {
						shows(rule)
					}
				})
				w.desireAll(d)
				for range 60 {
					time.Sleep(time.Minute)
					w.isSettled()
				}
				w.hasWritten(1)
			})
		})
	}
}

// rewrite has the rack show rules otherwise.
func (w *world) rewrite(shows func(rule map[string]any)) {
	w.rewriteAll(func(all []map[string]any) []map[string]any {
		for _, rule := range all {
			shows(rule)
		}
		return all
	})
}

func (w *world) rewriteAll(shows func([]map[string]any) []map[string]any) {
	w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			next.ServeHTTP(rw, r)
			return
		}
		r.Header.Del("Accept-Encoding")
		recorded := httptest.NewRecorder()
		next.ServeHTTP(recorded, r)
		var answer struct {
			Rules []map[string]any `json:"rules"`
		}
		if err := json.Unmarshal(recorded.Body.Bytes(), &answer); err != nil {
			w.Error(err)
		}
		answer.Rules = shows(answer.Rules)
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(answer)
	})
}

// Where Oxide shows what cannot be written back as it is, nothing is written, whoever asks.
func TestWhatCannotBeWrittenBackBlocksEveryWrite(t *testing.T) {
	for name, tc := range map[string]struct {
		shows func([]map[string]any) []map[string]any
		says  string
	}{
		"ports of another form": {func(all []map[string]any) []map[string]any {
			all[2]["filters"].(map[string]any)["ports"] = []any{map[string]any{"first": 22}}
			return all
		}, `has the filters.ports [{"first":22}]`},
		"a value of another form": {func(all []map[string]any) []map[string]any {
			all[1]["targets"] = []any{map[string]any{"type": "vpc", "value": map[string]any{"id": "x"}}}
			return all
		}, "value of the type vpc in its targets"},
		"two rules of one name": {func(all []map[string]any) []map[string]any {
			return append(all, map[string]any{
				"name": "allow-ssh", "description": "", "status": "enabled", "direction": "inbound",
				"action": "allow", "priority": 1, "targets": []any{}, "filters": map[string]any{},
			})
		}, "two rules named allow-ssh"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.desire(nameOf(1))
				time.Sleep(10 * time.Second)
				before := w.rules()
				w.rewriteAll(tc.shows)
				w.desire(nameOf(1), nameOf(2))
				time.Sleep(10 * time.Minute)
				if err := w.state().Problem(); err == nil || !strings.Contains(err.Error(), tc.says) ||
					strings.Contains(err.Error(), "\n") {
					t.Errorf("it says %v, want %q", err, tc.says)
				}
				w.keeper.Desire(scope, nil, time.Now())
				removed, err := w.keeper.Remove(context.Background(), w.vpc, everything)
				if err == nil || !strings.Contains(err.Error(), tc.says) || len(removed) > 0 {
					t.Errorf("removed %+v, %v", removed, err)
				}
				w.hasWritten(1)
				if diff := cmp.Diff(before, w.rules()); diff != "" {
					t.Errorf("the rules (-before +after):\n%s", diff)
				}
				w.heal()
				w.desire(nameOf(1), nameOf(2))
				time.Sleep(2 * time.Minute)
				w.state()
				time.Sleep(10 * time.Second)
				w.hasKept(nameOf(1), nameOf(2))
			})
		})
	}
}

// Somebody else writes at every point between the Keeper's steps, whatever those are: what is lost is
// what they write between a reading and the write that follows.
func TestOthersLoseNothingButBetweenAReadingAndItsWrite(t *testing.T) {
	for name, by := range map[string]func(w *world){
		"a change": func(w *world) { w.desire(nameOf(2)) },
		"a removal by hand": func(w *world) {
			w.keeper.Desire(scope, nil, time.Now())
			_, err := w.keeper.Remove(context.Background(), w.vpc, everything)
			if err != nil {
				w.Error(err)
			}
		},
		"a write that is repeated": func(w *world) {
			d := desired(nameOf(1))
			d.Rules[nameOf(3)] = desired(nameOf(3)).Rules[nameOf(3)]
			w.desireAll(d)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for point := range 10 {
				inWorld(t, func(w *world) {
					w.desire(nameOf(1))
					time.Sleep(time.Minute / 2)
					var requests, writes atomic.Int64
					methods := make([]string, 0, 10)
					w.handle(func(next http.Handler, rw http.ResponseWriter, r *http.Request) {
						number := int(requests.Add(1)) - 1
						methods = append(methods, r.Method)
						if point == 2*number {
							w.addForeign()
						}
						recorded := httptest.NewRecorder()
						next.ServeHTTP(recorded, r)
						if point == 2*number+1 {
							w.addForeign()
						}
						if name == "a write that is repeated" && r.Method == http.MethodPut && writes.Add(1) == 1 {
							recorded = httptest.NewRecorder()
							recorded.Code = http.StatusInternalServerError
						}
						for header, values := range recorded.Header() {
							rw.Header()[header] = values
						}
						rw.WriteHeader(recorded.Code)
						_, _ = rw.Write(recorded.Body.Bytes())
					})
					by(w)
					time.Sleep(time.Minute)
					w.state()
					time.Sleep(time.Minute)
					synctest.Wait()
					isThere := slices.ContainsFunc(w.rules(), func(r map[string]any) bool { return r["name"] == "ann" })
					at := point / 2
					if at >= len(methods) {
						return // there are no more steps
					}
					window := point%2 == 0 && at < len(methods) && methods[at] == http.MethodPut ||
						point%2 == 1 && at+1 < len(methods) && methods[at] == http.MethodGet &&
							methods[at+1] == http.MethodPut
					if isThere == window {
						t.Errorf("point %d of %q: is it there: %t", point, methods, isThere)
					}
				})
			}
		})
	}
}

// addForeign adds a rule of somebody else.
func (w *world) addForeign() {
	w.Helper()
	w.setRules(append(w.rules(), map[string]any{
		"name": "ann", "description": "", "status": "disabled", "direction": "outbound", "action": "deny",
		"priority": 3, "targets": []any{}, "filters": map[string]any{"hosts": nil, "ports": []any{}},
	}))
}
