// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package model

import (
	"fmt"
	"slices"
	"strings"
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
	onePerPort    = "4, one (node, family, protocol, port) serves one Service"
	leastMovement = "5, least movement"
	converges     = "6, exactly one address per family, attached once"
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
	// replaced are Services whose address may be another one now; moved are those whose address may be
	// elsewhere for another reason than its node.
	replaced, moved map[string]bool
	// edited are Services whose ports were edited, with their ports before.
	edited map[string][]corev1.ServicePort
	// restart: nothing but programs were ended and begun.
	restart bool
	// steady reports whether a node has been fit for so long that nothing may leave it.
	steady func(*node) bool
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
	byID := make(map[string]rack.FloatingIP)
	for _, ip := range s.rack.FloatingIPs {
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
	publishers := make(map[string]string)
	for name, now := range s.services {
		for _, ingress := range now.Status.LoadBalancer.Ingress {
			if strings.HasPrefix(ingress.IP, "172.30.") {
				continue // a node's
			}
			if other := publishers[ingress.IP]; other != "" {
				found.add(noneShared, "%s and %s both publish %s", other, name, ingress.IP)
			}
			publishers[ingress.IP] = name
		}
	}
}

// checkAddresses finds addresses that were lost, or changed in another way than by their markers.
func (e *expectation) checkAddresses(found *problems, st step) {
	byID := make(map[string]rack.FloatingIP)
	for _, ip := range st.now.rack.FloatingIPs {
		byID[ip.ID] = ip
		m, _, _, marked := markerOf(ip.Description)
		if _, other := e.others[ip.ID]; !other && (!marked || m.scope != e.scope ||
			e.services[strings.TrimPrefix(m.name, namespace+"/")] == nil) {
			found.add(noneLost, "%s, %q, is nobody's", ip.Name, ip.Description)
		}
	}
	same := func(v *service, a address) {
		now, there := byID[a.id]
		_, _, text, _ := markerOf(now.Description)
		switch {
		case !there || now.IP != a.ip:
			found.add(noneLost, "%s has lost its address %s", v.name, a.ip)
		case now.Name != a.name:
			found.add(noneShared, "the address %s of %s was renamed from %s to %s", a.ip, v.name, a.name,
				now.Name)
		case text != a.text:
			found.add(noneLost, "the text of a user with %s, %q, is %q now", a.ip, a.text, text)
		}
	}
	for _, v := range e.services {
		for _, a := range v.kept {
			same(v, a)
		}
		kept := slices.DeleteFunc(slices.Clone(v.kept), func(a address) bool {
			return v.wish != "" && v.wish != a.ip // it asks for this very address, and no other
		})
		if ip, ok := e.current(st.now, v); ok && v.borrows == "" && len(v.had) == 0 && len(kept) > 0 &&
			!v.wished && !slices.ContainsFunc(kept, func(a address) bool { return a.id == ip.ID }) {
			found.add(noneLost, "%s has %s, and %v were kept for it", v.name, ip.IP, kept)
		}
		if len(v.had) > 0 && v.balanced && !v.deleted && !st.replaced[v.name] && v.borrows == "" {
			same(v, v.had[0])
			if ip, ok := e.current(st.now, v); ok && ip.ID != v.had[0].id && !v.wished {
				found.add(noneLost, "%s had %s and has %s", v.name, v.had[0].ip, ip.IP)
			}
		}
	}
}

// checkSharing finds Services that would get each other's traffic, and those that have got a port which
// nodes need.
func (e *expectation) checkSharing(found *problems, st step) {
	owners := make(map[string]string)
	for _, v := range e.live() {
		for _, ip := range e.of(st.now, v.name, false) {
			if other := owners[ip.ID]; other != "" {
				found.add(noneShared, "%s and %s have the address %s", other, v.name, ip.IP)
			}
			owners[ip.ID] = v.name
		}
		ip, ok := e.current(st.now, v)
		if !ok || ip.AttachState != rack.Attached {
			continue
		}
		for _, other := range e.at(st.now, ip.Instance) {
			if other.name > v.name && overlap(other.ports, v.ports) && !e.isStuck(st.now, ip) {
				found.add(onePerPort, "%s and %s are on %s", v.name, other.name, ip.Instance)
			}
		}
		before, had := e.current(st.before, v)
		if hasReserved(v.ports) && !st.moved[v.name] && ip.Instance != outsider &&
			(!had || before.ID == ip.ID && before.Instance != ip.Instance) {
			found.add(onePerPort, "%s, which has a reserved port, was attached to %s", v.name,
				ip.Instance)
		}
	}
}

// checkMovement finds addresses that have moved without need.
func (e *expectation) checkMovement(found *problems, st step) (held int) {
	for _, v := range e.live() {
		before, had := e.current(st.before, v)
		now, has := e.current(st.now, v)
		if !had || !has || before.AttachState != rack.Attached || st.moved[v.name] ||
			st.replaced[v.name] || before.ID != now.ID {
			continue
		}
		if n := e.nodes[before.Instance]; n == nil || !n.fit() || !st.steady(n) {
			continue
		}
		if e.mayMakeWay(st, v, before.Instance) {
			continue
		}
		held++
		if now.Instance != before.Instance {
			found.add(leastMovement, "%s was on %s, which is fit, and is on %q", v.name,
				before.Instance, now.Instance)
		}
	}
	return held
}

// mayMakeWay reports whether a Service may leave an instance because another one has a port of it
// there. An edit moves the edited one, also off a place that another was on its way to; a conflict
// that was there before may end either way.
func (e *expectation) mayMakeWay(st step, v *service, instance string) bool {
	_, isEdited := st.edited[v.name]
	return slices.ContainsFunc(e.live(), func(other *service) bool {
		if other == v || !overlap(other.ports, v.ports) {
			return false
		}
		isThere := func(s snapshot) bool { return slices.Contains(e.at(s, instance), other) }
		isComing := slices.Contains(e.stuckFor(st.before, instance), other)
		former, otherEdited := st.edited[other.name]
		switch {
		case isEdited:
			return isThere(st.before) || isComing || isThere(st.now) && !e.isSteadyAt(st.before, other)
		case otherEdited:
			return isThere(st.before) && overlap(former, v.ports)
		}
		return isThere(st.before)
	})
}

// isSteadyAt reports whether the address of a Service is somewhere where it can be taken off: it is
// on its way nowhere.
func (e *expectation) isSteadyAt(s snapshot, v *service) bool {
	ip, ok := e.current(s, v)
	return ok && ip.AttachState == rack.Attached && !e.isStuck(s, ip)
}

// checkRestart finds everything that is another way than before.
func (e *expectation) checkRestart(found *problems, st step) {
	if diff := cmp.Diff(e.steady(st.before), e.steady(st.now)); diff != "" {
		found.add(restartIsNone, "the floating IPs have changed (-before +now): %s", diff)
	}
	for name, before := range st.before.services {
		now := st.now.services[name]
		for _, each := range []*corev1.Service{&before, &now} {
			each.ResourceVersion, each.ManagedFields, each.Annotations = "", nil, nil
			each.Status.Conditions = withoutText(each.Status.Conditions)
		}
		if v := e.services[name]; v != nil {
			if ip, _ := e.current(st.before, v); e.isStuck(st.before, ip) {
				now.Status = before.Status // it may or may not say where the address is to go
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

// withoutText returns conditions without the text of our own: for another text alone it is written
// once a minute at most, so what is new may be what was due before the restart.
func withoutText(conditions []metav1.Condition) []metav1.Condition {
	conditions = slices.Clone(conditions)
	for i := range conditions {
		if conditions[i].Type == "oxide.computer/LoadBalancerReady" {
			conditions[i].Reason, conditions[i].Message = "", ""
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
		case !n.fit():
			n.fitSince = time.Time{}
		case n.fitSince.IsZero():
			n.fitSince = time.Now()
		}
	}
	for _, v := range e.services {
		known := make(map[string]address)
		for _, a := range slices.Concat(v.had, v.kept) {
			known[a.id] = a
		}
		note := func(ips []rack.FloatingIP) (all []address) {
			for _, ip := range ips {
				_, _, text, _ := markerOf(ip.Description)
				all = append(all, address{ip.ID, ip.IP, ip.Name, text, known[ip.ID].renamed})
			}
			return all
		}
		current, _ := e.current(s, v)
		v.had = note(e.of(s, v.name, false))
		slices.SortStableFunc(v.had, func(a, b address) int {
			switch {
			case a.id == b.id:
				return 0
			case a.id == current.ID:
				return -1
			case b.id == current.ID:
				return 1
			}
			return 0
		})
		v.kept = note(e.of(s, v.name, true))
		v.returns = slices.DeleteFunc(v.returns, func(name string) bool {
			ip, _ := s.named(name)
			return ip.AttachState == detached
		})
		v.wished = v.wished && (len(e.served(s, v)) > 1 || len(v.returns) > 0)
	}
}
