// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/oxide"
)

// changeMaxAge is how long a change is remembered: longer than any call that was planned by a list
// from before the change.
const changeMaxAge = 10 * time.Minute

// goneMaxAge is how long the end of a load balancer is remembered: longer than a set is on its way.
const goneMaxAge = time.Minute

// formerMaxAge is how long a user's address is remembered that a load balancer no longer names: longer
// than it takes to detach it, and until everybody has read that it is.
const formerMaxAge = 5 * time.Minute

// memory is what a Manager knows beyond what Oxide can tell: the sets that callers told it, what it
// is changing now, and what it changed a moment ago. It may be lost at any time: whoever calls tells
// the set again.
type memory struct {
	mu      sync.Mutex
	scopes  map[string]*scope
	flights map[*flight]bool
	changes map[string]change
}

// scope is what is known of one cluster.
type scope struct {
	// complete: a full set was told.
	complete bool
	cluster  Cluster
	set      map[Key]Desired
	// terminating are those that are yet to be deleted, as the last full set told them.
	terminating []Desired
	// levelUntil is until when plans spread the addresses evenly, as was asked for.
	levelUntil time.Time
	// told is when a load balancer of the set was told by itself, wanted when it was told at all.
	told, wanted map[Key]time.Time
	// gone are those that were deleted a moment ago.
	gone map[Key]deletion
	// held are the ports with which a load balancer held its place the last time: who wants more
	// since then has to make way.
	held map[Key][]Port
	// nodes are all instances that ever were candidates.
	nodes map[string]bool
	// lent are the names and ids by which floating IPs were ever named as the user's own.
	lent map[string]bool
	// former are the user's addresses, as they were named, of which load balancers let go, and when.
	former map[string]time.Time
}

// deletion is the end of a load balancer. A set that was drawn up before may still have it.
type deletion struct {
	ownerUID string
	at       time.Time
}

// flight is a plan under way: where addresses of a load balancer are going.
type flight struct {
	key Key
	// ips are the ids of the floating IPs that it has.
	ips []string
	// places are those where its addresses go, and those where they are until then.
	places []place
	// arrivals are the instances where an address has yet to arrive.
	arrivals []string
	// ended is when it did. What came of it need not be known, so for plans by a list that began
	// before it goes on.
	ended time.Time
}

// change is what a request made of a floating IP.
type change struct {
	at time.Time
	// ip is nil if it was deleted.
	ip *fact
}

func (m *memory) scope(name string) *scope {
	if m.scopes == nil {
		m.scopes = make(map[string]*scope)
	}
	s, ok := m.scopes[name]
	if !ok {
		s = &scope{
			set: make(map[Key]Desired), told: make(map[Key]time.Time), wanted: make(map[Key]time.Time),
			gone: make(map[Key]deletion), held: make(map[Key][]Port), nodes: make(map[string]bool),
			lent:   make(map[string]bool),
			former: make(map[string]time.Time),
		}
		m.scopes[name] = s
	}
	return s
}

// seeCluster remembers the candidates.
func (s *scope) seeCluster(cluster Cluster) {
	s.cluster = cluster
	for _, c := range cluster.Candidates {
		s.nodes[c.InstanceID] = true
	}
}

// replace remembers a full set that was told at some time. What was told of a load balancer by itself
// since then is newer, and so is the end of one a moment ago.
func (s *scope) replace(set []Desired, toldAt time.Time) {
	s.complete = true
	for key := range s.set {
		if !s.told[key].After(toldAt) {
			s.letGo(key)
			delete(s.told, key)
		}
	}
	for _, want := range set {
		gone, isGone := s.gone[want.Key]
		_, isNewer := s.set[want.Key]
		if !isNewer && (!isGone || gone.ownerUID != want.OwnerUID) {
			s.set[want.Key], s.wanted[want.Key] = want, toldAt
			s.borrow(want)
		}
	}
	for key := range s.held {
		if _, wanted := s.set[key]; !wanted {
			delete(s.held, key)
		}
	}
	for key, gone := range s.gone {
		if time.Since(gone.at) > goneMaxAge {
			delete(s.gone, key)
		}
	}
}

// tell remembers what is desired of one load balancer.
func (s *scope) tell(want Desired) {
	s.letGo(want.Key)
	s.set[want.Key], s.told[want.Key] = want, time.Now()
	s.wanted[want.Key] = s.told[want.Key]
	s.borrow(want)
	delete(s.gone, want.Key)
}

// borrow remembers what is named as the user's own.
func (s *scope) borrow(want Desired) {
	for _, w := range want.Wanted {
		if w.Source.Existing != "" {
			s.lent[w.Source.Existing] = true
		}
	}
}

// seeFormer remembers the user's addresses that actions detach.
func (s *scope) seeFormer(f facts, actions []Action) {
	for _, a := range actions {
		if ip := f.ips[a.ID]; a.Type == Detach && ip != nil && !bearsMarker(ip.Description) {
			s.former[a.ID] = time.Now()
		}
	}
}

// letGo takes a load balancer out of the set, and remembers the user's addresses that it named.
func (s *scope) letGo(key Key) {
	for _, w := range s.set[key].Wanted {
		if w.Source.Existing != "" {
			s.former[w.Source.Existing] = time.Now()
		}
	}
	delete(s.set, key)
	delete(s.wanted, key)
	for name, at := range s.former {
		if time.Since(at) > formerMaxAge {
			delete(s.former, name)
		}
	}
}

