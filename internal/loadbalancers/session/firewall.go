// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package session

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/firewall/ruleset"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/ownership"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/plan"
	"github.com/oxidecomputer/oxide-cloud-controller-manager/internal/loadbalancers/rules"
)

// firewalls is what a session knows of the firewalls of the VPCs that its candidates are in.
type firewalls struct {
	// vpcs are the names of the VPCs, by id.
	vpcs map[string]string
	// states is what was known of each when the step began.
	states map[string]rules.State
	// scopes are those whose rules are the session's.
	scopes []string
	// targets are what rules name in each VPC so that they are about the cluster's instances.
	targets map[string]targets
	// desired is what is to be there; it has no rules where the backend keeps none.
	desired map[string]ruleset.Desired
	// ended are the names of load balancers that have ended, whose rules may be left.
	ended map[string]bool
	// orphans are those that were sent last.
	orphans []KeptRule
}

// keptRules are the rules that a load balancer needs in a VPC, and what they were made of.
type keptRules struct {
	families []ownership.Family
	targets  []firewall.Match
	rules    []firewall.Rule
}

// KeptRule is a rule that is kept for a load balancer in the firewall of a VPC.
type KeptRule struct {
	VPCID, VPCName string
	Key            ownership.Key
	OwnerUID       string
	Family         ownership.Family
	firewall.Rule
	// Orphaned: no load balancer of the session desires it.
	Orphaned bool
}

// keepsRules reports whether the session keeps rules in firewalls.
func (l *loop) keepsRules() bool {
	return l.m.config.ManageFirewall && !l.m.config.ReadOnly && !l.opening.ObserveOnly
}

// opens reports whether the session keeps rules for a load balancer.
func (l *loop) opens(b *balancer) bool { return l.keepsRules() && b.desired.OpenFirewall }

// desireRules has the rules kept that the load balancers need, as a plan shows them.
func (l *loop) desireRules(result *plan.Result, now time.Time) {
	f := &l.firewalls
	var found interfaces
	if len(l.balancers) > 0 || len(f.ended) > 0 { // else nothing has to be read
		found = l.interfaces(result)
	}
	f.scopes = append([]string{l.opening.Scope}, l.m.adoptable(l.opening)...)
	f.vpcs, f.desired = found.vpcs, make(map[string]ruleset.Desired)
	for vpc := range found.vpcs {
		f.desired[vpc] = ruleset.Desired{
			Scopes: f.scopes, Rules: make(map[string][]firewall.Rule), Stay: make(map[string]bool),
		}
	}
	if l.keepsRules() {
		l.target(found, now)
		l.needRules(result)
		l.m.desireRules(l.session, f.desired, now)
	}
	f.states = make(map[string]rules.State, len(f.vpcs))
	for vpc := range f.vpcs {
		state := l.m.firewalls.Get(vpc, now)
		f.states[vpc] = state
		if l.keepsRules() {
			l.at(state.StaleAt) // else what somebody has removed would be restored at the next step only
		}
	}
	maps.DeleteFunc(f.ended, func(name string, _ bool) bool {
		return l.isClosed(ownership.Key{Scope: l.opening.Scope, Name: name})
	})
}

// needRules finds out which rules the load balancers need. Those that have ended need none.
func (l *loop) needRules(result *plan.Result) {
	desired := l.firewalls.desired
	for name := range l.firewalls.ended {
		for vpc := range desired {
			desired[vpc].Rules[name] = nil
		}
	}
	for key, b := range l.balancers {
		for vpc := range desired {
			if b.released {
				desired[vpc].Rules[key.Name] = nil
			}
		}
	}
	for _, planned := range result.LoadBalancers {
		b := l.balancers[planned.LoadBalancer.Key]
		b.openFamilies = l.familiesOf(b, planned)
		for vpc := range desired {
			// What one that is ending admits its owner may not know any more: nobody else is let in.
			ends := b.lb.Ending != plan.NotEnding
			if b.lb.Preserve && !ends || ends && len(b.openFamilies) > 0 || l.firewalls.targets[vpc].unknown {
				desired[vpc].Stay[b.lb.Key.Name] = true
				continue
			}
			desired[vpc].Rules[b.lb.Key.Name] = l.rulesOf(b, vpc)
		}
	}
}

