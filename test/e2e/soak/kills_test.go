// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package soak

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// timeScale makes 30 seconds 600 milliseconds: one kill follows the other.
	timeScale = "--load-balancer-time-scale=0.02"
	// workLimit is how long a backend may have nothing to do before it is killed all the same.
	workLimit = 15 * time.Second
)

// changing are the requests to the rack that change something.
var changing = []string{
	"floating_ip_create", "floating_ip_update", "floating_ip_delete", "floating_ip_attach",
	"floating_ip_detach",
}

// Services are created, moved, changed and deleted, and again and again the backend is killed in
// the middle of that. In the end there are exactly the addresses that are desired, each attached
// once.
func TestTheBackendIsKilled(t *testing.T) {
	const soak = "backend killed"
	w := newWorld(t, options{
		backend: []string{timeScale}, shim: []string{timeScale, "--node-monitor-period=1s"},
	})
	p := newPeople(w)
	p.everythingOnce()
	before := w.rested(firstRest)
	nodes, shim := p.uids(), w.ccm.Shim
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- p.run(ctx) }()
	working := 0
	for n := 1; n <= chosen.kills; n++ {
		if w.work(1 + p.kills(n)) {
			working++
		}
		w.ccm.Backend.Kill()
		w.restartBackend()
		p.look()
		if n%10 == 0 {
			fmt.Printf("soak: killed %d of %d times\n", n, chosen.kills)
		}
	}
	cancel()
	w.must(<-done)
	p.settleForGood()
	p.look()
	for _, what := range []string{"created", "moved", "changed", "deleted"} {
		results.add(t, figure{
			soak, "changes: " + what, "", strconv.Itoa(p.made[what]), "> 0", p.made[what] > 0,
		})
	}
	state, err := w.rack.State(w.Context())
	w.must(err)
	results.count(t, soak, "kills while something was changed on the rack", working, chosen.kills)
	results.count(t, soak, "addresses, each attached once", len(state.FloatingIPs), len(p.wanted))
	results.count(t, soak, "published addresses replaced", p.replaced, 0)
	results.count(t, soak, "Nodes deleted", deleted(nodes, p.uids()), 0)
	results.count(t, soak, "ends of the shim", map[bool]int{true: 0, false: 1}[shim == w.ccm.Shim &&
		shim.Err() == nil], 0)
	p.clear()
	w.hold(soak, before)
}

// everythingOnce makes one change of each kind, and undoes it: what is only done once is done then.
func (p *people) everythingOnce() {
	p.Helper()
	for range 40 {
		p.must(p.change())
	}
	p.settleForGood()
	p.clear()
}

// clear removes all Services, and lets all kubelets speak.
func (p *people) clear() {
	p.Helper()
	p.must(p.move(""))
	for name := range p.wanted {
		p.must(p.remove(name))
	}
	clear(p.wanted)
	p.settleForGood()
	clear(p.made)
}

// kills returns how many requests after the first one the backend is killed.
func (*people) kills(n int) int { return n % 4 }

// work waits until the backend has made so many requests that change something; false if it made
// too few.
func (w *world) work(requests int) bool {
	w.Helper()
	made := w.requests(changing...)
	for deadline := time.Now().Add(workLimit); time.Now().Before(deadline); w.rest(10 * time.Millisecond) {
		if w.requests(changing...) >= made+requests {
			return true
		}
	}
	return false
}

// uids returns the UIDs of the Nodes, by their names.
func (w *world) uids() map[string]string {
	w.Helper()
	list, err := w.nodes().List(w.Context(), metav1.ListOptions{})
	w.must(err)
	all := make(map[string]string, len(list.Items))
	for i := range list.Items {
		all[list.Items[i].Name] = string(list.Items[i].UID)
	}
	return all
}

// deleted counts what is gone, or another one.
func deleted(was, is map[string]string) (n int) {
	for name, uid := range was {
		if is[name] != uid {
			n++
		}
	}
	return n
}
