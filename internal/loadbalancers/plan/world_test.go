// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// world is a random cluster, set, and rack.
type world struct {
	*rand.Rand
	candidates []Candidate
	reserved   []ReservedPorts
	set        []*LoadBalancer
	model      *model
	occupied   map[Place]string
	inFlight   map[string]InFlight
	others     map[string]bool
	// small nodes carry two floating IPs at most.
	small bool
}

func (w *world) chance(percent int) bool { return w.IntN(100) < percent }

func newWorld(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 0)), model: newModel(nil)}
	w.small = w.chance(30)
	w.others = map[string]bool{"theirs": w.chance(50)}
	for n := range 1 + w.IntN(5) {
		c := Candidate{
			InstanceID: fmt.Sprintf("n%d", n), Rank: Rank(max(0, w.IntN(12)-9)), Backoff: w.chance(10),
		}
		if w.chance(30) {
			c.Health = Health(1 + w.IntN(3))
			c.PlanNext = c.Health == Suspect && w.chance(50)
		}
		if w.chance(20) {
			c.Used = []UsedPort{{Port: w.port(), Holder: "somebody"}}
		}
		w.candidates = append(w.candidates, c)
	}
	if w.chance(20) {
		w.reserved = []ReservedPorts{{First: 80, Last: 80, Purpose: "somebody"}}
	}
	if w.chance(20) {
		w.occupied = map[Place]string{{w.instance(), IPv4, w.port()}: "another scope"}
	}
	for i := range 1 + w.IntN(6) {
		w.addBalancer(i)
	}
	for i := range w.IntN(12) {
		w.addAddress(i)
	}
	return w
}

func (w *world) port() Port {
	return Port{Protocol: []Protocol{TCP, UDP}[w.IntN(2)], Number: 80 + w.IntN(2)}
}

func (w *world) instance() string { return fmt.Sprintf("n%d", w.IntN(5)) }

func (w *world) eligible() *Eligible {
	e := &Eligible{Instances: make(map[string]Serving), FollowsServing: w.chance(50)}
	for _, id := range []string{"n0", "n1", "n2"} {
		if w.chance(60) {
			e.Instances[id] = Serving(w.IntN(2))
		}
	}
	return e
}

func (w *world) addBalancer(i int) {
	d := &LoadBalancer{
		Key: Key{Scope: testScope, Name: fmt.Sprintf("default/svc-%d", i)}, OwnerUID: "uid",
		Created: int64(w.IntN(4)), Retain: w.chance(20), Preserve: w.chance(10), MayMove: w.chance(80),
		Ports: []Port{w.port()}, Desired: w.desired(),
	}
	if w.chance(25) {
		d.Eligible = w.eligible()
	}
	if w.chance(30) {
		d.LastPorts, d.LastPortsKnown = []Port{w.port()}, true
	}
	if w.chance(10) {
		d.Ending = Ending(1 + w.IntN(2))
	}
	w.set = append(w.set, d)
}

// desired are one to three addresses of IPv4, sometimes with one of IPv6.
func (w *world) desired() []Desired {
	source, optional := w.source(), w.chance(20)
	all := []Desired{{Family: IPv4, Source: source, Optional: optional}}
	for w.chance(25) && len(all) < 3 {
		next := source
		if source.Addr.IsValid() || source.Existing != "" {
			next = w.source()
			next.Kind = source.Kind
		}
		all = append(all, Desired{Family: IPv4, Source: next, Optional: optional})
	}
	if w.chance(30) {
		all = append(all, Desired{
			Family: IPv6, Source: Source{Kind: ownership.Kind(w.IntN(2))}, Optional: optional || w.chance(20),
		})
	}
	return all
}

func (w *world) source() Source {
	if w.chance(20) {
		return []Source{
			{Kind: ExternalSubnet}, {Kind: ExternalSubnet, Pool: "s"},
			{Kind: ExternalSubnet, Existing: fmt.Sprintf("ip-%d", w.IntN(12))},
		}[w.IntN(3)]
	}
	return []Source{
		{}, {}, {}, {Pool: "p"}, {Pool: "gone"}, {Existing: fmt.Sprintf("ip-%d", w.IntN(12))},
		{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + w.IntN(12))})},
	}[w.IntN(7)]
}