// familiesOf returns the IP families of which a load balancer has an address in use or about to be, or
// still published: its ports are closed once all of that is over.
func (l *loop) familiesOf(b *balancer, planned *plan.Planned) []ownership.Family {
	if !b.desired.OpenFirewall && b.lb.Ending == plan.NotEnding {
		return nil
	}
	var families []ownership.Family
	add := func(family ownership.Family, is bool) {
		if is && !slices.Contains(families, family) {
			families = append(families, family)
		}
	}
	isUsed := func(ip *plan.Address) bool {
		published := b.lb.Ending == plan.NotEnding && b.lb.Publishes(ip.Addr)
		return ip.InstanceID != "" || published || l.m.operations.of(ip.ID) != nil
	}
	for _, c := range planned.Claims {
		add(c.Desired.Family, c.Target != "" || c.Address != nil && isUsed(c.Address))
	}
	for _, ip := range planned.Kept {
		add(ip.Family(), isUsed(ip))
	}
	for _, r := range planned.Releases {
		add(r.Address.Family(), isUsed(r.Address))
	}
	slices.Sort(families)
	return families
}

// rulesOf returns the rules that a load balancer needs in a VPC.
func (l *loop) rulesOf(b *balancer, vpc string) []firewall.Rule {
	at, families := l.firewalls.targets[vpc].matches, b.openFamilies
	known := b.rules[vpc]
	if known != nil && slices.Equal(known.families, families) && isSame(known.targets, at) {
		return known.rules
	}
	need := ruleset.Need{
		Key: b.lb.Key, OwnerUID: b.lb.OwnerUID, Families: families, Ports: b.lb.Ports,
		Sources: b.desired.Sources,
	}
	if b.rules == nil {
		b.rules = make(map[string]*keptRules)
	}
	b.rules[vpc] = &keptRules{families, at, need.Rules(at, l.m.config.FirewallPriority)}
	return b.rules[vpc].rules
}

// isSame reports whether two lists are one and the same.
func isSame(a, b []firewall.Match) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// isClosed reports whether no rule is left of a load balancer that is to have none.
func (l *loop) isClosed(key ownership.Key) bool {
	for _, state := range l.firewalls.states {
		if !state.Known || state.Err != nil || state.Differs[key] {
			return false // what could not be read may be there still
		}
	}
	return true
}

// openness is how far the rules of a load balancer are.
type openness struct {
	// done: they are there. waits: they are about to be, and it is worth waiting for.
	done, waits bool
	// why is why they are not there, if waiting does not help.
	why string
}

// openness returns how far the rules of a load balancer are.
func (l *loop) openness(b *balancer, now time.Time) openness {
	o := openness{done: true}
	for _, vpc := range slices.Sorted(maps.Keys(l.firewalls.vpcs)) {
		state := l.firewalls.states[vpc]
		refused := state.Refused[b.lb.Key]
		var why string
		switch {
		case refused != "":
			why = refused
		case state.Err != nil:
			why = state.Err.Error()
		case state.Failure != nil && (state.Differs[b.lb.Key] || state.Unsettled[b.lb.Key]):
			why = state.Failure.Error()
		case state.Known && !state.Differs[b.lb.Key]:
			continue
		}
		o.done = false
		if o.why == "" {
			o.why = why
		}
	}
	switch {
	case o.done:
		b.openingSince, b.opened = time.Time{}, b.openFamilies
		return o
	case b.openingSince.IsZero():
		b.openingSince = now
	}
	until := b.openingSince.Add(l.m.timings.opening)
	if o.waits = o.why == "" && now.Before(until); o.waits {
		l.soon(until)
	} else if o.why == "" {
		o.why = "they have not been written yet"
	}
	return o
}

// holdsBack reports whether an address is not to be published yet, since its ports are about to be
// opened for the first time. What is published stays so: no move waits for a firewall.
func (s *balancerStep) holdsBack(addr netip.Addr) bool {
	if !s.opens(s.balancer) || s.publishesNowhere(s.balancer) || s.lb.Preserve ||
		s.lb.Ending != plan.NotEnding || slices.Contains(s.desired.Published, addr) {
		return false
	}
	o := s.openness(s.balancer, s.now)
	return o.waits && !slices.Contains(s.opened, ownership.FamilyOf(addr))
}

// holdsRelease reports whether the end of a load balancer waits for its ports to be closed.
func (s *balancerStep) holdsRelease() bool {
	if !s.keepsRules() || s.isClosed(s.lb.Key) {
		return false
	}
	return s.openness(s.balancer, s.now).waits
}

