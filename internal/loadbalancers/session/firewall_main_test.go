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

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
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
