// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"cmp"
	"fmt"
	"slices"
)

// claim is one address of one load balancer: which it is, and where it goes.
type claim struct {
	of     *balancer
	want   *Desired
	wanted Wanted
	// ip is the address; nil if it is yet to be created.
	ip *fact
	// managed addresses are marked, the others belong to a user.
	managed bool
	// prepare are the actions before it is moved: it is created or marked.
	prepare []Action
	// moveFirst: it is taken off its old place before it is marked. The marker of a scope that this
	// one adopts is the proof that the place may be given up; as long as it stays there it keeps it.
	moveFirst bool
	// legacy: it is taken over from the existing Oxide CCM.
	legacy bool
	// left: it stays where it is, because the caller wants that now.
	left bool
	// frozen: it stays as it is, wherever that is.
	frozen bool

	// target is the instance that carries it in the end; empty: none.
	target string
	// why is the reason for going there.
	why string
	// unplaced says why it has no target.
	unplaced *obstacle
	// conditions are about its place.
	conditions []Condition
}

// current is the instance that carries the address now; empty: none.
func (c *claim) current() string {
	if c.ip == nil {
		return ""
	}
	return c.ip.InstanceID
}

// assign decides which address each load balancer has, and which it lets go. Where several could
// have one, the oldest has it.
func (p *planner) assign() {
	for _, b := range p.balancers {
		for _, w := range b.want.Wanted {
			if w.Source.Existing != "" && !b.want.Hold {
				p.claimExisting(b, w)
			}
		}
	}
	// Before owned addresses: a marker that was edited to the name of another load balancer would
	// else give the address to that.
	for _, b := range p.balancers {
		p.restore(b)
	}
	for _, b := range p.balancers {
		for _, w := range b.want.Wanted {
			switch {
			case b.claimOf(w.Family) != nil:
			case b.want.Hold || w.Source.Existing != "":
				p.keep(b, w)
			default:
				p.claimManaged(b, w)
			}
		}
	}
	for _, b := range p.balancers {
		p.letGo(b)
	}
}

// claimExisting claims an address that the user names as his own.
func (p *planner) claimExisting(b *balancer, w Wanted) {
	name := w.Source.Existing
	ip := p.facts.find(name)
	c := &claim{want: &b.want, wanted: w, ip: ip}
	switch {
	case ip == nil:
		b.refuse(fail(ReasonResourceNotFound, nil,
			"there is no floating IP %s in the project", name))
		return
	case ip.family() != w.Family:
		b.refuse(fail(ReasonInvalid, nil,
			"the floating IP %s is the address %s, which is not of IP%s", name, ip.Addr, w.Family))
		return
	case p.claimed[ip.ID] != nil:
		b.refuse(fail(ReasonNotOwned, nil, "the floating IP %s is used by the load balancer "+
			"%s, which is older", name, p.claimed[ip.ID].want.Key))
		return
	case ip.Marked && p.isOwn(ip, b.want.Key):
		// It was given to this very load balancer, and is the user's from now on.
		c.prepare = []Action{{
			Type: Mark, Key: b.want.Key, ID: ip.ID, Name: ip.Name, Addr: ip.Addr,
			Description: WithoutMarker(ip.Description),
			Why:         "the user names the address as his own: its marker is removed",
		}}
	case ip.Marked:
		b.refuse(fail(ReasonNotOwned, nil, "the floating IP %s is %s, and not the user's own",
			name, ownerOf(ip)))
		return
	case bearsMarker(ip.Description):
		b.refuse(fail(ReasonNotOwned, nil, "the floating IP %s bears a marker that was edited: if it "+
			"is the user's own, remove the line %q… from its description", name, markerPrefix))
		return
	default:
		if owner := p.provenOwner(ip, b); owner != nil {
			b.refuse(fail(ReasonNotOwned, nil, "the floating IP %s is of the load balancer %s, and "+
				"not the user's own", name, owner.want.Key))
			return
		}
		if ending := p.endingHolder(ip, b); ending != nil {
			b.refuse(fail(ReasonNotOwned, nil, "the floating IP %s is attached for the load balancer "+
				"%s until that is deleted", name, ending.Key))
			return
		}
	}
	p.add(b, c)
}