// describeFirewall says what there is to say about the rules that are kept for the load balancer, and
// what becomes of what a plan says of closed ports.
func (s *balancerStep) describeFirewall(closed []plan.Condition) {
	if !s.opens(s.balancer) {
		for _, c := range closed {
			s.condition(FirewallClosed, "%s", c.Message)
		}
		return
	}
	o := s.openness(s.balancer, s.now)
	if s.lb.Preserve || s.lb.Ending != plan.NotEnding {
		o = openness{done: true}
	}
	if o.waits && len(closed) > 0 {
		s.progressing = true
	}
	for _, c := range closed {
		switch {
		case o.waits:
		case o.why != "":
			s.condition(FirewallClosed, "%s: its rules are not in force: %s", c.Message, o.why)
		default:
			s.condition(FirewallClosed, "%s", c.Message)
		}
	}
	problems := []string{s.desired.Sources.Problem(s.families())}
	if len(closed) == 0 {
		problems = append(problems, prefixed("its firewall rules are not in force: ", o.why))
	}
	problems = slices.DeleteFunc(problems, func(text string) bool { return text == "" })
	if len(problems) > 0 {
		s.condition(FirewallIncomplete, "%s", strings.Join(problems, "; "))
	}
	for _, vpc := range slices.Sorted(maps.Keys(s.firewalls.targets)) {
		if widened := s.firewalls.targets[vpc].widened; widened != "" && len(s.firewalls.desired[vpc].
			Rules[s.lb.Key.Name]) > 0 {
			s.condition(FirewallWidened, "Its firewall rules in the VPC %s let traffic in to %s, since the "+
				"cluster has more instances than Oxide lets rules name", s.firewalls.vpcs[vpc], widened)
		}
	}
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// families returns the IP families of the addresses that are desired.
func (s *balancerStep) families() []ownership.Family {
	var families []ownership.Family
	for _, d := range s.lb.Desired {
		if !slices.Contains(families, d.Family) {
			families = append(families, d.Family)
		}
	}
	return families
}

// sendFirewallOrphans sends the rules that no load balancer desires, if they are other ones than before.
func (l *loop) sendFirewallOrphans() {
	var orphans []KeptRule
	for _, vpc := range slices.Sorted(maps.Keys(l.firewalls.vpcs)) {
		state := l.firewalls.states[vpc]
		for _, stored := range ruleset.Orphans(state.Stored, l.firewalls.desired[vpc]) {
			orphans = append(orphans, l.firewalls.rule(vpc, &stored))
		}
	}
	sortKept(orphans)
	if len(orphans) > maxOrphanedRules {
		orphans = orphans[:maxOrphanedRules]
	}
	same := slices.EqualFunc(orphans, l.firewalls.orphans, func(a, b KeptRule) bool {
		return a.VPCID == b.VPCID && a.Name == b.Name
	})
	if same {
		return
	}
	l.firewalls.orphans = orphans
	l.session.send(Event{FirewallOrphans: &orphans})
}

// maxOrphanedRules bounds the orphaned rules that are reported.
const maxOrphanedRules = 1000

func sortKept(kept []KeptRule) {
	slices.SortFunc(kept, func(a, b KeptRule) int {
		return strings.Compare(fmt.Sprintf("%s\x00%s\x00%s", a.VPCName, a.VPCID, a.Name),
			fmt.Sprintf("%s\x00%s\x00%s", b.VPCName, b.VPCID, b.Name))
	})
}

// countRules returns how many rules a load balancer needs in a VPC.
func (l *loop) countRules(b *balancer) int {
	if !l.opens(b) {
		return 0
	}
	need := ruleset.Need{Ports: b.lb.Ports, Sources: b.desired.Sources}
	for _, d := range b.lb.Desired {
		if !slices.Contains(need.Families, d.Family) {
			need.Families = append(need.Families, d.Family)
		}
	}
	return need.Count()
}

// shutOut returns the IP families of which no source of a load balancer is.
func (l *loop) shutOut(b *balancer) map[ownership.Family]bool {
	return map[ownership.Family]bool{
		ownership.IPv4: !b.desired.Sources.LetsIn(ownership.IPv4),
		ownership.IPv6: !b.desired.Sources.LetsIn(ownership.IPv6),
	}
}
