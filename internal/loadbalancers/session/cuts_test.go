// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/session"
)

// cut is what becomes of one request for a change, and of the backend that sent it.
type cut struct {
	// carriedOut: the rack does what it is asked for; late: half a second after that backend is gone.
	carriedOut, late bool
	// restart: the backend ends before it has the answer, and another one starts. Otherwise it sees a
	// connection that was closed.
	restart bool
}

// cuts are all that can be cut.
var cuts = map[string]cut{
	"the request is lost":                             {},
	"the answer is lost":                              {carriedOut: true},
	"the backend ends before the request arrives":     {restart: true},
	"the backend ends before it has the answer":       {carriedOut: true, restart: true},
	"the backend ends, and its request arrives later": {carriedOut: true, late: true, restart: true},
}

// cutter counts the requests for changes, cuts one of them, and checks each attachment.
type cutter struct {
	mu sync.Mutex
	o  *owner
	// sent are the requests since it was told to count; number is the one to cut, from 1; 0: none.
	counting     bool
	sent, number int
	cut          cut
	// reached is closed when that request is.
	reached chan struct{}
}

// changedKind is the kind of resource that a request would change; empty: it changes none.
func changedKind(r *http.Request) string {
	for _, kind := range []string{"floating-ips", "external-subnets"} {
		if strings.HasPrefix(r.URL.Path, "/v1/"+kind) && r.Method != http.MethodGet {
			return kind
		}
	}
	return ""
}