// addAddress adds a floating IP: marked, of the existing CCM, with a lost marker, released, of
// another cluster, or of a user; on a node or elsewhere; published or not.
func (w *world) addAddress(i int) {
	b := w.set[w.IntN(len(w.set))]
	a := Address{
		ID: fmt.Sprintf("ip-%d", i), Name: fmt.Sprintf("name-%d", i), PoolID: "pool-1",
		Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), Created: int64(i),
	}
	marker := Marker{Key: b.Key, OwnerUID: "uid", Family: IPv4, Source: "default", Retained: w.chance(10)}
	if w.chance(20) {
		a.Addr, marker.Family = netip.AddrFrom16([16]byte{0: 0x20, 15: byte(i + 1)}), IPv6
	}
	if w.chance(20) {
		a.Kind, a.Larger, marker.Source = ExternalSubnet, w.chance(10), Source{Kind: ExternalSubnet}.String()
	}
	switch w.IntN(9) {
	case 0, 1, 2, 3:
		a.Description = marker.String()
	case 4:
		a.Description, a.Name = ownership.LegacyDescription, ownership.LegacyName("kubernetes", b.Key)
	case 5:
		a.Name = nameOf(b.Key, marker.Family, Source{Kind: a.Kind})
		a.Description = []string{"", ownership.MarkerPrefix + "?", "mine"}[w.IntN(3)]
	case 6:
		marker.Key.Scope = []string{"cluster-0", "cluster-9"}[w.IntN(2)]
		a.Description = marker.String()
	case 7:
		a.Description = "a user's"
	case 8:
		a.Name = nameOf(b.Key, marker.Family, Source{Kind: a.Kind})
		a.Description, _ = ownership.WithReleased("", b.Key)
	}
	for _, f := range w.model.found {
		if f.Name == a.Name && f.Kind == a.Kind {
			return // Oxide has no name twice
		}
	}
	if w.chance(70) {
		a.InstanceID = []string{"n0", "n1", "n2", "n3", "n8", "theirs"}[w.IntN(6)]
	}
	w.publishOf(b, a)
	w.model.found[a.ID] = a
	if w.chance(15) {
		b.Announced = map[string]string{a.ID: w.instance()}
	}
}

func (w *world) publishOf(b *LoadBalancer, a Address) {
	if !w.chance(60) {
		return
	}
	b.Published = append(b.Published, a.Addr)
	if a.Kind == ExternalSubnet {
		return
	}
	var n int
	if _, err := fmt.Sscanf(a.InstanceID, "n%d", &n); err == nil {
		b.Published = append(b.Published, netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}),
			netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(n)}))
	}
}

// input is what the world looks like, in any order; n8 was a node once.
func (w *world) input(change ...func(*Input)) *Input {
	found, set := w.model.ips(), slices.Clone(w.set)
	w.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	w.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
	in := input(found, set)
	in.Candidates, in.Reserved = slices.Clone(w.candidates), w.reserved
	w.Shuffle(len(in.Candidates), func(i, j int) {
		in.Candidates[i], in.Candidates[j] = in.Candidates[j], in.Candidates[i]
	})
	in.LegacyName, in.Adopted = "kubernetes", []string{"cluster-0"}
	in.FormerCandidates = map[string]bool{"n8": true, "n9": true}
	in.Occupied, in.InFlight, in.OthersCandidates = w.occupied, w.inFlight, w.others
	if w.small {
		for id, instance := range in.Instances {
			instance.Ephemeral = maxExternalIPs - natIPs - 2
			in.Instances[id] = instance
		}
	}
	for _, edit := range change {
		edit(in)
	}
	return in
}

// publish makes the owners publish what their load balancers have, as their owner does.
func (w *world) publish(r *Result) {
	for _, p := range r.LoadBalancers {
		lb := p.LoadBalancer
		if p.Problem != nil || lb.Ending != NotEnding {
			continue
		}
		lb.Published = nil
		for _, c := range p.Claims {
			if c.Target == "" || c.Address == nil {
				continue
			}
			lb.Published = append(lb.Published, c.Address.Addr)
			if c.Address.Kind == ExternalSubnet {
				continue
			}
			var n int
			if _, err := fmt.Sscanf(c.Target, "n%d", &n); err == nil {
				lb.Published = append(lb.Published, netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}))
			}
		}
	}
}

// happen makes something happen to the world: health changes, ports and sources are edited, load
// balancers go, moves are announced.
func (w *world) happen() {
	for i := range w.candidates {
		if w.chance(30) {
			c := &w.candidates[i]
			c.Health = Health(w.IntN(4))
			c.PlanNext = c.Health == Suspect && w.chance(50)
		}
	}
	for _, d := range w.set {
		d.LastPorts, d.LastPortsKnown, d.Announced = d.Ports, true, nil
		switch w.IntN(10) {
		case 0:
			d.Ports = []Port{w.port()}
		case 1:
			d.Desired = w.desired()
		case 2:
			d.Eligible = w.eligible()
		case 3:
			d.Preserve = !d.Preserve
		case 4:
			d.Announced = map[string]string{"made-1": w.instance(), "ip-1": w.instance(), "ip-2": w.instance()}
		}
	}
	if len(w.set) > 1 && w.chance(20) {
		w.set = w.set[1:]
	}
}