// endingHolder returns another load balancer that is yet to be deleted, and that a user's own address is
// attached for: its owner publishes it until then.
func (p *planner) endingHolder(ip *fact, but *balancer) *Desired {
	if p.facts.isLeftover(ip, but.want.Published) {
		return nil
	}
	for i := range p.terminating {
		if want := &p.terminating[i]; want.Key != but.want.Key && p.facts.isLeftover(ip, want.Published) {
			return want
		}
	}
	return nil
}

// refuse notes what is wrong with a wish. What the load balancer has stays until it is mended.
func (b *balancer) refuse(problem error) {
	if b.problem == nil {
		b.problem = problem
	}
}

// keep claims the address that a load balancer has, whatever it wishes for: one that is marked, one
// of the predecessor's, or one of the user's that was attached for it.
func (p *planner) keep(b *balancer, w Wanted) {
	if best := p.best(b, w, Source{}, false); best != nil {
		p.claimMarked(b, w, best)
		return
	}
	if p.claimLegacy(b, w, Source{}) {
		return
	}
	for _, ip := range p.facts.sorted() {
		if ip.family() == w.Family && p.claimed[ip.ID] == nil &&
			p.facts.isLeftover(ip, b.want.Published) {
			p.add(b, &claim{want: &b.want, wanted: w, ip: ip})
			return
		}
	}
}

func (p *planner) add(b *balancer, c *claim) {
	c.of = b
	b.claims = append(b.claims, c)
	if c.ip != nil {
		p.claimed[c.ip.ID] = c
	}
}

// isOwn reports whether an address is marked as the load balancer's.
func (p *planner) isOwn(ip *fact, key Key) bool {
	return ip.Marked && p.scopes[ip.Marker.Key.Scope] && ip.Marker.Key.Name == key.Name
}

// claimManaged claims the address that fulfils a wish: one that is marked, one of the predecessor's,
// or a new one.
func (p *planner) claimManaged(b *balancer, w Wanted) {
	if best := p.best(b, w, w.Source, true); best != nil {
		p.claimMarked(b, w, best)
		return
	}
	if p.claimLegacy(b, w, w.Source) {
		return
	}
	create, err := p.creation(b, w)
	if err != nil {
		b.refuse(err)
		p.keep(b, w)
		return
	}
	p.add(b, &claim{want: &b.want, wanted: w, managed: true, prepare: []Action{create}})
}

// best returns the address that is marked as the load balancer's, fits, and is to be kept before others,
// retained ones only if they are wanted.
func (p *planner) best(b *balancer, w Wanted, source Source, retained bool) *fact {
	var best *fact
	for _, ip := range p.facts.of(p.scopes, b.want.Key.Name) {
		if ip.family() != w.Family || p.claimed[ip.ID] != nil || !fits(p.facts, ip, source) ||
			ip.Marker.Retained && !retained ||
			p.isMisled(b, ip) {
			continue
		}
		if best == nil || p.isBetter(b, ip, best) {
			best = ip
		}
	}
	return best
}

// isBetter says which of two addresses that both fit is kept: one in use rather than one that is not,
// and that rather than one which another cluster uses.
func (p *planner) isBetter(b *balancer, x, y *fact) bool {
	rank := func(ip *fact) int {
		r := 0
		switch {
		case !p.isOurPlace(b, ip):
			r -= 4
		case ip.InstanceID != "":
			r += 4
		}
		if b.want.publishes(ip.Addr) {
			r += 2
		}
		if !ip.Marker.Retained {
			r++
		}
		return r
	}
	return cmp.Or(-cmp.Compare(rank(x), rank(y)), x.TimeCreated.Compare(y.TimeCreated),
		cmp.Compare(x.ID, y.ID)) < 0
}

// claimMarked claims an address that is marked as the load balancer's. Its marker is renewed if it
// names another owner: the load balancer was made anew under its name, comes back for an address
// that was retained, or belongs to a cluster that was rebuilt. The source stays what it was when the
// address was allocated.
func (p *planner) claimMarked(b *balancer, w Wanted, ip *fact) {
	c := &claim{want: &b.want, wanted: w, ip: ip, managed: true}
	marker := p.marker(b, w)
	marker.Source = ip.Marker.Source
	if ip.Marker != marker {
		why := "the load balancer has a new owner of the same name"
		if p.isAdopted(b, ip) {
			why = "the cluster takes over from the scope " + ip.Marker.Key.Scope
			c.moveFirst = true
		}
		p.mark(b, c, marker, why)
	}
	p.add(b, c)
}

