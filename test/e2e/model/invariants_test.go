// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/test/e2e/rack"
)

// outsider is an instance on the rack that never is a Node.
const outsider = "outsider"

// problem is something that must not be, or must not stay.
type problem struct {
	// invariant is one of the design.
	invariant string
	text      string
}

func (p problem) String() string { return p.invariant + ": " + p.text }

// The invariants, by their numbers in the design.
const (
	noNodeOnDoubt = "1, a node is never deleted on doubt"
	noneLost      = "2, an address is never lost by accident"
	noneShared    = "3, two services never share an address, and nothing is renamed"
	onePerNode    = "several addresses of a Service are each on another node"
	onePerPort    = "4, one (node, family, protocol, port) serves one Service"
	leastMovement = "5, least movement"
	converges     = "6, exactly the addresses that are desired, each attached once"
	portsOpen     = "the ports of a Service, and no others, are open for whom it admits"
	foreignRules  = "firewall rules of others are never touched"
	statusIsFact  = "7, status follows fact"
	restartIsNone = "8, losing us changes nothing"
)

type problems []problem

func (p *problems) add(invariant, format string, args ...any) {
	*p = append(*p, problem{invariant, fmt.Sprintf(format, args...)})
}

// step is what was done between two snapshots.
type step struct {
	before, now snapshot
	// replaced are Services whose address may be another one now; moved are the addresses, by id, that may
	// be elsewhere for another reason than their nodes.
	replaced, moved map[string]bool
	// edited are Services whose ports were edited, with their ports before.
	edited map[string][]corev1.ServicePort
	// restart: nothing but programs were ended and begun.
	restart bool
	// steady reports whether a node has been fit for so long that nothing may leave it.
	steady func(*node) bool
}

// mayMove notes that addresses may be elsewhere for another reason than their nodes.
func (st *step) mayMove(ips ...rack.Carried) {
	for _, ip := range ips {
		st.moved[ip.ID] = true
	}
}

// broken returns which promises an operation has broken: invariants 2 to 5, and 8. It also returns how
// many addresses were held to stay where they are.
func (e *expectation) broken(st step) (found problems, held int) {
	e.checkAlways(&found, st.now)
	e.checkAddresses(&found, st)
	e.checkSharing(&found, st)
	held = e.checkMovement(&found, st)
	if st.restart {
		e.checkRestart(&found, st)
	}
	return found, held
}

// checkAlways finds what must not be at any moment.
func (e *expectation) checkAlways(found *problems, s snapshot) {
	for name, n := range e.nodes {
		if now, there := s.nodes[name]; n.present && !n.removed && (!there || now.UID != n.uid) {
			found.add(noNodeOnDoubt, "the Node %s is gone, and its instance is there", name)
		}
	}
	byID := make(map[string]rack.Carried)
	for _, ip := range s.rack.Carried() {
		byID[ip.ID] = ip
	}
	for id, want := range e.others {
		now := byID[id]
		if slices.Contains(e.lent, want.Name) {
			now.AttachState, now.Instance = want.AttachState, want.Instance
		}
		if now != want {
			found.add(noneLost, "%s is not of the cluster and was changed: %+v, now %+v", want.Name, want,
				now)
		}
	}
	for _, v := range e.live() {
		if !e.rivals {
			e.checkApart(found, s, v)
		}
	}
	if !e.isRewritten {
		e.checkForeign(found, s)
	}
	publishers := make(map[string]string)
	for name, now := range s.services {
		for _, ingress := range now.Status.LoadBalancer.Ingress {
			if addr, err := netip.ParseAddr(ingress.IP); err == nil && addr.IsPrivate() {
				continue // a node's
			}
			if other := publishers[ingress.IP]; other != "" {
				found.add(noneShared, "%s and %s both publish %s", other, name, ingress.IP)
			}
			publishers[ingress.IP] = name
		}
	}
}

// checkApart finds several addresses of a Service on one node. While it exchanges them for others, the
// old and the new ones may be on the same, and two leaders at once may put two there for a moment.
func (e *expectation) checkApart(found *problems, s snapshot, v *service) {
	type place struct{ version, instance string }
	on := make(map[place]string)
	for _, ip := range e.current(s, v) {
		at := place{ip.Version(), ip.Instance}
		if ip.AttachState != rack.Attached || v.exchanging || ip.Instance == outsider {
			continue
		}
		if on[at] != "" {
			found.add(onePerNode, "%s and %s of %s are both on %s", on[at], ip.Addr, v.name, ip.Instance)
		}
		on[at] = ip.Addr
	}
}

