// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxMessage bounds what is said about one address, in bytes.
	maxMessage = 400
	// maxHolders and maxNamed are how many holders of ports, and candidates, a message names.
	maxHolders = 5
	maxNamed   = 5
)

// blocker is why a port of a load balancer cannot be served on an instance.
type blocker struct {
	// order is that of verbs in a message.
	order int
	port  Port
	verb  string
	who   string
}

func (b blocker) String() string { return fmt.Sprintf("%s %s %s", b.port, b.verb, b.who) }

const (
	isHeld = iota
	isReserved
	isUsed
	isAboutToBeLeft
)

// reserved returns which port of a load balancer may be served nowhere, and why; nil: none.
func (p *planner) reserved(b *balancer) *blocker {
	if b.reservationKnown {
		return b.reservation
	}
	b.reservationKnown = true
	if found := reservedFor(b, p.reservedEverywhere, netip.Addr{}); len(found) > 0 {
		b.reservation = &found[0]
	}
	return b.reservation
}

// reservedFor returns which ports of a load balancer are in ranges that are reserved where packets
// arrive at an address.
func reservedFor(b *balancer, ranges []ReservedPorts, at netip.Addr) []blocker {
	if len(ranges) == 0 {
		return nil
	}
	var found []blocker
	for _, port := range b.LoadBalancer.Ports {
		for _, r := range ranges {
			if r.First <= port.Number && port.Number <= r.Last &&
				(r.Protocol == "" || r.Protocol == port.Protocol) && concerns(r.On, at) &&
				!slices.Contains(r.Serves, b.key().Name) {
				who := r.Purpose
				if r.On.IsValid() {
					who += " on " + r.On.String()
				}
				found = append(found, blocker{isReserved, port, "is reserved for", who})
			}
		}
	}
	return found
}

// concerns reports whether what is in use on an address, or reserved there, is in the way of packets
// that arrive at another one.
func concerns(use, at netip.Addr) bool {
	return !use.IsValid() || use == at || use.IsUnspecified() && use.BitLen() == at.BitLen()
}

// isRefused reports whether a port of a load balancer may not be served on a candidate.
func (p *planner) isRefused(c *claim, n *node) bool { return len(p.refusals(c, n)) > 0 }

// refusals returns why ports of a load balancer may not be served on a candidate.
func (p *planner) refusals(c *claim, n *node) []blocker {
	if len(c.ports()) == 0 {
		return nil
	}
	if reserved := p.reserved(c.b); reserved != nil {
		return []blocker{*reserved}
	}
	at := n.addr(c.Desired.Family)
	found := reservedFor(c.b, n.reserved, at)
	if len(n.used) == 0 {
		return found
	}
	for _, port := range c.b.LoadBalancer.Ports {
		for _, used := range n.used[port] {
			if concerns(used.On, at) && !slices.Contains(used.Serves, c.b.key().Name) {
				found = append(found, blocker{isUsed, port, "is used by", used.Holder})
			}
		}
	}
	return found
}

// warnRefused warns of an address that stays though its port would be refused if it came now.
func (p *planner) warnRefused(c *claim) {
	n := p.node(c.Target)
	if n.candidate == nil || !p.isRefused(c, n) {
		return
	}
	c.b.warn(PortRefused, clip(fmt.Sprintf("%s on the node of the address %s, so either may get the "+
		"other's traffic: the address stays, but would not be attached there again; use another port",
		joinBlockers(p.refusals(c, n)), c.Address.Addr)))
}

// holders returns who else has the ports of a load balancer on an instance.
func (p *planner) holders(c *claim, instance string) []blocker {
	var found []blocker
	for _, port := range c.ports() {
		holds, is := p.occupied[Place{instance, c.Desired.Family, port}]
		if is && holds.b != c.b {
			found = append(found, blocker{isHeld, port, "is held by", holds.name})
		}
	}
	return found
}

func (p *planner) describeHolders(c *claim, instance string) string {
	return joinBlockers(p.holders(c, instance))
}

// blockersAt returns why the ports of a load balancer cannot be served on an instance.
func (p *planner) blockersAt(c *claim, n *node) []blocker {
	if found := p.holders(c, n.id); len(found) > 0 {
		return found
	}
	if n.candidate != nil {
		if found := p.refusals(c, n); len(found) > 0 {
			return found
		}
	}
	var found []blocker
	for _, port := range c.ports() {
		holds, is := p.vacated[Place{n.id, c.Desired.Family, port}]
		if is && holds.b != c.b {
			found = append(found, blocker{isAboutToBeLeft, port, "is about to be left by", holds.name})
		}
	}
	return found
}

