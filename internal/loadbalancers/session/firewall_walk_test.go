// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/health"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// walk is a random walk of everybody who has to do with a firewall.
type walk struct {
	*world
	*rand.Rand
	o *owner
	// ports are what each load balancer serves; absent: its rules are not kept. nodes are the candidates.
	ports map[string][]int
	nodes map[int]bool

	mu sync.Mutex
	// theirs are other people's rules as they left them; since is what they wrote since the Manager has
	// read the firewall: that is what a write of the Manager may lose.
	theirs map[string]string
	since  bool
	// failing is how many of ten requests about the firewall fail, and chance says which.
	failing int
	chance  *rand.Rand
}

// serve passes requests on, spoils some, and notes what somebody else wrote between a reading and a
// write.
func (k *walk) serve(next http.Handler, rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path != firewallRulesPath {
		next.ServeHTTP(rw, r)
		return
	}
	k.mu.Lock()
	fails, carriedOut := k.chance.IntN(10) < k.failing, k.chance.IntN(2) == 0
	k.mu.Unlock()
	if !fails || carriedOut && r.Method == http.MethodPut {
		recorded := httptest.NewRecorder()
		r.Header.Del("Accept-Encoding")
		next.ServeHTTP(recorded, r)
		k.mu.Lock()
		switch {
		case r.Method == http.MethodGet:
			k.since = false
		case k.since: // the window
			k.theirs = k.foreignNow()
		}
		k.mu.Unlock()
		if !fails {
			maps.Copy(rw.Header(), recorded.Header())
			rw.WriteHeader(recorded.Code)
			_, _ = rw.Write(recorded.Body.Bytes())
			return
		}
	}
	switch {
	case carriedOut || r.Method == http.MethodGet:
		panic(http.ErrAbortHandler)
	default:
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusInternalServerError)
		_, _ = rw.Write([]byte(`{"request_id":"x","error_code":"Internal","message":"Internal Server Error"}`))
	}
}

// foreignNow returns other people's rules.
func (k *walk) foreignNow() map[string]string {
	all := make(map[string]string)
	for _, r := range k.rules() {
		if !ownership.BearsMarker(r["description"].(string)) {
			all[r.name()] = r.text()
		}
	}
	return all
}

// step does one thing.
func (k *walk) step() string {
	number := k.IntN(4)
	name := fmt.Sprintf("default/web-%d", number)
	switch k.IntN(9) {
	case 0, 1, 2:
		ports := []int{100*number + 80 + k.IntN(3), 100*number + 90 + k.IntN(3)} // nobody else's
		off := k.IntN(5) == 0
		k.o.want(name, func(d *session.Desired) {
			d.OpenFirewall, d.Ending = !off, plan.NotEnding
			d.Sources = ruleset.Sources{}
		}, ports...)
		if k.ports[name] = ports; off {
			delete(k.ports, name)
		}
		return fmt.Sprintf("%s serves %v, off %t", name, ports, off)
	case 3:
		k.end(name)
		return name + " ends"
	case 4, 5:
		all := slices.DeleteFunc(k.rules(), func(r rule) bool { return r.name() == "ann" })
		if k.IntN(2) == 0 {
			ann := foreign("ann")
			ann["priority"] = k.IntN(100)
			all = append(all, ann)
		}
		k.setRules(all)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.theirs, k.since = k.foreignNow(), true
		return "somebody writes"
	case 6:
		k.mu.Lock()
		defer k.mu.Unlock()
		k.failing = k.IntN(3) * 3
		return fmt.Sprintf("%d of ten fail", k.failing)
	case 7:
		node := 1 + k.IntN(len(k.world.nodes)-1) // one is there always
		if k.nodes[node] = !k.nodes[node]; k.nodes[node] {
			k.o.send(session.Item{Candidate: &health.Observation{
				InstanceID: k.world.nodes[node], Name: nodeName(node), Readiness: health.Ready,
			}})
		} else {
			k.o.send(session.Item{CandidateRemoved: k.world.nodes[node]})
		}
		return fmt.Sprintf("%s is a node: %t", nodeName(node), k.nodes[node])
	}
	k.restart()
	return "the backend is started again"
}