// isSteady reports whether an instance is that of a node that has been fit for so long that nothing may
// leave it, and is not cordoned.
func (e *expectation) isSteady(st step, instance string) bool {
	n := e.nodes[instance]
	return e.isFit(instance) && !n.cordoned && st.steady(n)
}

// checkSharing finds Services that would get each other's traffic, and those that have got a port which
// nodes need.
func (e *expectation) checkSharing(found *problems, st step) {
	owners := make(map[string]string)
	for _, v := range e.live() {
		for _, ip := range e.of(st.now, v.name, false) {
			if other := owners[ip.ID]; other != "" {
				found.add(noneShared, "%s and %s have the address %s", other, v.name, ip.Addr)
			}
			owners[ip.ID] = v.name
		}
		before := e.served(st.before, v)
		for _, ip := range e.current(st.now, v) {
			if ip.AttachState != rack.Attached || ip.Subnet {
				continue
			}
			for _, other := range e.at(st.now, ip.Instance, ip.Version()) {
				if other.name > v.name && overlap(other.ports, v.ports) && !e.isStuck(st.now, ip) {
					found.add(onePerPort, "%s and %s are on %s", v.name, other.name, ip.Instance)
				}
			}
			wasThere := slices.ContainsFunc(before, func(b rack.Carried) bool {
				return b.ID == ip.ID && b.Instance == ip.Instance
			})
			if hasReserved(v.ports) && !st.moved[ip.ID] && !st.replaced[v.name] && ip.Instance != outsider &&
				!wasThere {
				found.add(onePerPort, "%s, which has a reserved port, was attached to %s", v.name,
					ip.Instance)
			}
		}
	}
}

// checkMovement finds addresses that have moved without need.
func (e *expectation) checkMovement(found *problems, st step) (held int) {
	for _, v := range e.live() {
		now := make(map[string]rack.Carried)
		for _, ip := range e.current(st.now, v) {
			now[ip.ID] = ip
		}
		for _, ip := range e.current(st.before, v) {
			after, has := now[ip.ID]
			if !has || ip.AttachState != rack.Attached || st.moved[ip.ID] || st.replaced[v.name] ||
				!e.isSteady(st, ip.Instance) || e.mayMakeWay(st, v, ip) || e.isDoubled(st.before, v, ip) {
				continue
			}
			held++
			if after.Instance != ip.Instance {
				found.add(leastMovement, "%s of %s was on %s, which is fit, and is on %q", ip.Addr, v.name,
					ip.Instance, after.Instance)
			}
		}
	}
	return held
}

// isDoubled reports whether two leaders have put another address of a Service where one is: one of them leaves.
func (e *expectation) isDoubled(s snapshot, v *service, ip rack.Carried) bool {
	return e.rivals && slices.ContainsFunc(e.served(s, v), func(other rack.Carried) bool {
		return other.ID != ip.ID && other.Version() == ip.Version() && other.Instance == ip.Instance
	})
}

// mayMakeWay reports whether an address may leave its instance because another Service has a port of
// it there. An edit moves the edited one, also off a place that another was on its way to; a conflict
// that was there before may end either way.
func (e *expectation) mayMakeWay(st step, v *service, ip rack.Carried) bool {
	_, isEdited := st.edited[v.name]
	return !ip.Subnet && slices.ContainsFunc(e.live(), func(other *service) bool {
		if other == v || !overlap(other.ports, v.ports) {
			return false
		}
		isThere := func(s snapshot) bool {
			return slices.Contains(e.at(s, ip.Instance, ip.Version()), other)
		}
		isComing := slices.Contains(e.stuckFor(st.before, ip.Instance, ip.Version()), other)
		former, otherEdited := st.edited[other.name]
		switch {
		case isEdited:
			return isThere(st.before) || isComing || isThere(st.now) && !e.isAtRest(st.before, other)
		case otherEdited:
			return isThere(st.before) && overlap(former, v.ports)
		}
		return isThere(st.before)
	})
}

// isAtRest reports whether all addresses of a Service are somewhere where they can be taken off: none
// is on its way.
func (e *expectation) isAtRest(s snapshot, v *service) bool {
	all := e.current(s, v)
	return len(all) > 0 && !slices.ContainsFunc(all, func(ip rack.Carried) bool {
		return ip.AttachState != rack.Attached || e.isStuck(s, ip)
	})
}

