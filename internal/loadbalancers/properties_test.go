// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// world is a random cluster, set, and rack.
type world struct {
	*rand.Rand
	cluster Cluster
	set     []Desired
	model   *model
	held    map[Key][]Port
	// small nodes carry two floating IPs at most.
	small bool
	// full is how many each node carried at the beginning.
	full map[string]int
}

func (w *world) chance(percent int) bool { return w.IntN(100) < percent }

func newWorld(seed uint64) *world {
	w := &world{
		Rand: rand.New(rand.NewPCG(seed, 0)), model: newModel(nil), held: make(map[Key][]Port),
		full: make(map[string]int),
	}
	w.small = w.chance(30)
	w.cluster = Cluster{Scope: testScope, LegacyName: "kubernetes", Adopted: []string{"cluster-0"}}
	for n := range 1 + w.IntN(5) {
		c := Candidate{InstanceID: fmt.Sprintf("n%d", n), Avoid: w.chance(10)}
		if w.chance(30) {
			c.Health = Health(1 + w.IntN(2))
		}
		if w.chance(20) {
			c.Used = []UsedPort{{Port: w.port(), Holder: "somebody"}}
		}
		w.cluster.Candidates = append(w.cluster.Candidates, c)
	}
	if w.chance(20) {
		w.cluster.Reserved = []ReservedPorts{{First: 80, Last: 80, Purpose: "somebody"}}
	}
	for i := range 1 + w.IntN(6) {
		w.addBalancer(i)
	}
	for i := range w.IntN(12) {
		w.addAddress(i)
	}
	for _, f := range w.model.facts {
		w.full[f.InstanceID]++
	}
	return w
}

func (w *world) port() Port {
	return Port{[]Protocol{TCP, UDP}[w.IntN(2)], 80 + w.IntN(2)}
}

func (w *world) addBalancer(i int) {
	d := Desired{
		Key: Key{Scope: testScope, Name: fmt.Sprintf("default/svc-%d", i)}, OwnerUID: "uid",
		Created: time.Unix(int64(w.IntN(4)), 0), Retain: w.chance(20), Hold: w.chance(10),
		Ports: []Port{w.port()}, Wanted: []Wanted{{Family: IPv4, Source: w.source()}},
	}
	if w.chance(30) {
		d.Wanted = append(d.Wanted, Wanted{Family: IPv6})
	}
	if w.chance(20) {
		d.Eligible = map[string]bool{"n0": w.chance(50), "n1": w.chance(50), "n2": w.chance(50)}
	}
	if w.chance(30) {
		w.held[d.Key] = []Port{w.port()}
	}
	w.set = append(w.set, d)
}

func (w *world) source() Source {
	return []Source{
		{}, {}, {}, {Pool: "p"}, {Pool: "gone"}, {Existing: fmt.Sprintf("ip-%d", w.IntN(12))},
		{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + w.IntN(12))})},
	}[w.IntN(7)]
}

// addAddress adds a floating IP: marked, of the existing CCM, with a lost marker, of another cluster,
// or of a user; on a node or elsewhere; published or not.
func (w *world) addAddress(i int) {
	b := &w.set[w.IntN(len(w.set))]
	ip := oxide.FloatingIP{
		ID: fmt.Sprintf("ip-%d", i), Name: fmt.Sprintf("name-%d", i), PoolID: "pool-1",
		Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), TimeCreated: time.Unix(int64(i), 0),
	}
	marker := Marker{
		Key: b.Key, OwnerUID: "uid", Family: IPv4, Source: "default", Retained: w.chance(10),
	}
	if w.chance(20) {
		ip.Addr = netip.AddrFrom16([16]byte{0: 0x20, 15: byte(i + 1)})
		marker.Family = IPv6
	}
	switch w.IntN(8) {
	case 0, 1, 2, 3:
		ip.Description = marker.String()
	case 4:
		ip.Description, ip.Name = legacyDescription, legacyName("kubernetes", b.Key)
	case 5:
		ip.Name = nameOf(b.Key, Wanted{Family: marker.Family})
		ip.Description = []string{"", markerPrefix + "?", "mine"}[w.IntN(3)]
	case 6:
		marker.Key.Scope = []string{"cluster-0", "cluster-9"}[w.IntN(2)]
		ip.Description = marker.String()
	case 7:
		ip.Description = "a user's"
	}
	for _, f := range w.model.facts {
		if f.Name == ip.Name {
			return // Oxide has no name twice
		}
	}
	if w.chance(70) {
		ip.InstanceID = []string{"n0", "n1", "n2", "n3", "n8", "theirs"}[w.IntN(6)]
	}
	if w.chance(60) {
		b.Published = append(b.Published, ip.Addr)
		var n int
		if _, err := fmt.Sscanf(ip.InstanceID, "n%d", &n); err == nil {
			b.Published = append(b.Published, netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}),
				netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(n)}))
		}
	}
	w.model.facts[ip.ID] = newFact(ip)
}

