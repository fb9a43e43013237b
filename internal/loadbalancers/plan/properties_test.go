// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
)

// Whatever there is, is desired, and happens, plans keep the promises.
func TestPropertiesOfPlans(t *testing.T) {
	worlds := uint64(1500)
	if raceEnabled || testing.Short() {
		worlds = 400
	}
	for seed := range worlds {
		checkWorld(t, seed)
	}
	// Of two edited load balancers in one place the older one stays, because of what is on its way.
	checkWorld(t, 2207)
}

func checkWorld(t *testing.T, seed uint64) {
	t.Helper()
	w := newWorld(seed)
	for range 3 {
		w.converge(t)
		w.happen()
	}
	if t.Failed() {
		t.Fatalf("with the seed %d", seed)
	}
}

// maxRounds is how many plans it may take: one mostly, one more for a place that another address
// had to leave first, and for what is distinguished only by what is published after that; each of
// several addresses may have to wait for that.
const maxRounds = 6

// converge plans, and carries the plans out, until there is nothing to do any more.
func (w *world) converge(t *testing.T) {
	t.Helper()
	if diff := gocmp.Diff(summary(Make(w.input())), summary(Make(w.input()))); diff != "" {
		t.Errorf("another order gives another plan:\n%s", diff)
	}
	w.checkWhatIsOnItsWay(t)
	w.checkMessages(t, Make(w.input()))
	for round := range maxRounds {
		in := w.input()
		r := Make(in)
		w.checkPlan(t, in, r)
		before := w.model.ips()
		n := w.model.apply(t, r)
		w.checkRack(t, in, before, r)
		if n == 0 {
			break
		}
		if round == maxRounds-1 {
			t.Errorf("not converged: %v", summary(r))
		}
		if w.chance(80) {
			w.publish(r)
		}
		w.set = slices.DeleteFunc(w.set, func(lb *LoadBalancer) bool { return r.ByKey[lb.Key].Ended })
	}
	w.checkJoin(t)
}

func summary(r *Result) []string {
	all := []string{fmt.Sprint(r.Loads)}
	for _, p := range r.LoadBalancers {
		all = append(all, fmt.Sprint(p.LoadBalancer.Key, briefly(p), p.Problem, p.Conditions, p.IsForeign(),
			p.Ended))
		for _, c := range p.Claims {
			all = append(all, fmt.Sprint(c.Target, " ", c.Next, " ", c.Blocked, " ", c.Why))
		}
	}
	return all
}

// checkPlan checks what a plan may do at all.
func (w *world) checkPlan(t *testing.T, in *Input, r *Result) {
	t.Helper()
	for _, p := range r.LoadBalancers {
		checkCount(t, p)
		for _, c := range p.Claims {
			w.checkMove(t, in, r, p, c)
		}
		for _, release := range p.Releases {
			a := release.Address
			for _, q := range r.LoadBalancers {
				if q != p && q.LoadBalancer.Ending == NotEnding && q.LoadBalancer.Publishes(a.Addr) &&
					release.End == EndsDeleted {
					t.Errorf("%s deletes %s, which %s publishes", p.LoadBalancer.Key, a.ID, q.LoadBalancer.Key)
				}
			}
			if release.End != EndsDetached && a.Description != ownership.LegacyDescription &&
				a.Marker.Key.Name != p.LoadBalancer.Key.Name {
				t.Errorf("%s ends %+v", p.LoadBalancer.Key, a)
			}
		}
	}
}

// checkCount checks that a load balancer has as many addresses as are desired, each on another instance,
// unless that is not known. What it had before it asked for what it cannot have, or what has no place,
// stays beside the others.
func checkCount(t *testing.T, p *Planned) {
	t.Helper()
	if p.LoadBalancer.Preserve {
		return
	}
	desired := make(map[Family]int)
	for _, d := range p.LoadBalancer.Desired {
		desired[d.Family]++
	}
	on := make(map[string]bool)
	waits := p.Problem != nil || slices.ContainsFunc(p.Claims, func(c *Claim) bool {
		return c.Target == "" || c.Frozen
	})
	for _, c := range p.Claims {
		family := c.Desired.Family
		if desired[family]--; desired[family] < 0 && (!waits || c.Address == nil) {
			t.Errorf("%s has too many addresses of IP%s", p.LoadBalancer.Key, family)
		}
		at := string(family) + c.Target
		if on[at] && c.Target != "" && !c.Frozen {
			t.Errorf("%s has two addresses of IP%s on %s", p.LoadBalancer.Key, family, c.Target)
		}
		on[at] = true
	}
}