func (c *cutter) handle(next http.Handler, rw http.ResponseWriter, r *http.Request) {
	kind := changedKind(r)
	if kind == "" {
		next.ServeHTTP(rw, r)
		return
	}
	c.mu.Lock()
	if c.counting {
		c.sent++
	}
	now := c.counting && c.sent == c.number
	o := c.o
	c.mu.Unlock()
	if kind == "external-subnets" && path.Base(r.URL.Path) == "attach" {
		o.publishes(path.Base(path.Dir(r.URL.Path)))
	}
	if !now {
		next.ServeHTTP(rw, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	o.must(err)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if c.cut.restart {
		close(c.reached)
	}
	if c.cut.late {
		time.Sleep(500 * time.Millisecond)
	}
	if c.cut.carriedOut {
		next.ServeHTTP(httptest.NewRecorder(), r.WithContext(o.Context()))
	}
	if c.cut.restart {
		<-r.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

// publishes fails if the owner does not publish an external subnet.
func (o *owner) publishes(id string) {
	for _, e := range o.sim.ExternalSubnets() {
		if e.ID != id {
			continue
		}
		addr := netip.MustParsePrefix(e.Subnet).Addr()
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, d := range o.desired {
			if slices.Contains(d.Published, addr) {
				return
			}
		}
		o.Errorf("%s is being attached, and nobody publishes it", addr)
	}
}

// spread fails if two resources of the rack are on one node, or one is nowhere, or they are not so many of
// a kind.
func (w *world) spread(subnets, floating int) {
	w.Helper()
	on := make(map[string]bool)
	check := func(name, state, instance string) {
		if state != "attached" || on[instance] {
			w.Errorf("%s is %s to %s, beside %v", name, state, instance, on)
		}
		on[instance] = true
	}
	for _, e := range w.sim.ExternalSubnets() {
		check(e.Subnet, e.AttachState, e.InstanceID)
	}
	for _, ip := range w.sim.FloatingIPs() {
		check(ip.IP, ip.AttachState, ip.InstanceID)
	}
	if s, f := len(w.sim.ExternalSubnets()), len(w.sim.FloatingIPs()); s != subnets || f != floating {
		w.Errorf("%d external subnets and %d floating IPs, want %d and %d", s, f, subnets, floating)
	}
}

// change is what is done to a load balancer with two external subnets on four nodes.
type change struct {
	// created: it is created, so there is nothing before.
	created bool
	edit    func(*session.Desired)
	// excluded: the node of its first address is excluded.
	excluded bool
	// What is there in the end, and how many of the addresses before are there still, where they were.
	subnets, floating, kept int
}

var changes = map[string]change{
	"create": {created: true, subnets: 2},
	"move":   {excluded: true, subnets: 2, kept: 1},
	"raise": {
		edit: func(d *session.Desired) { several(3)(d); routed(d) }, subnets: 3, kept: 2,
	},
	"lower": {
		edit: func(d *session.Desired) { several(1)(d); routed(d) }, subnets: 1, kept: 1,
	},
	"change of source": {edit: several(2), floating: 2},
	"move and raise": {
		edit:     func(d *session.Desired) { several(3)(d); routed(d) },
		excluded: true, subnets: 3, kept: 1,
	},
	"change of family": {
		edit: func(d *session.Desired) {
			several(2)(d)
			d.Addresses[1].Family = ownership.IPv6
			routed(d)
		},
		subnets: 2, kept: 1,
	},
	"delete": {edit: func(d *session.Desired) { d.Ending = plan.EndRelease }},
}

// run makes the change, cuts one of its requests, and checks what is there in the end. It returns how many
// requests there were.
func (ch change) run(t *testing.T, number int, how cut) (sent int) {
	inRoutedWorld(t, 4, func(w *world) {
		c := &cutter{number: number, cut: how, reached: make(chan struct{})}
		w.handle(c.handle)
		o := w.open().sync()
		c.o = o
		count := func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.counting = true
		}
		initial := func(d *session.Desired) { several(2)(d); routed(d) }
		var key ownership.Key
		var before []session.Address
		gone := -1
		if ch.created {
			count()
			key = o.want("default/web", initial, 80)
		} else {
			key = o.want("default/web", initial, 80)
			before = o.carried(key, 2)
			if ch.floating > 0 {
				time.Sleep(time.Minute) // an address that may have replaced another is younger than its owner
			}
			count()
		}
		if ch.excluded {
			gone = w.node(before[0].Attached.InstanceID)
			o.observe(gone, excluded)
		}
		if ch.edit != nil {
			o.want("default/web", ch.edit)
		}
		if how.restart && number > 0 {
			select {
			case <-c.reached:
			case <-time.After(2 * time.Minute):
				w.Fatal("the request was not sent")
			}
			o.close()
			desired := *o.desired[key]
			w.connect()
			o = w.open()
			c.mu.Lock()
			c.o = o
			c.mu.Unlock()
			if gone >= 0 {
				o.observe(gone, excluded)
			}
			o.mu.Lock()
			o.desired[key] = &desired
			o.mu.Unlock()
			o.want("default/web", nil)
			o.sync()
		}
		defer func() { o.close() }()
		for range 300 {
			if time.Sleep(time.Second); ch.isDone(o, key) {
				break
			}
		}
		if !ch.isDone(o, key) {
			w.Fatalf("the change is not done within five minutes: %+v", o.state(key))
		}
		time.Sleep(5 * time.Second) // the rack lists what it is yet attaching as attached
		w.spread(ch.subnets, ch.floating)
		c.mu.Lock()
		sent = c.sent
		c.mu.Unlock()
		time.Sleep(time.Minute)
		w.spread(ch.subnets, ch.floating)
		c.mu.Lock()
		if c.sent != sent {
			t.Errorf("%d requests after it had settled", c.sent-sent)
		}
		c.mu.Unlock()
		kept := 0
		for _, a := range before {
			if w.subnets()[a.Addr] == a.Attached.InstanceID {
				kept++
			}
		}
		if kept != ch.kept {
			t.Errorf("%d of the addresses before are where they were, want %d", kept, ch.kept)
		}
		if ch.excluded {
			if at, is := w.subnets()[before[0].Addr]; !is || w.node(at) == gone {
				t.Errorf("the address that had to move is on node %d", w.node(at))
			}
		}
	})
	return sent
}

// isDone reports whether everything is as desired, published and there.
func (ch change) isDone(o *owner, key ownership.Key) bool {
	if desired := ch.subnets + ch.floating; desired > 0 {
		s := o.state(key)
		o.mu.Lock()
		defer o.mu.Unlock()
		return s != nil && s.Phase == session.PhaseReady && len(s.Addresses) == desired &&
			slices.Equal(o.desired[key].Published, s.Publish)
	}
	return o.isReleased(key)
}

// Whichever request for a change is cut: in the end there is what is desired, each address is attached, no
// two to one node, what had no reason to move did not, nothing is left behind, and no external subnet was
// ever attached that was not published.
func TestNoCutLeavesAnythingBehind(t *testing.T) {
	for name, ch := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := ch.run(t, 0, cut{})
			if n == 0 || t.Failed() {
				t.Fatalf("%d requests without a cut", n)
			}
			t.Logf("%d requests", n)
			for how, cut := range cuts {
				for number := 1; number <= n; number++ {
					t.Run(fmt.Sprintf("%s/%d of %d", how, number, n), func(t *testing.T) {
						ch.run(t, number, cut)
					})
				}
			}
		})
	}
}