// checkRestart finds everything that is another way than before.
func (e *expectation) checkRestart(found *problems, st step) {
	if diff := cmp.Diff(e.steady(st.before), e.claimed(st)); diff != "" {
		found.add(restartIsNone, "the addresses have changed (-before +now): %s", diff)
	}
	for name, before := range st.before.services {
		now := st.now.services[name]
		for _, each := range []*corev1.Service{&before, &now} {
			each.ResourceVersion, each.ManagedFields, each.Annotations = "", nil, nil
			each.Status.Conditions = withoutText(each.Status.Conditions)
		}
		if v := e.services[name]; v != nil {
			if e.areStuck(st.before, e.served(st.before, v)...) > 0 {
				now.Status = before.Status // it may or may not say where an address is to go
			}
		}
		if diff := cmp.Diff(before, now, cmpopts.EquateEmpty()); diff != "" {
			found.add(restartIsNone, "the Service %s has changed (-before +now): %s", name, diff)
		}
	}
	for name, before := range st.before.nodes {
		now := st.now.nodes[name]
		for _, each := range []*corev1.Node{&before, &now} {
			each.ResourceVersion, each.ManagedFields = "", nil
			each.Spec.Taints = withoutShutdown(*each)
		}
		if diff := cmp.Diff(before, now, cmpopts.EquateEmpty()); diff != "" {
			found.add(restartIsNone, "the Node %s has changed (-before +now): %s", name, diff)
		}
	}
}

// claimed returns the addresses after a restart, as steady does. A free place that an address which is stuck
// was on its way to, another address of the same Service that is attached nowhere may have got: which of
// the two is to have it is nowhere written down.
func (e *expectation) claimed(st step) []rack.Carried {
	before := make(map[string]rack.Carried)
	for _, ip := range e.steady(st.before) {
		before[ip.ID] = ip
	}
	disputed := make(map[string]bool)
	for _, v := range e.live() {
		for _, ip := range e.current(st.before, v) {
			disputed[ip.ID] = ip.AttachState == detached && e.areStuck(st.before, e.current(st.before, v)...) > 0
		}
	}
	all := e.steady(st.now)
	for i, ip := range all {
		if disputed[ip.ID] && ip.AttachState == rack.Attached && e.isFit(ip.Instance) {
			all[i].AttachState, all[i].Instance = before[ip.ID].AttachState, before[ip.ID].Instance
		}
	}
	return all
}

// withoutText returns conditions without the text of our own, and when its status changed: for another text
// alone it is written once a minute at most, so what is new may be what was due before the restart; and
// it is Unknown meanwhile if the rack could not be read for that long.
func withoutText(conditions []metav1.Condition) []metav1.Condition {
	conditions = slices.Clone(conditions)
	for i := range conditions {
		if conditions[i].Type == "oxide.computer/LoadBalancerReady" {
			conditions[i].Reason, conditions[i].Message = "", ""
			conditions[i].LastTransitionTime = metav1.Time{}
		}
	}
	return conditions
}

// withoutShutdown returns the taints of a Node but the one that the framework gives it, in its own time,
// when its instance is stopped.
func withoutShutdown(n corev1.Node) []corev1.Taint {
	return slices.DeleteFunc(slices.Clone(n.Spec.Taints), func(t corev1.Taint) bool {
		return t.Key == shutdownTaint
	})
}

// adopt notes what the next operation begins with.
func (e *expectation) adopt(s snapshot) {
	for _, n := range e.nodes {
		switch {
		case !n.fit() || n.cordoned:
			n.fitSince = time.Time{}
		case n.fitSince.IsZero():
			n.fitSince = time.Now()
		}
	}
	for _, v := range e.services {
		note := func(ips []rack.Carried) (all []address) {
			for _, ip := range ips {
				_, _, text, _ := markerOf(ip.Description)
				all = append(all, address{kindOfAddress{ip.Version(), ip.Subnet}, ip.ID, ip.Addr, ip.Name, text})
			}
			return all
		}
		own := e.of(s, v.name, false)
		toKeep := note(slices.DeleteFunc(own, func(ip rack.Carried) bool {
			return isLive(v) || !slices.ContainsFunc(v.kept, func(a address) bool { return a.id == ip.ID })
		}))
		current := e.current(s, v)
		v.kept = append(note(e.of(s, v.name, true)), toKeep...)
		if v.had = nil; v.borrows == "" {
			v.had = note(current)
		}
		v.returns = slices.DeleteFunc(v.returns, func(name string) bool {
			ip, _ := s.named(name)
			return ip.AttachState == detached
		})
		v.exchanging = v.exchanging && (len(e.served(s, v)) > len(current) || len(v.returns) > 0)
	}
}