func (p *planner) marker(b *balancer, w Wanted) Marker {
	return Marker{
		Key: b.want.Key, OwnerUID: b.want.OwnerUID, Family: w.Family, Source: w.Source.String(),
	}
}

// mark adds the action that marks an address. If its description has no room for that, the address
// is left as it is.
func (p *planner) mark(b *balancer, c *claim, marker Marker, why string) {
	description, err := WithMarker(c.ip.Description, marker)
	if err != nil {
		c.frozen = true
		b.refuse(fail(ReasonInvalid, err, "floating IP %s: %s", c.ip.Name, err))
		return
	}
	c.prepare = []Action{{
		Type: Mark, Key: b.want.Key, ID: c.ip.ID, Name: c.ip.Name, Addr: c.ip.Addr,
		Description: description, Why: why,
	}}
}

// fits reports whether an address fulfils a wish. An address that was once wished for in particular
// still fulfils the wish for any address, so withdrawing the wish changes nothing.
func fits(f facts, ip *fact, wish Source) bool {
	switch {
	case wish.Addr.IsValid():
		return ip.Addr == wish.Addr
	case wish.Pool != "":
		pool, known := f.pools[wish.Pool]
		if !known && f.poolErrors[wish.Pool] == nil {
			return true // nothing speaks against it
		}
		return known && ip.PoolID == pool.ID || ip.Marked && ip.Marker.Source == wish.String()
	}
	return true
}

// creation plans a new address, if what Oxide would refuse can be told before.
func (p *planner) creation(b *balancer, w Wanted) (Action, error) {
	name := nameOf(b.want.Key, w)
	switch {
	case w.Source.Addr.IsValid():
		if taken := p.facts.withAddr(w.Source.Addr); taken != nil {
			return Action{}, fail(ReasonNotOwned, nil,
				"the wanted address %s is taken: it is the floating IP %s, %s",
				taken.Addr, taken.Name, ownerOf(taken))
		}
		if first, taken := p.allocated[w.Source.Addr]; taken {
			return Action{}, fail(ReasonNotOwned, nil, "the wanted address %s is wanted by the load "+
				"balancer %s, too, which is older", w.Source.Addr, first)
		}
		p.allocated[w.Source.Addr] = b.want.Key
	case w.Source.Pool != "":
		if err := p.checkPool(w); err != nil {
			return Action{}, err
		}
	}
	if taken := p.facts.named(name); taken != nil {
		return Action{}, fail(ReasonNotOwned, nil, "the name %s is taken by a floating IP that is "+
			"not marked as this load balancer's; rename or delete it", name)
	}
	description, err := WithMarker("", p.marker(b, w))
	if err != nil {
		return Action{}, err
	}
	return Action{
		Type: Create, Key: b.want.Key, Name: name, Addr: w.Source.Addr, Wanted: w,
		Description: description, Why: p.whyCreate(b, w.Family),
	}, nil
}

// whyCreate says why a new address is needed: none of those that the owner publishes may be there any
// more. It also publishes private addresses of instances, which are told apart as far as they are known.
func (p *planner) whyCreate(b *balancer, family Family) string {
	why := "the load balancer has no such address yet"
	for _, addr := range slices.Backward(b.want.Published) {
		switch {
		case familyOf(addr) != family || p.facts.isPrivate(addr):
		case p.facts.withAddr(addr) != nil:
			return "the load balancer has no such address yet"
		default:
			why = fmt.Sprintf("its address %s is gone from the project", addr)
		}
	}
	return why
}

func (p *planner) checkPool(w Wanted) error {
	name := w.Source.Pool
	if err := p.facts.poolErrors[name]; err != nil {
		return fail(ReasonPoolNotFound, err, "%s", poolRemedy(w))
	}
	if err := p.facts.poolDoubts[name]; err != nil {
		return err
	}
	pool := p.facts.pools[name]
	switch {
	case pool.Bits != w.Family.Bits():
		return fail(ReasonInvalid, nil, "the pool %s has no IP%s addresses", name, w.Family)
	case !pool.Unicast:
		return fail(ReasonInvalid, nil, "the pool %s is a multicast pool, which has no floating IPs",
			name)
	}
	return nil
}

// ownerOf says whose an address is, for people.
func ownerOf(ip *fact) string {
	if ip.Marked {
		return fmt.Sprintf("of the load balancer %s in the scope %s",
			ip.Marker.Key.Name, ip.Marker.Key.Scope)
	}
	return "which is not managed here"
}