// joinBlockers names everybody who is in the way, each once.
func joinBlockers(all []blocker) string {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b blocker) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.port.Number, b.port.Number),
			cmp.Compare(a.port.Protocol, b.port.Protocol), cmp.Compare(a.who, b.who))
	})
	seen := make(map[string]bool)
	var last blocker
	var text strings.Builder
	more := 0
	for _, b := range all {
		switch {
		case seen[b.verb+b.who]:
			continue
		case len(seen) >= maxHolders:
			more++
		case len(seen) == 0:
			text.WriteString(b.String())
		case b.port == last.port && b.verb == last.verb:
			text.WriteString(" and " + b.who)
		default:
			text.WriteString(", " + b.String())
		}
		seen[b.verb+b.who], last = true, b
	}
	if more > 0 {
		fmt.Fprintf(&text, " and %d more", more)
	}
	return text.String()
}

// unscheduled says why no candidate can take an address.
func (p *planner) unscheduled(c *claim) *Unscheduled {
	serving := p.needsServing(c)
	var inTheWay []blocker
	healthy, conflicts, leaving, siblings := 0, 0, 0, 0
	for _, n := range p.candidates {
		switch p.fitnessOf(c, n, serving) {
		case unusable:
			continue
		case doubled:
			siblings++
		case taken:
			conflicts++
			inTheWay = append(inTheWay, p.blockersAt(c, n)...)
		case waits:
			leaving++
			inTheWay = append(inTheWay, p.blockersAt(c, n)...)
		case full, vacated, fits:
		}
		healthy++
	}
	switch {
	case healthy == 0:
		u := c.unscheduled(NoCandidate, 0, "no node can carry the address: "+p.whyNoCandidate(c))
		u.OnlyTime = true
		return u
	case siblings == healthy:
		u := c.unscheduled(NoCandidate, 0, "each node that could carry it carries another address of "+
			"the load balancer; add a node, or ask for fewer addresses")
		u.OnlyTime, u.onlySiblings = true, true
		return u
	case leaving > 0:
		u := c.unscheduled(PortConflict, ReasonPortConflict, joinBlockers(inTheWay))
		u.OnlyTime = true
		return u
	case conflicts > 0:
		return p.conflict(c, inTheWay)
	}
	return c.unscheduled(NoCandidate, ReasonLimit, fmt.Sprintf("each of %d healthy candidates carries as "+
		"many addresses as Oxide allows; add a node", healthy))
}

// conflict says who has the ports of an address, and what helps.
func (p *planner) conflict(c *claim, inTheWay []blocker) *Unscheduled {
	remedy := "; use another port, or add a node"
	if p.reserved(c.b) != nil {
		remedy = "; use another port"
	}
	u := c.unscheduled(PortConflict, ReasonPortConflict, "")
	u.Message = clipTo(u.Message+joinBlockers(inTheWay), maxMessage-len(remedy)) + remedy
	return u
}

func (c *claim) unscheduled(condition ConditionType, reason Reason, why string) *Unscheduled {
	address := "IP" + string(c.Desired.Family) + " address"
	if c.Address != nil {
		address = "address " + c.Address.Addr.String()
	}
	return &Unscheduled{
		Condition: condition, Reason: reason,
		Message: clip("the " + address + " is reserved but attached nowhere: " + why),
	}
}

// whyNoCandidate says why no candidate is healthy, eligible and has an address of the family.
func (p *planner) whyNoCandidate(c *claim) string {
	const missing = "a private address of its IP family"
	var parts []string
	eligible, others := 0, 0
	for _, n := range p.candidates {
		if _, is := c.b.serving(n.id); !is {
			continue
		}
		eligible++
		if n.takesAddresses() {
			others++
		} else {
			parts = append(parts, p.displayName(n.id)+" "+cmp.Or(n.candidate.Why, NotHealthy))
		}
	}
	switch {
	case len(p.candidates) == 0:
		return "there is none"
	case eligible == 0:
		return "none " + c.b.LoadBalancer.Eligible.description()
	case len(parts) == 0:
		return "none has " + missing
	}
	slices.Sort(parts)
	suffix := ""
	if others > 0 {
		suffix = ", the others do not have " + missing
	}
	return joinNamed(parts, maxMessage-maxBeginning-len(suffix)) + suffix
}

// maxBeginning is how long the part of a message is that comes before the candidates.
const maxBeginning = 130

// joinNamed lists parts as far as there is room for them, the first of them at least.
func joinNamed(parts []string, room int) string {
	const more = ", and 10000 more"
	text := clipTo(parts[0], room-len(more))
	for i, part := range parts[1:] {
		if i+1 == maxNamed || len(text)+len(", ")+len(part)+len(more) > room {
			return fmt.Sprintf("%s, and %d more", text, len(parts)-i-1)
		}
		text += ", " + part
	}
	return text
}

func clip(text string) string { return clipTo(text, maxMessage) }

// clipTo cuts a text that is too long.
func clipTo(text string, room int) string {
	const ellipsis = "…"
	if len(text) <= room {
		return text
	}
	cut := room - len(ellipsis)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + ellipsis
}