// plan plans the world; n8 was a node once.
func (w *world) plan() *planner {
	found, set := w.model.ips(), slices.Clone(w.set)
	w.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	w.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
	c := w.cluster
	c.Candidates = slices.Clone(c.Candidates)
	w.Shuffle(len(c.Candidates), func(i, j int) {
		c.Candidates[i], c.Candidates[j] = c.Candidates[j], c.Candidates[i]
	})
	return planned(found, c, set, func(p *planner) {
		for n := range 8 {
			delete(p.nodes, fmt.Sprintf("n%d", n))
		}
		for key, ports := range w.held {
			p.held[key] = ports
		}
		if w.small {
			for id, e := range p.facts.endpoints {
				e.Ephemeral = maxExternalIPs - len(e.Addrs) - 2
				p.facts.endpoints[id] = e
			}
		}
	})
}

// publish makes the owners publish what their load balancers have, as the shim does.
func (w *world) publish(p *planner) {
	for i := range w.set {
		want := &w.set[i]
		for _, b := range p.balancers {
			if b.want.Key != want.Key || b.problem != nil {
				continue
			}
			want.Published = nil
			for _, c := range b.claims {
				if c.target != "" && c.ip != nil {
					want.Published = append(want.Published, c.ip.Addr,
						p.facts.privateAddr(c.target, c.wanted.Family))
				}
			}
		}
	}
}

// happen makes something happen to the world: health changes, ports and wishes are edited, load
// balancers go.
func (w *world) happen() {
	for i := range w.cluster.Candidates {
		if w.chance(30) {
			w.cluster.Candidates[i].Health = Health(w.IntN(3))
		}
	}
	for i := range w.set {
		d := &w.set[i]
		w.held[d.Key] = d.Ports
		switch w.IntN(10) {
		case 0:
			d.Ports = []Port{w.port()}
		case 1:
			d.Wanted[0].Source = w.source()
		case 2:
			d.Eligible = map[string]bool{"n0": w.chance(50), "n1": w.chance(50)}
		case 3:
			d.Hold = !d.Hold
		}
	}
	if len(w.set) > 1 && w.chance(20) {
		w.set = w.set[1:]
	}
}

// Whatever there is, is wanted, and happens, plans keep the promises.
func TestPropertiesOfPlans(t *testing.T) {
	const worlds = 700
	for seed := range uint64(worlds) {
		w := newWorld(seed)
		for range 3 {
			w.converge(t)
			w.happen()
		}
		if t.Failed() {
			t.Fatalf("with the seed %d", seed)
		}
	}
}

// maxRounds is how many plans it may take: one mostly, one more for a place that another address had to
// leave first, and for what is told apart only by what is published after that.
const maxRounds = 4