// end ends a load balancer, and waits until it has.
func (k *walk) end(name string) {
	key := ownership.Key{Scope: scope, Name: name}
	k.o.mu.Lock()
	d := k.o.desired[key]
	k.o.mu.Unlock()
	if d == nil {
		return
	}
	k.o.want(name, func(d *session.Desired) { d.Ending = plan.EndRelease })
	k.await(10*time.Minute, "the end of "+name, func() bool { return k.o.isReleased(key) })
	k.o.mu.Lock()
	delete(k.o.desired, key)
	delete(k.o.released, key)
	k.o.mu.Unlock()
	k.o.send(session.Item{Removed: &session.Removal{Key: key, OwnerUID: d.OwnerUID}})
	delete(k.ports, name)
}

// restart starts the backend again, with everything that its client desires.
func (k *walk) restart() {
	old := k.o
	old.close()
	k.manager.Stop(k.Context())
	k.api.Close()
	k.connect()
	o := k.openNone()
	for node, is := range k.nodes {
		if is {
			o.send(session.Item{Candidate: &health.Observation{
				InstanceID: k.world.nodes[node], Name: nodeName(node), Readiness: health.Ready,
			}})
		}
	}
	old.mu.Lock()
	o.mu.Lock()
	o.desired = old.desired
	o.mu.Unlock()
	old.mu.Unlock()
	for _, d := range o.desired {
		o.send(session.Item{LoadBalancer: d})
	}
	k.o = o.sync()
}

// openNone opens a session without candidates.
func (k *walk) openNone() *owner {
	nodes := k.world.nodes
	k.world.nodes = nil
	defer func() { k.world.nodes = nodes }()
	return k.open()
}

// check compares the firewall with what it has to be once all is well.
func (k *walk) check() {
	k.Helper()
	want := make(map[string]string)
	var names []string
	for node, is := range k.nodes {
		if is {
			names = append(names, fmt.Sprintf(`{"type":"instance","value":"%s"}`, nodeName(node)))
		}
	}
	slices.Sort(names)
	for name, ports := range k.ports {
		slices.Sort(ports)
		want[name] = fmt.Sprintf(`"ports":["%d","%d"] "targets":[%s]`, ports[0], ports[1],
			strings.Join(names, ","))
	}
	got := make(map[string]string)
	for _, r := range k.kept() {
		marker, _ := ownership.ParseMarker(r["description"].(string))
		text := r.text()
		part := func(field string) string {
			_, rest, _ := strings.Cut(text, `"`+field+`":[`)
			inside, _, _ := strings.Cut(rest, "]")
			return fmt.Sprintf(`"%s":[%s]`, field, inside)
		}
		got[marker.Key.Name] += part("ports") + " " + part("targets")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		k.Errorf("kept (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(k.theirs, k.foreignNow()); diff != "" {
		k.Errorf("other people's rules (-as they left them +now):\n%s", diff)
	}
}

// Whatever everybody does at any time, in the end the rules are those that the load balancers need, and
// other people's are as they left them, but for what they wrote between a reading and its write.
func TestWhateverEverybodyDoesTheFirewallIsRightInTheEnd(t *testing.T) {
	for _, seed := range []uint64{0, 1, 2, 19} { // the last one ends where nothing can be read
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			inKeepersWorld(t, 4, func(w *world) {
				k := &walk{
					world: w, Rand: rand.New(rand.NewPCG(seed, 0)), chance: rand.New(rand.NewPCG(seed, 1)),
					ports: make(map[string][]int),
					nodes: map[int]bool{0: true, 1: true, 2: true},
				}
				k.theirs = k.foreignNow()
				w.handle(k.serve)
				k.o = k.openNone()
				k.o.close()
				k.o.desired = make(map[ownership.Key]*session.Desired)
				k.restart()
				var did []string
				for range 40 {
					did = append(did, k.step())
					time.Sleep(time.Duration(k.IntN(9000)) * time.Millisecond)
				}
				k.mu.Lock()
				k.failing = 0
				k.mu.Unlock()
				if len(k.ports) == 0 {
					k.o.opened("default/web-0", func(d *session.Desired) { d.Ending = plan.NotEnding }, 80, 90)
					k.ports["default/web-0"] = []int{80, 90}
				}
				time.Sleep(12 * time.Minute)
				k.check()
				writes := w.writes()
				time.Sleep(10 * time.Minute)
				if n := w.writes() - writes; n != 0 {
					t.Errorf("%d writes although nothing differs", n)
				}
				if t.Failed() {
					t.Logf("what was done:\n%s", strings.Join(did, "\n"))
				}
				k.o.close()
			})
		})
	}
}