// with returns the known set with one load balancer as it is desired now.
func (s *scope) with(want Desired) []Desired {
	set := []Desired{want}
	for key, known := range s.set {
		if key != want.Key {
			set = append(set, known)
		}
	}
	return set
}

// all returns the known set.
func (s *scope) all() []Desired { return slices.Collect(maps.Values(s.set)) }

// forget forgets a load balancer that is gone.
func (m *memory) forget(key Key, ownerUID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.scope(key.Scope)
	if known, ok := s.set[key]; ok {
		if ownerUID != "" && known.OwnerUID != ownerUID {
			return // there is a newer one
		}
		ownerUID = known.OwnerUID
	}
	s.letGo(key)
	s.terminating = slices.DeleteFunc(slices.Clone(s.terminating), func(d Desired) bool {
		return d.Key == key
	})
	delete(s.told, key)
	delete(s.held, key)
	if ownerUID != "" {
		s.gone[key] = deletion{ownerUID: ownerUID, at: time.Now()}
	}
}

// hold remembers the ports with which a load balancer has its place.
func (m *memory) hold(key Key, ports []Port) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scope(key.Scope).held[key] = ports
}

// record remembers what a request made of a floating IP, so that a list which began before does not
// mislead the next plan.
func (m *memory) record(id string, ip *fact) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changes == nil {
		m.changes = make(map[string]change)
	}
	for old, c := range m.changes {
		if time.Since(c.at) > changeMaxAge {
			delete(m.changes, old)
		}
	}
	m.changes[id] = change{at: time.Now(), ip: ip}
}

// overlay returns a list of floating IPs with the changes that came after it began.
func (m *memory) overlay(l listing) map[string]*fact {
	ips := make(map[string]*fact, len(l.ips))
	for _, ip := range l.ips {
		f := newFact(ip)
		ips[ip.ID] = &f
	}
	for id, c := range m.changes {
		switch {
		case c.at.Before(l.began):
		case c.ip == nil:
			delete(ips, id)
		default:
			f := *c.ip
			ips[id] = &f
		}
	}
	return ips
}

// take notes a flight.
func (m *memory) take(f *flight) {
	if m.flights == nil {
		m.flights = make(map[*flight]bool)
	}
	m.flights[f] = true
}

// land notes the end of flights.
func (m *memory) land(flights ...*flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for _, f := range flights {
		if f.ended.IsZero() {
			f.ended = now
		}
	}
	for f := range m.flights {
		if !f.ended.IsZero() && now.Sub(f.ended) > changeMaxAge {
			delete(m.flights, f)
		}
	}
}

// inFlight returns the flights of others than the given load balancers that had not ended at a time.
func (m *memory) inFlight(but map[Key]bool, at time.Time) []*flight {
	var others []*flight
	for f := range m.flights {
		if !but[f.key] && (f.ended.IsZero() || f.ended.After(at)) {
			others = append(others, f)
		}
	}
	return others
}

// wantsExisting reports whether a load balancer of any known set names a floating IP as the user's
// own that it is to have.
func (m *memory) wantsExisting(ip oxide.FloatingIP) bool { return m.userOf(ip) != Key{} }

// isPublished reports whether a load balancer of any known set publishes a floating IP: it is the
// address of one, even if its marker was lost and is yet to be restored.
func (m *memory) isPublished(ip oxide.FloatingIP) bool {
	return m.find(func(want Desired) bool { return want.publishes(ip.Addr) }) != Key{}
}

// isFormer reports whether a load balancer named a floating IP as the user's own until a while ago. It
// may still be attached for it, or be taken to be.
func (m *memory) isFormer(ip oxide.FloatingIP) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.scopes {
		for _, name := range []string{ip.ID, ip.Name} {
			if at, known := s.former[name]; known && time.Since(at) <= formerMaxAge {
				return true
			}
		}
	}
	return false
}

// userOf returns the key of a load balancer of any known set that names a floating IP as the user's
// own that it is to have; the zero value if there is none.
func (m *memory) userOf(ip oxide.FloatingIP) Key {
	return m.find(func(want Desired) bool {
		return slices.ContainsFunc(want.Wanted, func(w Wanted) bool { return w.Source.names(ip) })
	})
}

// find returns the key of a load balancer of any known set, or of one that is yet to be deleted, of
// which something holds; the zero value if there is none.
func (m *memory) find(holds func(Desired) bool) Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.scopes {
		for _, want := range slices.Concat(s.all(), s.terminating) {
			if holds(want) {
				return want.Key
			}
		}
	}
	return Key{}
}

// complete reports whether the full set of any scope is known.
func (m *memory) complete() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.scopes {
		if s.complete {
			return true
		}
	}
	return false
}

// isWantedSince reports whether a load balancer was told to be desired after a time.
func (m *memory) isWantedSince(key Key, since time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.scope(key.Scope).wanted[key].After(since)
}

// isStillDesired reports whether the addresses of a load balancer are desired as they were.
func (m *memory) isStillDesired(as Desired) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, wanted := m.scope(as.Key.Scope).set[as.Key]
	return wanted && now.OwnerUID == as.OwnerUID && now.Retain == as.Retain && now.Hold == as.Hold &&
		slices.Equal(now.Wanted, as.Wanted)
}

// wants reports whether a load balancer is in the known set of its scope.
func (m *memory) wants(key Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, wanted := m.scope(key.Scope).set[key]
	return wanted
}