// converge plans, and carries the plans out, until there is nothing to do any more.
func (w *world) converge(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff(summary(w.plan()), summary(w.plan())); diff != "" {
		t.Errorf("another order gives another plan:\n%s", diff)
	}
	for round := range maxRounds {
		p := w.plan()
		checkPlan(t, w, p)
		before := w.model.ips()
		n := w.model.apply(t, p)
		checkRack(t, w, before, p)
		if n == 0 {
			break
		}
		if round == maxRounds-1 {
			t.Errorf("not converged: %v", summary(p))
		}
		if w.chance(80) {
			w.publish(p)
		}
	}
}

func summary(p *planner) []string {
	var all []string
	for _, b := range p.balancers {
		all = append(all, fmt.Sprint(b.want.Key, briefly(b), b.problem, b.conditions))
	}
	return all
}

// checkPlan checks what a plan may do at all.
func checkPlan(t *testing.T, w *world, p *planner) {
	t.Helper()
	for _, b := range p.balancers {
		families := make(map[Family]bool)
		for _, c := range b.claims {
			if families[c.wanted.Family] {
				t.Errorf("%s has two addresses of IP%s", b.want.Key, c.wanted.Family)
			}
			families[c.wanted.Family] = true
			checkMove(t, w, p, c)
		}
		for _, a := range b.releases {
			f := p.facts.ips[a.ID]
			other := p.publisherOf(f.Addr, b)
			switch {
			case a.Type != Detach && !p.isOwn(f, b.want.Key):
				t.Errorf("%s of %+v, which is not of %s", a.Type, f, b.want.Key)
			case a.Type == Delete && other != nil:
				t.Errorf("%s deletes %s, which %s publishes", b.want.Key, a.ID, other.want.Key)
			case a.Type == Delete && f.Marker.Key.Scope != testScope:
				t.Errorf("%s deletes %s of the scope %s", b.want.Key, a.ID, f.Marker.Key.Scope)
			case !p.isHome(b, f):
				t.Errorf("%s of %s, which is on %s", a.Type, a.ID, f.InstanceID)
			}
		}
	}
}

// checkMove checks that nothing moves that may stay.
func checkMove(t *testing.T, w *world, p *planner, c *claim) {
	t.Helper()
	current := c.current()
	if current == "" || c.target == current {
		return
	}
	if p.mayStay(c) && p.holderOf(c, current) == "" {
		t.Errorf("%s leaves %s for %q, where it may stay", c.ip.ID, current, c.target)
	}
	if c.target == "" && p.holderOf(c, current) == "" {
		t.Errorf("%s is taken off %s for nothing", c.ip.ID, current)
	}
	if !p.isOurPlace(c.of, c.ip) {
		t.Errorf("%s is taken off %s", c.ip.ID, current)
	}
}

// checkRack checks what a plan made of the rack.
func checkRack(t *testing.T, w *world, before ips, p *planner) {
	t.Helper()
	taken, on := make(map[place]string), make(map[string]int)
	for _, f := range w.model.facts {
		on[f.InstanceID]++
	}
	for _, b := range p.balancers {
		for _, c := range b.claims {
			if c.target == "" || c.frozen {
				continue
			}
			for _, at := range places(c.target, c.wanted.Family, b.want.Ports) {
				if holder, is := taken[at]; is && holder != b.want.Key.Name {
					t.Errorf("%s and %s are both at %+v", holder, b.want.Key, at)
				}
				taken[at] = b.want.Key.Name
			}
			if room := p.room(c.target); c.target != c.current() && on[c.target] > room {
				t.Errorf("%s carries %d floating IPs, %d are allowed", c.target, on[c.target], room)
			}
		}
	}
	for _, f := range before {
		now, is := w.model.facts[f.ID]
		theirs := f.Marked && f.Marker.Key.Scope == "cluster-9"
		if theirs && (!is || now != f) {
			t.Errorf("another cluster's %+v became %+v", f, now)
		}
		if !bearsMarker(f.Description) && f.Description == "a user's" &&
			(!is || now.Description != f.Description) {
			t.Errorf("a user's %+v became %+v", f, now)
		}
		if is && now.Name != f.Name {
			t.Errorf("%s was renamed", f.ID)
		}
	}
}