// checkMove checks that nothing moves that may stay.
func (w *world) checkMove(t *testing.T, in *Input, r *Result, p *Planned, c *Claim) {
	t.Helper()
	current := c.Current()
	if current == "" || c.Target == current {
		return
	}
	at := slices.IndexFunc(in.Candidates, func(n Candidate) bool { return n.InstanceID == current })
	lb := p.LoadBalancer
	mayStay := at >= 0 && in.Candidates[at].Health <= Suspect
	if lb.Eligible != nil {
		serving, ok := lb.Eligible.Instances[current]
		mayStay = mayStay && ok && (serving == IsServing || !lb.Eligible.FollowsServing)
	}
	holder := ""
	for _, port := range portsOf(p, c) {
		place := Place{current, c.Desired.Family, port}
		holder = in.Occupied[place]
		for _, q := range r.LoadBalancers {
			if q != p && slices.Contains(q.LoadBalancer.Ports, port) && hasPlace(in, q, place) {
				holder = q.LoadBalancer.Key.Name
			}
		}
		if holder != "" {
			break
		}
	}
	for _, other := range p.Claims {
		if other != c && other.Desired.Family == c.Desired.Family && other.Target == current {
			holder = "itself"
		}
	}
	if mayStay && holder == "" {
		t.Errorf("%s leaves %s for %q, where it may stay", c.Address.ID, current, c.Target)
	}
	if c.Target == "" && holder == "" {
		t.Errorf("%s is taken off %s for nothing", c.Address.ID, current)
	}
	begun := lb.Announced[c.Address.ID] != "" // then it was proven before
	proven := begun || !lb.Publishes(c.Address.Addr) || c.Address.Marker.Key.Scope == "cluster-0"
	if c.Address.Kind == ExternalSubnet {
		proven = c.Address.Marker.Key.Scope == "cluster-0" || c.Address.Marked && !in.OthersCandidates[current]
	}
	if current == "theirs" && !proven {
		t.Errorf("%s is taken off %s", c.Address.ID, current)
	}
}

func portsOf(p *Planned, c *Claim) []Port {
	if c.Address.Kind == ExternalSubnet {
		return nil
	}
	return p.LoadBalancer.Ports
}

// hasPlace reports whether an address of a load balancer is at a place, or will be. One that is about to
// leave it was there first, maybe.
func hasPlace(in *Input, p *Planned, place Place) bool {
	for _, addr := range p.LoadBalancer.Published {
		a := in.Addresses.ByAddr(addr)
		if a != nil && a.Kind == FloatingIP && a.Family() == place.Family && a.InstanceID == place.Instance {
			return true
		}
	}
	for _, c := range p.Claims {
		takes := c.Target == place.Instance || c.Next == place.Instance || c.Current() == place.Instance
		if c.Kind() == FloatingIP && c.Desired.Family == place.Family && takes {
			return true
		}
	}
	for _, release := range p.Releases {
		if release.Address.Family() == place.Family && release.Address.InstanceID == place.Instance {
			return true
		}
	}
	for _, kept := range p.Kept {
		if kept.Family() == place.Family && kept.InstanceID == place.Instance {
			return true
		}
	}
	// What is neither released nor kept stays where it is, too.
	return p.Problem != nil || p.LoadBalancer.Preserve || p.LoadBalancer.Ending != NotEnding
}

// checkRack checks what a plan made of the rack.
func (w *world) checkRack(t *testing.T, in *Input, before ips, r *Result) {
	t.Helper()
	on := [2]map[string]int{make(map[string]int), make(map[string]int)}
	for _, a := range w.model.found {
		on[a.Kind][a.InstanceID]++
	}
	checkPlaces(t, r)
	for _, p := range r.LoadBalancers {
		for _, c := range p.Claims {
			if c.Target == "" || c.Frozen {
				continue
			}
			kind := c.Kind()
			room := [2]int{FloatingIP: room(in.Instances[c.Target]), ExternalSubnet: maxExternalSubnets}[kind]
			if n := on[kind][c.Target]; c.Target != c.Current() && n > room {
				t.Errorf("%s carries %d of the kind %s, %d are allowed", c.Target, n, kind, room)
			}
		}
	}
	for _, a := range before {
		now, is := w.model.found[a.ID]
		marker, marked := ownership.ParseMarker(a.Description)
		theirs := marked && marker.Key.Scope == "cluster-9" && marker.Family == a.Family()
		if theirs && (!is || now != a) {
			t.Errorf("another cluster's %+v became %+v", a, now)
		}
		_, released := ownership.ReleasedFrom(a.Description)
		if (a.Description == "a user's" || released) && (!is || now.Description != a.Description) {
			t.Errorf("a user's %+v became %+v", a, now)
		}
		if is && now.Name != a.Name {
			t.Errorf("%s was renamed", a.ID)
		}
	}
}

// checkPlaces checks that no two load balancers have one place in the end, or one for the next
// move.
func checkPlaces(t *testing.T, r *Result) {
	t.Helper()
	taken := make(map[Place]string)
	for _, p := range r.LoadBalancers {
		for _, c := range p.Claims {
			if c.Frozen {
				continue
			}
			if c.Kind() == ExternalSubnet {
				continue
			}
			for _, port := range p.LoadBalancer.Ports {
				for _, instance := range []string{c.Target, c.Next} {
					at := Place{instance, c.Desired.Family, port}
					holder, is := taken[at]
					if is && instance != "" && holder != p.LoadBalancer.Key.Name {
						t.Errorf("%s and %s are both at %+v", holder, p.LoadBalancer.Key, at)
					}
					taken[at] = p.LoadBalancer.Key.Name
				}
			}
		}
	}
}

// checkWhatIsOnItsWay checks that whatever is on its way, what may stay stays, and that nobody
// shares a place.
func (w *world) checkWhatIsOnItsWay(t *testing.T) {
	t.Helper()
	w.inFlight = nil
	without := Make(w.input(func(in *Input) {
		for i, lb := range in.LoadBalancers {
			quiet := *lb
			quiet.Announced = nil
			in.LoadBalancers[i] = &quiet
		}
	}))
	staying := make(map[string]bool)
	for _, p := range without.LoadBalancers {
		for _, c := range p.Claims {
			if c.Current() != "" && c.Target == c.Current() && !hasCondition(p, Degraded) &&
				!isContested(without, p, c) {
				staying[c.Address.ID] = true
			}
		}
	}
	// One that is attached nowhere is on its way.
	w.inFlight = make(map[string]InFlight)
	for _, a := range w.model.ips() {
		if a.InstanceID == "" && w.chance(50) {
			w.inFlight[a.ID] = InFlight{Instance: w.instance()}
		}
	}
	in := w.input()
	r := Make(in)
	checkPlaces(t, r)
	for _, p := range r.LoadBalancers {
		for _, c := range p.Claims {
			if c.Address == nil || c.Target == c.Current() || !staying[c.Address.ID] {
				continue
			}
			if isEdited(p.LoadBalancer) && w.makesWay(r, p, c) {
				continue
			}
			if health := healthOf(in, c.Current()); health <= Suspect && !isLeavingAt(p, c.Current()) {
				t.Errorf("%s leaves %s because of %v", c.Address.ID, c.Current(), w.inFlight)
			}
		}
	}
	w.inFlight = nil
}

// isContested reports whether an address of another load balancer, which is to be kept before, is in the
// same place. It may stay there for want of another place, whatever else it was planned to do.
func isContested(r *Result, p *Planned, c *Claim) bool {
	isBefore := func(q *LoadBalancer) bool {
		if edited := isEdited(q); edited != isEdited(p.LoadBalancer) {
			return !edited
		}
		return cmp.Or(cmp.Compare(q.Created, p.LoadBalancer.Created),
			ownership.CompareKeys(q.Key, p.LoadBalancer.Key)) < 0
	}
	for _, q := range r.LoadBalancers {
		if q == p || !isBefore(q.LoadBalancer) {
			continue
		}
		for _, other := range q.Claims {
			if other.Address != nil && other.Desired.Family == c.Desired.Family &&
				other.Current() == c.Current() && slices.ContainsFunc(portsOf(q, other), func(port Port) bool {
				return slices.Contains(portsOf(p, c), port)
			}) {
				return true
			}
		}
	}
	return false
}

// makesWay reports whether an address that was not edited is on its way to the place of another one.
func (w *world) makesWay(r *Result, p *Planned, c *Claim) bool {
	for _, q := range r.LoadBalancers {
		if q == p || isEdited(q.LoadBalancer) || !slices.ContainsFunc(q.LoadBalancer.Ports, func(port Port) bool {
			return slices.Contains(p.LoadBalancer.Ports, port)
		}) {
			continue
		}
		for _, other := range q.Claims {
			if other.Address != nil && other.Desired.Family == c.Desired.Family && other.Target == c.Current() &&
				w.inFlight[other.Address.ID].Instance == other.Target {
				return true
			}
		}
	}
	return false
}

func hasCondition(p *Planned, condition ConditionType) bool {
	return slices.Contains(conditionsOf(p), condition)
}

func healthOf(in *Input, instance string) Health {
	for _, c := range in.Candidates {
		if c.InstanceID == instance {
			return c.Health
		}
	}
	return Unhealthy
}

func isLeavingAt(p *Planned, instance string) bool {
	e := p.LoadBalancer.Eligible
	return e != nil && e.FollowsServing && e.Instances[instance] == IsLeaving
}

// checkJoin checks that a node that joins moves nothing that serves.
func (w *world) checkJoin(t *testing.T) {
	t.Helper()
	r := Make(w.input(func(in *Input) {
		in.Candidates = append(in.Candidates, Candidate{InstanceID: "n9"})
	}))
	for _, p := range r.LoadBalancers {
		for _, c := range p.Claims {
			at := c.Current()
			if at == "" || c.Target == at || healthOf(w.input(), at) > Suspect || isLeavingAt(p, at) {
				continue
			}
			if e := p.LoadBalancer.Eligible; e != nil {
				if _, is := e.Instances[at]; !is {
					continue
				}
			}
			t.Errorf("%s leaves %s for %s because a node joined", c.Address.ID, at, c.Target)
		}
	}
}

// checkMessages checks that what is said fits into an event.
func (w *world) checkMessages(t *testing.T, r *Result) {
	t.Helper()
	for _, p := range r.LoadBalancers {
		for _, c := range p.Conditions {
			if len(c.Message) > maxMessage {
				t.Errorf("%d bytes: %s", len(c.Message), c.Message)
			}
		}
	}
}
